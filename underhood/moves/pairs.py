"""What moved between columns: two swapped, one renamed, one that left the others, or a move of one cohort only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from underhood.moves.bins import FREE, LEVELS, Distance, Values, sampled, vector_distance
from underhood.moves.column_moves import LEAST_DRIFT, shift_move
from underhood.moves.moves import Move, beside, number, severity_of, text
from underhood.moves.shifts import explain
from underhood.moves.sides import Sides, apart
from underhood.plan.operations import FLAG, TEXT
from underhood.plan.render import quoted

SAME = 0.2  # of the distance before: what a swap may leave
LEAST_TIE = 0.15  # change of a correlation that is told
TIED_ROWS = 8192  # of the sample: a correlation is known to within 0.02
MOST_TIES = 40  # columns: above it only the first are looked at in pairs
MOST_COHORTS = 30  # levels of a column that may name a cohort
LEAST_COHORT = 100  # sampled rows of it on either side


# --- swapped and renamed ---


def swapped(sides: Sides, moved: Sequence[str]) -> Iterator[Move]:
    """Pairs of moved columns whose values have changed places; of the first MOST_TIES that moved."""
    for first, second in combinations(moved[:MOST_TIES], 2):
        if sides.is_number(first) == sides.is_number(second) and _is_swap(sides, first, second):
            yield Move(
                (first, second),
                "swapped",
                f"{first} and {second} have changed places: each is now distributed as the other was",
                {"columns": (first, second)},
                severity=severity_of("swapped", 1.0),
                query=beside(sides.one.name, sides.other.name, ", ".join(_figure(sides, c) for c in (first, second))),
            )


def _figure(sides: Sides, column: str) -> str:
    name = quoted(column)
    asked = f"quantile_cont({name}, [0.25, 0.5, 0.75])" if sides.is_number(column) else f"mode({name})"
    return f"{asked} as {name}"


def _is_swap(sides: Sides, first: str, second: str) -> bool:
    found = []
    for a, b in ((first, second), (second, first)):
        now = sides.at_other[b]
        before, crossed = _apart(sides.at_one[b], now), _apart(sides.at_one[a], now)
        found.append(before > LEAST_DRIFT and crossed < SAME * before)
    return all(found)


def _apart(one: Values, other: Values) -> float:
    """Total variation above noise of two samples of one kind."""
    if one.dtype != object:
        one, other = one[~np.isnan(one)], other[~np.isnan(other)]
        if not len(one) or not len(other):
            return 1.0
        edges = np.unique(np.quantile(np.concatenate([one, other]), np.linspace(0.04, 0.96, 24)))
        laid = [np.bincount(np.searchsorted(edges, s), minlength=len(edges) + 1).astype(float) for s in (one, other)]
        return apart(laid[0], laid[1])
    names, places = np.unique([str(v) for v in [*one, *other] if v is not None], return_inverse=True)
    n_one = sum(v is not None for v in one)
    return apart(
        np.bincount(places[:n_one], minlength=len(names)).astype(float),
        np.bincount(places[n_one:], minlength=len(names)).astype(float),
    )


def renamed_columns(sides: Sides) -> Iterator[Move]:
    """Lost columns that are there under another name, by their values."""
    lost = [c for c in sides.one.columns if c not in sides.other.columns]
    gained = [c for c in sides.other.columns if c not in sides.one.columns]
    if not lost or not gained or len(lost) > MOST_TIES:
        return
    at_one = sampled(sides.engine, sides.one, lost)
    at_other = sampled(sides.engine, sides.other, gained)
    for before in lost:
        kind = sides.one.kinds[before]
        alike = [c for c in gained if sides.other.kinds[c] == kind]
        found = sorted((_apart(at_one[before], at_other[c]), c) for c in alike)
        is_telling = len(set(at_one[before].tolist())) > 2
        if found and is_telling and found[0][0] < 0.02 and (len(found) == 1 or found[1][0] > 0.1):
            now = found[0][1]
            yield Move(
                (now,),
                "renamed_column",
                f"{before} is now called {now}: the values are distributed alike",
                {"before": before, "now": now},
                severity=severity_of("renamed_column", 1.0),
            )


# --- cohorts ---


def in_cohort(sides: Sides, move: Move) -> Move:
    """A move of a number, or the same confined to the one cohort where it happened, if there is one.

    A cohort is one level of another column: inside it the column moved, in all
    other rows it did not.
    """
    column = move.columns[0]
    a, b = sides.at_one[column], sides.at_other[column]
    best: tuple[float, Move] | None = None
    for name, level, mine, theirs in _cohorts(sides, column):
        outside = _distance(sides, column, a[~mine], b[~theirs]).effect
        if outside > 0.25 * move.effect or outside >= LEAST_DRIFT:
            continue
        inside = _distance(sides, column, a[mine], b[theirs]).effect
        if inside < 2 * move.effect or (best and inside - outside <= best[0]):
            continue
        where = _level_is(sides, name, level)
        shift = explain(*(s[~np.isnan(s)] for s in (a[mine], b[theirs])))
        found = _distance(sides, column, a[mine], b[theirs])
        made = shift_move(sides, column, shift, found, where)
        best = (inside - outside, replace(made, severity=max(made.severity, move.severity), p=move.p))
    return best[1] if best else move


def missing_in_cohort(sides: Sides, move: Move) -> Move:
    """Missing values that grew or fell, confined to the one cohort where they did, if there is one."""
    column = move.columns[0]
    gone = [
        np.isnan(side[column]) if sides.is_number(column) else np.array([v is None for v in side[column]], bool)
        for side in (sides.at_one, sides.at_other)
    ]
    best: tuple[float, str] | None = None
    for name, level, *within in _cohorts(sides, column):
        inside, outside = (
            abs(float(gone[1][b].mean() - gone[0][a].mean()))
            for a, b in ((within[0], within[1]), (~within[0], ~within[1]))
        )
        if outside <= 0.1 * inside and inside >= 1.5 * move.effect and (best is None or inside > best[0]):
            best = inside, _level_is(sides, name, level)
    if best is None:
        return move
    where = f"{move.where} and {best[1]}"
    says = f"{move.says}, all of it where {best[1]}"
    return replace(move, says=says, where=where, rows=sides.rows_where(where), share=best[0])


def _level_is(sides: Sides, column: str, level: str) -> str:
    return f"{quoted(column)} = {text(level) if sides.kinds[column] == TEXT else level}"


def _cohorts(sides: Sides, column: str) -> Iterator[tuple[str, str, Values, Values]]:
    for name in sides.columns:
        bins = sides.bins[name]
        is_few = bins.how == LEVELS or (bins.alone and bins.alone == bins.edges)
        if name == column or bins.how == FREE or not is_few:
            continue
        mine, theirs = sides.at_one[name], sides.at_other[name]
        levels = sorted(sides.from_one[name].bins if bins.how == LEVELS else bins.edges, key=str)
        for level in levels if 2 <= len(levels) <= MOST_COHORTS else []:
            inside = mine == level, theirs == level
            if min(side.sum() for side in inside) >= LEAST_COHORT and inside[1].mean() < 0.9:
                yield name, level if bins.how == LEVELS else number(level).replace(",", ""), *inside


def _distance(sides: Sides, column: str, a: Values, b: Values) -> Distance:
    edges = np.array(sides.bins[column].edges)
    laid = [
        np.bincount(np.searchsorted(edges, s[~np.isnan(s)]), minlength=len(edges) + 1).astype(float) for s in (a, b)
    ]
    return vector_distance(laid[0], laid[1])


# --- relations ---


def relations(sides: Sides, quiet: Sequence[str]) -> Iterator[Move]:
    """Columns that did not move alone, but no longer go together as they did.

    Rank correlation (Spearman), for levels of the most frequent ones; told if it
    changed by at least LEAST_TIE and by more than chance (Fisher's z).
    """
    if not quiet or min(len(side[quiet[0]]) for side in (sides.at_one, sides.at_other)) < LEAST_COHORT:
        return
    names, one, other = _ranked(sides, quiet[:MOST_TIES])
    if len(names) < 2:
        return
    before, now = (np.corrcoef(side, rowvar=False) for side in (one, other))
    with np.errstate(divide="ignore"):
        z = np.abs(np.arctanh(np.clip(before, -0.9999, 0.9999)) - np.arctanh(np.clip(now, -0.9999, 0.9999)))
    z /= math.sqrt(1.1 / (len(one) - 3) + 1.1 / (len(other) - 3))
    n_tests = len(names) * (len(names) - 1) / 2
    changed: dict[tuple[str, str], tuple[float, float, float]] = {}
    for i, j in zip(*np.where(np.triu(np.abs(before - now) >= LEAST_TIE, 1)), strict=True):
        first, second = names[i], names[j]
        p = math.erfc(z[i, j] / math.sqrt(2)) * n_tests
        if first != second and p < sides.told_below:
            pair = (first, second)
            gap = abs(before[i, j] - now[i, j])
            if pair not in changed or gap > abs(changed[pair][0] - changed[pair][1]):
                changed[pair] = (float(before[i, j]), float(now[i, j]), p)
    yield from _told(sides, changed)


def _ranked(sides: Sides, columns: Sequence[str]) -> tuple[list[str], Values, Values]:
    """A matrix for each side: ranks of numbers, a flag for each frequent level; the column that each stems from."""
    names: list[str] = []
    made: tuple[list[Values], list[Values]] = ([], [])
    for column in columns:
        if sides.is_number(column):
            pair = [_rank(side[column][:TIED_ROWS]) for side in (sides.at_one, sides.at_other)]
            if all(side.std() > 0 for side in pair):
                names.append(column)
                for side, values in zip(made, pair, strict=True):
                    side.append(values)
        elif sides.kinds[column] in (TEXT, FLAG) and sides.bins[column].how == LEVELS:
            a, b, n = sides.codes[column]
            a, b = a[:TIED_ROWS], b[:TIED_ROWS]
            for code in range(n - 2):
                if min((a == code).mean(), (b == code).mean()) >= 0.05:
                    names.append(column)
                    made[0].append((a == code).astype(float))
                    made[1].append((b == code).astype(float))
    keep = [n for n, (x, y) in enumerate(zip(*made, strict=True)) if x.std() > 0 and y.std() > 0]
    if not keep:
        return [], np.empty((0, 0)), np.empty((0, 0))
    return (
        [names[n] for n in keep],
        np.column_stack([made[0][n] for n in keep]),
        np.column_stack([made[1][n] for n in keep]),
    )


def _rank(values: Values) -> Values:
    """Ranks from 0 to 1, ties share one; missing is the middle."""
    seen = ~np.isnan(values)
    ranks = np.full(len(values), 0.5)
    if seen.any():
        _, places, counts = np.unique(values[seen], return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        ranks[seen] = ((ends - counts / 2) / ends[-1])[places]
    return ranks


def _told(sides: Sides, changed: Mapping[tuple[str, str], tuple[float, float, float]]) -> Iterator[Move]:
    """One move for a column that lost touch with several, else one for each pair."""
    pairs = dict(changed)
    while pairs:
        touched: dict[str, list[tuple[str, str]]] = {}
        for pair in pairs:
            for column in pair:
                touched.setdefault(column, []).append(pair)
        column = max(sorted(touched), key=lambda c: len(touched[c]))
        mine = sorted(touched[column], key=lambda pair: -abs(pairs[pair][0] - pairs[pair][1]))
        before, now, p = pairs[mine[0]]
        others = [a if b == column else b for a, b in mine]
        gap = abs(before - now)
        more = f" (nor with {', '.join(others[1:4])})" if len(others) > 1 else ""
        first, second = quoted(column), quoted(others[0])
        numbers = all(sides.is_number(c) for c in (column, others[0]))
        yield Move(
            (column, *others[:1]) if len(others) == 1 else (column,),
            "relation",
            f"{column} no longer goes with {others[0]} as it did{more}: rank correlation {before:.2f}, now {now:.2f}",
            {"with": tuple(others), "before": before, "now": now},
            p=p,
            effect=gap,
            severity=severity_of("relation", gap - 0.4),
            query=beside(sides.one.name, sides.other.name, f"corr({first}, {second}) as correlation, count(*) as n")
            if numbers
            else beside(sides.one.name, sides.other.name, "count(*) as n", f"{first}, {second}"),
        )
        for pair in mine:
            pairs.pop(pair)
