"""Texts that are not what they seem: words for missing, spellings of one category, odd formats, numbers as text."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from underhood.ground.findings import Finding
from underhood.plan.render import quoted, sql_value
from underhood.signs.patterns import shape
from underhood.signs.seen import Levels, Seen, as_number, one_of
from underhood.signs.words import LIKELY, SURE, says_nothing

MOST_FREQUENT = 500
MOST_COMPARED = 3_000  # levels of a column whose spellings are compared


def text_findings(seen: Seen) -> Iterator[Finding]:
    """What is wrong with the texts of each column."""
    for levels in seen.levels.values():
        if not levels.counts:
            continue
        yield from _words_for_missing(seen, levels)
        yield from _not_numbers(seen, levels)
        yield from _not_moments(seen, levels)
        yield from _blanks_and_case(seen, levels)
        yield from _odd_shape(seen, levels)
        yield from _mistyped(seen, levels)
        yield from _cut_off(seen, levels)
        yield from _misread(seen, levels)


def _words_for_missing(seen: Seen, levels: Levels) -> Iterator[Finding]:
    sure = {v: n for v, n in levels.counts.items() if v.strip().casefold() in SURE}
    likely = {v: n for v, n in levels.counts.items() if v.strip().casefold() in LIKELY}
    nulls = seen.held - levels.n
    likely = {v: n for v, n in likely.items() if v.strip().casefold() == "unknown" or (n >= 5 and not nulls)}
    none = {v: n for v, n in likely.items() if v.strip().casefold() == "none"}
    # a plain level of a small vocabulary, as in "None / Partial / Full", means what it says
    likely = {v: n for v, n in likely.items() if v not in none}
    words = sure | likely
    n = sum(words.values())
    if not words or n > 0.97 * levels.n or len(levels.counts) - len(words) < 1:
        if none and len(levels.counts) > 1:
            yield _missing(seen, levels, none, 0.3)
        return
    is_free = not levels.is_all or len(levels.counts) > 0.5 * levels.n
    few = n < max(3, 0.0002 * levels.n)
    severity = (
        0.45 if few else 0.84 if sure and n >= 0.001 * levels.n else 0.8 if "unknown" in str(words).lower() else 0.6
    )
    if not sure and _ties(seen, levels.column, words) == "" and n < 0.02 * levels.n:
        severity = min(severity, 0.72)
    yield _missing(seen, levels, words, severity - (0.1 if is_free and few else 0))


def _missing(seen: Seen, levels: Levels, words: Mapping[str, int], severity: float) -> Finding:
    column = quoted(levels.column)
    ordered = sorted(words, key=lambda v: -words[v])
    where = one_of(column, ordered)
    if len({v.strip(" ").casefold() for v in words}) == 1 and len(words) > 1:
        where = f"lower(trim({column})) = {sql_value(ordered[0].strip().casefold())}"
    told = " or ".join(repr(v) if v.strip() else "a blank text" for v in ordered[:4])
    tied = _ties(seen, levels.column, words)
    return Finding(
        seen.name,
        (levels.column,),
        "missing_disguised",
        severity,
        f"{levels.column} is {told} in {{rows}} rows: missing, but not null{tied}",
        where,
        sum(words.values()),
        f"select {column}, count(*) from {quoted(seen.name)} group by 1 order by 2 desc limit 20",
        "read these texts as null, in the source's nulls= or with a cleaning step",
    )


def _ties(seen: Seen, column: str, words: Mapping[str, int]) -> str:
    """A sentence's end when another column is the same in all of these rows, and otherwise seldom so."""
    others = [c for c in seen.numbers if c != column][:40]
    if not others or sum(words.values()) < 10:
        return ""
    where = one_of(quoted(column), list(words))
    listed = ", ".join(f"min({quoted(c)}::VARCHAR), max({quoted(c)}::VARCHAR), count({quoted(c)})" for c in others)
    n, *found = seen.rows(f"select count(*), {listed} from {seen.copy} where {where}")[0]
    for i, name in enumerate(others):
        least, most, filled = found[3 * i : 3 * i + 3]
        if filled == n and least == most:
            value = as_number(least)
            numbers = seen.numbers[name]
            share = numbers.counts[numbers.values == value].sum() / numbers.n
            if share < 0.2:
                return f"; {name} is {least} in all of them, and in {share:.1%} of all rows"
    return ""


def _not_numbers(seen: Seen, levels: Levels) -> Iterator[Finding]:
    """A text column of numbers: what in it is none."""
    if levels.column not in seen.numbers or not seen.numbers[levels.column].is_text:
        return
    odd = [v for v in levels.counts if as_number(v) is None and not says_nothing(v)]
    column = quoted(levels.column)
    n = sum(levels.counts[v] for v in odd)
    if not odd and any(says_nothing(v) for v in levels.counts):
        return  # told already: words for missing made it text
    where = f"try_cast(trim({column}) as DOUBLE) is null and {column} is not null"
    shownodd = ", ".join(repr(v) for v in odd[:4])
    yield Finding(
        seen.name,
        (levels.column,),
        "type_or_format",
        (0.8 if n <= 0.2 * levels.n else 0.6) if odd else 0.5,
        f"{levels.column} holds numbers as text"
        + (f"; {n:,} are none, such as {shownodd}" if odd else "; all of them, but for words for missing, are numbers"),
        where,
        n,
        f"select {column}, count(*) from {quoted(seen.name)} where {where} group by 1 order by 2 desc limit 20",
        "parse it as a number; decide what each text that is none means",
    )


def _not_moments(seen: Seen, levels: Levels) -> Iterator[Finding]:
    """A text column of dates: what in it has another format."""
    clock = seen.clocks.get(levels.column)
    if clock is None:
        return
    column = quoted(levels.column)
    words = ", ".join(sql_value(w) for w in sorted(SURE | LIKELY))
    where = f"{clock} is null and {column} is not null and lower(trim({column})) not in ({words})"
    found = seen.rows(f"select {column}, count(*) over () from {seen.copy} where {where} limit 3")
    if not found:
        return
    yield Finding(
        seen.name,
        (levels.column,),
        "type_or_format",
        0.82,
        f"{{rows}} dates in {levels.column} are written in another way than the rest, such as "
        + ", ".join(repr(str(v)) for v, _ in found),
        where,
        found[0][1],
        f"select * from {quoted(seen.name)} where {where}",
        "parse each format by its own rule, and mind which comes first: day or month",
    )


def _is_vocabulary(levels: Levels) -> bool:
    """Whether the texts repeat: categories, not free text."""
    return levels.is_all and len(levels.counts) <= MOST_COMPARED and levels.n >= 3 * len(levels.counts)


def _plain(text: str) -> str:
    return re.sub(r"[^\w%+#&/<>=]+", "", text.casefold(), flags=re.UNICODE)


def _blanks_and_case(seen: Seen, levels: Levels) -> Iterator[Finding]:
    """Levels that are the same but for blanks, case or a mark at their end."""
    if not _is_vocabulary(levels):
        return
    alike: dict[str, list[str]] = defaultdict(list)
    for text in levels.counts:
        if _plain(text) and not re.fullmatch(r"[\d\W]+", text):
            alike[_plain(text)].append(text)
    groups = [sorted(g, key=lambda v: -levels.counts[v]) for g in alike.values() if len(g) > 1]
    if not groups:
        return
    others = [v for g in groups for v in g[1:]]
    yield _variant(seen, levels, others, [(g[1], g[0]) for g in groups], 0.82, "written in more than one way")


def _variant(
    seen: Seen, levels: Levels, others: Sequence[str], pairs: Sequence[tuple[str, str]], severity: float, how: str
) -> Finding:
    where = one_of(quoted(levels.column), others)
    told = ", ".join(f"{a!r} beside {b!r}" for a, b in pairs[:3])
    return Finding(
        seen.name,
        (levels.column,),
        "category_variant",
        severity,
        f"{len(pairs):,} {'category is' if len(pairs) == 1 else 'categories are'} {how}, in {{rows}} rows: {told}",
        where,
        sum(levels.counts[v] for v in others),
        f"select {quoted(levels.column)}, count(*) from {quoted(seen.name)} group by 1 order by 1",
        "map the spellings to one level; a model takes them for different things",
    )


def _outline(text: str) -> str:
    """A text's shape with runs as one: "10-20%" and "90-100%" are both "9-9%"."""
    return re.sub(r"9+", "9", shape(text)).replace("aA", "a").replace("Aa", "a")


def _odd_shape(seen: Seen, levels: Levels) -> Iterator[Finding]:
    """One level of a vocabulary, or few rows of a code, that are written unlike all the others."""
    column = quoted(levels.column)
    if levels.column in seen.clocks or levels.column in seen.numbers:
        return
    shapes: dict[str, list[str]] = defaultdict(list)
    for text in levels.counts:
        if not says_nothing(text):
            shapes[_outline(text)].append(text)
    if not len(shapes) >= 2:
        return
    main = max(shapes, key=lambda s: len(shapes[s]))
    n_levels = sum(map(len, shapes.values()))
    odd = [s for s in shapes if s != main]
    n_odd = sum(len(shapes[s]) for s in odd)
    has_digits = "9" in main
    if not has_digits or n_levels < 4 or len(shapes[main]) < 0.75 * n_levels:
        return
    near = [s for s in odd if _near_shape(main, s)]
    texts = [t for s in near for t in shapes[s]]
    rows = sum(levels.counts[t] for t in texts)
    if not texts or rows > 0.25 * levels.n:
        return
    is_code = n_levels > 200
    if is_code and (n_odd > 0.05 * n_levels or rows > 0.05 * levels.n):
        return
    extra = {re.sub(r"[9\s]", "", s) for s in near}
    about = "type_or_format" if is_code else "category_variant"
    where = one_of(column, texts) if len(texts) <= 50 else _shape_where(levels.column, main)
    yield Finding(
        seen.name,
        (levels.column,),
        about,
        0.66 if is_code else 0.84,
        f"{texts[0]!r} is not written like the other {n_levels - n_odd:,} levels, such as {shapes[main][0]!r}: "
        f"{len(texts):,} {'level' if len(texts) == 1 else 'levels'}, {{rows}} rows"
        + (f" (marks {', '.join(sorted(extra))})" if is_code and any(extra) else ""),
        where,
        rows,
        f"select {column}, count(*) from {quoted(seen.name)} group by 1 order by 1",
        "see whether it means the same as a level in the usual form, or something of its own",
    )


def _near_shape(one: str, other: str) -> bool:
    """Whether two shapes have as many numbers and differ by one or two marks."""
    return one.count("9") == other.count("9") and 0 < _distance(one, other, 2) <= 2


def _shape_where(column: str, main: str) -> str:
    pattern = re.escape(main).replace("9", "[0-9]+").replace("a", "\\p{L}+").replace("A", "\\p{L}+").replace("\\ ", " ")
    return f"{quoted(column)} is not null and not regexp_full_match({quoted(column)}, {sql_value(pattern)})"


def _distance(one: str, other: str, most: int) -> int:
    """Edits (Damerau-Levenshtein, neighbours may change places) from one text to the other, `most` + 1 if more."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        older, before, row = before, row, [i] + [0] * len(other)
        for j, b in enumerate(other, 1):
            row[j] = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                row[j] = min(row[j], older[j - 2] + 1)
        if min(row) > most:
            return most + 1
    return row[-1]


def _mistyped(seen: Seen, levels: Levels) -> Iterator[Finding]:
    """Rare levels that are a slip of the pen away from a frequent one.

    Names are alike now and then: where frequent levels have such neighbours among
    themselves about as often, alike is what they are, not mistyped.
    """
    if not (levels.is_all and len(levels.counts) <= MOST_COMPARED):
        return
    frequent = [v for v, n in levels.counts.items() if n >= 10 and _is_word(v)][:MOST_FREQUENT]
    rare = [v for v, n in levels.counts.items() if n <= 3 and len(v) >= 4]
    if not frequent or not rare or len(rare) > 0.6 * levels.n:
        return
    common = Counter(word for v in levels.counts for word in set(_words(v)))
    near = {v: other for v, other in _neighbours(seen, rare, frequent) if levels.counts[other] >= 10 * levels.counts[v]}
    found = [
        (v, other) for v, other in near.items() if all(common[w] <= 3 for w in set(_words(v)) - set(_words(other)))
    ]
    if not found:
        return
    by_nature = len({v for v, _ in _neighbours(seen, frequent, frequent)}) / len(frequent)
    if len(found) < 0.05 * len(rare) or len(found) / len(rare) < 2 * by_nature:
        return
    severity = 0.84 if len(found) >= 3 else 0.66 if max(len(v) for v, _ in found) >= 6 else 0.4
    yield _variant(seen, levels, [v for v, _ in found], found, severity, "mistyped, one or two letters off")


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def _is_word(text: str) -> bool:
    letters = sum(c.isalpha() for c in text)
    return len(text) >= 4 and letters >= 0.5 * len(text)


def _neighbours(seen: Seen, some: Sequence[str], others: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of texts with the same digits that are an edit in ten letters apart; to swap neighbours is one."""
    seen.engine.texts("some levels", "v", list(some)[:MOST_COMPARED])
    seen.engine.texts("other levels", "v", list(others))
    room = "greatest(1, least(length(a.v), length(b.v)) // 10)"
    digits = "regexp_replace({}.v, '[^0-9]', '', 'g')"
    found = seen.rows(
        'select a.v, arg_min(b.v, b.rank) from "some levels" a join "other levels" b '
        f"on abs(length(a.v) - length(b.v)) <= {room} and a.v <> b.v and {digits.format('a')} = {digits.format('b')} "
        f"where damerau_levenshtein(a.v, b.v) <= {room} group by a.v, a.rank order by a.rank"
    )
    return [(str(a), str(b)) for a, b in found]


def _cut_off(seen: Seen, levels: Levels) -> Iterator[Finding]:
    """Many texts exactly as long as the longest: what was longer has been cut."""
    if len(levels.counts) < 200:
        return
    lengths: dict[int, int] = defaultdict(int)
    for text in levels.counts:
        lengths[len(text)] += 1
    longest = max(lengths)
    before = [lengths.get(longest - k, 0) for k in range(1, 6)]
    if longest < 15 or longest >= 300 or lengths[longest] < 20 or lengths[longest] < 4 * max(before):
        return
    if len(lengths) < 5 or lengths[longest] > 0.8 * len(levels.counts):
        return
    column = quoted(levels.column)
    yield Finding(
        seen.name,
        (levels.column,),
        "rounding_or_topcode",
        0.5,
        f"{lengths[longest]:,} texts are exactly {longest} characters long, the longest there are; "
        f"of {longest - 1} there are {before[0]:,}: longer ones have been cut",
        f"length({column}) = {longest}",
        None,
        f"select length({column}), count(*) from {quoted(seen.name)} group by 1 order by 1 desc limit 10",
        "ask for the full text; two texts that differ only after the cut look the same here",
    )


def _misread(seen: Seen, levels: Levels) -> Iterator[Finding]:
    """Texts that were read in another encoding than they were written in."""
    signs = re.compile("\ufffd|Ã[\u0080-\u00bf©¨¤¶¼±³¡­ŸÅ]|â€[™œ\u009d“”˜¦]|Â[\u00a0-\u00bf]")
    bad = [v for v in levels.counts if signs.search(v)]
    if not bad:
        return
    column = quoted(levels.column)
    where = f"regexp_matches({column}, {sql_value('�|Ã[-¿©¨¤¶¼±³¡Ÿ]|â€|Â[ -¿]')})"
    yield Finding(
        seen.name,
        (levels.column,),
        "type_or_format",
        0.75,
        f"{{rows}} texts in {levels.column} were read in the wrong encoding, such as {bad[0][:60]!r}",
        where,
        None,
        f"select {column} from {quoted(seen.name)} where {where}",
        "read the file again with its own encoding",
    )
