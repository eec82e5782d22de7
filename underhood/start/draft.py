"""A project file as a record, line by line with what each line rests on, and as the text that is written."""

from __future__ import annotations

import keyword
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

WIDTH = 110


@dataclass(frozen=True)
class Function:
    """A function of the file: what it makes, of what, how, and why."""

    name: str
    needs: tuple[str, ...]
    body: str
    why: str = ""


@dataclass(frozen=True)
class SourceDraft:
    """One `uh.source(...)`: `late` maps a clock to columns, `cleaning` holds calls with their reasons."""

    variable: str
    name: str
    path: str
    about: str
    table: str = ""
    key: tuple[str, ...] = ()
    key_why: str = ""
    nulls: tuple[str, ...] = ()
    happened: str = ""
    happened_why: str = ""
    known: str = ""
    known_why: str = ""
    functions: tuple[Function, ...] = ()
    late: tuple[tuple[str, tuple[str, ...]], ...] = ()
    late_why: tuple[str, ...] = ()
    cleaning: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class JoinDraft:
    """One `.asof(...)` or `.recent(...)`: `what` holds the columns taken or the figures, as they are written."""

    way: str
    variable: str
    by: tuple[str, ...]
    what: tuple[str, ...]
    over: str
    why: str
    functions: tuple[Function, ...] = ()


@dataclass(frozen=True)
class Draft:
    """A whole project file; `notes` are said at its top, `left_out` above the features."""

    name: str
    notes: tuple[str, ...]
    sources: tuple[SourceDraft, ...]
    asked: str
    at: str
    at_why: str
    joins: tuple[JoinDraft, ...]
    features: tuple[str | Function, ...]
    left_out: tuple[str, ...]
    label: Function
    label_known: str
    label_known_why: str
    watch: tuple[str, ...] = ()
    functions: tuple[Function, ...] = field(default=())


def plain_name(text: str, taken: Sequence[str] = ()) -> str:
    """A name that Python accepts and that is not taken: made of the letters and digits of `text`."""
    made = re.sub(r"\W+", "_", text).strip("_") or "table"
    made = f"t_{made}" if made[0].isdigit() else made
    while made in taken or keyword.iskeyword(made) or made in ("uh", "asks"):
        made += "_"
    return made


def project_text(draft: Draft) -> str:
    """The file: plain Python that builds, each assumption in a comment above its line."""
    lines = [f'"""{draft.name}: proposed by `underhood init`. What is marked "assumed" is yours to correct."""', ""]
    for note in draft.notes:
        lines += _comment(note)
    lines += [*([""] if draft.notes else []), "import underhood as uh", ""]
    told: set[Function] = set()
    for source in draft.sources:
        lines += ["", *_source(source, told)]
    lines += ["", "", *_function(draft.label), "", "", *_asks(draft), ""]
    for made in draft.features:
        if isinstance(made, Function):
            lines += ["", *_function(made)]
    lines += ["", "", *_system(draft)]
    text = "\n".join(lines) + "\n"
    return re.sub(r"\n{4,}", "\n\n\n", text)


def _comment(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}#   ", break_long_words=False
    )


def _function(made: Function) -> list[str]:
    head = f"def {made.name}({', '.join(made.needs)}):"
    lines = _comment(made.why) if made.why else []
    if len(head) + len(made.body) < WIDTH - 9:
        return [*lines, f"{head} return {made.body}"]
    return [*lines, head, *_wrapped(f"return {made.body}", "    ")]


def _wrapped(code: str, indent: str) -> list[str]:
    """Long code broken after commas: it only breaks inside brackets, where Python allows it."""
    made = textwrap.wrap(
        code, WIDTH, initial_indent=indent, subsequent_indent=indent * 2, break_long_words=False, break_on_hyphens=False
    )
    inside = all("(" in line or "{" in line or n for n, line in enumerate(made))
    return made if inside and len(made) > 1 and "'" not in "".join(made[:-1]) + made[-1] else _at_commas(code, indent)


def _at_commas(code: str, indent: str) -> list[str]:
    lines, line = [], ""
    for piece in re.split(r"(?<=,) ", code):
        if line and len(indent) * 2 + len(line) + len(piece) > WIDTH:
            lines.append(line)
            line = piece
        else:
            line = f"{line} {piece}" if line else piece
    lines.append(line)
    return [f"{indent if n == 0 else indent * 2}{text}" for n, text in enumerate(lines)]


def _texts(values: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{v}"' if '"' not in v and "\\" not in v else repr(v) for v in values) + "]"


def _text(value: str) -> str:
    return f'"{value}"' if '"' not in value and "\\" not in value else repr(value)


def _source(source: SourceDraft, told: set[Function]) -> list[str]:
    """The lines of one source; a function that the file has `told` already is not told again."""
    lines: list[str] = []
    for made in source.functions:
        if made not in told:
            lines += ["", *_function(made)]
            told.add(made)
    lines += ["", ""] if lines else []
    lines += _comment(f"{source.name}: {source.about}")
    arguments = [_text(source.path)]
    if source.path.rsplit("/", 1)[-1].split(".")[0] != source.name:
        arguments.append(f"name={_text(source.name)}")
    lines.append(f"{source.variable} = uh.source(")
    lines.append(f"    {', '.join(arguments)},")
    if source.key:
        lines += [*_comment(source.key_why, "    "), f"    key={_texts(source.key)},"]
    elif source.key_why:
        lines += _comment(source.key_why, "    ")
    if source.nulls:
        lines.append(f"    nulls={_texts(source.nulls)},")
    if source.functions:
        lines.append(f"    derive=[{', '.join(f.name for f in source.functions)}],")
    lines += _comment(source.happened_why, "    ") if source.happened_why else []
    if source.happened:
        lines.append(f"    happened={_text(source.happened)},")
    if source.known:
        lines += [*_comment(source.known_why, "    "), f"    known={_text(source.known)},"]
    for why in source.late_why:
        lines += _comment(why, "    ")
    if source.late:
        listed = [line for c, names in source.late for line in _at_commas(f"{_text(c)}: {_texts(names)},", "        ")]
        lines += ["    late={", *listed, "    },"]
    lines.append(")")
    if source.cleaning:
        lines.append(f"{source.variable} = {source.variable}.clean(")
        for call, why in source.cleaning:
            lines += [*_comment(why, "    "), f"    {call},"]
        lines.append(")")
    return lines


def _asks(draft: Draft) -> list[str]:
    lines: list[str] = []
    for join in draft.joins:
        for made in join.functions:
            lines += _function(made)
    lines += ["", ""] if lines else []
    lines += _comment(draft.at_why)
    lines.append("asks = (")
    lines.append(f"    {draft.asked}.asks(at={_text(draft.at)})")
    for join in draft.joins:
        lines += _comment(join.why, "    ")
        by = f"by={_text(join.by[0])}" if len(join.by) == 1 else f"by={_texts(join.by)}"
        if join.way == "asof":
            listed = ", ".join(join.what)
            is_named = any(":" in w for w in join.what)
            lines += _at_commas(
                f".asof({join.variable}, {by}, take={'{' if is_named else '['}{listed}{'}' if is_named else ']'})",
                "    ",
            )
        else:
            lines += _at_commas(f'.recent({join.variable}, {by}, over="{join.over}", {", ".join(join.what)})', "    ")
    lines.append(")")
    return lines


def _system(draft: Draft) -> list[str]:
    names = ", ".join(f.name if isinstance(f, Function) else _text(f) for f in draft.features)
    lines = []
    for why in draft.left_out:
        lines += _comment(f"not a feature: {why}")
    lines.append(f"{plain_name(draft.name + '_desk')} = uh.system(")
    lines += [f"    {_text(plain_name(draft.name))}, asks=asks,"]
    lines += _at_commas(f"features=[{names}],", "    ")
    lines += _comment(draft.label_known_why, "    ")
    lines.append(f"    label=uh.label({draft.label.name}, known={_text(draft.label_known)}),")
    lines += _comment("assumed: what each action costs, in your money, if it does not happen and if it does", "    ")
    watch = f", watch={_texts(draft.watch)}" if draft.watch else ""
    lines.append(f'    goal=uh.goal("foretell {draft.label.name}", costs=uh.costs(act=(1, 2), leave=(0, 5)){watch}),')
    lines += _comment("at 0.25 both actions cost the same with these costs", "    ")
    lines.append('    policy=uh.threshold(act=0.25, otherwise="leave"))')
    return lines


def functions_of(draft: Draft) -> Iterator[Function]:
    """Every function that the file defines, in its order."""
    for source in draft.sources:
        yield from source.functions
    for join in draft.joins:
        yield from join.functions
    yield from (f for f in draft.features if isinstance(f, Function))
    yield draft.label
