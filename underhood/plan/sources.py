"""A source settled by type, and as DuckDB SQL: cleaned step by step, with derived columns and clocks.

Pinned: a step of values keeps every row; a step of rows sets rows aside and keeps
them, with its name; a reference that disagrees with itself about a key fills nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from underhood.ground.errors import ProjectError, UnderhoodError, nearest, raise_all
from underhood.plan.cleaning import LAST, Cleaning, Deduping, Dropping, Filling, Step, title
from underhood.plan.exprs import Expr, as_json, columns_of, from_json, typed
from underhood.plan.operations import FLAG, NUMBER, SPAN, TIME
from underhood.plan.render import quoted, to_python, to_sql
from underhood.plan.steps import RESERVED, Source, late_columns

Schema = Mapping[str, str]


@dataclass(frozen=True)
class Stage:
    """One cleaning step settled by type, and the columns with their types after it."""

    step: Step
    schema: Schema

    @property
    def is_of_rows(self) -> bool:
        """Whether the step may set rows aside."""
        return isinstance(self.step, Dropping | Deduping)


@dataclass(frozen=True)
class Typed:
    """A source with every expression settled by type. `raw` is its file's schema, `stages` its cleaning in order.

    `columns` maps each column to its expression over the cleaned columns, `schema` to its type.
    """

    source: Source
    columns: Mapping[str, Expr]
    schema: Schema
    happened: Expr
    known: Expr
    late: Mapping[str, Expr]
    raw: Schema
    stages: tuple[Stage, ...] = ()

    @property
    def cleaned(self) -> Schema:
        """The columns and types after the last cleaning step."""
        return self.stages[-1].schema if self.stages else self.raw

    @property
    def has_row_steps(self) -> bool:
        """Whether cleaning may set rows aside."""
        return any(stage.is_of_rows for stage in self.stages)

    @property
    def is_plain(self) -> bool:
        """Whether each row is made from its own raw row alone: nothing worth keeping once it is computed."""
        return not is_rekeyed(self.source) and all(isinstance(stage.step, Cleaning) for stage in self.stages)


def is_rekeyed(source: Source) -> bool:
    """Whether cleaning may change which rows there are or what their key is: keys are unique only after it."""
    return any(isinstance(s, Dropping | Deduping) or s.column in source.key for s in source.cleaning)


def settle_source(source: Source, raw: Schema, others: Mapping[str, Typed] | None = None) -> Typed:
    """One source settled by type; `others` holds the settled sources that it is filled from.

    Raises ProjectError with all its breakages at once.
    """
    errors: list[UnderhoodError] = []
    stages = _stages(source, raw, others or {}, errors)
    cleaned = stages[-1].schema if stages else raw
    columns: dict[str, Expr] = {}
    schema: dict[str, str] = {}

    def add(name: str, expr: Expr) -> None:
        columns[name], schema[name] = typed(expr, cleaned, f"{source.name}.{name}")
        if schema[name] == SPAN:
            raise ProjectError("is a span", f"{source.name}.{name}", "make it a number: .minutes() or .hours()")

    for name in cleaned:
        if name not in source.derived:
            gather(errors, lambda n=name: add(n, Expr("col", (n,))))
    for name, expr in source.derived.items():
        gather(errors, lambda n=name, e=expr: add(n, e))
    for name in (*source.key, *source.late):
        if name not in schema:
            errors.append(ProjectError(f"there is no column {name!r}", source.name, nearest(name, schema)))
    for name, other in alike(schema):
        errors.append(ProjectError(f"differs from {other!r} only by capitals", f"{source.name}.{name}", "rename one"))
    reserved = sorted(n for n in schema if n.casefold() in RESERVED)
    if reserved:
        hint = "rename it with derive= or in the file; these words name what Underhood adds"
        errors.append(ProjectError(f"the name {reserved[0]!r} is taken", f"{source.name}.{reserved[0]}", hint))
    happened = settle_clock(source.happened, schema, f"{source.name}.happened", errors)
    known = settle_clock(source.known, schema, f"{source.name}.known", errors)
    late: dict[str, Expr] = {}
    gather(errors, lambda: late.update(late_columns(source)))
    late = {c: settle_clock(at, schema, f"{source.name}.late", errors) for c, at in late.items()}
    raise_all(errors)
    return Typed(source, columns, schema, happened, known, late, raw, stages)


def gather(errors: list[UnderhoodError], act: object) -> None:
    """Does one thing, and keeps what it finds wrong."""
    try:
        act()  # type: ignore[operator]
    except ProjectError as error:
        errors.append(error)


def alike(names: Iterable[str]) -> list[tuple[str, str]]:
    """Names that SQL takes for an earlier one, with that one."""
    seen: dict[str, str] = {}
    pairs = [(name, seen.setdefault(name.casefold(), name)) for name in names]
    return [(name, other) for name, other in pairs if name != other]


def settle_clock(expr: Expr, schema: Schema, where: str, errors: list[UnderhoodError]) -> Expr:
    """A clock settled by type; what is wrong with it goes to `errors`."""
    try:
        settled, kind = typed(expr, schema, where)
    except ProjectError as error:
        errors.append(error)
        return expr
    if kind != TIME:
        errors.append(ProjectError(f"`{expr}` is a {kind}, not a time", where, "make a time column with derive="))
    return settled


def _stages(
    source: Source, raw: Schema, others: Mapping[str, Typed], errors: list[UnderhoodError]
) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    schema = raw
    for name, n in _counted(title(step) for step in source.cleaning):
        if n > 1:
            errors.append(ProjectError(f"{n} cleaning steps are called {name!r}", source.name, "give one name="))
    for step in source.cleaning:
        try:
            stage = _stage(source, step, schema, others)
        except ProjectError as error:
            errors.append(error)
            continue
        stages.append(stage)
        schema = stage.schema
    return tuple(stages)


def _counted(names: Iterable[str]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return list(counts.items())


def _stage(source: Source, step: Step, schema: Schema, others: Mapping[str, Typed]) -> Stage:
    """One step settled over the columns that the steps before it left. Raises ProjectError."""
    where = f"{source.name}.{step.column}" if isinstance(step, Cleaning | Filling) else f"{source.name} ({step.name})"
    _not_too_early(source, step, where)
    if isinstance(step, Cleaning):
        _must_have([step.column], schema, where, f" to clean ({step.name})")
        value, kind = typed(step.value, schema, where)
        kind = schema[step.column] if kind not in (NUMBER, FLAG, TIME, "text") else kind
        return Stage(replace(step, value=value), {**schema, step.column: kind})
    if isinstance(step, Dropping):
        holds, kind = typed(step.where, schema, where)
        if kind != FLAG:
            raise ProjectError(f"`{step.where}` is a {kind}, not a flag", where, "compare: total < 0")
        return Stage(replace(step, where=holds), schema)
    if isinstance(step, Deduping):
        _must_have(step.by, schema, where)
        order = None if step.order is None else typed(step.order, schema, where)[0]
        return Stage(replace(step, order=order), schema)
    return _filled(step, schema, others, where)


def _filled(step: Filling, schema: Schema, others: Mapping[str, Typed], where: str) -> Stage:
    other = others.get(step.reference.name)
    if other is None:
        raise ProjectError("its reference was not read", where, "give what uh.source(...) made")
    _must_have(step.by, schema, where)
    _must_have([*step.by.values(), step.take], other.schema, f"{where}, {other.source.name}")
    for ours, theirs in step.by.items():
        if schema[ours] != other.schema[theirs]:
            raise ProjectError(f"{ours} is {schema[ours]} here, {other.schema[theirs]} there", where, "make them alike")
    kind = other.schema[step.take]
    if schema.get(step.column, kind) != kind:
        raise ProjectError(
            f"{step.column} is {schema[step.column]}, {other.source.name}.{step.take} is {kind}",
            where,
            "make them alike",
        )
    late = sorted({*step.by.values(), step.take} & set(other.late))
    if late:
        raise ProjectError(f"{late[0]} is known late in {other.source.name}", where, "a reference holds at all times")
    return Stage(step, {**schema, step.column: kind})


def _must_have(columns: Iterable[str], schema: Schema, where: str, why: str = "") -> None:
    missing = [c for c in columns if c not in schema]
    if missing:
        which = f" {missing[0]!r}" if not why else ""
        raise ProjectError(f"there is no column{which}{why}", where, nearest(missing[0], schema))


def _not_too_early(source: Source, step: Step, where: str) -> None:
    """Raises ProjectError if a step lets what is known late decide about what is known earlier."""
    late = reads(step) & set(source.late)
    if isinstance(step, Cleaning | Filling):
        own = source.late.get(step.column)
        late = {c for c in late if c != step.column and (own is None or str(source.late[c]) != str(own))}
        hint = f'say when it is known: late={{"clock": ["{step.column}"]}}'
    else:
        hint = "null the value instead; leave rows out of training with a patch: whether a row is there would tell"
    if late:
        raise ProjectError(f"reads {sorted(late)[0]}, which is known late", where, hint)


def reads(step: Step) -> set[str]:
    """The columns of its source that a step looks at, its own column among them if it does."""
    if isinstance(step, Cleaning):
        return columns_of(step.value)
    if isinstance(step, Dropping):
        return columns_of(step.where)
    if isinstance(step, Deduping):
        return {*step.by, *(columns_of(step.order) if step.order is not None else ())}
    return {*step.by, step.column}


# --- as SQL ---


def source_sql(typed_source: Typed, raw: str) -> str:
    """The cleaned source with its derived columns and clocks, read from the raw table `raw`."""
    made = [f"{to_sql(expr)} as {quoted(name)}" for name, expr in typed_source.columns.items()]
    last = stage_sql(typed_source, raw, len(typed_source.stages))
    kept = " where __removed is null" if typed_source.has_row_steps else ""
    inner = f"select __row, {_key_sql(typed_source)}, {', '.join(made)} from {last}{kept}"
    clocks = [f"{to_sql(typed_source.happened)} as __happened", f"{to_sql(typed_source.known)} as __known"]
    clocks += [f"{to_sql(at)} as {quoted('__late_' + c)}" for c, at in typed_source.late.items()]
    return f"select *, {', '.join(clocks)} from ({inner})"


def removed_sql(typed_source: Typed, raw: str) -> str:
    """The rows that cleaning set aside, as cleaning left them: __row, __key, __step, __why, then the columns."""
    named = [
        (n, title(s.step), s.step.why if isinstance(s.step, Dropping) else "")
        for n, s in enumerate(typed_source.stages)
        if s.is_of_rows
    ]
    step = " ".join(f"when {n} then {to_sql(Expr('lit', (name,)))}" for n, name, _ in named)
    why = " ".join(f"when {n} then {to_sql(Expr('lit', (said,)))}" for n, _, said in named)
    columns = ", ".join(quoted(c) for c in typed_source.cleaned)
    last = stage_sql(typed_source, raw, len(typed_source.stages))
    return (
        f"select __row, __key, case __removed {step} end as __step, case __removed {why} end as __why, {columns} "
        f"from {last} where __removed is not null"
    )


def stage_sql(typed_source: Typed, raw: str, n: int) -> str:
    """The source after its first `n` cleaning steps, all rows still there, as one relation to select from.

    Where there are steps of rows, `__removed` is the number of the step, from
    0, that set the row aside; null if none did.
    """
    if not n:
        return raw
    columns: Sequence[str] = list(typed_source.raw)
    marked = ", null::INT as __removed" if typed_source.has_row_steps else ""
    sql = f"select __row, __key{marked}, {', '.join(quoted(c) for c in columns)} from {raw}"
    for place, stage in enumerate(typed_source.stages[:n]):
        sql = _step_sql(stage, place, columns, sql, bool(marked))
        columns = list(stage.schema)
    return f"({sql})"


def step_sql(typed_source: Typed, raw: str, n: int) -> str:
    """The source after step number `n` (from 0), a step of values, with what stood in its column as `__before`."""
    stage = typed_source.stages[n]
    columns = list(typed_source.stages[n - 1].schema if n else typed_source.raw)
    before = f"select * from {stage_sql(typed_source, raw, n)}"
    if not n and typed_source.has_row_steps:
        before = f"select *, null::INT as __removed from {raw}"
    assert isinstance(stage.step, Cleaning | Filling)
    own = stage.step.column
    extra = f"s.{quoted(own)} as __before" if own in columns else "null as __before"
    return f"({_step_sql(stage, n, columns, before, typed_source.has_row_steps, extra)})"


def _step_sql(stage: Stage, place: int, columns: Sequence[str], before: str, is_marked: bool, extra: str = "") -> str:
    step = stage.step
    first = ["s.__row", "s.__key", *(["s.__removed"] if is_marked else []), *([extra] if extra else [])]
    kept = {c: f"s.{quoted(c)}" for c in columns}
    if isinstance(step, Cleaning):
        kept[step.column] = to_sql(step.value)
        listed = ", ".join([*first, *(f"{text} as {quoted(c)}" for c, text in kept.items())])
        return f"select {listed} from ({before}) s"
    if isinstance(step, Filling):
        return _filling_sql(step, first, kept, before)
    gone = to_sql(step.where) if isinstance(step, Dropping) else _repeated(step, columns)
    mark = f"case when __removed is null and ({gone}) then {place} else __removed end as __removed"
    listed = ", ".join(["s.__row", "s.__key", mark, *(f"{text} as {quoted(c)}" for c, text in kept.items())])
    return f"select {listed} from ({before}) s"


def _repeated(step: Deduping, columns: Sequence[str]) -> str:
    """Whether another row, still there, is kept in this one's place."""
    by = [quoted(b) for b in (step.by or columns)]
    way = "desc" if step.keep == LAST else "asc"
    order = f"{to_sql(step.order)} {way} nulls last, " if step.order is not None else ""
    told = " and ".join(f"{b} is not null" for b in by) if step.by else "true"
    place = f"row_number() over (partition by __removed is null, {', '.join(by)} order by {order}__row {way})"
    return f"{told} and {place} > 1"


def _filling_sql(step: Filling, first: Sequence[str], kept: dict[str, str], before: str) -> str:
    theirs = ", ".join(quoted(t) for t in step.by.values())
    take = quoted(step.take)
    keys = ", ".join(f"{quoted(t)} as __by{n}" for n, t in enumerate(step.by.values()))
    looked_up = (
        f"select {keys}, case when min({take}) = max({take}) then min({take}) end as __found "
        f"from {quoted(step.reference.name)} group by {theirs}"
    )
    on = " and ".join(f"s.{quoted(ours)} = r.__by{n}" for n, ours in enumerate(step.by))
    own = kept.get(step.column)
    order = ["r.__found", own] if step.overwrites else [own, "r.__found"]
    kept[step.column] = f"coalesce({', '.join(order)})" if own else "r.__found"  # type: ignore[arg-type]
    listed = ", ".join([*first, *(f"{text} as {quoted(c)}" for c, text in kept.items())])
    return f"select {listed} from ({before}) s left join ({looked_up}) r on {on}"


def _key_sql(typed_source: Typed) -> str:
    """The key, made anew where cleaning changes a column of it: whole numbers without a point."""
    touched = {s.step.column for s in typed_source.stages if isinstance(s.step, Cleaning | Filling)}
    if not touched & set(typed_source.source.key):
        return "__key"
    parts = []
    for name in typed_source.source.key:
        column = quoted(name)
        text = f"{column}::VARCHAR"
        if typed_source.cleaned.get(name) == NUMBER:
            whole = f"{column} = floor({column}) and abs({column}) < 1e15"
            text = f"case when {whole} then {column}::BIGINT::VARCHAR else {text} end"
        parts.append(f"coalesce({text}, '')")
    return f"{key_sql(parts)} as __key"


def key_sql(parts: Sequence[str]) -> str:
    """A key as one text: its parts with "|" between them; a "|" or a "\\" within one of several has "\\" before it."""
    if len(parts) == 1:
        return parts[0]
    return " || '|' || ".join(f"replace(replace({p}, '\\', '\\\\'), '|', '\\|')" for p in parts)


# --- one row ---


def row_cleaner(typed_source: Typed) -> Callable[[Mapping[str, Any]], tuple[dict[str, Any], str]]:
    """Cleaning and derived columns of one raw row, as plain Python: the cleaned row, and the step that refuses it.

    The row holds floats, flags, texts and times (naive UTC), null as None. The
    second value is empty if no step of rows sets the row aside. A step that
    needs other rows or a reference cannot be made here, and is left out:
    deduping, filling.
    """
    return told_cleaner(row_told(typed_source, typed_source.columns), {})


def row_told(typed_source: Typed, names: Iterable[str]) -> dict[str, Any]:
    """What makes these columns of one raw row, as plain JSON; `needs` are the raw columns that it reads, by type.

    Deduping is left out: it sets aside other rows.
    """
    columns = {name: typed_source.columns[name] for name in names}
    needed = {c for expr in columns.values() for c in columns_of(expr)}
    steps: list[dict[str, Any]] = []
    befores = [typed_source.raw, *(stage.schema for stage in typed_source.stages)]
    for before, stage in reversed(list(zip(befores, typed_source.stages, strict=False))):
        step = stage.step
        if isinstance(step, Dropping):
            steps.append({"drop": title(step), "why": step.why, "made": as_json(step.where)})
            needed |= columns_of(step.where)
        elif isinstance(step, Cleaning) and step.column in needed:
            steps.append({"column": step.column, "made": as_json(step.value)})
            needed = (needed - {step.column}) | columns_of(step.value)
        elif isinstance(step, Filling) and step.column in needed:
            told = {"fill": title(step), "column": step.column, "source": step.reference.name, "by": dict(step.by)}
            steps.append({**told, "take": step.take, "overwrites": step.overwrites, "type": stage.schema[step.column]})
            needed = (needed & set(before)) | set(step.by)
    needs = {name: kind for name, kind in typed_source.raw.items() if name in needed}
    made = {name: as_json(expr) for name, expr in columns.items()}
    return {"needs": needs, "steps": steps[::-1], "columns": made}


def told_cleaner(
    told: Mapping[str, Any], fills: Mapping[str, Callable[[Mapping[str, Any]], Any]]
) -> Callable[[Mapping[str, Any]], tuple[dict[str, Any], str]]:
    """As `row_cleaner`, of what `row_told` told; `fills` looks a value up for a filling step of that title."""
    steps = [(step, to_python({"": from_json(step["made"])}) if "made" in step else None) for step in told["steps"]]
    none = dict.fromkeys([*told["needs"], *(step["column"] for step in told["steps"] if "column" in step)])
    derive = to_python({name: from_json(made) for name, made in told["columns"].items()})

    def clean(row: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        values, refused = {**none, **row}, ""
        for step, made in steps:
            if made is None:
                if step["fill"] in fills:
                    own, found = values[step["column"]], fills[step["fill"]](values)
                    first, second = (found, own) if step["overwrites"] else (own, found)
                    values[step["column"]] = second if first is None else first
            elif "column" in step:
                values[step["column"]] = made(values)[""]
            elif not refused and made(values)[""]:
                refused = step["drop"]
        return derive(values), refused

    return clean
