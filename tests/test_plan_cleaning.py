"""Cleaning steps: what each makes of a value, which rows are set aside, and that nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import underhood as uh
from underhood.ground.errors import ProjectError, SourceError
from underhood.plan.cleaning import Step, find_step, title
from underhood.plan.exprs import col
from underhood.plan.joins import Plan
from underhood.plan.sources import row_cleaner, settle_source
from underhood.plan.steps import Source, System, fingerprint
from underhood.tables.cleaned import effects_of, without_step
from underhood.tables.local import Engine, read_asks, read_plan

Row = dict[str, Any]
START = datetime(2024, 1, 1)
clean = uh.clean


def bad(y: Any) -> Any:
    return y > 0


def system(source: Source) -> System:
    return uh.system(
        "shops",
        asks=source.asks("at"),
        features=["at_hour"],
        label=uh.label(bad, known="at + 1d"),
        goal=uh.goal("call", costs=uh.costs(call=(1, 1), wait=(0, 2))),
        policy=uh.threshold(call=0.5, otherwise="wait"),
    )


def at_hour(at: Any) -> Any:
    return at.hour()


def orders(**changed: Any) -> Source:
    usual = {"happened": "at", "late": {"at + 1d": ["y"]}, "derive": [at_hour]}
    return uh.source("orders.parquet", **usual | changed)


def write(folder: Path, rows: Sequence[Row], name: str = "orders") -> None:
    full = [{"at": START, "y": 0.0, **row} for row in rows] if name == "orders" else rows
    pq.write_table(pa.Table.from_pylist(full), folder / f"{name}.parquet")


def cleaned(folder: Path, rows: Sequence[Row], *steps: Step, see: str = "orders", **changed: Any) -> list[Row]:
    """The rows of the cleaned source (or of another view), in the order of the file."""
    write(folder, rows)
    with Engine(threads=2) as engine:
        read_plan(engine, system(orders(**changed).clean(*steps)), folder, folder / "record")
        return engine.dicts(f'select * from "{see}" order by __row')


def column(rows: Sequence[Row], name: str) -> list[Any]:
    return [row[name] for row in rows]


# --- values ---


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        (clean.null_above("v", 10), [9.0, 10.0, 10.1, None], [9.0, 10.0, None, None]),
        (clean.null_below("v", 0), [-0.1, 0.0, None], [None, 0.0, None]),
        (clean.null_value("v", 99999), [99999.0, 1.0], [None, 1.0]),
        (clean.null_value("v", "?"), ["?", "a", None], [None, "a", None]),
        (clean.null_values("v", [-1, 999]), [-1.0, 999.0, 3.0], [None, None, 3.0]),
        (clean.null_sentinels("v"), [" N/A ", "none", "None at all", "", "-"], [None, None, "None at all", None, None]),
        (clean.null_sentinels("v", also=["tba"]), ["TBA", "x"], [None, "x"]),
        (clean.map_levels("v", {"NYC": "New York", "?": None}), ["NYC", "?", "Oslo"], ["New York", None, "Oslo"]),
        (clean.tidy("v"), ["  a   b ", "a b"], ["a b", "a b"]),
        (clean.tidy("v", case="upper"), [" ab c"], ["AB C"]),
        (clean.fix_units("v", 1.8, plus=32), [100.0, None], [212.0, None]),
        (clean.fix_units("v", 0.01, where=col("v") > 500), [600.0, 500.0], [6.0, 500.0]),
        (clean.null_where("v", col("y") == 0), [1.0, None], [None, None]),
        (clean.replace_value("v", col("v") + 1), [1.0], [2.0]),
    ],
)
def test_a_step_of_values_makes_of_each_value_what_it_says(
    tmp_path: Path, step: Step, before: list[Any], after: list[Any]
) -> None:
    late = {} if title(step).startswith("v: null where y") else {"at + 1d": ["y"]}
    made = cleaned(tmp_path, [{"v": v} for v in before], step, late=late)

    assert after == pytest.approx(column(made, "v"))


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        (
            clean.parse_date("v", "%d.%m.%Y"),
            ["31.12.2024", "1.2.2024", "30.2.2024", "x"],
            [(2024, 12, 31), (2024, 2, 1)],
        ),
        (clean.parse_date("v", "%d.%m.%Y", "%Y-%m-%d"), ["3.4.2024", "2024-04-03"], [(2024, 4, 3), (2024, 4, 3)]),
        (
            clean.parse_date("v", "%d. %B %Y", language="de"),
            ["3. März 2024", "7. Okt. 2023"],
            [(2024, 3, 3), (2023, 10, 7)],
        ),
        (clean.parse_date("v", "%m/%d/%y"), ["1/31/68", "1/31/69"], [(2068, 1, 31), (1969, 1, 31)]),
        (clean.parse_date("v", "%d-%b-%y %H:%M"), ["05-JAN-24 7:05"], [(2024, 1, 5, 7, 5)]),
    ],
)
def test_a_text_becomes_the_moment_that_it_writes_in_a_stated_form(
    tmp_path: Path, step: Step, before: list[str], after: list[tuple[int, ...]]
) -> None:
    made = column(cleaned(tmp_path, [{"v": v} for v in before], step), "v")

    padded = [datetime(*a) for a in after] + [None] * (len(before) - len(after))
    assert padded == made


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        (
            clean.parse_number("v", decimal=",", thousands="."),
            ["1.234,5", "1,5", "12.34", "1.5"],
            [1234.5, 1.5, None, None],
        ),
        (clean.parse_number("v", decimal=",", drop=["€"]), ["€ 12,50", "12,50€"], [12.5, 12.5]),
        (clean.parse_number("v"), [" 1.5 ", "1,5"], [1.5, None]),
    ],
)
def test_a_text_becomes_the_number_that_it_writes_with_stated_separators(
    tmp_path: Path, step: Step, before: list[str], after: list[Any]
) -> None:
    assert after == column(cleaned(tmp_path, [{"v": v} for v in before], step), "v")


def test_a_parsed_date_can_be_the_clock_of_its_source(tmp_path: Path) -> None:
    rows = [{"when": "03.04.2024"}]
    made = cleaned(tmp_path, rows, clean.parse_date("when", "%d.%m.%Y"), happened="when")

    assert [datetime(2024, 4, 3)] == column(made, "__happened")


def test_steps_act_in_the_order_in_which_they_are_given(tmp_path: Path) -> None:
    up, cut = clean.fix_units("v", 10), clean.null_above("v", 50)

    assert column(cleaned(tmp_path, [{"v": 6.0}], up, cut), "v") == [None]
    assert column(cleaned(tmp_path, [{"v": 6.0}], cut, up), "v") == [60.0]


def test_many_steps_on_one_column_do_not_blow_up_its_text(tmp_path: Path) -> None:
    steps = [clean.null_above("v", 100 + n) for n in range(40)]
    source = settle_source(orders().clean(*steps), {"at": "time", "y": "number", "v": "number"})
    from underhood.plan.sources import source_sql

    assert len(source_sql(source, "raw")) < 15_000
    assert column(cleaned(tmp_path, [{"v": 5.0}], *steps), "v") == [5.0]


# --- rows ---


def test_a_dropped_row_is_set_aside_with_the_step_and_the_reason(tmp_path: Path) -> None:
    def is_a_test(v: Any) -> Any:
        return v == "test"

    step = clean.drop_rows(is_a_test, why="the shop's own trials")
    rows = [{"v": "a"}, {"v": "test"}, {"v": None}]

    assert column(cleaned(tmp_path, rows, step), "v") == ["a", None]
    gone = cleaned(tmp_path, rows, step, see="removed orders")
    assert [(r["__row"], r["v"], r["__step"], r["__why"]) for r in gone] == [
        (2, "test", "drop is a test", "the shop's own trials")
    ]


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        (clean.dedupe("id"), [2, 3, 4, 5]),
        (clean.dedupe("id", keep="first"), [1, 3, 4, 5]),
        (clean.dedupe("id", order="v"), [1, 3, 4, 5]),
        (clean.dedupe("id", keep="first", order="v"), [2, 3, 4, 5]),
        (clean.dedupe(), [1, 2, 3, 5]),
    ],
)
def test_of_rows_with_the_same_key_one_is_kept_and_a_null_is_nobodys_duplicate(
    tmp_path: Path, step: Step, kept: list[int]
) -> None:
    rows = [{"id": 1.0, "v": 9.0}, {"id": 1.0, "v": 2.0}, {"id": 2.0, "v": 1.0}, {"id": None, "v": 5.0}]
    rows.append({"id": None, "v": 5.0})

    assert kept == column(cleaned(tmp_path, rows, step), "__row")


def test_a_key_that_repeats_is_an_error_until_its_duplicates_are_set_aside(tmp_path: Path) -> None:
    rows = [{"id": 1.0}, {"id": 1.0}]

    with pytest.raises(SourceError, match="2 rows share their key"):
        cleaned(tmp_path, rows, key="id")
    assert column(cleaned(tmp_path, rows, clean.dedupe("id"), key="id"), "__key") == ["1.0"]
    with pytest.raises(SourceError, match="2 rows share their key"):
        cleaned(tmp_path, rows, clean.drop_rows(col("id") < 0), key="id")


def test_a_key_that_cleaning_changes_is_made_of_the_cleaned_values(tmp_path: Path) -> None:
    rows = [{"id": " a "}, {"id": "b"}]

    assert column(cleaned(tmp_path, rows, clean.tidy("id"), key="id"), "__key") == ["a", "b"]


def test_the_questions_are_those_of_the_rows_that_are_kept(tmp_path: Path) -> None:
    write(tmp_path, [{"v": 1.0}, {"v": -1.0}, {"v": 2.0}])
    with Engine(threads=2) as engine:
        plan = read_plan(engine, system(orders().clean(clean.drop_rows(col("v") < 0))), tmp_path, tmp_path / "record")
        read_asks(engine, plan, tmp_path / "record")

        assert [r[0] for r in engine.rows("select __row from asks order by 1")] == [1, 3]


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 3)), st.one_of(st.none(), st.integers(-3, 3))), max_size=12),
    st.lists(st.sampled_from(["drop", "dedupe", "all", "null", "fill"]), max_size=4, unique=True),
)
def test_whatever_the_steps_every_row_is_kept_or_set_aside_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int | None, int | None]], chosen: list[str]
) -> None:
    places = uh.source("places.parquet")
    known: Mapping[str, Step] = {
        "drop": clean.drop_rows(col("v") < 0),
        "dedupe": clean.dedupe("id"),
        "all": clean.dedupe(),
        "null": clean.null_above("v", 1),
        "fill": clean.fill_from("v", places, by="id"),
    }
    folder = tmp_path_factory.mktemp("any")
    write(folder, [{"id": 0.0, "v": 1.0}, {"id": 0.0, "v": 2.0}, {"id": 3.0, "v": 3.0}], "places")
    full = [{"id": 9.0, "v": 9.0}, *({"id": i, "v": v} for i, v in rows)]
    made = cleaned(folder, full, *[known[c] for c in chosen])
    is_set_aside = any(c in ("drop", "dedupe", "all") for c in chosen)
    gone = cleaned(folder, full, *[known[c] for c in chosen], see="removed orders") if is_set_aside else []

    assert sorted(column(made, "__row") + column(gone, "__row")) == list(range(1, len(full) + 1))
    assert all(r["__step"] for r in gone)


# --- references ---


def places(folder: Path) -> Source:
    rows = [
        {"code": "A", "city": "Oslo"},
        {"code": "B", "city": "Bergen"},
        {"code": "C", "city": "Moss"},
        {"code": "C", "city": "Ski"},
        {"code": None, "city": "Nowhere"},
    ]
    write(folder, rows, "places")
    return uh.source("places.parquet", owner="map desk")


def test_nulls_are_filled_from_a_reference_and_no_row_is_lost_or_doubled(tmp_path: Path) -> None:
    rows = [{"code": c, "city": t} for c, t in [("A", None), ("B", "mine"), ("C", None), ("X", None), (None, None)]]
    step = clean.fill_from("city", places(tmp_path), by="code")

    assert column(cleaned(tmp_path, rows, step), "city") == ["Oslo", "mine", None, None, None]


def test_with_overwrite_the_reference_wins_and_a_missing_column_is_added(tmp_path: Path) -> None:
    rows = [{"code": "A", "city": "Olso"}, {"code": "X", "city": "mine"}]
    other = places(tmp_path)
    made = cleaned(
        tmp_path,
        rows,
        clean.fill_from("city", other, by="code", overwrite=True),
        clean.fill_from("town", other, by={"code": "code"}, take="city"),
    )

    assert (column(made, "city"), column(made, "town")) == (["Oslo", "mine"], ["Oslo", None])


def test_a_table_of_matches_puts_the_clean_name_in_place_of_the_messy_one(tmp_path: Path) -> None:
    write(tmp_path, [{"value": "ACME gmbh", "means": "Acme"}, {"value": "zzz", "means": None}], "matches")
    step = clean.match("firm", uh.source("matches.parquet", key="value"))

    made = cleaned(tmp_path, [{"firm": "ACME gmbh"}, {"firm": "zzz"}, {"firm": "Bolt"}], step)
    assert column(made, "firm") == ["Acme", "zzz", "Bolt"]


# --- what does not add up ---

SCHEMA = {"at": "time", "y": "number", "v": "number", "t": "text"}


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (clean.null_above("w", 1), "orders.w: there is no column to clean (null above 1)"),
        (clean.null_above("t", 1), "mixes number and text"),
        (clean.parse_date("v", "%Y-%m-%d"), "needs a text, got a number"),
        (clean.drop_rows(col("v")), "`v` is a number, not a flag"),
        (clean.drop_rows(col("y") > 1), "reads y, which is known late"),
        (clean.null_where("v", col("y") > 1), "orders.v: reads y, which is known late"),
        (clean.dedupe("idd"), "there is no column 'idd'"),
        (clean.dedupe("t", order="y"), "reads y, which is known late"),
    ],
)
def test_a_step_that_does_not_add_up_is_told_with_its_place(step: Step, says: str) -> None:
    with pytest.raises(ProjectError) as found:
        settle_source(orders().clean(step), SCHEMA)

    assert says in str(found.value)


def test_a_late_column_may_be_cleaned_by_what_is_known_with_it() -> None:
    made = settle_source(orders().clean(clean.null_above("y", 100)), SCHEMA)

    assert made.stages[0].schema["y"] == "number"


def test_two_steps_of_one_name_are_refused_until_one_has_its_own() -> None:
    step = clean.null_above("v", 5)

    with pytest.raises(ProjectError, match="2 cleaning steps are called 'v: null above 5'"):
        settle_source(orders().clean(step, step), SCHEMA)
    settle_source(orders().clean(step, clean.null_above("v", 5, name="again")), SCHEMA)


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda: clean.dedupe("a", keep="newest"), 'keep="first" or keep="last"'),
        (lambda: clean.tidy("a", case="title"), 'case="lower"'),
        (lambda: clean.parse_date("a"), "no form is given"),
        (lambda: clean.parse_date("a", "%d.%b.%Y", language="xx"), "no months are known in 'xx'"),
        (lambda: clean.fill_from("a", "places.csv", by="b"), "the reference is not a source"),
        (lambda: clean.match("a", "places.csv"), "the matches are not a source"),
    ],
)
def test_a_step_that_cannot_be_made_says_so_at_once(act: Any, says: str) -> None:
    with pytest.raises(ProjectError) as found:
        act()

    assert says in str(found.value)


def test_a_step_is_found_by_its_name_or_full_name_and_a_wrong_name_offers_the_nearest() -> None:
    steps = [clean.null_above("v", 5), clean.null_above("w", 5), clean.dedupe("id")]

    assert find_step(steps, "one row per id", "orders") is steps[2]
    assert find_step(steps, "w: null above 5", "orders") is steps[1]
    with pytest.raises(ProjectError, match="2 cleaning steps are called"):
        find_step(steps, "null above 5", "orders")
    with pytest.raises(ProjectError, match="one row per id"):
        find_step(steps, "one row per ids", "orders")


def test_the_fingerprint_tells_cleaning_apart_and_does_not_depend_on_the_place_of_files() -> None:
    made = [orders(), orders().clean(clean.dedupe("id")), orders().clean(clean.dedupe("id", keep="first"))]
    here = [orders().clean(clean.fill_from("v", uh.source(f"{p}/places.parquet"), by="id")) for p in ("/a", "/b")]

    assert len({fingerprint(m) for m in made}) == 3
    assert fingerprint(here[0]) == fingerprint(here[1])


# --- one row, and what was done ---


def test_one_row_is_cleaned_as_the_table_is(tmp_path: Path) -> None:
    rows = [{"v": v, "t": t} for v, t in [(5.0, " a"), (500.0, "test"), (None, None), (7.0, "x  y ")]]
    steps = [
        clean.null_above("v", 100),
        clean.tidy("t", case="upper"),
        clean.fix_units("v", 2),
        clean.drop_rows(col("t") == "TEST"),
    ]
    table = cleaned(tmp_path, rows, *steps)
    source = settle_source(orders().clean(*steps), {"at": "time", "y": "number", "v": "number", "t": "text"})
    alone = [row_cleaner(source)({"at": START, "y": 0.0, **row}) for row in rows]

    assert [refused for _, refused in alone] == ["", "drop t = 'TEST'", "", ""]
    kept = [values for values, refused in alone if not refused]
    assert [{n: r[n] for n in source.schema} for r in table] == kept


def opened(engine: Engine, folder: Path, rows: Sequence[Row], *steps: Step, **changed: Any) -> Plan:
    write(folder, rows)
    plan = read_plan(engine, system(orders(**changed).clean(*steps)), folder, folder / "record")
    read_asks(engine, plan, folder / "record")
    return plan


def test_each_step_says_what_it_changed_with_counts_and_rows_that_show_it(tmp_path: Path) -> None:
    rows = [{"v": v, "d": d} for v, d in [(5.0, "1.2.2024"), (99.0, "x"), (99.0, None), (None, "3.2.2024")]]
    steps = [
        clean.null_value("v", 99),
        clean.parse_date("d", "%d.%m.%Y"),
        clean.drop_rows(col("d").is_null(), why="no day"),
    ]
    with Engine(threads=2) as engine:
        made = effects_of(engine, opened(engine, tmp_path, rows, *steps).sources["orders"])

    nulls, dates, drops = made.effects
    assert (made.read, made.kept) == (4, 2)
    assert (nulls.rows, nulls.changed, nulls.nulled, nulls.filled) == (4, 2, 2, 0)
    assert [(e.row, e.before, e.after, e.rows) for e in nulls.top] == [(2, 99.0, None, 2)]
    assert (dates.old_type, dates.new_type, dates.changed, dates.nulled) == ("text", "time", 3, 1)
    assert dates.top[0].before == "x"
    assert (drops.rows, drops.removed, drops.why, [e.row for e in drops.top]) == (4, 2, "no day", [2, 3])


def test_a_step_can_be_undone_by_name_to_see_what_would_be(tmp_path: Path) -> None:
    def total(v: Any) -> Any:
        return v * 2

    rows = [{"v": 5.0}, {"v": 500.0}, {"v": -1.0}]
    steps = [clean.null_above("v", 100), clean.drop_rows(col("v") < 0)]
    with Engine(threads=2) as engine:
        plan = opened(engine, tmp_path, rows, *steps, derive=[at_hour, total])
        before = engine.rows("select * from orders order by __row")
        without = without_step(engine, plan, "orders", "null above 100")
        with_row = without_step(engine, plan, "orders", "drop v < 0")

        assert (without.kept, without.differ, without.questions) == (2, {"v": 1}, 2)
        assert without.inputs == {"v": 1, "total": 1}
        assert (with_row.kept, with_row.differ, with_row.inputs) == (3, {}, {})
        assert before == engine.rows("select * from orders order by __row")


def test_a_step_that_the_clock_needs_cannot_be_left_out(tmp_path: Path) -> None:
    with Engine(threads=2) as engine:
        plan = opened(engine, tmp_path, [{"when": "03.04.2024"}], clean.parse_date("when", "%d.%m.%Y"), happened="when")
        with pytest.raises(ProjectError, match="not a time"):
            without_step(engine, plan, "orders", "date as %d.%m.%Y")


def test_a_step_is_frozen() -> None:
    step = clean.null_above("v", 5)

    with pytest.raises(AttributeError):
        step.name = "other"  # type: ignore[misc]
