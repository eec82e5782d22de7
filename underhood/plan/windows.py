"""Figures over the recent past, as SQL: three ways, the same bits.

Sums are exact, so their order does not matter: a value counts as a whole number and a
whole number of 2^-60ths (about 1e-18; what is smaller is cut off), both are summed as
whole numbers, and the sum becomes a float once, at the end. So a sweep, a join of
pairs, Spark and one request give the same bits. A value of 2^62 (4.6e18) and more, or a
sum that large, makes the figure null.

- sweep: each row enters when it has happened and is known, changes when a late column
  becomes known, leaves after the window's width; rows and questions are put in one order
  of time and running sums are read off. Costs a sort, however many rows a window holds.
- pairs: each question beside each row of its key, where no key has many rows.
- buckets: the same, with the rows of two stretches of time as wide as the window; for
  figures that depend on the moment of asking (`asked_at`), and for the smallest and largest.
"""

from __future__ import annotations

from collections.abc import Mapping

from underhood.ground.errors import ProjectError
from underhood.plan.asof import Side, Words, masked
from underhood.plan.exprs import Expr, columns_of, substitute, typed
from underhood.plan.operations import FLAG, NUMBER, TIME
from underhood.plan.sources import Typed
from underhood.plan.steps import ASKED_AT, Aggregate, Recent

SWEEP, PAIRS, BUCKETS = "sweep", "pairs", "buckets"
FEW = 100  # rows of one key up to which comparing every pair costs less than a sort (bench/asof)
PARTS = 2**60  # of 1
LARGEST = 2**62  # a value from here on is not summed
ABSURD = 2**40  # counts for a value that is not summed: more than there are rows
_SUMMED = ("mean", "total")
_EXTREME = {"smallest": "min", "largest": "max"}


def figure(aggregate: Aggregate, other: Typed, where: str) -> Expr | None:
    """The settled value that a window figure is made of; null for a count. Raises ProjectError."""
    if aggregate.value is None:
        return None
    settled, kind = typed(aggregate.value, {**other.schema, ASKED_AT: TIME}, where)
    need = FLAG if aggregate.kind == "share" else NUMBER
    if kind != need:
        raise ProjectError(f"{aggregate.kind} needs a {need}, `{aggregate.value}` is a {kind}", where)
    return settled


def window_way(join: Recent, other: Typed, most: int | None) -> str:
    """Which way fits; `most` is the largest number of rows of one key, null if nobody counted."""
    if most is not None and most <= FEW:
        return PAIRS
    return SWEEP if is_swept(join, {n: figure(a, other, n) for n, a in join.figures.items()}) else BUCKETS


def recent_sql(join: Recent, other: Typed, side: Side, way: str) -> str:
    """The questions with the figures of their windows."""
    words = side.words
    values = {name: figure(a, other, name) for name, a in join.figures.items()}
    if way == SWEEP:
        sums = _sweep(join, values, other, side)
    else:
        sums = _pairs(join, values, other, side, way == BUCKETS)
    made = ", ".join(f"{_finished(name, a, words)} as {words.name(name)}" for name, a in join.figures.items())
    return f"select {side.keep}, {made} from {side.left} l left join ({sums}) w on w.__question = l.__row"


def is_swept(join: Recent, values: Mapping[str, Expr | None]) -> bool:
    """Whether every figure is made of values that change only when something becomes known."""
    return all(
        join.figures[name].kind not in _EXTREME and (value is None or ASKED_AT not in columns_of(value))
        for name, value in values.items()
    )


# --- what is summed, and what the sums become ---


def _measures(join: Recent, sign: str, words: Words) -> dict[str, str]:
    """The whole numbers to sum, by hidden name, of values that stand in columns "__of <figure>"."""
    made: dict[str, str] = {}
    for name, aggregate in join.figures.items():
        value = words.name(f"__of {name}")
        fits = f"abs({value}) < {LARGEST}"
        whole = words.whole(value)
        parts = words.whole(f"({value} - cast({whole} as double)) * {PARTS}")
        if aggregate.kind == "count":
            made[f"__n {name}"] = sign
        elif aggregate.kind == "share":
            made[f"__n {name}"] = f"case when {value} is not null then {sign} else 0 end"
            made[f"__yes {name}"] = f"case when {value} then {sign} else 0 end"
        elif aggregate.kind in _SUMMED:
            many = f"when {value} is not null then {sign} * {ABSURD} else 0 end"
            made[f"__n {name}"] = f"case when {fits} then {sign} {many}"
            made[f"__whole {name}"] = f"case when {fits} then {sign} * {whole} else 0 end"
            made[f"__parts {name}"] = f"case when {fits} then {sign} * {parts} else 0 end"
    return made


def _finished(name: str, aggregate: Aggregate, words: Words) -> str:
    def of(measure: str) -> str:
        return f"w.{words.name(f'__{measure} {name}')}"

    if aggregate.kind == "count":
        return f"cast(coalesce({of('n')}, 0) as double)"
    if aggregate.kind == "share":
        yes, n = f"cast({of('yes')} as double)", f"cast({of('n')} as double)"
        return f"case when {of('n')} > 0 then {yes} / {n} end"
    if aggregate.kind not in _SUMMED:
        return of("most")
    # the parts that make up a whole one join the whole, then both take the sign of the sum
    ones = words.quotient(of("parts"), PARTS)
    whole, parts = f"({of('whole')} + {ones})", f"({of('parts')} - {ones} * {PARTS})"
    lend = f"(case when {whole} > 0 and {parts} < 0 then 1 when {whole} < 0 and {parts} > 0 then -1 else 0 end)"
    total = (
        f"cast(cast({whole} - {lend} as bigint) as double) + "
        f"cast(cast({parts} + {lend} * {PARTS} as bigint) as double) / {PARTS}"
    )
    if aggregate.kind == "mean":
        total = f"({total}) / cast({of('n')} as double)"
    return f"case when {of('n')} between 1 and {ABSURD - 1} and abs({whole}) < {LARGEST} then {total} end"


# --- pairs ---


def _pairs(join: Recent, values: Mapping[str, Expr | None], other: Typed, side: Side, in_buckets: bool) -> str:
    words, width = side.words, round(join.over_s * 1e6)
    by = "".join(f"{words.name(b)}, " for b in join.by)
    same = words.same(join.by) + (" and l.__row <> r.__row" if side.is_own else "")
    asked = words.micros(ASKED_AT)
    happened = words.micros("__happened")
    left = f"select __row, {by}{ASKED_AT}, {asked} as __t from {side.left}"
    right = f"select *, {happened} as __h from {words.name(other.source.name)}"
    if in_buckets:
        # Each question looks into two buckets as wide as the window: an equality join with a
        # residual, where a plain range join would compare every pair of one key.
        back = "cross join (select 0 as back union all select 1 as back) b"
        left = f"select l.*, {words.quotient('__t', width)} - b.back as __bucket from ({left}) l {back}"
        right = f"select *, {words.quotient('__h', width)} as __bucket from ({right}) r"
        same = f"l.__bucket = r.__bucket and {same}"
    listed = "".join(
        f", {_seen(value, other, 'r', f'l.{ASKED_AT}', words)} as {words.name('__of ' + name)}"
        for name, value in values.items()
        if value is not None
    )
    pairs = (
        f"select l.__row as __question{listed} from ({left}) l join ({right}) r on {same} "
        f"and r.__h < l.__t and l.__t - r.__h <= {width} and r.__known <= l.{ASKED_AT}"
    )
    sums = [f"sum({words.wide(text)}) as {words.name(m)}" for m, text in _measures(join, "1", words).items()]
    for name, aggregate in join.figures.items():
        if aggregate.kind in _EXTREME:
            sums.append(f"{_EXTREME[aggregate.kind]}({words.name('__of ' + name)}) as {words.name('__most ' + name)}")
    return f"select __question, {', '.join(sums)} from ({pairs}) p group by __question"


def _seen(value: Expr, other: Typed, row: str, asked: str, words: Words) -> str:
    """The value in a window: its own row's columns, masked until known, and the asking moment."""
    raw = {name: Expr("sql", (masked(name, other, row, asked, words),)) for name in other.schema}
    return words.sql(substitute(value, {**raw, ASKED_AT: Expr("sql", (asked,))}))


# --- sweep ---


def _sweep(join: Recent, values: Mapping[str, Expr | None], other: Typed, side: Side) -> str:
    words = side.words
    by = "".join(f"{words.name(b)}, " for b in join.by)
    measures = _measures(join, "__sign", words)
    listed = ", ".join(f"{text} as {words.name(m)}" for m, text in measures.items())
    none = ", ".join("0" for _ in measures)
    changes = (
        f"select {by}__t, 0 as __kind, null as __question, {listed} from ({_changes(join, values, other, words)}) c"
    )
    asked = f"select {by}{words.micros(ASKED_AT)}, 1, __row, {none} from {side.left} where {ASKED_AT} is not null"
    order = f"({words.parted(join.by)}order by __t, __kind rows between unbounded preceding and current row)"
    sums = ", ".join(f"sum({words.wide(words.name(m))}) over {order} as {words.name(m)}" for m in measures)
    swept = f"select __question, {sums} from ({changes} union all {asked}) u"
    found = f"select * from ({swept}) s where __question is not null"
    return _without_own(found, join, values, other, side) if side.is_own else found


def _changes(join: Recent, values: Mapping[str, Expr | None], other: Typed, words: Words) -> str:
    """One row for each moment at which a row's part of the figures begins (`__sign` 1) or ends (-1) to hold."""
    width = round(join.over_s * 1e6)
    used = sorted({c for value in values.values() if value is not None for c in columns_of(value)})
    clocks = list(dict.fromkeys(other.late[c].key() for c in used if c in other.late))
    at = {c: f"__at{clocks.index(other.late[c].key())}" for c in used if c in other.late}
    kept = [words.name(c) for c in sorted({*join.by, *used})]
    kept += [
        f"{words.micros(words.name('__late_' + c))} as {name}" for name, c in {n: c for c, n in at.items()}.items()
    ]
    happened, known = words.micros("__happened"), words.micros("__known")
    kept.append(f"case when {known} > {happened} then {known} else {happened} + 1 end as __enters")
    kept.append(f"{happened} + {width + 1} as __leaves")
    rows = f"select {', '.join(kept)} from {words.name(other.source.name)} where {words.told(join.by)}"

    def change(moment: str, sign: int, where: str) -> str:
        """What holds from `moment` on (1), or held until then (-1)."""
        known_by = "<=" if sign > 0 else "<"
        raw = {c: Expr("sql", (f"(case when {at[c]} {known_by} {moment} then {words.name(c)} end)",)) for c in at}
        listed = [words.name(b) for b in join.by]
        listed += [f"{moment} as __t", f"{sign} as __sign"]
        listed += [
            f"{words.sql(substitute(v, raw))} as {words.name('__of ' + n)}" for n, v in values.items() if v is not None
        ]
        return f"select {', '.join(listed)} from r where __enters < __leaves{where}"

    made = [change("__enters", 1, ""), change("__leaves", -1, "")]
    for n in range(len(clocks)):
        inside = f" and __at{n} > __enters and __at{n} < __leaves"
        inside += "".join(f" and (__at{m} is null or __at{m} <> __at{n})" for m in range(n))
        made += [change(f"__at{n}", -1, inside), change(f"__at{n}", 1, inside)]
    return f"with r as ({rows}) {' union all '.join(made)}"


def _without_own(found: str, join: Recent, values: Mapping[str, Expr | None], other: Typed, side: Side) -> str:
    """The sums less what each question's own row adds to them."""
    words, width = side.words, round(join.over_s * 1e6)
    listed = "".join(
        f", {_seen(value, other, 'r', f'l.{ASKED_AT}', words)} as {words.name('__of ' + name)}"
        for name, value in values.items()
        if value is not None
    )
    asked, happened = words.micros(f"l.{ASKED_AT}"), words.micros("r.__happened")
    own = (
        f"select l.__row as __question{listed} from {side.left} l join {words.name(other.source.name)} r "
        f"on l.__row = r.__row and {words.same(join.by)} where {happened} < {asked} "
        f"and {asked} - {happened} <= {width} and r.__known <= l.{ASKED_AT}"
    )
    measured = ", ".join(f"{text} as {words.name(m)}" for m, text in _measures(join, "1", words).items())
    left = ", ".join(
        f"f.{words.name(m)} - coalesce(o.{words.name(m)}, 0) as {words.name(m)}" for m in _measures(join, "1", words)
    )
    return (
        f"select f.__question, {left} from ({found}) f left join "
        f"(select __question, {measured} from ({own}) p) o on o.__question = f.__question"
    )


# --- the same sums, one row at a time ---


def in_parts(value: float) -> tuple[int, int, int]:
    """(count, whole, parts) of one value as it is summed; a value too large to sum counts as more than there are."""
    if not -LARGEST < value < LARGEST:
        return ABSURD, 0, 0
    whole = int(value)
    return 1, whole, int((value - whole) * PARTS)


def of_parts(kind: str, n: int, whole: int, parts: int) -> float | None:
    """The mean or total of what was summed in parts, in the same steps as in SQL."""
    ones = parts // PARTS if parts >= 0 else -(-parts // PARTS)
    whole, parts = whole + ones, parts - ones * PARTS
    if not 1 <= n < ABSURD or not -LARGEST < whole < LARGEST:
        return None
    lend = 1 if whole > 0 > parts else -1 if whole < 0 < parts else 0
    total = float(whole - lend) + float(parts + lend * PARTS) / PARTS
    return total / n if kind == "mean" else total
