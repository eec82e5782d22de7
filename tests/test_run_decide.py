"""One row in, one decision out: what is refused, what is flagged, what a patch does, and how light it all is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests import world
from underhood.build.bundle import Bundle, load
from underhood.ground.errors import RequestError
from underhood.plan.changes import INPUT, ROUTE, THRESHOLD, Change
from underhood.plan.exprs import Expr, col, lit
from underhood.repair import workbench as uh
from underhood.run.decide import decider
from underhood.run.policy import Patched

ROOT = Path(__file__).parent.parent
NOW = datetime(2024, 3, 12, 8)
ROW: dict[str, Any] = {
    "depot": "OAK",
    "parcel": 44337.0,
    "due": "2024-03-12T09:30:00.000000",
    "district": "Harbour",
    "km": 20.0,
    "kg": 5.0,
    "pieces": 2.0,
    "fragile": False,
    "jam": 30.0,
    "ice": 0.5,
    "rain": 0.0,
    "wind": 5.0,
    "parcels_out": 12.0,
    "mean_late": 2.0,
}
ASKED = {"key": "OAK|44337", "asked_at": "2024-03-12T08:00:00.000000", "now": NOW}


@pytest.fixture(scope="session")
def bundle(built_shop: Path) -> Bundle:
    with world.open_shop(built_shop) as bench:
        return uh.deployed(bench)


def test_a_sound_row_is_decided_without_a_flag(bundle: Bundle) -> None:
    made = decider(bundle)(ROW, **ASKED)

    assert (made.action, made.status, made.flags, made.patches) == ("quiet", "ok", (), ())
    assert made.score is not None
    assert 0 < made.score < 0.15
    assert made.row == ROW
    assert made.candidates == ("call", "text", "quiet")
    assert made.features["due_hour"] == 9.0


def test_missing_mistyped_and_unknown_fields_are_all_told_at_once(bundle: Bundle) -> None:
    broken = {**ROW, "km": "far", "fragile": 1, "depot": 7, "jem": 3.0}
    del broken["ice"]
    with pytest.raises(RequestError) as caught:
        decider(bundle)(broken, **ASKED)

    told = {e.where: e.what for e in (caught.value, *caught.value.also)}  # type: ignore[attr-defined]
    assert told == {
        "ice": "is missing",
        "km": "is 'far', needs a finite number",
        "fragile": "is 1, needs true or false",
        "depot": "is 7, needs a text",
        "jem": "is not an input",
    }
    assert "did you mean jam" in str(caught.value)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), float("-inf"), "12", "", True, [1.0], {"km": 1.0}, 10**400]
)
def test_what_is_not_a_finite_number_is_refused_as_one(bundle: Bundle, value: object) -> None:
    with pytest.raises(RequestError, match="needs a finite number") as caught:
        decider(bundle)({**ROW, "km": value}, **ASKED)

    assert caught.value.where == "km"


@pytest.mark.parametrize("value", ["yesterday", "2024-13-01T00:00:00", "", 5.0, True])
def test_text_that_is_no_time_is_refused_in_words(bundle: Bundle, value: object) -> None:
    with pytest.raises(RequestError, match="needs a time as ISO 8601 text") as caught:
        decider(bundle)({**ROW, "due": value}, **ASKED)

    assert caught.value.where == "due"


def test_a_moment_of_asking_that_is_no_time_is_refused_in_words(bundle: Bundle) -> None:
    with pytest.raises(RequestError, match="needs a time as ISO 8601 text"):
        decider(bundle)(ROW, key="a", asked_at="soon", now=NOW)


def test_a_row_that_is_no_mapping_of_names_is_refused_in_words(bundle: Bundle) -> None:
    with pytest.raises(RequestError, match="is not an input"):
        decider(bundle)({**ROW, 7: 1.0}, **ASKED)


def test_whole_numbers_are_numbers_and_make_the_same_score(bundle: Bundle) -> None:
    whole = {**ROW, "km": 20, "parcel": 44337, "pieces": 2}

    assert decider(bundle)(whole, **ASKED).score == decider(bundle)(ROW, **ASKED).score


def test_a_time_with_a_zone_is_the_same_moment(bundle: Bundle) -> None:
    local = decider(bundle)({**ROW, "due": "2024-03-12T11:30:00+02:00"}, **ASKED)

    assert local.features == decider(bundle)(ROW, **ASKED).features


def test_a_level_and_a_null_that_training_never_saw_are_flagged_and_decided(bundle: Bundle) -> None:
    made = decider(bundle)({**ROW, "depot": "MOON", "kg": None}, **ASKED)

    assert made.status == "ok"
    assert made.flags == ("unknown level: depot", "never null before: kg", "never null before: weight_each")


def test_the_id_is_of_the_question_the_row_and_the_bundle(bundle: Bundle) -> None:
    decide = decider(bundle)
    first = decide(ROW, **ASKED)
    other_bundle = decider(replace(bundle, name="another"))(ROW, **ASKED)

    assert first.id == decide(dict(reversed(ROW.items())), **{**ASKED, "now": datetime(2025, 1, 1)}).id
    others = [
        decide({**ROW, "km": 20.5}, **ASKED),
        decide(ROW, **{**ASKED, "key": "b"}),
        decide(ROW, **{**ASKED, "asked_at": "2024-03-12T08:00:01.000000"}),
        other_bundle,
    ]
    assert len({first.id, *(o.id for o in others)}) == 5
    assert others[2].id > first.id


def test_the_row_that_came_is_captured_as_it_came(bundle: Bundle) -> None:
    came = {**ROW, "km": 20}
    patches = [Patched("p", Change(INPUT, "km", 1.0))]
    made = decider(bundle, patches)(came, **ASKED)

    assert made.row == came
    assert type(made.row["km"]) is int
    assert made.features["km"] == 1.0
    assert came["km"] == 20


def test_a_route_acts_where_it_holds_and_is_named(bundle: Bundle) -> None:
    decide = decider(bundle, [Patched("by-hand", Change(ROUTE, "route", "desk", col("row.depot") == "OAK"))])

    routed, other = decide(ROW, **ASKED), decide({**ROW, "depot": "MILL"}, **ASKED)
    assert (routed.action, routed.patches, routed.reason) == ("desk", ("by-hand",), "patch by-hand")
    assert (other.action, other.patches) == ("quiet", ())


def test_a_route_on_a_feature_or_on_nothing_known_acts_as_it_reads(bundle: Bundle) -> None:
    decide = decider(bundle, [Patched("far", Change(ROUTE, "route", "desk", col("features.weight_each") >= 2.5))])

    assert decide(ROW, **ASKED).action == "desk"
    assert decide({**ROW, "kg": None}, **ASKED).action == "quiet"
    assert decider(bundle, [Patched("all", Change(ROUTE, "route", "desk"))])(ROW, **ASKED).action == "desk"


def test_a_moved_threshold_acts_and_is_named(bundle: Bundle) -> None:
    moved = decider(bundle, [Patched("lower", Change(THRESHOLD, "call", 0.0001))])(ROW, **ASKED)

    assert (moved.action, moved.patches, moved.reason) == ("call", ("lower",), "score ≥ 0.0001")


def test_an_input_patch_acts_before_features_and_is_named(bundle: Bundle) -> None:
    nulled = Change(INPUT, "jam", None, col("row.jam") > 80)
    decide = decider(bundle, [Patched("no-jam", nulled)])
    jammed = decide({**ROW, "jam": 95.0}, **ASKED)

    assert (jammed.features["jam"], jammed.patches) == (None, ("no-jam",))
    assert jammed.score == decider(bundle)({**ROW, "jam": None}, **ASKED).score
    assert decide(ROW, **ASKED).patches == ()


def test_an_input_patch_may_look_at_a_whole_number_or_a_time(bundle: Bundle) -> None:
    late = Change(INPUT, "km", 1.0, (col("row.due").hour() >= 9) & (col("row.pieces") == 2))
    decide = decider(bundle, [Patched("late", late)])

    assert decide({**ROW, "pieces": 2}, **ASKED).patches == ("late",)


def test_an_input_patch_may_compute_the_value_and_begin_at_a_moment(bundle: Bundle) -> None:
    hundredth = Expr("div", (col("row.jam"), lit(100.0)))
    decide = decider(
        bundle, [Patched("cents", Change(INPUT, "jam", hundredth, col("asked_at") >= datetime(2024, 3, 12)))]
    )

    assert decide({**ROW, "jam": 4200.0}, **ASKED).features["jam"] == 42.0
    assert decide({**ROW, "jam": 4200.0}, key="a", asked_at="2020-01-01T00:00:00").patches == ()


def test_a_route_may_look_at_a_whole_number_or_a_time(bundle: Bundle) -> None:
    late = Change(ROUTE, "route", "desk", (col("row.due").hour() >= 9) & (col("row.pieces") == 2))
    decide = decider(bundle, [Patched("late", late)])

    assert decide({**ROW, "pieces": 2}, **ASKED).action == "desk"


def test_deciding_imports_nothing_heavy(built_shop: Path, bundle: Bundle) -> None:
    script = f"""
import sys
from pathlib import Path
from underhood.build.bundle import load
from underhood.run.decide import decider
decide = decider(load(Path({str(built_shop.parent / ".underhood")!r}), {bundle.name!r}))
made = decide({ROW!r}, key="a", asked_at="2024-03-12T08:00:00")
print(made.action, *[m for m in ("pandas", "sklearn", "duckdb", "lightgbm", "scipy", "pyarrow") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)

    assert (done.stdout.split(), done.stderr) == (["quiet"], "")


def test_a_bundle_decides_the_same_after_a_round_over_the_disk(built_shop: Path, bundle: Bundle) -> None:
    again = load(built_shop.parent / ".underhood", bundle.name)

    assert decider(again)(ROW, **ASKED).score == decider(bundle)(ROW, **ASKED).score


def test_a_refused_question_is_captured_and_nothing_else_is_lost(built_shop: Path, own: Callable[[Path], Path]) -> None:
    project = own(built_shop)
    with world.open_shop(project) as bench:
        sound = decider(uh.deployed(bench))

        def decide(row: dict[str, Any], **asked: Any) -> Any:
            return sound({**row, "kg": "heavy"} if row["parcel"] == 44060 else row, **asked)

        span = world.decide_with(bench, decide, "2024-03-08", "2024-03-09")
        assert bench.n_decisions == 67
        rows = bench.engine.rows("select status, count(*), min(reason) from decided group by 1 order by 1")

    assert span.refused == 1
    assert [r[:2] for r in rows] == [("ok", 66), ("refused", 1)]
    assert "kg: is 'heavy', needs a finite number" in rows[1][2]
