"""The table of edge rows: what each operation means, value by value; every engine's tests run it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

import underhood as uh
from underhood.plan.exprs import Expr, cases, col, distance_km, greatest, least, lit
from underhood.plan.operations import FLAG, NUMBER, SPAN, TEXT, TIME

ARROW = {NUMBER: pa.float64(), FLAG: pa.bool_(), TEXT: pa.string(), TIME: pa.timestamp("us"), SPAN: pa.float64()}
X, Y, Z = col("x"), col("y"), col("z")
HUGE, LEAST_NUMBER = 1.7976931348623157e308, 5e-324
BEFORE_HALF = 0.49999999999999994  # adding 0.5 to it gives 1.0
FIRST, LAST = datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)
LEAP, LEAP_DAY = datetime(2024, 2, 29, 12, 30), datetime(2024, 2, 29)
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
    "sign": (X.sign(), "n", [(-3.5, -1.0), (0.0, 0.0), (-0.0, 0.0), (HUGE, 1.0), (LEAST_NUMBER, 1.0)]),
    "log10": (X.log10(), "n", [(1000.0, 3.0), (0.0, None), (-1.0, None), (1.0, 0.0), (HUGE, 308.25471555991674)]),
    "power": (
        X**Y,
        "nn",
        [
            (2.0, 10.0, 1024.0),
            (-2.0, 3.0, -8.0),
            (-2.0, -1.0, -0.5),
            (-2.0, 0.5, None),
            (0.0, 0.0, None),
            (0.0, 2.0, 0.0),
            (0.0, -1.0, None),
            (4.0, 0.5, 2.0),
            (10.0, 400.0, None),
            (10.0, -400.0, 0.0),
            (-1.0, 1e300, 1.0),
            (-HUGE, 3.0, None),
            (-1.0, 2.0**53 - 1, -1.0),
            (0.5, HUGE, 0.0),
        ],
    ),
    "sin": (X.sin(), "n", [(0.0, 0.0), (-0.0, 0.0), (1.0, 0.8414709848078965), (1e15, 0.8582727931702359)]),
    "cos": (X.cos(), "n", [(0.0, 1.0), (1.0, 0.5403023058681398), (1.5707963267948966, 6.123233995736766e-17)]),
    "atan2": (
        Expr("atan2", (X, Y)),
        "nn",
        [
            (0.0, 0.0, 0.0),
            (-0.0, -0.0, 0.0),
            (1.0, 0.0, 1.5707963267948966),
            (-0.0, -1.0, 3.141592653589793),
            (-1.0, -1.0, -2.356194490192345),
            (1e300, 1e-300, 1.5707963267948966),
        ],
    ),
    "ceil": (X.ceil(), "n", [(-0.5, 0.0), (2.1, 3.0), (-2.7, -2.0), (1e300, 1e300), (BEFORE_HALF, 1.0)]),
    "round to digits": (
        X.round(2),
        "n",
        [(2.675, 2.68), (1.005, 1.0), (-2.675, -2.68), (2.0**52, 2.0**52), (HUGE, None), (0.125, 0.13)],
    ),
    "round to tens": (X.round(-1), "n", [(15.0, 20.0), (14.9, 10.0), (-25.0, -30.0), (HUGE, HUGE)]),
    "within": (
        X.within(Y, Z),
        "nnn",
        [(1.0, 1.0, 2.0, True), (2.0, 1.0, 2.0, True), (3.0, 1.0, 2.0, False), (1.5, 2.0, 1.0, False)],
    ),
    "null_if": (X.null_if(Y), "tt", [("-", "-", None), ("a", "-", "a"), ("", "", None), ("A", "a", "A")]),
    "null_if of a number": (X.null_if(0), "n", [(-0.0, None), (0.0, None), (LEAST_NUMBER, LEAST_NUMBER)]),
    "as_number": (X.as_number(), "b", [(True, 1.0), (False, 0.0)]),
    "collapse": (X.collapse(), "t", [("a   b  c", "a b c"), ("  ", " "), ("a\t\tb", "a\t\tb"), ("", ""), (A, A)]),
    "ends_with": (X.ends_with("é"), "t", [("é", True), ("e\u0301", False), ("éa", False), ("", False)]),
    "replace": (
        X.replace("aa", "b"),
        "t",
        [("aaa", "ba"), ("aaaa", "bb"), ("AA", "AA"), ("", ""), ("%aa_", "%b_"), ("a.a", "a.a")],
    ),
    "slice": (
        X.slice(1, 2),
        "t",
        [("abcd", "bc"), ("ab", "b"), ("a", ""), ("", ""), (A + A, "𝒳é"), ("👨‍👩", "\u200d👩")],
    ),
    "slice of nothing": (X.slice(0, 0), "t", [("abc", ""), ("", "")]),
    "left": (X.left(2), "t", [("abc", "ab"), ("a", "a"), ("", ""), ("𝒳𝒳𝒳", "𝒳𝒳")]),
    "right": (X.right(2), "t", [("abc", "bc"), ("a", "a"), ("", ""), ("𝒳𝒳𝒳", "𝒳𝒳")]),
    "pad": (X.pad(3), "t", [("7", "007"), ("1234", "1234"), ("", "000"), ("𝒳", "00𝒳"), ("-1", "0-1")]),
    "position": (X.position("é"), "t", [("aé", 1.0), ("𝒳é", 1.0), ("é", 0.0), ("e", None), ("", None)]),
    "count_of": (X.count_of("aa"), "t", [("aaa", 1.0), ("aaaa", 2.0), ("aabaa", 2.0), ("", 0.0), ("AA", 0.0)]),
    "is_digits": (
        X.is_digits(),
        "t",
        [("007", True), ("", False), ("1\n", False), ("\n1", False), ("1.0", False), ("٣", False), ("-1", False)],
    ),
    "to_text": (
        X.to_text(),
        "n",
        [(7.0, "7"), (-7.0, "-7"), (-0.0, "0"), (0.5, None), (2.0**53, None), (2.0**53 - 1, "9007199254740991")],
    ),
    "second": (X.second(), "d", [(FIRST, 0.0), (LAST, 59.0), (MOON, 40.0)]),
    "week": (X.week(), "d", [(FIRST, 1.0), (datetime(2021, 1, 3), 53.0), (datetime(2024, 12, 30), 1.0)]),
    "quarter": (X.quarter(), "d", [(FIRST, 1.0), (LAST, 4.0), (datetime(2024, 4, 1), 2.0), (MOON, 3.0)]),
    "day_of_year": (X.day_of_year(), "d", [(FIRST, 1.0), (LAST, 365.0), (datetime(2024, 12, 31), 366.0)]),
    "start_of_hour": (
        X.start_of("hour"),
        "d",
        [(FIRST, FIRST), (LAST, datetime(9999, 12, 31, 23)), (MOON, datetime(1969, 7, 20, 20))],
    ),
    "start_of_day": (X.start_of("day"), "d", [(FIRST, FIRST), (LAST, datetime(9999, 12, 31))]),
    "start_of_week": (
        X.start_of("week"),
        "d",
        [(FIRST, FIRST), (MOON, datetime(1969, 7, 14)), (LEAP, datetime(2024, 2, 26))],
    ),
    "start_of_month": (X.start_of("month"), "d", [(FIRST, FIRST), (LEAP, datetime(2024, 2, 1))]),
    "start_of_quarter": (X.start_of("quarter"), "d", [(LAST, datetime(9999, 10, 1)), (MOON, datetime(1969, 7, 1))]),
    "start_of_year": (X.start_of("year"), "d", [(LAST, datetime(9999, 1, 1)), (MOON, datetime(1969, 1, 1))]),
    "is_weekend": (X.is_weekend(), "d", [(MOON, True), (LEAP, False)]),
    "days_since": (
        X.days_since(Y),
        "dd",
        [(LEAP, datetime(2024, 2, 28, 23), 1.0), (LEAP, LEAP, 0.0), (FIRST, LAST, -3652058.0)],
    ),
    "add_months": (
        X.add_months(Y),
        "dn",
        [
            (datetime(2024, 1, 31, 5), 1.0, datetime(2024, 2, 29, 5)),
            (datetime(2023, 1, 31), 1.0, datetime(2023, 2, 28)),
            (LEAP, -12.0, datetime(2023, 2, 28, 12, 30)),
            (LEAP, 0.5, None),
            (LAST, 1.0, None),
            (FIRST, -1.0, None),
            (FIRST, 119987.0, datetime(9999, 12, 1)),
            (LEAP, HUGE, None),
            (LEAP, -0.0, LEAP),
        ],
    ),
    "bucket": (X.bucket([0, 10, 20]), "n", [(-1.0, 0.0), (-0.0, 1.0), (10.0, 2.0), (9.99, 1.0), (HUGE, 3.0)]),
    "matches": (
        X.matches("a*_?"),
        "t",
        [("a_b", True), ("a\n__", True), ("a_", False), ("ax%_𝒳", True), ("A_b", False), ("a%b", False)],
    ),
    "matches what like would read otherwise": (
        X.matches("100%!*"),
        "t",
        [("100%!", True), ("100!!", False), ("100% !", False), ("100%!\\", True)],
    ),
    "group": (X.group(["a", "b"], "other"), "t", [("a", "a"), ("c", "other"), ("", "other"), ("A", "other")]),
    "group of numbers": (X.group([0, 1], -1), "n", [(-0.0, 0.0), (1.0, 1.0), (2.0, -1.0)]),
    "parse_number": (
        X.parse_number(",", "."),
        "t",
        [
            ("1.234,50", 1234.5),
            ("-1.234.567", -1234567.0),
            ("1234,5", 1234.5),
            ("1.23", None),
            ("12.34,5", None),
            ("1,", None),
            (",5", None),
            ("", None),
            ("1.234\n", None),
            ("9" * 400, None),
            ("1.2345", None),
            ("+7", 7.0),
        ],
    ),
    "parse_number with spaces": (
        X.parse_number(",", "\u202f"),
        "t",
        [("1\u202f234,5", 1234.5), ("1 234,5", None), ("1,5", 1.5)],
    ),
    "parse_number with apostrophes": (X.parse_number(".", "'"), "t", [("1'234.5", 1234.5), ("1.5e3", None)]),
    "parse_time": (
        X.parse_time("%d.%m.%Y %H:%M"),
        "t",
        [
            ("1.3.2024 5:07", datetime(2024, 3, 1, 5, 7)),
            ("29.02.2024 23:59", datetime(2024, 2, 29, 23, 59)),
            ("29.02.2023 00:00", None),
            ("1.3.2024 24:00", None),
            ("1.3.24 05:07", None),
            ("1.13.2024 05:07", None),
            ("1.3.2024 05:07\n", None),
            ("1.3.2024", None),
            ("1x3.2024 05:07", None),
        ],
    ),
    "parse_time without marks": (
        X.parse_time("%Y%m%d"),
        "t",
        [("20240229", LEAP_DAY), ("20230229", None), ("2024229", None), ("00240229", None)],
    ),
    "parse_time of a month": (X.parse_time("%m/%Y"), "t", [("2/2024", datetime(2024, 2, 1)), ("13/2024", None)]),
    "parse_time to the second": (
        X.parse_time("%Y-%m-%dT%H:%M:%S"),
        "t",
        [("2024-02-29T12:30:05", datetime(2024, 2, 29, 12, 30, 5)), ("2024-02-29 12:30:05", None)],
    ),
    "hashed": (X.hashed(1000), "t", [("", 393.0), ("a", 177.0), (A, 225.0)]),
    "least of several": (least(X, Y, 0), "nn", [(1.0, 2.0, 0.0), (-1.0, 2.0, -1.0)]),
    "distance_km": (
        distance_km(X, Y, 0, 0),
        "nn",
        [
            (0.0, 0.0, 0.0),
            (0.0, 180.0, 20015.086796020572),
            (90.0, 7.0, 10007.543398010286),
            (91.0, 0.0, None),
            (1e-9, 0.0, 1.1119492664455873e-07),
            (-0.0, -180.0, 20015.086796020572),
            (0.0, 181.0, None),
        ],
    ),
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
    "cases": (cases((X < 0, -1), (X == 0, 0), otherwise=1), "n", [(-5.0, -1.0), (0.0, 0.0), (HUGE, 1.0), (None, 1.0)]),
    "fill of several": (X.null_if(1).fill(X.null_if(1), 5), "n", [(1.0, 5.0), (2.0, 2.0), (None, 5.0)]),
    "isin": (X.isin([1, 2]), "n", [(1.0, True), (3.0, False), (None, None)]),
    "isin of nothing": (X.isin([]), "n", [(1.0, False), (None, None)]),
    "isin of null": (X.isin(["a", None]), "t", [("a", True), ("b", False), (None, None)]),
    "isin of times": (X.isin([LEAP]), "d", [(LEAP, True), (LAST, False), (None, None)]),
    "map of null": (X.map({"a": 1, None: 2}), "t", [("a", 1.0), (None, None)]),
    "map of nothing": (X.map({}).is_null(), "t", [("a", True)]),
}
CASES = TABLE | ABOUT_NULLS
KINDS = {"n": NUMBER, "b": FLAG, "t": TEXT, "d": TIME, "s": SPAN}
