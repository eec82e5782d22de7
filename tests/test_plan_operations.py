"""Each operation means one thing: pinned on edge rows, the same in DuckDB's SQL and in the Python function."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import underhood as uh
from underhood.ground.errors import ProjectError
from underhood.plan.exprs import SPECIAL, Expr, col, columns_of, greatest, least, lit, typed
from underhood.plan.operations import FLAG, NUMBER, OPERATIONS, SPAN, TEXT, TIME
from underhood.plan.render import quoted, to_python, to_sql
from underhood.tables.local import Engine
from underhood.tables.parity import EDGES, same

ARROW = {NUMBER: pa.float64(), FLAG: pa.bool_(), TEXT: pa.string(), TIME: pa.timestamp("us"), SPAN: pa.float64()}
X, Y, Z = col("x"), col("y"), col("z")
HUGE, LEAST_NUMBER = 1.7976931348623157e308, 5e-324
BEFORE_HALF = 0.49999999999999994  # adding 0.5 to it gives 1.0
FIRST, LAST = datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)
LEAP = datetime(2024, 2, 29, 12, 30)
MOON = datetime(1969, 7, 20, 20, 17, 40, 250000)
DAY = 86400.0
A = "k𝒳é"  # one letter of each length in bytes

# operation → (expression, types of x y z, rows of (values…, pinned value)); null in, null out is tested for all
TABLE: dict[str, tuple[Any, str, list[tuple[Any, ...]]]] = {
    "add": (X + Y, "nn", [(0.1, 0.2, 0.30000000000000004), (HUGE, HUGE, None), (-HUGE, -HUGE, None), (0.0, -0.0, 0.0)]),
    "sub": (X - Y, "nn", [(1.0, 3.0, -2.0), (HUGE, -HUGE, None), (1e16, 1.0, 1e16), (0.0, 0.0, 0.0)]),
    "mul": (X * Y, "nn", [(1e300, 1e300, None), (1e-300, 1e-300, 0.0), (-0.0, 5.0, -0.0), (3.0, -2.0, -6.0)]),
    "div": (
        X / Y,
        "nn",
        [(1.0, 0.0, None), (1.0, -0.0, None), (0.0, 0.0, None), (1e300, 1e-300, None), (1.0, 4.0, 0.25)],
    ),
    "mod": (X % Y, "nn", [(7.0, 3.0, 1.0), (-7.0, 3.0, -1.0), (7.0, -3.0, 1.0), (7.0, 0.0, None), (5.5, 2.0, 1.5)]),
    "neg": (-X, "n", [(1.5, -1.5), (0.0, -0.0), (-HUGE, HUGE)]),
    "abs": (X.abs(), "n", [(-1.5, 1.5), (-0.0, 0.0), (-HUGE, HUGE)]),
    "ln": (X.ln(), "n", [(1.0, 0.0), (0.0, None), (-0.0, None), (-1.0, None), (LEAST_NUMBER, -744.4400719213812)]),
    "exp": (X.exp(), "n", [(0.0, 1.0), (709.78, 1.7928227943945155e308), (709.79, None), (-1e300, 0.0), (1e300, None)]),
    "sqrt": (X.sqrt(), "n", [(4.0, 2.0), (-0.0, 0.0), (-1e-300, None), (HUGE, 1.3407807929942596e154)]),
    "floor": (X.floor(), "n", [(-0.5, -1.0), (2.7, 2.0), (-0.0, 0.0), (1e300, 1e300), (BEFORE_HALF, 0.0)]),
    "round": (
        X.round(),
        "n",
        [
            (0.5, 1.0),
            (2.5, 3.0),
            (-0.5, -1.0),
            (-2.5, -3.0),
            (BEFORE_HALF, 0.0),
            (2.0**52 + 0.5, 2.0**52),
            (1e300, 1e300),
        ],
    ),
    "least": (least(X, Y), "nn", [(1.0, 2.0, 1.0), (2.0, 1.0, 1.0), (0.0, -0.0, 0.0), (HUGE, -HUGE, -HUGE)]),
    "greatest": (greatest(X, Y), "nn", [(1.0, 2.0, 2.0), (2.0, 1.0, 2.0), (0.0, -0.0, 0.0), (HUGE, -HUGE, HUGE)]),
    "lt": (
        X < Y,
        "tt",
        [("Z", "a", True), ("a", "a", False), ("\uffff", "𝒳", True), ("", " ", True), ("é", "z", False)],
    ),
    "le": (X <= Y, "nn", [(-0.0, 0.0, True), (0.1 + 0.2, 0.3, False), (-HUGE, HUGE, True)]),
    "gt": (X > Y, "dd", [(LAST, FIRST, True), (LEAP, LEAP, False)]),
    "ge": (X >= Y, "bb", [(False, True, False), (True, True, True), (True, False, True)]),
    "eq": (X == Y, "tt", [("\u00e9", "e\u0301", False), ("a", "a ", False), ("a", "A", False), ("", "", True)]),
    "ne": (X != Y, "nn", [(0.0, -0.0, False), (1.0, 1.0000000000000002, True)]),
    "not": (~X, "b", [(True, False), (False, True)]),
    "lower": (X.lower(), "t", [("AZaz", "azaz"), ("İÉẞ𝒳", "İÉẞ𝒳"), ("", "")]),
    "upper": (X.upper(), "t", [("AZaz", "AZAZ"), ("ißéı", "Ißéı"), ("", "")]),
    "strip": (X.strip(), "t", [("  a b ", "a b"), ("\ta\n", "\ta\n"), ("\u00a0a", "\u00a0a"), ("   ", "")]),
    "length": (X.length(), "t", [("", 0.0), (A, 3.0), ("e\u0301", 2.0), ("👨‍👩‍👧", 5.0)]),
    "contains": (X.contains(A), "t", [(f"a{A}b", True), ("k𝒳", False), ("", False)]),
    "starts_with": (X.starts_with("%_"), "t", [("%_a", True), ("ab", False), ("", False)]),
    "concat": (X + Y, "tt", [("a", "", "a"), (A, A, A + A), ("'", "\\", "'\\")]),
    "part": (
        X.part("--", 1),
        "t",
        [("a--b", "b"), ("a--b--c", "b"), ("a---b", "-b"), ("a", None), ("", None), ("--", "")],
    ),
    "to_number": (
        X.to_number(),
        "t",
        [("1e5", 1e5), ("+007", 7.0), ("-0", -0.0), ("1e400", None), ("1e-400", 0.0), ("5e-324", 5e-324), ("", None)]
        + [(text, None) for text in (" 1", "1\n", "1.", ".5", "1_0", "12,5", "inf", "nan", "0x1", "٣", "1e")],
    ),
    "hour": (X.hour(), "d", [(FIRST, 0.0), (LAST, 23.0), (MOON, 20.0)]),
    "minute": (X.minute(), "d", [(FIRST, 0.0), (LAST, 59.0), (MOON, 17.0)]),
    "weekday": (X.weekday(), "d", [(FIRST, 0.0), (LAST, 4.0), (MOON, 6.0), (LEAP, 3.0)]),
    "day": (X.day(), "d", [(FIRST, 1.0), (LAST, 31.0), (LEAP, 29.0)]),
    "month": (X.month(), "d", [(FIRST, 1.0), (LAST, 12.0), (LEAP, 2.0)]),
    "year": (X.year(), "d", [(FIRST, 1.0), (LAST, 9999.0), (LEAP, 2024.0)]),
    "date": (
        uh.date(X, Y, Z),
        "nnn",
        [
            (2024.0, 2.0, 29.0, datetime(2024, 2, 29)),
            (2023.0, 2.0, 29.0, None),
            (1900.0, 2.0, 29.0, None),
            (1.0, 1.0, 1.0, FIRST),
            (9999.0, 12.0, 31.0, datetime(9999, 12, 31)),
            (2024.5, 2.0, 1.0, None),
            (2024.0, 2.0, 1.5, None),
            (0.0, 1.0, 1.0, None),
            (10000.0, 1.0, 1.0, None),
            (2024.0, 13.0, 1.0, None),
            (2024.0, 1.0, -1.0, None),
            (1e300, 1.0, 1.0, None),
        ],
    ),
    "later": (
        X + Y,
        "ds",
        [
            (LEAP, DAY, datetime(2024, 3, 1, 12, 30)),
            (LAST, 1e-6, None),
            (LAST, 4e-7, LAST),
            (FIRST, -1e-6, None),
            (FIRST, 200_000_000_000.0, FIRST + timedelta(seconds=200_000_000_000)),
            (LEAP, 1e300, None),
            (LEAP, 5e-7, datetime(2024, 2, 29, 12, 30, 0, 1)),
        ],
    ),
    "between": (
        (X - Y).minutes(),
        "dd",
        [(LEAP, LEAP, 0.0), (FIRST, LAST, -5258964960.0), (MOON, datetime(1970, 1, 1), -236382.32916666666)],
    ),
    "seconds": (X + uh.minutes(Y), "dn", [(LEAP, -30.0, datetime(2024, 2, 29, 12)), (LEAP, HUGE, None)]),
    "in_seconds": (X.hours(), "s", [(5400.0, 1.5), (-0.0, 0.0)]),
    "plus": (X + Y, "ss", [(60.0, 30.0, 90.0), (HUGE, HUGE, None)]),
    "plus of span and time": (X + Y, "sd", [(DAY, LEAP, datetime(2024, 3, 1, 12, 30))]),
    "minus": (X - Y, "ss", [(60.0, 90.0, -30.0), (HUGE, -HUGE, None)]),
    "minus of time and span": (X - Y, "ds", [(datetime(2024, 3, 1), DAY, datetime(2024, 2, 29)), (FIRST, 1.0, None)]),
    "span scaled": (-X * Y, "sn", [(60.0, 2.0, -120.0), (HUGE, 2.0, None)]),
    "span in spans": (X / Y, "ss", [(90.0, 60.0, 1.5), (90.0, 0.0, None)]),
    "clip": (X.clip(0, 5), "n", [(-1.0, 0.0), (9.0, 5.0), (3.0, 3.0)]),
    "map": (X.map({"a": 1, "": 2}), "t", [("a", 1.0), ("", 2.0), ("A", None)]),
}

# These say themselves what a null does, so the pinned rows hold the nulls too.
ABOUT_NULLS: dict[str, tuple[Any, str, list[tuple[Any, ...]]]] = {
    "col": (X, "t", [("a", "a"), (None, None)]),
    "lit": (lit("it's --"), "n", [(1.0, "it's --"), (None, "it's --")]),
    "and": (
        X & Y,
        "bb",
        [(True, True, True), (True, False, False), (None, False, False), (False, None, False), (None, True, None)],
    ),
    "or": (
        X | Y,
        "bb",
        [(False, False, False), (True, False, True), (None, True, True), (True, None, True), (None, False, None)],
    ),
    "is_null": (X.is_null(), "n", [(None, True), (0.0, False)]),
    "fill": (X.fill(Y), "tt", [(None, "b", "b"), ("", "b", ""), (None, None, None), ("a", None, "a")]),
    "when": (uh.when(X, Y, 0), "bn", [(True, 1.0, 1.0), (False, 1.0, 0.0), (None, 1.0, 0.0), (True, None, None)]),
    "when without otherwise": (uh.when(X > 1, X), "n", [(2.0, 2.0), (1.0, None), (None, None)]),
    "isin": (X.isin([1, 2]), "n", [(1.0, True), (3.0, False), (None, None)]),
    "isin of nothing": (X.isin([]), "n", [(1.0, False), (None, None)]),
    "isin of null": (X.isin(["a", None]), "t", [("a", True), ("b", False), (None, None)]),
    "isin of times": (X.isin([LEAP]), "d", [(LEAP, True), (LAST, False), (None, None)]),
    "map of null": (X.map({"a": 1, None: 2}), "t", [("a", 1.0), (None, None)]),
    "map of nothing": (X.map({}).is_null(), "t", [("a", True)]),
}
CASES = TABLE | ABOUT_NULLS
KINDS = {"n": NUMBER, "b": FLAG, "t": TEXT, "d": TIME, "s": SPAN}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as opened:
        yield opened


def both(engine: Engine, expr: Any, kinds: dict[str, str], rows: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """The values of an expression on rows, by SQL and by the Python function."""
    by_sql, by_python = all_of(engine, {"v": typed(expr, kinds)[0]}, kinds, rows)
    return [row["v"] for row in by_sql], [row["v"] for row in by_python]


def all_of(engine: Engine, settled: dict[str, Expr], kinds: dict[str, str], rows: Any) -> tuple[list[Any], list[Any]]:
    """The values of several settled expressions, row by row, by SQL and by the Python function."""
    table = pa.Table.from_pylist(rows, schema=pa.schema([(name, ARROW[kind]) for name, kind in kinds.items()]))
    engine.register("rows", table.append_column("__n", pa.array(range(len(rows)), pa.int64())))
    columns = ", ".join(f"{to_sql(expr)} as {quoted(name)}" for name, expr in settled.items())
    by_sql = engine.dicts(f"select {columns} from rows order by __n")
    compiled = to_python(settled)
    return by_sql, [compiled(row) for row in table.select(list(kinds)).to_pylist()]


def alike(first: list[Any], second: list[Any]) -> bool:
    return all(type(a) is type(b) and same(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_an_operation_gives_its_pinned_value_on_every_edge_row_in_both_renderings(engine: Engine, name: str) -> None:
    expr, letters, pinned = CASES[name]
    kinds = {column: KINDS[letter] for column, letter in zip("xyz", letters, strict=False)}
    expected = [row[-1] for row in pinned]

    by_sql, by_python = both(engine, expr, kinds, [dict(zip(kinds, row, strict=False)) for row in pinned])

    assert alike(expected, by_sql), (expected, by_sql)
    assert alike(expected, by_python), (expected, by_python)


@pytest.mark.parametrize("name", TABLE)
def test_a_null_in_any_argument_makes_a_null(engine: Engine, name: str) -> None:
    expr, letters, pinned = TABLE[name]
    kinds = {column: KINDS[letter] for column, letter in zip("xyz", letters, strict=False)}
    rows = [{**dict(zip(kinds, pinned[0], strict=False)), column: None} for column in sorted(columns_of(expr))]

    by_sql, by_python = both(engine, expr, kinds, rows)

    assert [None] * len(rows) == by_sql == by_python


def test_every_operation_has_rows_in_the_table() -> None:
    expected = {*OPERATIONS, *SPECIAL, "plus", "minus"}

    assert set() == expected - set(CASES)
    assert all(len(rows) > 0 for _, _, rows in CASES.values())


# --- what once went wrong ---


def test_a_negative_constant_that_is_negated_does_not_become_a_comment(engine: Engine) -> None:
    by_sql, by_python = both(engine, -lit(-5) + X, {"x": NUMBER}, [{"x": 1.0}])

    assert [6.0] == by_sql == by_python


def test_the_text_of_a_long_sum_grows_no_faster_than_the_sum() -> None:
    summed: Any = lit(0)
    for n in range(40):
        summed = -summed + col(f"c{n}") * 2 if n % 2 else summed / 3 - col(f"c{n}")
    settled, _ = typed(summed, {f"c{n}": NUMBER for n in range(40)})

    assert len(to_sql(settled)) < 10_000


def test_an_overflow_inside_a_sum_is_null_even_if_a_later_step_would_hide_it(engine: Engine) -> None:
    expr = (X * X) * 0 + 1
    hidden = lit(1) / (X * X)

    assert both(engine, expr, {"x": NUMBER}, [{"x": 1e300}]) == ([None], [None])
    assert both(engine, hidden, {"x": NUMBER}, [{"x": 1e300}]) == ([None], [None])


def test_a_constant_time_with_a_zone_is_its_moment_in_utc(engine: Engine) -> None:
    constant = lit(datetime.fromisoformat("2024-02-29T14:30:00+02:00"))

    assert both(engine, (X - constant).minutes(), {"x": TIME}, [{"x": LEAP}]) == ([0.0], [0.0])


def test_an_index_that_is_no_whole_number_is_refused() -> None:
    with pytest.raises(ProjectError, match="whole index"):
        X.part("-", 0.5)  # type: ignore[arg-type]


# --- any tree on any row ---

INPUTS = {"a": NUMBER, "b": NUMBER, "f": FLAG, "g": FLAG, "s": TEXT, "t": TEXT, "u": TIME, "v": TIME}
EXTRA: dict[str, list[Any]] = {
    NUMBER: [HUGE, -HUGE, LEAST_NUMBER, BEFORE_HALF, 2024.0, 2.0, 0.1, 1e15 + 0.5],
    FLAG: [],
    TEXT: ["a-a", "aaa", "é", "e\u0301", "1.5", "-0", "1e400", "\t1", "Az"],
    TIME: [LAST, LEAP, MOON, datetime(2024, 3, 1)],
}
VALUES = {kind: [*EDGES[kind], *extra] for kind, extra in EXTRA.items()}
UNARY = {
    kind: [(n, o.takes[0]) for n, o in OPERATIONS.items() if len(o.takes) == 1 and o.gives == kind]
    for kind in (NUMBER, FLAG, TEXT, TIME, SPAN)
}
BINARY = {
    NUMBER: [(op, NUMBER, NUMBER) for op in ("plus", "minus", "mul", "div", "mod")] + [("div", SPAN, SPAN)],
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
    return random.choice(makers)()


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 2**32))
def test_any_expressions_on_any_rows_have_the_same_values_in_both_renderings(engine: Engine, seed: int) -> None:
    random = Random(seed)
    made = {f"e{n}": typed(tree(random, random.choice(list(VALUES)), 4), INPUTS)[0] for n in range(12)}
    rows = [{name: random.choice(VALUES[kind]) for name, kind in INPUTS.items()} for _ in range(40)]

    by_sql, by_python = all_of(engine, made, INPUTS, rows)

    differing = [
        (str(made[name]), row, sql[name], python[name])
        for row, sql, python in zip(rows, by_sql, by_python, strict=True)
        for name in made
        if not alike([sql[name]], [python[name]])
    ]
    assert differing[:1] == []
