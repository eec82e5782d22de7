"""A system of the bench: its folder made ready to break, with its tables, a bundle and a span that was decided.

    for folder in find_systems(SYSTEMS):
        ready = prepare(folder, data, Path("prepared"))
        with open_workbench(ready.project) as bench:
            ...

Usage: python bench/faults/systems.py [NAME …] [--systems DIR] [--data DIR] --into DIR. It prints one line a system.
The form of a folder is told in systems/README.md. Nothing here knows one system from another.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import runpy
import shutil
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from underhood.ground.errors import NotFoundError, ProjectError, UnderhoodError, nearest, raise_all
from underhood.ground.project import find_project
from underhood.plan.operations import FLAG
from underhood.repair.workbench import Workbench, build_system, decide_history, open_workbench, silent

SYSTEMS = Path(__file__).parent / "systems"
SPANS, TABLES, STATE = "spans.toml", "tables.py", "prepared.json"
LEFT_BEHIND = ("__pycache__", ".underhood")
FORM = "bench/faults/systems/README.md tells the form"

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Words:
    """What people who complain about this system mean.

    `happened` is the label or a late flag of the asked table: what the system should foresee. `missed` is the
    action complained about when it happened, `needless` the one complained about when it did not ("" if nobody
    would complain).
    """

    happened: str
    missed: str
    needless: str = ""


@dataclass(frozen=True)
class Event:
    """A span (`until` excluded) inside the decided one in which the world really changed; `about` says how."""

    name: str
    since: str
    until: str
    about: str = ""


@dataclass(frozen=True)
class Spans:
    """The spans of one system: days or moments in the zone of its project, each `until` excluded.

    The bundle learns from what was asked since `learn_since` ("": from the first row on) and known by
    `learn_until`; what was asked from `decide_since` to `decide_until` is decided. Nobody looks at a system that
    is `held_out` while the diagnosis is being made better.
    """

    learn_until: str
    decide_since: str
    decide_until: str
    complaint: Words
    learn_since: str = ""
    about: str = ""
    held_out: bool = False
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Measured:
    """How the unbroken system does on its decided span.

    `n_asked` questions, `n_learned` rows learned from, `n_decisions` decisions, `n_known` of them with a label.
    `positive` (share of true labels), `mean_score`, `auc` and `loss` (log loss, nats) are over those; `base_loss` is
    that of the share of positives in the training set, told for every row. `shares` are decisions by action.
    `seconds` are wall clock: tables, join (sources read and joined), build, decide.
    """

    n_asked: int
    n_learned: int
    n_decisions: int
    n_known: int
    n_refused: int
    positive: float
    mean_score: float
    auc: float
    loss: float
    base_loss: float
    rung: str
    shares: Mapping[str, float]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Prepared:
    """A system made ready: its project file, with tables and record beside it, its spans and how it does."""

    name: str
    project: Path
    spans: Spans
    measured: Measured


def find_systems(folder: Path = SYSTEMS) -> list[Path]:
    """The folders of systems in `folder`, or `folder` itself if it is one. Raises NotFoundError if there is none."""
    if (folder / SPANS).is_file():
        return [folder]
    found = sorted(p.parent for p in folder.glob(f"*/{SPANS}"))
    if not found:
        raise NotFoundError(f"no folder with a {SPANS} here", str(folder), FORM)
    return found


def read_spans(path: Path) -> Spans:
    """The spans.toml of a system. Raises ProjectError with everything that is missing or wrong in it, at once."""
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ProjectError(f"there is no {path.name}", str(path.parent), FORM) from error
    except tomllib.TOMLDecodeError as error:
        raise ProjectError(f"is not TOML: {error}", str(path), FORM) from error
    where, errors = f"{path.parent.name}/{path.name}", list[UnderhoodError]()
    words = body.get("complaint", {})
    errors += _form(body, Spans, where)
    errors += _form(words, Words, f"{where} [complaint]") if "complaint" in body else []
    events = body.get("events", [])
    errors += _events_form(events, where)
    for name in ("learn_since", "learn_until", "decide_since", "decide_until"):
        if name in body:
            body[name] = body[name].isoformat() if isinstance(body[name], date) else body[name]
            errors += _moment(body[name], f"{where}, {name}")
    raise_all(errors)
    order = [n for n in ("learn_since", "learn_until", "decide_since", "decide_until") if body.get(n)]
    for one, next_ in pairwise(order):
        if _at(body[one]) > _at(body[next_]) or (one == "decide_since" and body[one] == body[next_]):
            hint = "first it learns, then it decides what it has not seen"
            errors.append(ProjectError(f"{one} {body[one]} is not before {next_} {body[next_]}", where, hint))
    made = tuple(Event(**{name: str(value) for name, value in event.items()}) for event in events)
    for event in made:
        if not _at(body["decide_since"]) <= _at(event.since) < _at(event.until) <= _at(body["decide_until"]):
            hint = "an event lies in the decided span, its since before its until"
            errors.append(ProjectError(f"{event.since} to {event.until} is not in it", f"{where}, {event.name}", hint))
    raise_all(errors)
    return Spans(**{**body, "complaint": Words(**words), "events": made})


def prepare(
    system_folder: Path, data: Path | None, into: Path, *, say: Callable[[str], None] = silent, anew: bool = False
) -> Prepared:
    """Makes a system ready in `into`/NAME: writes its tables, builds by `learn_until`, decides its span.

    `data` is the folder of data sets that its tables.py reads; None if its tables lie in its folder. What was
    made ready before is used again as long as neither the folder's content nor the files in `data` have changed
    (their names, sizes and times are looked at), unless `anew`. Raises ProjectError if the folder is not in the
    documented form, or if `into`/NAME holds something else, NotFoundError if there is no folder `data`; what
    tables.py raises goes through.
    """
    folder = system_folder.resolve()
    spans, project = read_spans(folder / SPANS), find_project(None, folder)
    goal, state = into.resolve() / folder.name, into.resolve() / folder.name / STATE
    if data is not None and (folder / TABLES).is_file() and not data.is_dir():
        # said before what was made ready is cleared
        raise NotFoundError("there is no folder of data sets here", str(data), "name it with --data")
    made_of = digest_of(folder, data if (folder / TABLES).is_file() else None)
    if not anew and state.is_file():
        kept = json.loads(state.read_text(encoding="utf-8"))
        if kept.get("made_of") == made_of and "measured" in kept:
            return Prepared(folder.name, goal / project.name, spans, Measured(**kept["measured"]))
    began = time.monotonic()
    _clear(goal)
    state.write_text(json.dumps({"made_of": made_of}), encoding="utf-8")
    shutil.copytree(folder, goal, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    write_tables(folder, data, goal, say)
    written = time.monotonic()
    with open_workbench(goal / project.name, say=say) as bench:
        measured = _run(bench, spans, folder.name, written - began)
    state.write_text(json.dumps({"made_of": made_of, "measured": asdict(measured)}, indent=1), encoding="utf-8")
    return Prepared(folder.name, goal / project.name, spans, measured)


def digest_of(folder: Path, data: Path | None) -> str:
    """Digest of a system's folder (names and bytes), and of `data` (names, sizes and times of its files)."""
    made = hashlib.sha256(" ".join(f.name for f in fields(Measured)).encode())  # another form is made anew
    for path in _files(folder):
        made.update(f"{path.relative_to(folder)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    for path in _files(data) if data is not None else []:
        seen = path.stat()
        made.update(f"{path}\0{seen.st_size}\0{seen.st_mtime_ns}\n".encode())
    return made.hexdigest()


def auc_of(label: Array, score: Array) -> float:
    """The chance that a positive row scores above a negative one, ties half (Mann and Whitney 1947); 0.5 if one class.

    `label` holds flags, `score` floats without null, both one a row.
    """
    levels, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    positive = int(label.sum())
    if not positive or positive == len(label) or len(levels) < 2:
        return 0.5
    above = float(middle[place][label.astype(bool)].sum()) - positive * (positive + 1) / 2
    return above / (positive * (len(label) - positive))


def _form(body: Any, form: type, where: str) -> list[UnderhoodError]:
    """What a table of a TOML file lacks, has too much or has of another type, compared with a dataclass."""
    if not isinstance(body, dict):
        return [ProjectError("is not a table", where, FORM)]
    needed = [f.name for f in fields(form) if f.name in form.__annotations__ and not hasattr(form, f.name)]
    errors: list[UnderhoodError] = [ProjectError(f"lacks {n}", where, FORM) for n in needed if n not in body]
    known = [f.name for f in fields(form)]
    errors += [ProjectError(f"there is no {n!r}", where, nearest(n, known)) for n in body if n not in known]
    texts = [f.name for f in fields(form) if f.type == "str" and f.name in body]
    errors += [
        ProjectError(f"is {body[n]!r}, not a text", f"{where}, {n}", "put it in quotes")
        for n in texts
        if not isinstance(body[n], str | date)
    ]
    if "held_out" in known and not isinstance(body.get("held_out", False), bool):
        errors.append(ProjectError(f"is {body['held_out']!r}, not true or false", f"{where}, held_out", FORM))
    return errors


def _events_form(events: Any, where: str) -> list[UnderhoodError]:
    """What is wrong with the form of the events of a spans.toml."""
    if not isinstance(events, list):
        return [ProjectError("is not a list of tables", f"{where}, events", "write each as [[events]]")]
    errors: list[UnderhoodError] = []
    for n, event in enumerate(events, 1):
        errors += _form(event, Event, f"{where}, event {n}")
        for name in {"since", "until"} & set(event if isinstance(event, dict) else ()):
            errors += _moment(str(event[name]), f"{where}, event {n}, {name}")
    return errors


def _moment(text: Any, where: str) -> list[UnderhoodError]:
    try:
        _at(text)
    except (TypeError, ValueError):
        return [ProjectError(f"{text!r} is not a day or a moment", where, 'write "2013-03-01" or "2013-03-01T06:00"')]
    return []


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=None)


def _files(folder: Path) -> list[Path]:
    found = (p for p in folder.rglob("*") if p.is_file())
    return sorted(p for p in found if not set(p.relative_to(folder).parts) & set(LEFT_BEHIND))


def _clear(goal: Path) -> None:
    """An empty folder at `goal`. Only what was made here before is thrown away."""
    if goal.exists() and any(goal.iterdir()):
        if not (goal / STATE).is_file():
            raise ProjectError("holds something that was not made here", str(goal), "choose another folder")
        shutil.rmtree(goal)
    goal.mkdir(parents=True, exist_ok=True)


def write_tables(folder: Path, data: Path | None, goal: Path, say: Callable[[str], None] = silent) -> None:
    """Writes the tables of a system's folder into `goal`; nothing if it has no tables.py. Raises ProjectError."""
    path = folder / TABLES
    if not path.is_file():
        return
    sys.path.insert(0, str(folder))  # modules beside it, as for a project file
    try:
        write = runpy.run_path(str(path), run_name=f"tables_of_{folder.name}").get("write")
    finally:
        sys.path.remove(str(folder))
    if not callable(write):
        raise ProjectError("defines no write(data, folder)", str(path), FORM)
    if data is None or not data.is_dir():
        raise ProjectError("needs the folder of data sets", str(path), "name it with --data DIR")
    say(f"writing the tables of {folder.name}")
    write(data.resolve(), goal)


def _run(bench: Workbench, spans: Spans, name: str, tables_s: float) -> Measured:
    """Builds and decides, and measures what came of it."""
    opened = time.monotonic()
    _check_words(bench, spans.complaint, name)
    began = time.monotonic()
    n_asked = bench.engine.rows("select count(*) from asks")[0][0]
    built = build_system(bench, until=spans.learn_until, since=spans.learn_since, by="bench")
    between = time.monotonic()
    span = decide_history(bench, since=spans.decide_since, until=spans.decide_until)
    ended = time.monotonic()
    n = bench.n_decisions
    known = bench.engine.frame("select label::INT as label, score from decided where label is not null and score >= 0")
    label, score = np.asarray(known["label"], float), np.asarray(known["score"], float)
    base = np.full(len(label), float(built.drawn.label.mean()))
    return Measured(
        n_asked=n_asked,
        n_learned=len(built.drawn.label),
        n_decisions=n,
        n_known=len(label),
        n_refused=span.refused,
        positive=_rounded(label.mean() if len(label) else 0),
        mean_score=_rounded(score.mean() if len(score) else 0),
        auc=_rounded(auc_of(label, score)),
        loss=_rounded(_log_loss(label, score)),
        base_loss=_rounded(_log_loss(label, base)),
        rung=built.climb.kind,
        shares={a: _rounded(span.actions.get(a, 0) / max(n, 1)) for a in bench.system.policy.actions},
        seconds={
            "tables": round(tables_s, 1),
            "join": round(began - opened, 1),
            "build": round(between - began, 1),
            "decide": round(ended - between, 1),
        },
    )


def _check_words(bench: Workbench, words: Words, name: str) -> None:
    """That the words of a complaint are names of this system. Raises ProjectError with all that are not."""
    flags = [bench.system.label.name, *[n for n, kind in bench.plan.facts.items() if kind == FLAG]]
    where, errors = f"{name}/{SPANS} [complaint]", list[UnderhoodError]()
    pairs: list[tuple[str, str, Iterable[str]]] = [("happened", words.happened, flags)]
    pairs += [(n, w, bench.system.goal.costs.of) for n, w in (("missed", words.missed), ("needless", words.needless))]
    for field, word, known in pairs:
        if word not in known and not (field == "needless" and not word):
            errors.append(
                ProjectError(f"there is no {word!r} in this system", f"{where}, {field}", nearest(word, known))
            )
    raise_all(errors)


def _log_loss(label: Array, score: Array) -> float:
    p = np.clip(score, 1e-15, 1 - 1e-15)
    return float(-np.mean(label * np.log(p) + (1 - label) * np.log1p(-p))) if len(label) else 0.0


def _rounded(value: float) -> float:
    return round(float(value), 4)


def told(ready: Prepared) -> str:
    """One line on how a prepared system does."""
    m = ready.measured
    acts = " ".join(f"{a} {s:.0%}" for a, s in m.shares.items())
    took = " + ".join(f"{s:g}" for s in m.seconds.values()) + " s" + (" · held out" if ready.spans.held_out else "")
    return (
        f"{ready.name:11} asked {m.n_asked:6,} · learned {m.n_learned:6,} · decided {m.n_decisions:6,} · "
        f"known {m.n_known:6,} ({m.positive:.0%} true, said {m.mean_score:.0%}) · {m.rung} AUC {m.auc:.3f} · "
        f"log loss {m.loss:.4f} against {m.base_loss:.4f} · {acts} · {took}"
    )


def main() -> None:
    """Prepares the systems named, or all, and prints how each does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*")
    parser.add_argument("--systems", type=Path, default=SYSTEMS)
    parser.add_argument("--data", type=Path, default=SYSTEMS.parents[3] / "shared" / "data")
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--anew", action="store_true")
    given = parser.parse_args()
    folders = [f for f in find_systems(given.systems) if not given.name or f.name in given.name]
    for folder in folders:
        print(told(prepare(folder, given.data, given.into, anew=given.anew)), flush=True)


if __name__ == "__main__":
    try:
        main()
    except UnderhoodError as error:
        sys.exit(f"{error}")
