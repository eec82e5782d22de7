"""What became of a column's levels: spelled another way, renamed, new, vanished, or another mixture."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from underhood.moves.bins import Counts, Values, shares_p

_SEEN = 0.001  # of the rows: a rarer level is not told
_NEVER = 1e-6  # chance of seeing none of a level that is still there


@dataclass(frozen=True)
class Levels:
    """What became of the levels of one column, from one table to the other.

    `variants` and `renamed` map an old level to the new one. `new` and
    `vanished` map a level to its share of the rows that have one.
    """

    variants: Mapping[str, str]
    renamed: Mapping[str, str]
    new: Mapping[str, float]
    vanished: Mapping[str, float]

    @property
    def mapped(self) -> dict[str, str]:
        """Each new level that is an old one, with the old one."""
        return {now: before for before, now in [*self.variants.items(), *self.renamed.items()]}


def levels_of(one: Counts, other: Counts, threshold: float, together: Callable[[str, str], float]) -> Levels:
    """What became of the levels, from exact counts.

    A level is new or gone if its absence on the other side has a chance below
    `threshold`. `together(before, now)` says how far apart (total variation, 0 to
    1) the rest of the row is with the one level and with the other.
    """
    n_one, n_other = (sum(side.bins.values()) for side in (one, other))
    appeared = {v: n / n_other for v, n in other.bins.items() if v not in one.bins and n >= max(2, _SEEN * n_other)}
    gone = {v: n / n_one for v, n in one.bins.items() if v not in other.bins and n >= max(2, _SEEN * n_one)}
    variants = dict(_variants(one, other, appeared, gone, n_one, n_other))
    for now in variants.values():
        appeared.pop(now, None)
    for before in variants:
        gone.pop(before, None)
    appeared = {v: s for v, s in appeared.items() if shares_p(0, n_one, other.bins[v], n_other) < threshold}
    gone = {v: s for v, s in gone.items() if shares_p(one.bins[v], n_one, 0, n_other) < threshold}
    renamed = dict(_renamed(appeared, gone, n_one, n_other, together))
    return Levels(
        variants,
        renamed,
        {v: s for v, s in appeared.items() if v not in renamed.values()},
        {v: s for v, s in gone.items() if v not in renamed},
    )


def plain(level: str) -> str:
    """A level without case, spaces at the ends or in a row, and punctuation at the ends."""
    return re.sub(r"[\s_\-./]+", " ", level.casefold()).strip(" .,;:!'\"*") or level


def _variants(
    one: Counts, other: Counts, appeared: Mapping[str, float], gone: Mapping[str, float], n_one: int, n_other: int
) -> Iterator[tuple[str, str]]:
    """New spellings of old levels: the new one took what the old one lost, all of it or a part."""
    old = {plain(v): v for v in sorted(one.bins, key=lambda v: one.bins[v])}
    for now in sorted(appeared, key=lambda v: -appeared[v]):
        before = old.get(plain(now)) or _number_like(now, one)
        if before is None or before == now:
            continue
        expected = one.bins[before] / n_one
        together = (other.bins.get(before, 0) + other.bins[now]) / n_other
        if before in gone or together < 2 * expected + 0.01:
            yield before, now


def _number_like(now: str, one: Counts) -> str | None:
    """An old level that is the same number: "1.0" for "1", "007" for "7"."""
    if not re.fullmatch(r"[+-]?[0-9]+(\.0+)?", now):
        return None
    same = [v for v in one.bins if re.fullmatch(r"[+-]?[0-9]+(\.0+)?", v) and float(v) == float(now)]
    return same[0] if same else None


def _renamed(
    appeared: Mapping[str, float],
    gone: Mapping[str, float],
    n_one: int,
    n_other: int,
    together: Callable[[str, str], float],
) -> Iterator[tuple[str, str]]:
    """Pairs of a gone and a new level of about the same share that go with the same rest of the row, the best first."""
    pairs = []
    for before, share in gone.items():
        for now, share_now in appeared.items():
            spread = np.sqrt(share * (1 - share) / n_one + share_now * (1 - share_now) / n_other)
            if abs(share - share_now) <= max(4 * spread, 0.15 * share):
                apart = together(before, now)
                if apart <= 0.1:
                    pairs.append((apart + abs(share - share_now), before, now))
    used: set[str] = set()
    for _, before, now in sorted(pairs):
        if before not in used and now not in used:
            used |= {before, now}
            yield before, now


def shape(value: str) -> str:
    """How a text is written: runs of letters as "a", of digits as "9", all else as it is, at most 24 signs."""
    return re.sub(r"[0-9]+", "9", re.sub(r"[^\W\d_]+", "a", value))[:24]


def shapes(values: Values) -> dict[str, int]:
    """How many of a sample's texts are written in which way; rare ways together under an empty name."""
    made: dict[str, int] = {}
    for value in values:
        if value is not None:
            key = shape(value)
            made[key] = made.get(key, 0) + 1
    floor = 0.01 * sum(made.values())
    told = {k: n for k, n in made.items() if n > floor}
    rest = sum(made.values()) - sum(told.values())
    return {**told, "": rest} if rest else told
