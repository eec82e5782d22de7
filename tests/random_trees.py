"""Any well-typed expression, made at random, and values for its columns: what every engine must agree on."""

from __future__ import annotations

from datetime import datetime
from random import Random
from typing import Any

import underhood as uh
from tests.edge_rows import BEFORE_HALF, HUGE, LAST, LEAP, LEAST_NUMBER, MOON
from underhood.plan.exprs import Expr, cases, col, greatest, least, lit
from underhood.plan.operations import FLAG, NUMBER, OPERATIONS, SPAN, TEXT, TIME
from underhood.tables.parity import EDGES

INPUTS = {"a": NUMBER, "b": NUMBER, "f": FLAG, "g": FLAG, "s": TEXT, "t": TEXT, "u": TIME, "v": TIME}
EXTRA: dict[str, list[Any]] = {
    NUMBER: [HUGE, -HUGE, LEAST_NUMBER, BEFORE_HALF, 2024.0, 2.0, 0.1, 1e15 + 0.5],
    FLAG: [],
    TEXT: [
        "1.234,5",
        "29.02.2024",
        "2024-02-29 12:30",
        "20240229",
        "1 000",
        "a  b",
        "a-a",
        "aaa",
        "é",
        "e\u0301",
        "1.5",
        "-0",
        "1e400",
        "\t1",
        "Az",
    ],
    TIME: [LAST, LEAP, MOON, datetime(2024, 3, 1)],
}
VALUES = {kind: [*EDGES[kind], *extra] for kind, extra in EXTRA.items()}
UNARY = {
    kind: [(n, o.takes[0]) for n, o in OPERATIONS.items() if len(o.takes) == 1 and o.gives == kind]
    for kind in (NUMBER, FLAG, TEXT, TIME, SPAN)
}
BINARY = {
    NUMBER: [(op, NUMBER, NUMBER) for op in ("plus", "minus", "mul", "div", "mod", "atan2", "null_if")]
    + [("div", SPAN, SPAN)],
    FLAG: [(op, k, k) for op in ("lt", "le", "gt", "ge", "eq", "ne") for k in (NUMBER, FLAG, TEXT, TIME, SPAN)]
    + [(op, FLAG, FLAG) for op in ("and", "or")]
    + [(op, TEXT, TEXT) for op in ("contains", "starts_with")],
    TEXT: [("plus", TEXT, TEXT)],
    TIME: [("plus", TIME, SPAN), ("plus", SPAN, TIME), ("minus", TIME, SPAN)],
    SPAN: [
        ("plus", SPAN, SPAN),
        ("minus", SPAN, SPAN),
        ("minus", TIME, TIME),
        ("mul", SPAN, NUMBER),
        ("div", SPAN, NUMBER),
    ],
}


def tree(random: Random, kind: str, depth: int) -> Any:
    """A well-typed expression of a kind, at most `depth` operations deep."""
    if depth == 0 or random.random() < 0.15:
        if kind == SPAN:
            return uh.minutes(random.choice(VALUES[NUMBER][1:]))
        columns = [n for n, k in INPUTS.items() if k == kind]
        return col(random.choice(columns)) if random.random() < 0.8 else lit(random.choice(VALUES[kind][1:]))

    def below(wanted: str) -> Any:
        return tree(random, wanted, depth - 1)

    makers = [
        lambda: below(kind).fill(below(kind)),
        lambda: uh.when(below(FLAG), below(kind), below(kind)),
        lambda: least(below(kind), below(kind)),
        lambda: greatest(below(kind), below(kind)),
    ]
    makers += [lambda n=n, takes=t: Expr(n, (below(takes),)) for n, t in UNARY[kind]]
    makers += 2 * [lambda op=op, a=a, b=b: Expr(op, (below(a), below(b))) for op, a, b in BINARY[kind]]
    if kind == FLAG:
        makers += 3 * [lambda: below(random.choice(list(BINARY))).is_null()]
        makers += [lambda k=k: below(k).isin(random.sample(VALUES[k], k=2)) for k in VALUES]
    if kind in (NUMBER, TIME):
        makers += 3 * [
            lambda: below(TEXT).map({v: random.choice(VALUES[kind][1:]) for v in random.sample(VALUES[TEXT], 3)})
        ]
    if kind == TEXT:
        makers += 3 * [lambda: below(TEXT).part(random.choice(["-", "aa", "é", "."]), random.randrange(3))]
    if kind == TIME:
        makers += 3 * [lambda: uh.date(below(NUMBER), below(NUMBER), below(NUMBER))]
    if kind in (NUMBER, SPAN):
        makers += 2 * [lambda: -below(kind)]
    makers += FORMED[kind](random, below)
    return random.choice(makers)()


def _of_numbers(random: Random, below: Any) -> list[Any]:
    return [
        lambda: below(TEXT).count_of(random.choice(["a", "-", "é", "aa"])),
        lambda: below(TEXT).position(random.choice(["a", "-", "é"])),
        lambda: below(TEXT).parse_number(",", random.choice(["", ".", " "])),
        lambda: below(TEXT).hashed(random.choice([1, 7, 1000])),
        lambda: below(NUMBER).bucket(sorted(random.sample([-1.0, 0.0, 0.5, 29.0, 1e15], 3))),
        lambda: below(NUMBER).group([0, 1, random.choice(VALUES[NUMBER][1:])], -1),
        lambda: below(NUMBER).round(random.choice([2, -2])),
        lambda: below(NUMBER).clip(0, 10) ** below(NUMBER).clip(-3, 3).round(),
        lambda: below(TIME).days_since(below(TIME)),
    ]


def _of_flags(random: Random, below: Any) -> list[Any]:
    return [
        lambda: below(NUMBER).within(below(NUMBER), below(NUMBER)),
        lambda: below(TIME).within(below(TIME), below(TIME)),
        lambda: below(TEXT).matches(random.choice(["*a*", "?", "a?*", "%*", "*\\*"])),
        lambda: below(TEXT).ends_with(random.choice(["a", "é", ""])),
        lambda: below(TIME).is_weekend(),
    ]


def _of_texts(random: Random, below: Any) -> list[Any]:
    return [
        lambda: below(TEXT).replace(random.choice(["a", "-", "aa", "é"]), random.choice(["", "b", "{0}", "\\1", "$1"])),
        lambda: below(TEXT).slice(random.randrange(3), random.randrange(4)),
        lambda: below(TEXT).right(random.randrange(1, 4)),
        lambda: below(TEXT).left(2).pad(random.randrange(5), random.choice(["0", "é"])),
        lambda: below(TEXT).null_if(random.choice(["", "a", "é"])),
        lambda: below(TEXT).group(random.sample(VALUES[TEXT][1:], 3), "{other}'\\"),
        lambda: cases((below(FLAG), below(TEXT)), (below(FLAG), below(TEXT)), otherwise="$x"),
    ]


def _of_times(random: Random, below: Any) -> list[Any]:
    return [
        lambda: below(TIME).add_months(random.choice([1, -1, 12, below(NUMBER)])),
        lambda: below(TEXT).parse_time(random.choice(["%d.%m.%Y", "%Y-%m-%d %H:%M", "%Y%m%d"])),
    ]


FORMED = {NUMBER: _of_numbers, FLAG: _of_flags, TEXT: _of_texts, TIME: _of_times, SPAN: lambda random, below: []}


def chain(length: int) -> Any:
    """So many operations one after the other, each of which names its argument more than once in SQL."""
    made: Any = col("x")
    steps = [
        lambda e: (e.abs() + 1).ln(),
        lambda e: greatest(least(e, col("y")), 0.5),
        lambda e: col("x") / (e + 2),
        lambda e: e.null_if(7).ceil() + col("x"),
        lambda e: e.bucket([0, 1, 2]) ** 2 % 3 + col("x").abs(),
        lambda e: e.sqrt().group([1, 2, 3], 0.25) + col("x"),
    ]
    for n in range(length):
        made = steps[n % len(steps)](made)
    return made
