"""What was understood of a complaint: decisions, what happened, what was told, and what each word was taken for."""

from __future__ import annotations

from dataclasses import dataclass, field

from underhood.plan.exprs import Expr, as_json, col, from_json, shown


@dataclass(frozen=True)
class Mention:
    """Words of the complaint and what they were taken for."""

    words: str
    meant: str


@dataclass(frozen=True)
class Meaning:
    """What a complaint means.

    `named` are ids of decisions it singles out, `cohort` the predicate of all it
    means, `ids` the decisions of both; `harm` what it says happened; `told` the
    action it complains about; `claimed` how many it speaks of (0 if it does not
    say); `parts` sources it names; `source_rows` rows of a source that hold a value it
    quotes: (source, column, row number, key, value).
    """

    named: tuple[str, ...] = ()
    cohort: Expr | None = None
    ids: tuple[str, ...] = ()
    harm: Expr | None = None
    told: str | None = None
    claimed: int = 0
    day: str = ""
    parts: tuple[str, ...] = ()
    source_rows: tuple[tuple[str, str, int, str, float], ...] = ()
    mentions: tuple[Mention, ...] = field(default_factory=tuple)


def cohort_of(day: str, harm: Expr | None, told: str | None) -> Expr:
    """The decisions of a day to which it happened and that got the action; what is not said does not narrow."""
    cohort = col("day") == day
    if harm is not None:
        cohort = cohort & harm
    return cohort & (col("action") == told) if told is not None else cohort


def meaning_json(meaning: Meaning) -> dict[str, object]:
    """The meaning as a case keeps it."""
    return {
        "named": list(meaning.named),
        "cohort": None if meaning.cohort is None else as_json(meaning.cohort),
        "cohort_reads": None if meaning.cohort is None else shown(meaning.cohort),
        "ids": list(meaning.ids),
        "harm": None if meaning.harm is None else as_json(meaning.harm),
        "harm_reads": None if meaning.harm is None else shown(meaning.harm),
        "told": meaning.told,
        "claimed": meaning.claimed,
        "day": meaning.day,
        "parts": list(meaning.parts),
        "source_rows": [list(r) for r in meaning.source_rows],
        "mentions": [[m.words, m.meant] for m in meaning.mentions],
    }


def meaning_from(body: dict[str, object]) -> Meaning:
    """The meaning that meaning_json wrote."""
    raw: dict[str, object] = dict(body)

    def listed(name: str) -> list[object]:
        value = raw[name]
        return list(value) if isinstance(value, list) else []

    return Meaning(
        named=tuple(str(i) for i in listed("named")),
        cohort=None if raw["cohort"] is None else from_json(raw["cohort"]),
        ids=tuple(str(i) for i in listed("ids")),
        harm=None if raw["harm"] is None else from_json(raw["harm"]),
        told=None if raw["told"] is None else str(raw["told"]),
        claimed=int(str(raw["claimed"])),
        day=str(raw["day"]),
        parts=tuple(str(p) for p in listed("parts")),
        source_rows=tuple((r[0], r[1], r[2], r[3], r[4]) for r in listed("source_rows")),  # type: ignore[index]
        mentions=tuple(Mention(str(m[0]), str(m[1])) for m in listed("mentions")),  # type: ignore[index]
    )
