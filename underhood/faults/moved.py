"""Values that are wrong in their source: served and recomputed agree, and only what was asked before tells.

For each column that breaks (sides.py): for whom and since when, what was done to it
(moved_forms.py), and whether that holds for the decisions in question. A break
with no form is drift: nothing is known to be wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.breaks import Break, breaks
from underhood.faults.dependencies import borne_out, dependencies
from underhood.faults.forms import Form
from underhood.faults.kinds import BESIDE, CLOSELY, Scene
from underhood.faults.moved_alike import alike_moves
from underhood.faults.moved_common import by_its_names, common_moves
from underhood.faults.moved_few import Found, apart_of, odd_move, past_of
from underhood.faults.moved_forms import CURVED, FITS, OUTSIDE, SEASON, distance_of, sudden_moves
from underhood.faults.moved_shown import NEXT, Moved, begins_of, is_at_once, moment_of, moved_of, moves_of, suddenly
from underhood.faults.moved_told import told_moves
from underhood.faults.moved_whom import (
    EDGE,
    MEANT,
    Stretch,
    between,
    is_next_step,
    stretches_of,
    whom_of,
)
from underhood.faults.sides import FEWEST, Sides, open_sides
from underhood.plan.exprs import Expr
from underhood.plan.operations import NUMBER

LEFT = 0.6  # of how far two columns are from themselves, how far they may be from each other if one of them grows
LEAST, FAR = 8, 0.5  # rows that tell a swap of a few; how far the other column is from itself there
SWAPPED = 0.3  # how far two swapped columns must have moved together
ALONE = 0.8  # of what history's most sudden change would be, that no other column may show with a curve
TRIED = 4  # stretches of one column that are looked at for a sudden curve


@dataclass(frozen=True)
class Drift:
    """A column that moved in no closed form: share of variance explained, p, for whom, since when (UTC)."""

    column: str
    effect: float
    p: float
    where: Expr | None
    since: str


@dataclass(frozen=True)
class Looked:
    """All that one look at a scene found; `is_dear` if only the dear look, beside the others of a row, showed it.

    `rows` are those that were compared, 0 if none were; `why` says so where there are too few.
    """

    moves: tuple[Moved, ...]
    drifts: tuple[Drift, ...]
    rows: int
    is_dear: bool = False
    why: str = ""


def moved_values(scene: Scene) -> Looked:
    """The columns that moved in a closed form that the decisions in question show, and those that just drifted."""
    found: Looked = scene.once("moved values", _look)
    return found


def drifted(scene: Scene) -> tuple[Drift, ...]:
    """The inputs whose distribution broke without a closed form: for the kind of covariate drift."""
    return moved_values(scene).drifts


def _look(scene: Scene) -> Looked:
    sides = open_sides(scene) if scene.depth >= BESIDE else None
    if sides is None and scene.depth >= BESIDE:
        few = f"fewer than {FEWEST} rows of history and decisions: too few to say what came otherwise than before"
        return Looked((), (), 0, why=few)
    return Looked((), (), 0) if sides is None or not sides.bad.any() else looked(sides, scene.depth >= CLOSELY)


def looked(sides: Sides, closely: bool = True) -> Looked:
    """One look at all inputs side by side; the dear one, `closely`, only where the plain one finds nothing."""
    moves: list[Moved] = []
    by_column: dict[str, list[Break]] = {}
    stretches: dict[str, list[Stretch]] = {}
    for found in breaks(sides):
        by_column.setdefault(found.column, []).append(found)
    for name, many in by_column.items():
        of_column = (s for found in many for s in stretches_of(sides, sides.columns[name], found))
        stretches[name] = [s for s in of_column if not is_next_step(sides, s)]
        singles = [m for s in stretches[name] for m in moves_of(sides, s)] or list(_curves(sides, stretches[name]))
        if singles:
            moves.append(max(singles, key=lambda m: (m.explained > 0.9, m.strength)))
    swaps = list(_swaps(sides, stretches)) or list(_few_swaps(sides, stretches))
    # what a row contradicts needs no crowd
    dependent = dependencies(sides)
    told = list(told_moves(sides, dependent))
    contradicted = {c for m, columns in told for c in (*m.columns, *columns)}
    swaps = [*(m for m, _ in told), *(m for m in swaps if not contradicted & set(m.columns))]
    crossed = contradicted | {c for m in swaps for c in m.columns}
    moves = swaps + [m for m in moves if not crossed & set(m.columns)]
    right = borne_out(sides, dependent)
    moves = [by_its_names(sides, m) for m in moves or common_moves(sides) if not right & set(m.columns)]
    is_dear = closely and not moves
    moves = [m for m in alike_moves(sides) if not right & set(m.columns)] if is_dear else moves
    named = {c for m in moves for c in m.columns}
    drifts = tuple(_drift(sides, many[0]) for name, many in by_column.items() if name not in named)
    return Looked(tuple(sorted(moves, key=lambda m: -m.strength)), drifts, len(sides.at), is_dear and bool(moves))


def _drift(sides: Sides, found: Break) -> Drift:
    whom = whom_of(sides, found)
    start = sides.at[np.searchsorted(sides.block, found.at)]
    return Drift(
        found.column, found.effect, float(np.exp(-0.5 * min(found.strength, 1400.0))), whom.where, _text(start)
    )


def _text(at: float) -> str:
    return str(moment_of(at))


def _curves(sides: Sides, stretches: Sequence[Stretch]) -> Iterator[Moved]:
    """A number that changed at once and alone: what makes it upstream is another thing now, or something is added."""
    for s in stretches[:TRIED]:
        if s.column.kind != NUMBER:
            continue
        near = [side[~np.isnan(side)] for side in (s.column.values[s.before], s.column.values[s.inside])]
        if min(map(len, near)) < 30 or distance_of(*near) < CURVED:
            continue
        # a season takes no value off the grid that all of the past was on
        off = s.column.grain is not None and (s.column.codes[s.inside] == s.column.n - 2).mean() >= OUTSIDE
        if not off and suddenly(sides, s.column, s) < 1:
            continue
        others = [c for c in sides.columns.values() if c.kind == NUMBER and c.name != s.column.name]
        if any(suddenly(sides, c, s) > ALONE for c in others):
            continue
        values = s.column.values
        n = int(np.clip(len(s.inside), 60, 2 * NEXT))
        before, after = values[s.before[-n:]], values[s.inside[len(s.inside) // (2 * EDGE) :][:n]]
        for found in sudden_moves(s.column.name, before[~np.isnan(before)], after[~np.isnan(after)]):
            if (
                found.form.kind == "shift"
                and found.explained < FITS
                and not is_at_once(before, after, found.form.parameters["shift"])
            ):
                continue
            yield moved_of(sides, s, (s.column.name,), found, between(sides, s.inside))
            return


def _swaps(sides: Sides, stretches: Mapping[str, Sequence[Stretch]]) -> Iterator[Moved]:
    """Pairs of columns that, behind a break, each look like the other before it."""
    told: set[str] = set()
    numbers = [c for c in stretches if sides.columns[c].kind == NUMBER and stretches[c]]
    for one, other in combinations(numbers, 2):
        if told & {one, other}:
            continue
        for s in [*stretches[one][:2], *stretches[other][:2]]:
            (a, b), (c, d) = (
                [v[~np.isnan(v)] for v in (sides.columns[n].values[s.before], sides.columns[n].values[s.inside])]
                for n in (one, other)
            )
            if min(map(len, (a, b, c, d))) < 30:
                continue
            straight, crossed = (distance_of(a, b), distance_of(c, d)), (distance_of(c, b), distance_of(a, d))
            if not _is_crossed(straight, crossed):
                continue
            explained = 1 - sum(crossed) / sum(straight)
            says = f"{one} and {other} are swapped"
            found = Found(Form("column swap", says, None, {"columns": [one, other]}), np.isfinite, None, explained)
            shows = between(sides, s.inside)
            told |= {one, other}
            yield moved_of(sides, s, (one, other), found, shows)
            break


def _few_swaps(sides: Sides, stretches: Mapping[str, Sequence[Stretch]]) -> Iterator[Moved]:
    """Two columns in each other's place in a few rows: where one has values that it never had, both are the other's."""
    past = {c.name: _held(c.values[~sides.decided]) for c in sides.columns.values() if c.kind == NUMBER}
    for one in (c for c in stretches if c in past and len(past[c]) >= LEAST):
        for s in stretches[one][:TRIED]:
            before, now = (_held(s.column.values[rows]) for rows in (s.before, s.inside))
            odd = odd_move(one, before, now, past_of(past[one], s.column.grain))
            rows = s.inside[odd.shows(s.column.values[s.inside])] if odd is not None else s.inside[:0]
            if odd is None or odd.rows is None or sides.bad[rows].sum() < MEANT * sides.bad.sum():
                continue
            for other in (c for c in past if c != one):
                if not _is_of(
                    s.column.values[rows], odd.shows, past[other], sides.columns[other].values[rows], past[one]
                ):
                    continue
                says = f"{one} and {other} are swapped in {len(rows) / len(s.inside):.1%} of the rows"
                form = Form("column swap", says, None, {"columns": [one, other]})
                found = Found(form, odd.shows, odd.rows, odd.explained)
                shows = between(sides, rows)
                yield moved_of(sides, replace(s, start=begins_of(sides, s, found)), (one, other), found, shows)
                return


def _is_of(here: Array, shows: Callable[[Array], Array], others: Array, there: Array, own: Array) -> bool:
    """Whether odd values are those that the other column had and this one never, and the other's are this one's."""
    there, would = _held(there), others[shows(others)]
    if min(len(there), len(would), len(here)) < LEAST or apart_of(here, would) is None:
        return False
    return apart_of(there, own) is not None and distance_of(there, others) >= FAR


def _held(values: Array) -> Array:
    made: Array = values[~np.isnan(values)]
    return made


def _is_crossed(straight: tuple[float, float], crossed: tuple[float, float]) -> bool:
    """Whether two columns are nearer to what the other was than to what they were themselves.

    Each is far from itself and near to the other; or one of them is the other all over, and this one, which
    may grow by itself meanwhile, is no farther from the other than from itself.
    """
    if sum(straight) < SWAPPED:
        return False
    if 1 - sum(crossed) / sum(straight) >= (FITS if sum(straight) < 1 else 0.6):
        return True
    left = sorted(c / s for c, s in zip(crossed, straight, strict=True) if s > 0)
    return min(straight) >= SWAPPED and left[0] <= SEASON and left[1] < 1 and sum(crossed) <= LEFT * sum(straight)
