"""Names what was done to a text from two samples of it: its levels before, and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.forms import Form, bare
from underhood.faults.moved_few import ENOUGH, WEAK, Found
from underhood.faults.moved_forms import FULL, missing_move
from underhood.plan.exprs import col

FEW = 2  # levels that are gone: so few have become another one, of more the column has stopped
TIMES, SURE = 2.0, 6.0  # as many as before of a level, by so many standard errors, that others have come as it
STAYS = 0.3  # of a level: what is named otherwise is gone where it is, and what stays has only become rarer
LIKELY = 4.0  # chi-squared by which a loss of all levels alike must beat the loss of one
LEAST = 0.003  # share of the rows that new levels must have
GONE, AS_MANY = 0.1, 4.0  # of a level, what may be left if it is gone; standard errors by which others are as many
HALF = 0.5  # of a new level, that the only one it can stand for must have lost
MOST_NEW = 6  # levels that are gone, and new ones of which any may stand for one of them


def text_moves(name: str, before: Array, after: Array, levels: Sequence[str], seen: Array) -> Iterator[Found]:
    """Forms of a text whose samples are numbers of levels (NaN null); `seen` counts each level in all of the past."""
    missing = missing_move(name, np.isnan(before), np.isnan(after))
    if missing is not None:
        yield missing
    was, now = (np.bincount(s[~np.isnan(s)].astype(int), minlength=len(levels)).astype(float) for s in (before, after))
    if min(was.sum(), now.sum()) < ENOUGH:
        return
    p, q = was / was.sum(), now / now.sum()
    unsure = np.sqrt(
        np.maximum(p * (1 - p), 1 / was.sum()) / was.sum() + np.maximum(q * (1 - q), 1 / now.sum()) / now.sum()
    )
    new = [n for n in np.argsort(-q) if now[n] >= ENOUGH / 2 and seen[n] <= 1e-4 * seen.sum()]
    lost = [n for n in np.argsort(q - p) if (p - q)[n] > 4 * unsure[n]]
    grown = [n for n in np.argsort(p - q) if (q - p)[n] > 4 * unsure[n] and n not in new]
    top = int(now.argmax())
    # of two or three levels one is left: the others have become it
    is_few = top not in new and len([n for n in lost if n != top]) <= FEW
    if now.max() >= FULL * now.sum() and p.max() < 0.8 and not is_few:
        kind = "sentinel fill" if top in new else "frozen column"
        yield _levels(name, kind, f"{name} is always {levels[top]!r}", [levels[top]], {}, {"value": levels[top]})
    else:
        yield from _renamed(name, levels, p, q, new, lost, unsure)
        found = _merged(name, levels, p, q, lost, grown, unsure)
        if found is None and grown and (found := _partly(name, levels, p, q, unsure)):
            found = replace(found, explained=WEAK)
        if found is not None:
            yield found


def _levels(
    name: str, kind: str, says: str, shown: Sequence[str], back: Mapping[str, str], parameters: Mapping[str, Any]
) -> Found:
    row = col(f"row.{name}")
    undo = row.map(dict(back)).fill(row) if back else None
    held = set(shown)
    return Found(Form(kind, says, undo, parameters), lambda v: np.isin(v, list(held)), row.isin(sorted(held)))


def _renamed(
    name: str, levels: Sequence[str], p: Array, q: Array, new: Sequence[int], lost: Sequence[int], unsure: Array
) -> Iterator[Found]:
    """What levels that never were stand for: old ones written or named otherwise, several for one, or none at all."""
    olds = [n for n in range(len(levels)) if p[n] > 0 and n not in new]
    by_bare = {bare(levels[n]): n for n in sorted(olds, key=lambda n: p[n])}
    spelled = {n: by_bare[bare(levels[n])] for n in new if bare(levels[n]) in by_bare}
    if q[list(spelled)].sum() >= LEAST:
        yield _mapped(name, "category spelling", levels, spelled)
    new = [n for n in new if n not in spelled]
    lengths = {len(levels[n]) for n in new}
    cut = {n: [o for o in olds if levels[o].startswith(levels[n])] for n in new}
    if len(lengths) == 1 and len(new) > 1 and all(cut.values()):
        length = lengths.pop()
        back = {levels[n]: levels[max(c, key=lambda o: p[o])] for n, c in cut.items()}
        says = f"{name} is cut off after {length} characters"
        yield _levels(name, "precision loss", says, list(back), back, {"length": length})
        return
    taken = _taken(levels, p, q, new, lost, unsure)
    if taken:
        yield _standing_for(name, levels, taken)
    new = [n for n in new if not any(n in stand for stand in taken.values())]
    lost = [o for o in lost if o not in taken]
    # one by one first: what is new by itself is told apart from what has come for the others
    for some in [*([n] for n in new if len(new) > 1), new]:
        if q[some].sum() >= LEAST and (found := _unnamed(name, levels, p, q, some, lost, unsure)) is not None:
            yield replace(found, explained=WEAK)


def _taken(
    levels: Sequence[str], p: Array, q: Array, new: Sequence[int], lost: Sequence[int], unsure: Array
) -> dict[int, tuple[int, ...]]:
    """Old levels that are gone, each with the new ones that came for it: as many as it had, by name if one holds it.

    Empty if it is likelier (chi-squared over the old levels) that the new ones were taken from all old ones alike.
    """
    taken: dict[int, tuple[int, ...]] = {}
    left = sorted(new, key=lambda n: -q[n])[:MOST_NEW]
    goners = sorted((n for n in lost if q[n] <= GONE * p[n]), key=lambda n: -p[n])[:MOST_NEW]
    for o in goners:
        tried = []
        for some in (s for size in range(1, len(left) + 1) for s in combinations(left, size)):
            error = float(np.sqrt((unsure[[o, *some]] ** 2).sum()))
            apart = abs(float((p - q)[o] - q[list(some)].sum())) / error
            is_named = all(levels[o] in levels[n] or levels[n] in levels[o] for n in some)
            is_others = any(levels[g] in levels[n] for g in goners for n in some if g != o)
            # as many went as came: what is more of one than the other had is the season's
            is_all = is_named and not any(levels[o] in levels[n] for n in left if n not in some)
            able = [g for g in goners if (p - q)[g] >= HALF * q[list(some)].sum()]
            is_only = len(some) == 1 and (len(goners) == len(new) or able == [o])
            is_paired = o in able and (is_only or is_all)
            if not is_others and (apart <= AS_MANY or is_paired):
                # all that hold its name are its own, though by chance one of them alone may be as many
                tried.append((not is_named, -len(some) if is_named else 0, apart, some))
        if tried:
            taken[o] = min(tried)[3]
            left = [n for n in left if n not in taken[o]]
    made = np.zeros(len(p))
    for o, some in taken.items():
        made[o] = min(q[list(some)].sum(), (p - q)[o])
    return taken if _is_likelier(made, p, q, new, unsure) else {}


def _standing_for(name: str, levels: Sequence[str], taken: Mapping[int, tuple[int, ...]]) -> Found:
    """A rename, or a split where several levels came for one."""
    if all(len(some) == 1 for some in taken.values()):
        return _mapped(name, "category rename", levels, {some[0]: o for o, some in taken.items()})
    back = {levels[n]: levels[o] for o, some in taken.items() for n in some}
    to = {levels[o]: sorted(levels[n] for n in some) for o, some in taken.items()}
    shown = "; ".join(f"{o!r} has become {', '.join(map(repr, some))}" for o, some in list(to.items())[:2])
    return _levels(name, "category split", f"{name} {shown}", list(back), back, {"levels": to})


def _unnamed(
    name: str, levels: Sequence[str], p: Array, q: Array, new: Sequence[int], lost: Sequence[int], unsure: Array
) -> Found | None:
    """What new levels are that came for no old one that is gone; null if they took some rows of none in particular."""
    mass = float(q[list(new)].sum())
    gone = [n for n in lost if GONE * p[n] < q[n] < 0.9 * p[n]]  # one that is gone altogether would have as many
    missing = float((p - q)[list(gone)].sum()) if gone else 0.0
    came = missing >= 0.5 * mass
    is_gone = came and q[gone].sum() <= STAYS * p[gone].sum()
    if is_gone and len(gone) == 1 and len(new) > 1:
        return _standing_for(name, levels, {gone[0]: tuple(new)})
    if came and len(new) == 1:
        pairs = _paired(levels, p, q, new, gone)
        made = np.zeros(len(p))
        made[list(pairs.values())] = q[list(pairs)]
        if not _is_likelier(made, p, q, new, unsure):
            value = levels[new[0]]
            says = f"{name} is {value!r} in {mass:.1%} of the rows, and never was before; all other levels are rarer"
            return _levels(name, "sentinel fill", says, [value], {}, {"value": value, "levels": [value]})
        if is_gone:
            return _mapped(name, "category rename", levels, pairs)
    shown = [levels[n] for n in new]
    says = f"{name} has new levels: {', '.join(map(repr, shown[:3]))} in {mass:.1%} of the rows"
    return _levels(name, "new level", says, shown, {}, {"levels": shown})


def _is_likelier(made: Array, p: Array, q: Array, new: Sequence[int], unsure: Array) -> bool:
    """Whether old levels lost these shares to the new ones, rather than all of them alike: chi-squared over the old."""
    olds = (p > 0) & ~np.isin(np.arange(len(p)), new)
    alike = p[olds] / max(1e-12, p[olds].sum())
    mass = float(q[list(new)].sum())
    sides = (made[olds] + (mass - made[olds].sum()) * alike, mass * alike)
    own, every = (float((((p - q)[olds] - side) ** 2 / unsure[olds] ** 2).sum()) for side in sides)
    return own <= every


def _paired(levels: Sequence[str], p: Array, q: Array, new: Sequence[int], gone: Sequence[int]) -> dict[int, int]:
    """New levels with the old ones whose rows they took: by name if one holds the other, else by how many there are."""
    pairs: dict[int, int] = {}
    left = sorted(gone, key=lambda n: -(p - q)[n])
    for n in sorted(new, key=lambda n: -q[n]):
        named = [o for o in left if levels[o] in levels[n] or levels[n] in levels[o]]
        best = min(named or left, key=lambda o: abs((p - q)[o] - q[n]), default=None)
        if best is not None:
            pairs[n] = best
            left.remove(best)
    return pairs


def _mapped(name: str, kind: str, levels: Sequence[str], pairs: Mapping[int, int]) -> Found:
    back = {levels[n]: levels[o] for n, o in pairs.items()}
    shown = ", ".join(f"{o!r} → {n!r}" for n, o in list(back.items())[:3]) + (", …" if len(back) > 3 else "")
    says = f"{name} is {'written' if kind == 'category spelling' else 'named'} otherwise: {shown}"
    return _levels(name, kind, says, list(back), back, {"levels": {o: n for n, o in back.items()}})


def _merged(
    name: str, levels: Sequence[str], p: Array, q: Array, lost: Sequence[int], grown: Sequence[int], unsure: Array
) -> Found | None:
    """Levels that are gone, all of them or one, come as another one, which has grown by as many."""
    all_gone = tuple(n for n in lost if q[n] < GONE * p[n])
    tried = []
    for gone in dict.fromkeys([all_gone, *((n,) for n in all_gone)]) if all_gone else ():
        mass = float((p - q)[list(gone)].sum())
        for into in grown:
            apart = abs(float((q - p)[into]) - mass)
            if apart <= 0.25 * mass + 0.01:
                tried.append((apart / float(np.sqrt((unsure[[into, *gone]] ** 2).sum())), gone, into))
    if not tried:
        return None
    _, gone, into = min(tried)
    # which rows had been of a level that is gone nobody can tell: it is what any of them may have been
    back = {levels[into]: levels[gone[0]]}
    says = f"{name} {', '.join(repr(levels[n]) for n in gone[:3])} comes as {levels[into]!r}"
    return _levels(
        name, "category merge", says, [levels[into]], back, {"levels": {levels[n]: levels[into] for n in gone}}
    )


def _partly(name: str, levels: Sequence[str], p: Array, q: Array, unsure: Array) -> Found | None:
    """Some rows of one level come as another one: that one has grown many times, at the cost of one level alone."""
    gain = q - p
    into = int(np.argmax(gain / unsure))
    if gain[into] < SURE * unsure[into] or q[into] < TIMES * p[into]:
        return None
    rest = np.flatnonzero((p > 0) & (np.arange(len(p)) != into))
    loss, alike = -gain[rest], gain[into] * p[rest] / p[rest].sum()
    of = int(rest[int(np.argmax(loss / unsure[rest]))])
    alone = np.where(rest == of, gain[into], 0.0)
    by_one, by_all = (float((((loss - made) / unsure[rest]) ** 2).sum()) for made in (alone, alike))
    if by_one > by_all + LIKELY or abs(-gain[of] - gain[into]) > 4 * unsure[of]:
        return None
    says = f"{name} {levels[of]!r} comes as {levels[into]!r} in {gain[into]:.1%} of the rows"
    back, to = {levels[into]: levels[of]}, {levels[of]: levels[into]}
    return _levels(name, "category merge", says, [levels[into]], back, {"levels": to})
