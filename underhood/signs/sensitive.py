"""Columns that the law protects, or that stand in for one: by their names, and by their values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from underhood.ground.findings import Finding
from underhood.plan.operations import TEXT, TIME
from underhood.plan.render import quoted
from underhood.signs.profile import Column, Profile
from underhood.tables.frames import Table

_SENSITIVE = (
    ("sex", r"sex|gender", r"m|f|male|female|man|woman|other|x|d"),
    (
        "ethnic origin",
        r"race(?=$|_eth)|ethnic\w*|non_white",
        r"white|black|asian.*|hispanic|latino|other|amer-indian.*",
    ),
    ("age", r"age|age_band|age_group|dob|birth\w*|yob", None),
    ("religion", r"religio\w*|faith", r"christian|muslim|jewish|hindu|buddhist|none|other"),
    ("nationality", r"nationality|native_country|citizen\w*|foreign\w*|immigra\w*", None),
    ("disability", r"disab\w*|handicap\w*", None),
    ("family status", r"marital\w*|personal_status|civil_status|family_status|married", None),
    ("social standing", r"imd\w*|deprivation\w*|caste", None),
    ("sexual orientation", r"sexual_orientation|orientation", None),
    ("place of living", r"zip|zipcode|zip_code|postcode|postal_code", None),
)  # fmt: skip
_GROUPS = r"(^|_)(black|hispan\w*|latin[oa]|asian|non_?white)(_|$)"  # names of flags
_FAMILY = re.compile(r"(never-)?married.*|divorced|widowed|single|separated", re.I)
_COUNTRIES = {"united-states", "mexico", "germany", "india", "canada", "england", "china", "cuba", "france", "italy"}


def sensitive(name: str, column: Column) -> str:
    """What a column tells that the law protects, or stands in for; empty if nothing. By its name or its values."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).casefold().replace("-", "_").replace(" ", "_")
    values = [str(v).strip().casefold() for v, _ in column.top]
    for what, names, levels in _SENSITIVE:
        if re.search(rf"(^|_)({names})(_|$)", words) and column.kind != TIME:
            return what
        if what == "ethnic origin" and column.distinct == 2 and re.search(_GROUPS, words):
            return what
        distinctive = what in ("sex", "ethnic origin", "religion") and column.kind == TEXT and len(values) >= 2
        if levels and distinctive and all(re.fullmatch(levels, v) for v in values) and _tells(values):
            return what
    if column.kind == TEXT and len(values) >= 3:
        if sum(bool(_FAMILY.fullmatch(v)) for v in values) >= 0.8 * len(values):
            return "family status"
        if len(_COUNTRIES & set(values)) >= 4 and "united-states" in values:
            return "nationality"
    return ""


def _tells(values: Sequence[str]) -> bool:
    """Whether the values themselves name groups of people: M and F do, X and D alone do not."""
    sets = ({"male", "female"}, {"m", "f"}, {"man", "woman"}, {"white", "black"}, {"christian", "muslim"})
    return any(s <= set(values) for s in sets)


def sensitive_findings(table: Table, profile: Profile) -> Iterator[Finding]:
    """Columns that the law protects, or that stand in for one; those in codes, whose meaning is not in the data."""
    for name, column in profile.columns.items():
        what = sensitive(name, column)
        if not what or column.distinct < 2:
            continue
        levels = [str(v) for v, _ in column.top[:5]]
        coded = column.kind == TEXT and all(re.fullmatch(r"\s*[A-Z]{0,3}\d{1,4}\s*", v) for v in levels)
        says = f"{name} tells {what}: {column.distinct} values such as {', '.join(levels[:3]) or column.least}"
        hint = "keep it out of the features; watch how its groups fare with watch=[…]"
        severity = 0.55
        if coded:
            says = f"{name} tells {what}, in codes ({', '.join(levels)}) whose meaning is not in the data"
            hint = "get the code book before any audit by its groups: one code may mix several"
            severity = 0.62
        query = f"select {quoted(name)}, count(*) as n from {quoted(table.name)} group by 1 order by n desc limit 20"
        yield Finding(table.name, (name,), "sensitive_or_proxy", severity, says, None, None, query, hint)
