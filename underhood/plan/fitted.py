"""Fitted parts: what a definition learns from the training rows: means of the label, levels, a scale.

    def carrier_risk(carrier):
        return mean_of("label", by=carrier, prior=20)

A plan holds such a part unfitted. A build fits it on the rows of the training
set, and the bundle's features hold plain operations instead (a map that is filled, a
group, arithmetic): every engine renders them, and the bundle's digest is their version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isfinite
from typing import Any

from underhood.ground.errors import ProjectError
from underhood.plan.exprs import MOST, Expr, col, lit, shown
from underhood.plan.kinds import ANY, FLAG, NUMBER, TEXT

MEAN_OF, LEVELS_OF, SCALED = "mean_of", "levels_of", "scaled"
QUARTILES, DEVIATION = "quartiles", "deviation"
# what a fitted part may read
_TAKES: Mapping[str, tuple[str, ...]] = {MEAN_OF: (TEXT, FLAG, NUMBER), LEVELS_OF: (TEXT,), SCALED: (NUMBER,)}


def mean_of(of: str, *, by: str | Expr, prior: float = 20) -> Expr:
    """The mean of the label (1 if it holds) over the training rows of a level of `by`, drawn towards that of all.

    It is (positives of the level + prior × mean of all) / (rows of the level + prior):
    `prior` rows of the mean of all are added to each level. A level that was never
    seen, and null, have the mean of all. `by` is a column or an expression that
    gives a text, a flag or a number of few values.

    In the training set itself each row sees only rows whose label was known before it
    was asked, never itself; null where none was. So a row's own answer cannot leak
    into it, and the feature is as uncertain there as it was then.

    Smoothing: D. Micci-Barreca, SIGKDD Explorations 3(1), 2001, 27-32 (with a fixed
    weight). Only earlier rows: ordered target statistics, L. Prokhorenkova et al.,
    CatBoost, NeurIPS 2018, with the order that time gives instead of a random one.
    """
    if of != "label":
        raise ProjectError(
            f"cannot take the mean of {of!r}", MEAN_OF, 'mean_of("label", by=...); of others: .recent(...)'
        )
    if not (isfinite(prior) and prior >= 0):
        raise ProjectError(f"a prior of {prior!r} rows", MEAN_OF, "a number of rows, 0 or more")
    return _part(MEAN_OF, NUMBER, by, of=of, prior=float(prior))


def levels_of(of: str | Expr, *, least: int = 50, other: str = "other") -> Expr:
    """A text if at least `least` training rows have it, else `other`; null stays null.

    What training never saw is `other` too.
    """
    if least < 1:
        raise ProjectError(f"levels with at least {least} rows", LEVELS_OF, "a number of rows, 1 or more")
    return _part(LEVELS_OF, TEXT, of, least=float(least), other=other)


def scaled(of: str | Expr, *, by: str = QUARTILES) -> Expr:
    """A number as steps from the middle of the training rows.

    By "quartiles": (value - median) / (third quartile - first), which single odd values
    do not move. By "deviation": (value - mean) / standard deviation (of all rows, not of
    a sample). Where that width is 0, the difference itself. Null stays null.
    """
    if by not in (QUARTILES, DEVIATION):
        raise ProjectError(f"cannot scale by {by!r}", SCALED, f"{QUARTILES} or {DEVIATION}")
    return _part(SCALED, NUMBER, of, by=by)


def _part(name: str, gives: str, of: str | Expr, /, **options: Any) -> Expr:
    return Expr("fitted", ((name, gives, tuple(options.items())), col(of) if isinstance(of, str) else of))


def name_of(part: Expr) -> str:
    """Which of the fitted parts it is."""
    return str(part.args[0][0])


def option(part: Expr, name: str) -> Any:
    """One of the constants that a fitted part was made with."""
    return dict(part.args[0][2])[name]


def fitted_parts(exprs: Iterable[Expr]) -> Iterator[Expr]:
    """The fitted parts in expressions, those inside of others first; the same one may come twice."""
    for expr in exprs:
        yield from fitted_parts(a for a in expr.args if isinstance(a, Expr))
        if expr.op == "fitted":
            yield expr


def needs_label(expr: Expr) -> bool:
    """Whether a part in it is made of the label."""
    return any(name_of(part) == MEAN_OF for part in fitted_parts([expr]))


def check_parts(expr: Expr, where: str) -> None:
    """Raises ProjectError for a fitted part in a settled expression that reads what it cannot."""
    for part in fitted_parts([expr]):
        (kind,) = part.args[0][3]
        if kind not in (*_TAKES[name_of(part)], ANY):
            raise ProjectError(f"`{part}` reads a {kind}", where, f"it needs a {' or a '.join(_TAKES[name_of(part)])}")
        if needs_label(part.args[1]):
            hint = "each row sees other labels than the next, so nothing can be fitted on top: fit it on the column"
            raise ProjectError(f"`{part}` reads a mean of the label", where, hint)


def replaced(expr: Expr, by: Callable[[Expr], Expr]) -> Expr:
    """The expression with each outermost fitted part replaced by what `by` makes of it."""
    if expr.op == "fitted":
        return by(expr)
    return Expr(expr.op, tuple(replaced(a, by) if isinstance(a, Expr) else a for a in expr.args))


def unfitted(part: Expr) -> ProjectError:
    """The error of a fitted part that meets a row before it was fitted."""
    hint = "only features may hold fitted parts, and a build fits them: read the features of a bundle"
    return ProjectError(f"`{shown(part)}` is not fitted yet", name_of(part), hint)


# --- what a fitted part becomes ---


def mean_expr(of: Expr, means: Mapping[Any, float], overall: float) -> Expr:
    """The mean that stands beside a level; `overall` for others and for null."""
    pairs = tuple(sorted(means.items()))
    return Expr("fill", (Expr("map", (of, pairs)), lit(overall))) if pairs else lit(overall)


def levels_expr(of: Expr, levels: Iterable[str], other: str) -> Expr:
    """A level that is one of these, or `other`."""
    return Expr("group", (of, tuple(sorted(levels)), other))


def scaled_expr(of: Expr, centre: float, width: float) -> Expr:
    """How many widths above the centre; the difference itself if the width is 0 or beyond what a float holds."""
    apart = Expr("sub", (of, lit(centre)))
    return Expr("div", (apart, lit(width))) if 0 < width <= MOST else apart
