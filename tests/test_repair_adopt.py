"""A system that was made elsewhere is adopted from its log, and diagnosed as far as the log goes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from underhood.build.bundle import load
from underhood.faces.cli import main
from underhood.faces.report import render
from underhood.faces.report_text import render_text
from underhood.faults import KINDS
from underhood.faults.kinds import NEEDS
from underhood.faults.unlogged import UNLOGGED
from underhood.faults.vectors import SCORED_AGAIN
from underhood.ground.errors import NotCapturedError, ProjectError
from underhood.plan.changes import INPUT, UNTIL, Change
from underhood.plan.exprs import columns_of
from underhood.repair import workbench as uh
from underhood.repair.adopt import Adopted, adopt_system, open_adopted
from underhood.repair.catches import kinds_named, quiet_scene, run_drills
from underhood.repair.diagnosis import CAUSE, NOTHING, OPEN, WORLD, Diagnosis
from underhood.repair.postmortem import document
from underhood.repair.replay import decision_from
from underhood.repair.roles import Roles
from underhood.repair.unseen import COULD_NOT, FEW, FIELDS, FULL, MADE_HERE, can_try
from underhood.repair.watch import watch
from underhood.repair.workbench import open_workbench
from underhood.run.decide import decision_id

FIRST = datetime(2024, 1, 1)
N, HALF = 3000, 1500
READS = ["income", "amount", "age"]
ROLES = Roles(key="loan", at="decided_at", outcome="defaulted", inputs=tuple(READS))
REJECTED_TOO_FEW = "row.region = 'west' and action = 'accept' and label"


def loans(n: int, seed: int) -> pd.DataFrame:
    """One row per loan that was applied for, every 13 minutes, with what it really was and whether it defaulted."""
    random = np.random.default_rng(seed)
    made = pd.DataFrame(
        {
            "loan": [f"L{seed}{i:05d}" for i in range(n)],
            "decided_at": [FIRST + timedelta(minutes=13 * i) for i in range(n)],
            "region": random.choice(["north", "south", "west"], n),
            "income": random.gamma(4, 900, n).round(),
            "amount": random.gamma(3, 2500, n).round(),
            "age": random.integers(19, 75, n),
        }
    )
    odds = -1.6 + 0.35 * made.amount / 1000 - 0.0011 * made.income
    made["defaulted"] = random.random(n) < 1 / (1 + np.exp(-odds))
    return made


def fitted(rows: pd.DataFrame) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(rows[READS], rows.defaulted)


@pytest.fixture(scope="module")
def taught() -> pd.DataFrame:
    return loans(5000, 1)


@pytest.fixture(scope="module")
def model(taught: pd.DataFrame) -> Any:
    return fitted(taught)


def decided(rows: pd.DataFrame, model: Any, digits: int = 6, decline: float = 0.35) -> pd.DataFrame:
    """The log of a plain service: what it was given, the score to so many digits, and what was done."""
    log = rows.copy()
    log["score"] = model.predict_proba(log[READS])[:, 1].round(digits)
    log["action"] = np.where(log.score >= decline, "decline", np.where(log.score >= 0.2, "review", "accept"))
    return log


@pytest.fixture(scope="module")
def sound(model: Any) -> pd.DataFrame:
    return decided(loans(N, 2), model)


def diagnosed(folder: Path, scorer: object, where: str, told: str = "", happened: str = "") -> Diagnosis:
    """The verdict on a case opened about the decisions that a predicate selects."""
    with open_adopted(folder, scorer) as bench:
        uh.open_case(bench, "this went wrong", where=where, told=told, happened=happened)
        return uh.diagnose_case(bench)


def blind(found: Diagnosis) -> dict[str, str]:
    """The kinds that could not look, with why."""
    return {r.kind: r.says.removeprefix(COULD_NOT) for r in found.rulings if r.says.startswith(COULD_NOT)}


ACCEPTED_WEST = "\"row.region\" = 'west' and action = 'accept' and label and asked_at >= '2024-01-16'"


# --- what is planted is found ---


@pytest.fixture(scope="module")
def hundredfold(model: Any) -> pd.DataFrame:
    """In the second half, the income of the west comes in cents."""
    rows = loans(N, 2)
    late = (rows.index >= HALF) & (rows.region == "west")
    rows.loc[late, "income"] *= 100
    return decided(rows, model)


@pytest.mark.slow
def test_a_unit_fault_in_one_column_is_named_with_factor_cohort_and_onset(
    hundredfold: pd.DataFrame, model: Any, taught: pd.DataFrame, tmp_path: Path
) -> None:
    raw = loans(N, 2)[["loan", *READS]]
    adopt_system(hundredfold, tmp_path, name="desk", roles=ROLES, scorer=model, training=taught, inputs=raw)

    found = diagnosed(tmp_path, model, ACCEPTED_WEST, "accept", "defaulted")
    best = found.causes[0].suspect

    assert found.verdict == CAUSE, found.says
    assert (best.kind, best.parameters["columns"], best.parameters["factor"]) == ("unit change", ["income"], 100)
    assert next(r.says for r in found.rulings if r.kind == "skew").startswith("the other 5 inputs equal")
    assert best.where is not None
    assert "row.region" in columns_of(best.where)
    assert abs(datetime.fromisoformat(best.since) - (FIRST + timedelta(minutes=13 * HALF))) < timedelta(hours=2)


@pytest.mark.slow
def test_the_scores_of_another_model_are_seen_and_undone(model: Any, tmp_path: Path) -> None:
    rows, other = loans(N, 2), fitted(loans(400, 9))
    log = pd.concat([decided(rows[:HALF], model), decided(rows[HALF:], other)])
    adopt_system(log, tmp_path, name="desk", roles=ROLES, scorer=model)

    found = diagnosed(
        tmp_path, model, "label and action = 'accept' and asked_at >= '2024-01-15'", "accept", "defaulted"
    )

    assert found.causes[0].suspect.kind == "wrong model"
    assert found.causes[0].suspect.says.startswith("1,500 scores since 2024-01-14 13:00 UTC")
    assert found.causes[0].trial is not None
    with open_adopted(tmp_path, model) as bench:
        listed = uh.query(bench, found.causes[0].suspect.evidence)
    assert len(listed) == 1500
    assert all(r["served"] != r["by_the_model"] for r in listed)


@pytest.mark.slow
def test_a_value_that_was_logged_right_and_read_in_another_unit_is_named(model: Any, tmp_path: Path) -> None:
    rows = loans(N, 2)
    read = rows.copy()
    read.loc[(rows.index >= HALF) & (rows.region == "west"), "income"] /= 12
    log = decided(read, model).assign(income=rows.income)
    adopt_system(log, tmp_path, name="desk", roles=ROLES, scorer=model)

    refused = "\"row.region\" = 'west' and action = 'decline' and not label and asked_at >= '2024-01-16'"
    found = diagnosed(tmp_path, model, refused, "decline")
    best = found.causes[0].suspect

    assert found.verdict == CAUSE, found.says
    assert (best.kind, best.parameters["columns"]) == ("unlogged input", ["income"])
    assert best.parameters["factor"] == pytest.approx(1 / 12)
    assert "for income ÷ 12, not for the income that was logged" in best.says
    assert best.evidence == SCORED_AGAIN
    assert next(r.says for r in found.rulings if r.kind == "wrong model") == (
        "the same model gives the scores for income ÷ 12"
    )


@pytest.mark.slow
def test_a_cut_that_was_moved_is_seen_though_nobody_said_what_it_was(model: Any, tmp_path: Path) -> None:
    rows = loans(N, 2)
    log = pd.concat([decided(rows[:HALF], model), decided(rows[HALF:], model, decline=0.6)])
    made = adopt_system(log, tmp_path, name="desk", roles=ROLES)

    found = diagnosed(tmp_path, None, "score between 0.35 and 0.6 and asked_at >= '2024-01-15'", "review")

    assert "decline from 0.35, review from 0.2, else accept" in dict(made.there)["policy"]
    assert found.causes[0].suspect.kind == "wrong threshold"
    assert "0.6" in found.causes[0].suspect.says


@pytest.mark.slow
def test_where_nothing_is_broken_nothing_is_blamed(
    sound: pd.DataFrame, model: Any, taught: pd.DataFrame, tmp_path: Path
) -> None:
    raw = loans(N, 2)[["loan", *READS]]
    adopt_system(sound, tmp_path, name="desk", roles=ROLES, scorer=model, training=taught, inputs=raw)

    found = diagnosed(tmp_path, model, "action = 'accept' and label and day = '2024-01-10'", "accept", "defaulted")

    assert found.verdict in (NOTHING, OPEN), found.says
    assert [c.suspect.says for c in found.causes] == []
    assert set(blind(found)) == {
        "feature skew",
        "missing batch",
        "null join",
        "wrong sampling",
        "duplicated training rows",
        "label delay",
    }


# --- a poor record says what it could not see ---


def test_a_unit_fault_is_named_from_the_log_and_the_scorer_alone(
    hundredfold: pd.DataFrame, model: Any, tmp_path: Path
) -> None:
    adopt_system(hundredfold, tmp_path, name="desk", roles=ROLES, scorer=model)

    found = diagnosed(tmp_path, model, ACCEPTED_WEST, "accept", "defaulted")
    best = found.causes[0].suspect

    assert found.verdict == CAUSE, found.says
    assert (best.kind, best.parameters["columns"], best.parameters["factor"]) == ("unit change", ["income"], 100)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [None, ["loan", *READS]], ids=["all that a log can hold", "keys and inputs"])
def test_the_case_of_an_adopted_system_becomes_a_report(
    sound: pd.DataFrame, model: Any, tmp_path: Path, columns: list[str] | None
) -> None:
    log, scorer = (sound, model) if columns is None else (sound[columns], None)
    adopt_system(
        log, tmp_path, name="desk", roles=Roles(outcome="defaulted") if columns is None else Roles(), scorer=scorer
    )
    with open_adopted(tmp_path, scorer) as bench:
        uh.open_case(bench, "All those young people", where='"row.age" < 21')
        uh.diagnose_case(bench)
        uh.fix_case(bench)
        body = document(bench)

    page = render(body)
    assert "adopted from a log" in page
    assert ("with its hood up: no scorer was given" in page) == (scorer is None)
    assert "All those young people" in render_text(body)
    assert json.loads(json.dumps(body, default=str))


@pytest.mark.slow
def test_without_raw_inputs_nobody_says_that_history_gives_the_same(
    sound: pd.DataFrame, model: Any, tmp_path: Path
) -> None:
    made = adopt_system(sound, tmp_path, name="desk", roles=ROLES, scorer=model)

    found = diagnosed(tmp_path, model, "action = 'accept' and label and day = '2024-01-10'", "accept", "defaulted")
    says = {r.kind: r.says for r in found.rulings}

    assert "raw inputs" in made.missing
    assert blind(found)["skew"] == "no table of the inputs as they were was given"
    assert says["column swap"].endswith("row by row: no table of the inputs as they were was given")
    assert [text for text in says.values() if "history gives" in text or "has its decision" in text] == []


@pytest.mark.slow
def test_a_log_too_short_to_compare_with_itself_says_so_and_names_what_nobody_could_see(
    model: Any, tmp_path: Path
) -> None:
    log = loans(600, 4)
    west = (log.index >= 300) & (log.region == "west")
    log.loc[west, "defaulted"] = True  # all of them, whatever they were told: it may be the world
    adopt_system(decided(log, model), tmp_path, name="log", roles=ROLES, scorer=model)
    found = diagnosed(tmp_path, model, "\"row.region\" = 'west' and label and asked_at >= '2024-01-04'")

    rulings = {r.kind: r.says for r in found.rulings}
    assert "fewer than 800 rows of history and decisions" in rulings["unit change"]
    assert found.verdict == WORLD
    assert "Looked at without raw inputs, training table, outcome moment" in found.says


def test_what_the_raw_inputs_lack_is_not_called_compared(sound: pd.DataFrame, model: Any, tmp_path: Path) -> None:
    made = adopt_system(sound, tmp_path, name="desk", roles=ROLES, scorer=model, inputs=loans(N, 2)[["loan", "age"]])

    found = diagnosed(tmp_path, model, "action = 'accept' and label and day = '2024-01-10'", "accept", "defaulted")

    assert made.missing["some raw inputs"].endswith("has no income, amount")
    assert next(r.says for r in found.rulings if r.kind == "shift").endswith("has no income, amount")


LACKS: dict[str, tuple[list[str], str]] = {
    "score": (["score"], "no score was logged"),
    "action": (["action"], "no action was logged"),
    "outcome": (["defaulted"], "no outcome is known"),
    "moment": (["decided_at"], "the log has no column of moments"),
    "inputs": ([*READS, "region"], "no column of the log is an input"),
}


@pytest.mark.slow
@pytest.mark.parametrize("field", LACKS)
def test_a_log_without_a_field_is_adopted_and_diagnosed_and_says_so(
    sound: pd.DataFrame, model: Any, tmp_path: Path, field: str
) -> None:
    columns, why = LACKS[field]
    outcome = "" if field == "outcome" else "defaulted"
    kept = Roles(key="loan", outcome=outcome, inputs=tuple(READS) if field != "inputs" else ())
    scorer = None if field == "inputs" else model
    made = adopt_system(sound.drop(columns=columns), tmp_path, name="desk", roles=kept, scorer=scorer)

    found = diagnosed(tmp_path, scorer, "id in (select id from decisions order by id limit 30)")

    assert made.missing[field] == why
    assert why in {*blind(found).values(), *found.says.split("; "), made.missing[field]}
    if found.verdict in (NOTHING, OPEN) and not found.causes:
        assert field in found.says
    assert found.verdict != NOTHING or field != "outcome"


def test_actions_without_a_score_are_not_priced(sound: pd.DataFrame, tmp_path: Path) -> None:
    made = adopt_system(sound.drop(columns="score"), tmp_path, name="desk", roles=ROLES)

    assert any("so none is priced" in note for note in made.notes)
    with open_workbench(made.path) as bench:
        assert set(bench.system.goal.costs.of.values()) == {(0.0, 0.0)}


@pytest.mark.slow
def test_a_log_of_nothing_but_keys_and_inputs_is_adopted(sound: pd.DataFrame, tmp_path: Path) -> None:
    made = adopt_system(sound[["loan", *READS]], tmp_path, name="desk")

    found = diagnosed(tmp_path, None, '"row.age" < 25')

    assert list(made.missing) == [
        "raw inputs",
        "scorer",
        "outcome",
        "training table",
        "score",
        "action",
        "policy",
        "moment",
    ]
    assert found.verdict == OPEN
    assert "cannot be seen" in found.says


@pytest.mark.slow
def test_without_a_scorer_no_undo_is_claimed_that_needs_one(hundredfold: pd.DataFrame, tmp_path: Path) -> None:
    raw = loans(N, 2)[["loan", *READS]]
    adopt_system(hundredfold, tmp_path, name="desk", roles=ROLES, inputs=raw)

    with open_adopted(tmp_path) as bench:
        case = uh.open_case(bench, "the west", where=ACCEPTED_WEST, told="accept", happened="defaulted")
        found = uh.diagnose_case(bench)
        fixes = uh.fix_case(bench)
        with pytest.raises(NotCapturedError, match="no scorer was given"):
            uh.replay_case(bench, case.number)

    assert "income × 100" in found.says
    assert "its undo cannot be tried: no scorer was given" in found.says
    assert found.causes[0].trial is None
    assert [f.title for f in fixes if "income" in f.title] == []


@pytest.mark.slow
def test_what_each_missing_field_costs_is_told(sound: pd.DataFrame, tmp_path: Path) -> None:
    sound.to_csv(tmp_path / "log.csv", index=False)

    said = CliRunner().invoke(
        main, ["adopt", str(tmp_path / "log.csv"), "--out", str(tmp_path), "--outcome", "defaulted"]
    )

    assert said.exit_code == 0, said.output
    assert "scorer no scorer was given" in said.output
    assert "unseen: whether the score follows from the inputs" in said.output
    assert f"{FIELDS['raw inputs'].found:.0%} without raw inputs" in " ".join(said.output.split())


# --- what is guessed is said ---


def test_a_role_that_nobody_named_is_guessed_from_values_and_said(sound: pd.DataFrame, tmp_path: Path) -> None:
    made = adopt_system(sound, tmp_path, name="desk")

    assert [note.partition(":")[0] for note in made.notes if "is taken for" in note] == [
        "loan is taken for the key",
        "decided_at is taken for the moment of asking",
        "score is taken for the score",
        "action is taken for the action",
        "defaulted is yes or no, and is taken for an input",
    ]
    assert "outcome" in made.missing


def test_the_score_is_the_column_that_the_scorer_gives_whatever_the_others_are_called(
    sound: pd.DataFrame, model: Any, tmp_path: Path
) -> None:
    log = sound.rename(columns={"score": "p"}).assign(probability=0.25, proba=sound.score / 2)
    made = adopt_system(log, tmp_path / "two", name="log", roles=Roles(outcome="defaulted"), scorer=model)
    only = adopt_system(
        log.drop(columns="proba"), tmp_path / "one", name="log", roles=Roles(outcome="defaulted"), scorer=model
    )

    for each in (made, only):
        assert "p is taken for the score: the scorer gives it" in each.notes
        assert dict(each.there)["scorer"].startswith("gives 3,000 of 3,000")


def test_what_follows_from_the_score_is_the_action_and_what_the_score_is_made_of_is_not(
    sound: pd.DataFrame, tmp_path: Path
) -> None:
    log = sound.rename(columns={"action": "what_we_did"})
    made = adopt_system(log, tmp_path / "cuts", name="log", roles=Roles(outcome="defaulted"))
    of_regions = sound.drop(columns="action").assign(score=sound.region.map({"north": 0.1, "south": 0.2, "west": 0.3}))
    other = adopt_system(of_regions, tmp_path / "levels", name="log", roles=Roles(outcome="defaulted"))

    assert "what_we_did is taken for the action: cuts of the score give it" in made.notes
    assert dict(made.there)["policy"].startswith("decline from 0.35, review from 0.2, else accept: 100.0%")
    assert "action" in other.missing


def test_texts_that_tell_a_moment_in_one_way_are_read_as_times(sound: pd.DataFrame, tmp_path: Path) -> None:
    log = sound.assign(decided_at=sound.decided_at.dt.strftime("%d.%m.%Y %H:%M"))
    made = adopt_system(log, tmp_path, name="log", roles=Roles(at="decided_at"))

    assert dict(made.there)["decisions"] == "3,000, 2024-01-01 to 2024-01-28 UTC"
    assert "decided_at is read as a time, %d.%m.%Y %H:%M: " in " ".join(made.notes)


def test_a_name_alone_makes_no_score(sound: pd.DataFrame, tmp_path: Path) -> None:
    points = sound.assign(score=(sound.score * 800).round())

    made = adopt_system(points, tmp_path, name="desk")

    assert "score" in made.missing
    assert "score_" in dict(made.there)["inputs"] or "score" in dict(made.there)["inputs"]


@pytest.mark.slow
def test_a_text_outcome_needs_the_value_that_means_yes(sound: pd.DataFrame, tmp_path: Path) -> None:
    told = sound.assign(status=np.where(sound.defaulted, "default", "repaid")).drop(columns="defaulted")
    with pytest.raises(ProjectError, match="is neither a flag nor 0 and 1") as error:
        adopt_system(told, tmp_path, name="desk", roles=Roles(outcome="status"))

    made = adopt_system(told, tmp_path, name="desk", roles=Roles(outcome="status", happened="default"))

    assert error.value.hint == "say which value means that it happened: --outcome status=default"
    assert made.outcomes == N
    with open_adopted(tmp_path) as bench:
        assert uh.query(bench, "select avg(label::INT) as s from decided")[0]["s"] == pytest.approx(
            told.status.eq("default").mean()
        )


def test_names_that_underhood_uses_itself_are_kept_for_the_scorer(model: Any, tmp_path: Path) -> None:
    rows = loans(400, 3).rename(columns={"age": "label"})

    def odd(given: list[dict[str, Any]]) -> list[float]:
        return [0.01 * row["label"] for row in given]

    rows["p"] = rows.label * 0.01
    made = adopt_system(
        rows,
        tmp_path,
        name="desk",
        roles=Roles(key="loan", score="p", outcome="defaulted", inputs=("label",)),
        scorer=odd,
    )

    assert "400 of 400" in dict(made.there)["scorer"]
    with open_adopted(tmp_path, odd) as bench:
        uh.open_case(bench, "all", where="true")
        assert all(r.is_identical for r in uh.replay_case(bench))


def test_a_row_sent_again_is_a_second_decision_of_the_same_question(
    sound: pd.DataFrame, model: Any, tmp_path: Path
) -> None:
    again = sound[:5].assign(decided_at=sound.decided_at[:5] + timedelta(seconds=1))
    made = adopt_system(pd.concat([sound, again, sound[:3]]), tmp_path, name="desk", roles=ROLES, scorer=model)

    assert made.decisions == N + 5
    assert "8 rows repeat the key of another: they are taken for its question, decided again" in made.notes


def test_a_key_of_several_outcomes_names_no_question_alone(sound: pd.DataFrame, tmp_path: Path) -> None:
    people = sound.assign(person=[f"P{i % 50}" for i in range(N)])
    made = adopt_system(people, tmp_path, name="desk", roles=Roles(key="person", at="decided_at", outcome="defaulted"))

    assert made.decisions == made.outcomes == N
    assert any("a question is named by key and moment" in note for note in made.notes)
    with open_adopted(tmp_path) as bench:
        assert bench.n_decisions == N
        assert uh.query(bench, "select sum(label::INT) as n from decided")[0]["n"] == int(sound.defaulted.sum())


# --- scorers ---


def replayed(folder: Path, scorer: object = None) -> tuple[int, int]:
    """Of 20 decisions, how many are made again identically, and of how many."""
    with open_adopted(folder, scorer) as bench:
        uh.open_case(bench, "some", where="id in (select id from decisions order by id limit 20)")
        replays = uh.replay_case(bench)
    return sum(r.is_identical for r in replays), len(replays)


@pytest.mark.parametrize("digits", [2, 4, 6, 16])
def test_scores_are_compared_as_the_log_wrote_them(model: Any, tmp_path: Path, digits: int) -> None:
    made = adopt_system(decided(loans(600, 4), model, digits), tmp_path, name="desk", roles=ROLES, scorer=model)

    assert f"600 of 600 logged scores, compared at {min(digits, 10)} decimals" in dict(made.there)["scorer"]
    assert replayed(tmp_path, model) == (20, 20)


def test_a_function_gets_rows_with_none_for_null(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def score(rows: list[dict[str, Any]]) -> list[float]:
        seen.extend(rows)
        return [0.5 if row["income"] is None else min(1.0, row["income"] / 10000) for row in rows]

    rows = loans(300, 5).assign(new=lambda d: d.age > 40)
    rows.loc[::7, "income"] = None
    rows["score"] = [0.5 if pd.isna(v) else min(1.0, v / 10000) for v in rows.income]
    roles = Roles(key="loan", at="decided_at", inputs=("income", "region", "new"))
    made = adopt_system(rows, tmp_path, name="desk", roles=roles, scorer=score)

    assert "300 of 300" in dict(made.there)["scorer"]
    assert seen[0] == {"income": None, "region": rows.region[0], "new": bool(rows.new[0])}
    assert replayed(tmp_path, score) == (20, 20)


def test_a_scorer_that_is_not_the_one_that_decided_is_not_used(sound: pd.DataFrame, tmp_path: Path) -> None:
    made = adopt_system(sound, tmp_path, name="desk", roles=ROLES, scorer=lambda rows: [0.123] * len(rows))

    assert made.missing["scorer"].startswith("the scorer given is not what decided: it gives ")


@pytest.mark.slow
def test_each_version_has_its_own_bundle_and_the_scorer_goes_to_the_one_it_reproduces(
    model: Any, tmp_path: Path
) -> None:
    rows, other = loans(N, 2), fitted(loans(400, 9))
    log = pd.concat(
        [decided(rows[:HALF], other).assign(version="v1"), decided(rows[HALF:], model).assign(version="v2")]
    )
    made = adopt_system(log, tmp_path, name="desk", roles=ROLES, scorer=model)

    old = diagnosed(tmp_path, model, "bundle in (select bundle from decided order by asked_at limit 1) and label")
    new = diagnosed(tmp_path, model, "asked_at > '2024-01-20' and label")

    assert "1,500 of 1,500 logged scores of version v2" in dict(made.there)["scorer"]
    assert blind(old)["wrong model"] == "no scorer of version v1 was given"
    assert "wrong model" not in blind(new)


@pytest.mark.slow
def test_an_object_is_called_here_and_never_stored(sound: pd.DataFrame, model: Any, tmp_path: Path) -> None:
    made = adopt_system(sound, tmp_path, name="desk", roles=ROLES, scorer=model)
    with open_adopted(tmp_path, model) as bench:
        uh.open_case(bench, "some", where="label and action = 'accept'")
    code = (
        "from underhood.repair import workbench as uh\n"
        f"with uh.open_workbench(folder={str(tmp_path)!r}) as bench:\n"
        "    print(next(r.says for r in uh.diagnose_case(bench).rulings if r.kind == 'wrong model'))"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    body = load(tmp_path / ".underhood", made.bundles[0]).model
    assert (body["how"], body["where"]) == ("python", "handed_over_desk:scorer")
    assert said.strip() == COULD_NOT + "the scorer is an object of another Python process"


@pytest.mark.slow
def test_a_scorer_of_a_module_beside_the_project_is_found_by_every_command(
    sound: pd.DataFrame, taught: pd.DataFrame, tmp_path: Path
) -> None:
    sound.to_csv(tmp_path / "log.csv", index=False)
    (tmp_path / "tiny_scoring.py").write_text(
        "def score(rows): return [min(0.999, r['amount'] / 30000) for r in rows]\n", "utf-8"
    )
    log = sound.drop(columns="action").assign(score=(sound.amount / 30000).clip(upper=0.999))
    log.to_csv(tmp_path / "log.csv", index=False)
    words = ["adopt", "log.csv", "--features", "amount,income", "--python", "tiny_scoring:score", "--key", "loan"]

    def told(*words: str) -> str:
        code = "from underhood.faces.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout

    adopted = told(*words)
    opened = told("case", "open", "some", "--where", "asked_at < '2024-01-02'")

    assert "gives 3,000 of 3,000 logged scores" in adopted
    assert "111 of 111 decided again identically" in opened


class Endpoint(BaseHTTPRequestHandler):
    """Scores {"instances": rows} as a served model does."""

    def do_POST(self) -> None:
        """Answers with probabilities, by the model that the server holds."""
        rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["instances"]
        status, body = self.server.answer(rows)  # type: ignore[attr-defined]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def served(answer: Callable[[list[dict[str, Any]]], tuple[int, bytes]]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    server.answer = answer  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/score"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def by_model(model: Any) -> Callable[[list[dict[str, Any]]], tuple[int, bytes]]:
    def answer(rows: list[dict[str, Any]]) -> tuple[int, bytes]:
        made = model.predict_proba(pd.DataFrame(rows)[READS]).tolist()
        return 200, json.dumps({"predictions": made}).encode()

    return answer


@pytest.mark.slow
def test_an_endpoint_scores_in_batches_and_a_dead_one_is_said(sound: pd.DataFrame, model: Any, tmp_path: Path) -> None:
    with served(by_model(model)) as url:
        made = adopt_system(sound, tmp_path, name="desk", roles=ROLES, scorer=url)
        assert replayed(tmp_path) == (20, 20)
        alive = diagnosed(tmp_path, None, "label and action = 'accept' and day = '2024-01-10'")
    dead = diagnosed(tmp_path, None, "label and action = 'accept' and day = '2024-01-10'")

    assert "3,000 of 3,000" in dict(made.there)["scorer"]
    assert "wrong model" not in blind(alive)
    assert blind(dead)["wrong model"].startswith("the scorer does not answer: ")


@pytest.mark.parametrize(
    ("status", "body", "what"),
    [
        (500, b"out of memory", "the scorer answers 500 Internal Server Error: out of memory"),
        (200, b"<html>", "the scorer answers no JSON"),
        (200, b'{"predictions": [0.5]}', "the scorer answers 1 scores for 1000 rows"),
        (200, b'{"classes": []}', "the scorer answers no list of scores for 1000 rows"),
    ],
)
def test_what_an_endpoint_says_wrong_is_told(
    sound: pd.DataFrame, tmp_path: Path, status: int, body: bytes, what: str
) -> None:
    with served(lambda rows: (status, body)) as url, pytest.raises((ProjectError, NotCapturedError), match=what):
        adopt_system(sound, tmp_path, name="desk", roles=ROLES, scorer=url)


def test_an_onnx_model_is_kept_in_the_bundle_and_scores(sound: pd.DataFrame, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    weights = {"income": -0.0009, "amount": 0.0003, "age": -0.001}
    matrix = np.array([[w] for w in weights.values()], dtype=np.float32)
    make, tensor = onnx.helper, onnx.TensorProto
    graph = make.make_graph(
        [
            make.make_node("MatMul", ["rows", "weights"], ["product"]),
            make.make_node("Add", ["product", "bias"], ["odds"]),
            make.make_node("Sigmoid", ["odds"], ["probability"]),
        ],
        "desk",
        [make.make_tensor_value_info("rows", tensor.FLOAT, [None, 3])],
        [make.make_tensor_value_info("probability", tensor.FLOAT, [None, 1])],
        [
            onnx.numpy_helper.from_array(matrix, "weights"),
            onnx.numpy_helper.from_array(np.array([-1.5], np.float32), "bias"),
        ],
    )
    path = tmp_path / "desk.onnx"
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8), path)
    odds = -1.5 + sum(w * sound[c] for c, w in weights.items())
    log = sound.drop(columns="action").assign(score=1 / (1 + np.exp(-odds)))
    made = adopt_system(log, tmp_path, name="desk", roles=ROLES, scorer=str(path))
    path.unlink()

    # the model computes in 32 bits, the log in 64: now and then a last decimal is rounded the other way
    assert "gives 2,998 of 3,000 logged scores, compared at 4 decimals" in dict(made.there)["scorer"]
    assert replayed(tmp_path) == (20, 20)


# --- mistakes are told ---


def mistake(act: Callable[[], Adopted]) -> str:
    with pytest.raises(ProjectError) as error:
        act()
    return str(error.value)


def test_a_score_that_is_no_probability_is_refused(sound: pd.DataFrame, tmp_path: Path) -> None:
    points = sound.assign(points=sound.score * 800)

    said = mistake(lambda: adopt_system(points, tmp_path, name="desk", roles=Roles(score="points")))

    assert "so it is no probability" in said
    assert "divide per cents by 100" in said


def test_wrong_names_are_told_all_at_once(sound: pd.DataFrame, tmp_path: Path) -> None:
    said = mistake(
        lambda: adopt_system(sound, tmp_path, name="desk", roles=Roles(key="lon", at="region", score="scor"))
    )

    assert "the log has no column 'lon'\ntry: did you mean loan?" in said
    assert "region is a text, not a time" in said
    assert "the log has no column 'scor'" in said


@pytest.mark.slow
def test_what_is_yes_or_no_and_was_named_by_nobody_may_be_the_outcome(sound: pd.DataFrame, tmp_path: Path) -> None:
    made = adopt_system(sound, tmp_path / "unsaid", name="desk")
    named = adopt_system(sound, tmp_path / "said", name="desk", roles=Roles(outcome="defaulted"))

    assert [n for n in made.notes if "--outcome defaulted" in n]
    assert not [n for n in named.notes if "--outcome" in n]


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        (("--python", "scoring.model"), "names no scorer", "module:function"),
        (("--python", "scoring:model", "--out", "OUT"), "No module named 'scoring'", "copy scoring.py"),
        (("--http", "localhost:8000"), "is not the address of an endpoint", "http://"),
        (("--python", "a:b", "--onnx", "c.onnx"), "more than one scorer", "give one"),
    ],
)
def test_a_scorer_that_is_named_wrong_is_told_by_its_own_option(
    sound: pd.DataFrame, tmp_path: Path, words: tuple[str, ...], what: str, hint: str
) -> None:
    sound.head(50).to_csv(tmp_path / "log.csv", index=False)
    given = [str(tmp_path / "out") if w == "OUT" else w for w in words]
    done = CliRunner().invoke(main, ["adopt", str(tmp_path / "log.csv"), *given, "--json"], prog_name="underhood")
    told = json.loads(done.stdout)

    assert done.exit_code == 1
    assert what in told["error"]
    assert hint in told["hint"]


def test_a_scorer_that_wants_what_the_log_lacks_says_which(sound: pd.DataFrame, model: Any, tmp_path: Path) -> None:
    said = mistake(lambda: adopt_system(sound.drop(columns="age"), tmp_path, name="desk", scorer=model))

    assert "inputs: the log has no column 'age'" in said
    assert "the log must hold what the scorer was given" in said


def test_a_scorer_that_fails_is_told_with_its_own_words(sound: pd.DataFrame, tmp_path: Path) -> None:
    def broken(rows: list[dict[str, Any]]) -> list[float]:
        raise KeyError("colour")

    said = mistake(lambda: adopt_system(sound, tmp_path, name="desk", roles=ROLES, scorer=broken))

    assert "the scorer failed: KeyError: 'colour'" in said


def test_nothing_is_written_over_and_no_record_is_shared(sound: pd.DataFrame, tmp_path: Path) -> None:
    adopt_system(sound[:200], tmp_path, name="desk")

    assert "there is a file of that name" in mistake(lambda: adopt_system(sound[:200], tmp_path, name="desk"))
    assert "there is a record of another system" in mistake(lambda: adopt_system(sound[:200], tmp_path, name="other"))
    assert adopt_system(sound[:300], tmp_path, name="desk", force=True).decisions == 300


def test_raw_inputs_need_the_logs_key_once_each(sound: pd.DataFrame, tmp_path: Path) -> None:
    raw = sound[["loan", *READS]]

    twice = mistake(
        lambda: adopt_system(sound, tmp_path / "a", name="desk", roles=ROLES, inputs=pd.concat([raw, raw[:2]]))
    )
    keyless = mistake(lambda: adopt_system(sound, tmp_path / "b", name="desk", roles=ROLES, inputs=raw[READS]))

    assert "2 rows repeat the key of another" in twice
    assert "has no key of the log" in keyless


def test_the_project_of_an_adopted_system_is_an_ordinary_one(sound: pd.DataFrame, model: Any, tmp_path: Path) -> None:
    made = adopt_system(sound, tmp_path, name="desk", roles=ROLES, scorer=model, goal="lend to those who repay")

    with open_workbench(made.path) as bench:
        assert bench.system.goal.about == "lend to those who repay"
        assert bench.system.policy.cuts == (("decline", 0.35), ("review", 0.2))
        assert bench.n_decisions == N


def test_every_kind_says_which_parts_of_the_record_it_needs_by_names_that_there_are():
    assert {n for k in (UNLOGGED, *KINDS) for n in k.needs} <= set(NEEDS)
    assert not next(k for k in KINDS if k.name == "fan-out").needs
    assert "outcome moment" in next(k for k in KINDS if k.name == "label delay").needs


# --- the nights, and faults on purpose ---


def test_the_nightly_watch_looks_over_an_adopted_log(
    hundredfold: pd.DataFrame, model: Any, taught: pd.DataFrame, tmp_path: Path
) -> None:
    raw = loans(N, 2)[["loan", *READS]]
    adopt_system(hundredfold, tmp_path, name="desk", roles=ROLES, scorer=model, training=taught, inputs=raw)

    with open_adopted(tmp_path, model) as bench:
        before = watch(bench, until="2024-01-13")
        night = watch(bench, until="2024-01-16", quiet=1)

    assert before.alarms == ()
    assert [a.cause.suspect.kind for a in night.alarms] == ["unit change"]
    assert (night.quiet, night.false_alarms) == (1, 0)


@pytest.mark.parametrize("columns", [["loan", "decided_at", *READS, "action"], ["loan", *READS, "score", "defaulted"]])
def test_the_nightly_watch_of_a_poorer_log_says_nothing_that_it_cannot_see(
    hundredfold: pd.DataFrame, tmp_path: Path, columns: list[str]
) -> None:
    roles = Roles(key="loan", inputs=tuple(READS))
    adopt_system(hundredfold[columns], tmp_path, name="desk", roles=roles)

    with open_adopted(tmp_path) as bench:
        night = watch(bench, quiet=1)

    assert night.decisions
    assert {a.cause.suspect.kind for a in night.alarms} <= {"unit change"}


@pytest.mark.slow
def test_a_drill_strikes_an_adopted_system_with_what_its_scorer_can_show(
    sound: pd.DataFrame, model: Any, tmp_path: Path
) -> None:
    adopt_system(sound, tmp_path, name="desk", roles=ROLES, scorer=model)
    names = ["unit change", "wrong model", "leakage", "missing batch", "default path", "parse failure"]
    kinds = kinds_named(names)

    with open_adopted(tmp_path, model) as bench:
        score = run_drills(bench, kinds=kinds, severities=["all"])

    assert [(t.kind, t.by) for t in score.tested] == [("unit change", "watch")]
    # a linear model has no score for a row of nulls, nobody said what was taught, and nothing is fitted here
    assert [k for k, _, _ in score.skipped] == names[1:]


@pytest.mark.slow
def test_without_its_scorer_an_adopted_system_is_drilled_with_traffic_and_outcomes_only(
    sound: pd.DataFrame, tmp_path: Path
) -> None:
    adopt_system(sound, tmp_path, name="desk", roles=ROLES)

    with open_adopted(tmp_path) as bench:
        score = run_drills(bench, kinds=kinds_named(["unit change", "misrouting", "fan-out"]), severities=["all"])

    assert [t.kind for t in score.tested] == ["fan-out"]


def test_columns_named_like_the_records_own_are_kept_apart_and_ids_are_those_that_decide_would_give(
    tmp_path: Path,
) -> None:
    rows = pd.DataFrame(
        {"loan": ["a", "b"], "when": [FIRST, FIRST], "id": [7.0, 8.0], "n": [1.0, 2.0], "day": ["x", "y"]}
    )
    log = rows.assign(score=[0.1, 0.9], action=["yes", "no"])
    roles = Roles(key="loan", at="when", score="score", action="action", inputs=("id", "n", "day"))
    adopt_system(pd.concat([log, log]), tmp_path, name="desk", roles=roles)

    with open_adopted(tmp_path) as bench:
        assert bench.n_decisions == 2  # the same row twice is one decision
        made = [decision_from(row, bench.plan) for row in bench.engine.dicts("select * from decided order by key")]
        assert [(d.key, dict(d.features)) for d in made] == [
            ("a", {"id": 7.0, "n": 1.0, "day": "x"}),
            ("b", {"id": 8.0, "n": 2.0, "day": "y"}),
        ]
        assert all(d.id == decision_id(d.bundle, d.key, d.asked_at, d.row) for d in made)


def test_a_replay_says_at_how_many_decimals_an_adopted_score_was_compared(
    sound: pd.DataFrame, model: Any, tmp_path: Path
) -> None:
    adopt_system(sound[:200], tmp_path, name="desk", roles=ROLES, scorer=model)

    with open_adopted(tmp_path, model) as bench:
        assert bench.n_decisions == 200
        first = bench.engine.rows("select key from decided order by asked_at limit 1")[0][0]
        again = uh.open_decision(bench, first).replay

    assert again.is_identical
    assert (again.digits, again.compared) == (6, "to 6 decimals, as logged")


def test_no_undo_that_would_fit_the_model_again_is_tried_on_an_adopted_system(
    sound: pd.DataFrame, model: Any, taught: pd.DataFrame, tmp_path: Path
) -> None:
    adopt_system(sound[:200], tmp_path, name="desk", roles=ROLES, scorer=model, training=taught)

    with open_adopted(tmp_path, model) as bench:
        scene = quiet_scene(bench)
        tried = [
            can_try(scene, (change,)) for change in (Change(UNTIL, "training", "2024-01-02"), Change(INPUT, "age", 1))
        ]

    assert tried == [False, True]


def test_the_figures_that_a_poor_log_is_told_with_are_those_of_the_page() -> None:
    page = (Path(__file__).parent.parent / "docs" / "adopt.md").read_text(encoding="utf-8")
    table = {
        row[0]: row[1] for line in page.splitlines() if len(row := [c.strip() for c in line.split("|")[1:-1]]) == 4
    }
    without = {"without raw inputs": "raw inputs", "without scorer": "scorer", "without outcomes": "outcome"}
    without["without training table"] = "training table"
    told = {"made here": MADE_HERE, "a log with all": FULL, "features and scores only": FEW}
    told |= {row: FIELDS[name].found for row, name in without.items()}

    assert {row: table[row] for row in told} == {row: f"{share:.0%}" for row, share in told.items()}
