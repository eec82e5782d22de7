"""Texts read as times in forms that people write: months by name, years of two digits; no operations of its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from underhood.ground.errors import ProjectError
from underhood.plan.exprs import Expr, when

PIVOT = 69  # as POSIX has it: years from 69 on are of the last century

MONTHS: Mapping[str, str] = {
    "en": "january february march april may june july august september october november december",
    "de": "januar februar märz april mai juni juli august september oktober november dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "nl": "januari februari maart april mei juni juli augustus september oktober november december",
    "pt": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "fi": "tammikuu helmikuu maaliskuu huhtikuu toukokuu kesäkuu heinäkuu elokuu syyskuu lokakuu marraskuu joulukuu",
}
_LESS_SHORT: Mapping[str, str] = {"maart": "mrt", "märz": "mrz", "juin": "juin", "juillet": "juil", "september": "sept"}


def time_of(text: Expr, form: str, language: str = "en") -> Expr:
    """The moment (UTC) that a text writes in a form such as "%d.%m.%Y %H:%M"; null where it does not.

    %Y %m %d %H %M %S as in parse_time; also %b or %B, a month's name or its
    beginning in `language`, and %y, a year of two digits. Raises ProjectError for another directive.
    """
    text = text.then("strip")
    if "%b" in form or "%B" in form:
        text, form = _months_as_numbers(text, language), form.replace("%B", "%m").replace("%b", "%m")
    if "%y" in form:
        text, form = _year_of_four(text, form), form.replace("%y", "%Y")
    return text.parse_time(form)


def _months_as_numbers(text: Expr, language: str) -> Expr:
    if language not in MONTHS:
        raise ProjectError(f"no months are known in {language!r}", "parse_date", "known are " + ", ".join(MONTHS))
    written: dict[str, str] = {}
    for n, name in enumerate(MONTHS[language].split(), 1):
        for each in (name, _LESS_SHORT.get(name, name[:3]), name[:3]):
            written.setdefault(f"{each}.", str(n))
            written.setdefault(each, str(n))
    longest_first = sorted(written, key=len, reverse=True)
    return reduce(lambda made, name: made.replace(name, written[name]), longest_first, text.then("lower"))


def _year_of_four(text: Expr, form: str) -> Expr:
    """The text with its century put before a year of two digits."""
    before, _, after = form.partition("%y")
    mark = after[:1]
    if not mark:
        return _with_century(text)
    pieces = [text.part(mark, n) for n in range(form.count(mark) + 1)]
    at = before.count(mark)
    pieces[at] = _with_century(pieces[at])
    return reduce(lambda made, piece: made + mark + piece, pieces)


def _with_century(text: Expr) -> Expr:
    century = when(text.right(2).then("to_number") >= PIVOT, "19", "20")
    return text.then("slice", 0, text.then("length") - 2) + century + text.right(2)
