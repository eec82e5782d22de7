"""Names what was done to a text from two samples of it: its levels before, and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.forms import Form, bare
from underhood.faults.moved_few import ENOUGH, Found
from underhood.faults.moved_forms import FULL, missing_move
from underhood.plan.exprs import col

FEW = 2  # levels that are gone: so few have become another one, of more the column has stopped
TIMES, SURE = 2.0, 6.0  # as many as before of a level, by so many standard errors, that others have come as it
STAYS = 0.5  # of a level: what is named otherwise is gone where it is, and what stays has only become rarer
LIKELY = 4.0  # chi-squared by which a loss of all levels alike must beat the loss of one


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
    elif new:
        found = _renamed(name, levels, p, q, new, lost)
        if found is not None:
            yield found
    elif grown:
        found = _merged(name, levels, p, q, lost, grown) or _partly(name, levels, p, q, unsure)
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
    name: str, levels: Sequence[str], p: Array, q: Array, new: Sequence[int], lost: Sequence[int]
) -> Found | None:
    mass = float(q[list(new)].sum())
    if mass < 0.003:
        return None
    olds = [n for n in range(len(levels)) if p[n] > 0 and n not in new]
    by_bare: dict[str, int] = {}
    for n in sorted(olds, key=lambda n: p[n]):
        by_bare[bare(levels[n])] = n
    spelled = {n: by_bare[bare(levels[n])] for n in new if bare(levels[n]) in by_bare}
    if q[list(spelled)].sum() >= 0.9 * mass:
        return _mapped(name, "category spelling", levels, spelled)
    lengths = {len(levels[n]) for n in new}
    cut = {n: [o for o in olds if levels[o].startswith(levels[n])] for n in new}
    if len(lengths) == 1 and len(new) > 1 and all(cut.values()):
        length = lengths.pop()
        back = {levels[n]: levels[max(c, key=lambda o: p[o])] for n, c in cut.items()}
        says = f"{name} is cut off after {length} characters"
        return _levels(name, "precision loss", says, list(back), back, {"length": length})
    gone = [n for n in lost if q[n] < 0.9 * p[n]]
    missing = float((p - q)[list(gone)].sum()) if gone else 0.0
    if len(new) == 1 and len(gone) > 1 and missing >= 0.5 * mass:
        value = levels[new[0]]
        says = f"{name} is {value!r} in {mass:.1%} of the rows, and never was before; all other levels are rarer"
        return _levels(name, "sentinel fill", says, [value], {}, {"value": value, "levels": [value]})
    if missing < 0.5 * mass or q[gone].sum() > STAYS * p[gone].sum():
        shown = [levels[n] for n in new]
        says = f"{name} has new levels: {', '.join(map(repr, shown[:3]))} in {mass:.1%} of the rows"
        return _levels(name, "new level", says, shown, {}, {"levels": shown})
    if len(gone) == 1 and len(new) > 1:
        back = {levels[n]: levels[gone[0]] for n in new}
        says = f"{name} {levels[gone[0]]!r} has become {', '.join(map(repr, back))}"
        return _levels(name, "category split", says, list(back), back, {"levels": {levels[gone[0]]: sorted(back)}})
    return _mapped(name, "category rename", levels, _paired(levels, p, q, new, gone))


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


def _mapped(name: str, kind: str, levels: Sequence[str], pairs: Mapping[int, int]) -> Found | None:
    if not pairs:
        return None
    back = {levels[n]: levels[o] for n, o in pairs.items()}
    shown = ", ".join(f"{o!r} → {n!r}" for n, o in list(back.items())[:3]) + (", …" if len(back) > 3 else "")
    says = f"{name} is {'written' if kind == 'category spelling' else 'named'} otherwise: {shown}"
    return _levels(name, kind, says, list(back), back, {"levels": {o: n for n, o in back.items()}})


def _merged(
    name: str, levels: Sequence[str], p: Array, q: Array, lost: Sequence[int], grown: Sequence[int]
) -> Found | None:
    gone = [n for n in lost if q[n] < 0.1 * p[n]]
    into = grown[0]
    mass = float((p - q)[gone].sum()) if gone else 0.0
    if not gone or abs((q - p)[into] - mass) > 0.25 * mass + 0.01:
        return None
    likely = levels[gone[0]] if p[gone[0]] > p[into] else levels[into]
    back = {levels[into]: likely} if likely != levels[into] else {}
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
