"""Where each value comes from and what it reaches: walked over the frozen plan alone, before any data are read.

Two kinds of edges. *Value*: what stands there is made of it. *Influence*: it
decides which value stands there, or whether one does: filters, join keys,
clocks, conditions, rows that cleaning sets aside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from underhood.ground.errors import NotFoundError, nearest
from underhood.plan.cleaning import Cleaning, Filling, title
from underhood.plan.exprs import Expr, columns_of, shown, shown_span
from underhood.plan.fitted import needs_label
from underhood.plan.joins import Plan
from underhood.plan.sources import Typed, reads
from underhood.plan.steps import ASKED_AT, Asof, Recent

VALUE, INFLUENCE = "value", "influence"
RAW, COLUMN, ROWS, JOIN, MOMENT = "raw", "column", "rows", "join", "moment"
INPUT, FACT, FEATURE, LABEL, TRAINING = "input", "fact", "feature", "label", "training set"
SCORE, ACTION, MONEY = "score", "action", "money"
# What a person cares about at the end of the way, in the order in which it is told.
ENDS = (FEATURE, LABEL, TRAINING, SCORE, ACTION, MONEY)
# Where a bare name is looked up first.
_PREFERRED = (FEATURE, LABEL, ACTION, INPUT, FACT, COLUMN, SCORE, MONEY, TRAINING, JOIN, ROWS, RAW, MOMENT)
COST = "cost per 1,000 decisions"


@dataclass(frozen=True)
class Node:
    """One thing on the way of a value. `known` says when it can be known, `made` how it is made; both for people.

    `owner` is whom its source names, empty for what the system makes itself.
    """

    kind: str
    name: str
    type: str = ""
    owner: str = ""
    known: str = ""
    made: str = ""

    @property
    def id(self) -> str:
        """Kind and name: unique in its lineage."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Edge:
    """`to` has its value from `origin`, or is influenced by it; `via` names the step. Both ends are ids."""

    origin: str
    to: str
    how: str
    via: str


@dataclass(frozen=True)
class Lineage:
    """Every node of a system by id, and the edges that lead into and out of each."""

    nodes: Mapping[str, Node]
    into: Mapping[str, tuple[Edge, ...]]
    out_of: Mapping[str, tuple[Edge, ...]]


@dataclass(frozen=True)
class Reached:
    """A node on the way up or down. It is reached by value if a way leads there over value edges only.

    `steps` counts the edges of the shortest such way, `edge` is its last one.
    """

    node: Node
    how: str
    steps: int
    edge: Edge


@dataclass
class _Draft:
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[tuple[str, str], Edge] = field(default_factory=dict)

    def node(self, node: Node) -> str:
        self.nodes.setdefault(node.id, node)
        return node.id

    def edge(self, origin: str, to: str, how: str, via: str = "") -> None:
        """Adds an edge; between the same two, a value says more than an influence."""
        there = self.edges.get((origin, to))
        if there is None or (there.how == INFLUENCE and how == VALUE):
            self.edges[origin, to] = Edge(origin, to, how, via)


def lineage_of(plan: Plan) -> Lineage:
    """The lineage of a settled plan."""
    draft = _Draft()
    for source in plan.sources.values():
        _source(draft, source)
    asked = plan.sources[plan.system.asks.source.name]
    _questions(draft, plan, asked)
    for n, join in enumerate(plan.system.asks.joins, 1):
        _join(draft, plan, join, n)
    _decisions(draft, plan, asked)
    into: dict[str, list[Edge]] = {name: [] for name in draft.nodes}
    out_of: dict[str, list[Edge]] = {name: [] for name in draft.nodes}
    for edge in draft.edges.values():
        into[edge.to].append(edge)
        out_of[edge.origin].append(edge)
    return Lineage(draft.nodes, {n: tuple(e) for n, e in into.items()}, {n: tuple(e) for n, e in out_of.items()})


def find_node(lineage: Lineage, what: str) -> Node:
    """The node meant by an id ("feature temp"), a column ("weather.temp") or a bare name. Raises NotFoundError."""
    if what in lineage.nodes:
        return lineage.nodes[what]
    for kind in _PREFERRED:
        if f"{kind} {what}" in lineage.nodes:
            return lineage.nodes[f"{kind} {what}"]
    known = {node.name for node in lineage.nodes.values()}
    raise NotFoundError("there is no such column, feature, label or action", what, nearest(what, known))


def upstream(of: Plan | Lineage, what: str) -> tuple[Reached, ...]:
    """All that a node is made of or influenced by, the nearest first. Raises NotFoundError."""
    lineage = of if isinstance(of, Lineage) else lineage_of(of)
    start = find_node(lineage, what)
    return _walk(lineage, start, lambda name: ((e.origin, e) for e in lineage.into[name]))


def downstream(of: Plan | Lineage, what: str) -> tuple[Reached, ...]:
    """All that a node reaches, the nearest first. Raises NotFoundError."""
    lineage = of if isinstance(of, Lineage) else lineage_of(of)
    start = find_node(lineage, what)
    return _walk(lineage, start, lambda name: ((e.to, e) for e in lineage.out_of[name]))


def uses(of: Plan | Lineage, source: str, column: str) -> tuple[Reached, ...]:
    """What a source's column reaches at the end: features, label, training set, score, actions, money."""
    lineage = of if isinstance(of, Lineage) else lineage_of(of)
    name = f"{source}.{column}"
    start = f"{RAW} {name}" if f"{RAW} {name}" in lineage.nodes else name
    found = [r for r in downstream(lineage, start) if r.node.kind in ENDS]
    return tuple(sorted(found, key=lambda r: (ENDS.index(r.node.kind), r.how != VALUE)))


def owners(reached: Iterable[Reached]) -> tuple[str, ...]:
    """The owners of what was reached, in the order of reaching."""
    return tuple(dict.fromkeys(r.node.owner for r in reached if r.node.owner))


def _walk(lineage: Lineage, start: Node, neighbours: object) -> tuple[Reached, ...]:
    """Breadth first over value edges, then over the rest from all that was found."""
    found: dict[str, Reached] = {}
    seen = {start.id: 0}
    for how in (VALUE, INFLUENCE):
        waiting = deque(sorted(seen.items(), key=lambda item: item[1]))
        while waiting:
            name, steps = waiting.popleft()
            for other, edge in neighbours(name):  # type: ignore[operator]
                if other not in seen and (how == INFLUENCE or edge.how == VALUE):
                    seen[other] = steps + 1
                    found[other] = Reached(lineage.nodes[other], how, steps + 1, edge)
                    waiting.append((other, steps + 1))
    return tuple(sorted(found.values(), key=lambda r: r.steps))


def roles(expr: Expr) -> dict[str, str]:
    """Each column that an expression reads: as value, or only to decide which value is taken."""
    made: dict[str, str] = {}
    for column, how in _roles(expr, VALUE):
        if made.get(column) != VALUE:
            made[column] = how
    return made


def _roles(expr: Expr, how: str) -> Iterator[tuple[str, str]]:
    if expr.op == "col":
        yield str(expr.args[0]), how
    for n, arg in enumerate(expr.args):
        if isinstance(arg, Expr):
            yield from _roles(arg, INFLUENCE if expr.op == "when" and n == 0 else how)


# --- sources ---


def _column(draft: _Draft, source: Typed, name: str, kind: str = COLUMN) -> str:
    """The id of a source's column."""
    of = source.source
    there = f"{kind} {of.name}.{name}"
    if there in draft.nodes:
        return there
    late = of.late.get(name)
    known = shown(late) if late is not None else shown(of.known)
    made = shown(of.derived[name]) if kind == COLUMN and name in of.derived else ""
    types = source.schema if kind == COLUMN else source.raw
    return draft.node(Node(kind, f"{of.name}.{name}", types.get(name, ""), of.owner, known, made))


def _source(draft: _Draft, source: Typed) -> None:
    made_of, rows = _cleaning(draft, source)
    if rows:
        at = draft.node(Node(ROWS, source.source.name, "", source.source.owner, "", "the rows that cleaning keeps"))
        for (origin, _), via in rows.items():
            draft.edge(origin, at, INFLUENCE, via)
    changed = {s.step.column for s in source.stages if isinstance(s.step, Cleaning | Filling)}
    for name, expr in source.columns.items():
        to = _column(draft, source, name)
        derived = name in source.source.derived
        for column, how in roles(expr).items():
            if derived and column in source.columns and column not in source.source.derived:
                draft.edge(_column(draft, source, column), to, how, f"derive {name}")
            elif derived or column in changed:
                for (origin, own), via in made_of[column].items():
                    draft.edge(origin, to, how if own == VALUE else INFLUENCE, via or f"derive {name}")


def _cleaning(draft: _Draft, source: Typed) -> tuple[dict[str, dict[tuple[str, str], str]], dict[tuple[str, str], str]]:
    """What each cleaned column is made of, and what decides which rows are kept: (id, how) → names of steps."""
    touched = {s.step.column for s in source.stages if isinstance(s.step, Cleaning | Filling)} | set(
        source.source.derived
    )
    made_of = {
        name: {(_column(draft, source, name, RAW if name in touched else COLUMN), VALUE): ""} for name in source.raw
    }
    rows: dict[tuple[str, str], str] = {}
    for stage in source.stages:
        step = stage.step
        if isinstance(step, Cleaning):
            made: dict[tuple[str, str], str] = {}
            for column, how in roles(step.value).items():
                for (origin, own), via in made_of[column].items():
                    key = (origin, how if own == VALUE else INFLUENCE)
                    made[key] = ", ".join(filter(None, [made.get(key, via), step.name]))
            made_of[step.column] = made
        elif isinstance(step, Filling):
            theirs = f"{step.reference.name}."
            made = made_of.setdefault(step.column, {})
            made[f"{COLUMN} {theirs}{step.take}", VALUE] = step.name
            for ours, other in step.by.items():
                made[f"{COLUMN} {theirs}{other}", INFLUENCE] = step.name
                for origin, _ in list(made_of[ours]):
                    made.setdefault((origin, INFLUENCE), step.name)
        else:
            for column in reads(step) or set(source.raw):
                for origin, _ in made_of[column]:
                    rows[origin, INFLUENCE] = title(step)
    return made_of, rows


# --- questions ---


def _questions(draft: _Draft, plan: Plan, asked: Typed) -> None:
    at = draft.node(Node(MOMENT, ASKED_AT, "time", "", "", shown(plan.system.asks.at)))
    for column in columns_of(plan.asked_at):
        draft.edge(_column(draft, asked, column), at, VALUE, "clock of asking")
    for name, kind in asked.schema.items():
        is_fact = name in asked.late
        known = shown(asked.source.late[name]) if is_fact else "when asked"
        to = draft.node(Node(FACT if is_fact else INPUT, name, kind, "", known))
        draft.edge(_column(draft, asked, name), to, VALUE, f"asks {asked.source.name}")
        if is_fact:
            _clocks(draft, asked, to, [asked.late[name]], "known late")


def _clocks(draft: _Draft, source: Typed, to: str, clocks: Iterable[Expr], via: str) -> None:
    for clock in clocks:
        for column in columns_of(clock):
            draft.edge(_column(draft, source, column), to, INFLUENCE, via)


def _join(draft: _Draft, plan: Plan, join: Asof | Recent, n: int) -> None:
    other = plan.sources[join.source.name]
    name = f"{'as of then' if isinstance(join, Asof) else shown_span(join.over_s) + ' before'}, {other.source.name}"
    if f"{JOIN} {name}" in draft.nodes:
        name = f"{name} ({n})"
    by = f"by {', '.join(join.by)}" if join.by else "over all rows"
    at = draft.node(Node(JOIN, name, "", other.source.owner, f"{shown(join.source.known)}, if by then", by))
    for column in join.by:
        draft.edge(f"{INPUT} {column}", at, INFLUENCE, "join key")
        draft.edge(_column(draft, other, column), at, INFLUENCE, "join key")
    if isinstance(join, Asof) and join.tie:
        draft.edge(_column(draft, other, join.tie), at, INFLUENCE, "breaks ties")
    _clocks(draft, other, at, [other.happened, other.known], "clock")
    draft.edge(f"{MOMENT} {ASKED_AT}", at, INFLUENCE, "clock of asking")
    if f"{ROWS} {other.source.name}" in draft.nodes:
        draft.edge(f"{ROWS} {other.source.name}", at, INFLUENCE, "rows kept")
    for made, columns, text in _taken(join):
        to = draft.node(Node(INPUT, made, plan.inputs[made], "", "when asked", text))
        draft.edge(at, to, INFLUENCE, name)
        for column, how in columns.items():
            if column == ASKED_AT:
                draft.edge(f"{MOMENT} {ASKED_AT}", to, how, name)
                continue
            draft.edge(_column(draft, other, column), to, how, name)
            if column in other.late:
                _clocks(draft, other, to, [other.late[column]], "null until known")


def _taken(join: Asof | Recent) -> Iterator[tuple[str, dict[str, str], str]]:
    """(input, columns read, how it is made) of a join."""
    if isinstance(join, Asof):
        for made, column in join.take.items():
            yield made, {column: VALUE}, f"the last {column} known"
        return
    for name, figure in join.figures.items():
        of = f" of {shown(figure.value)}" if figure.value is not None else ""
        yield name, roles(figure.value) if figure.value is not None else {}, f"{figure.kind}{of}"


# --- decisions ---


def _decisions(draft: _Draft, plan: Plan, asked: Typed) -> None:
    system = plan.system
    training = draft.node(Node(TRAINING, system.name, "", "", shown(system.label.known)))
    score = draft.node(Node(SCORE, system.name, "number", "", "when asked"))
    for name, expr in plan.features.items():
        at = draft.node(Node(FEATURE, name, plan.feature_types[name], "", "when asked", shown(system.features[name])))
        _reads(draft, plan, expr, at, f"feature {name}")
        draft.edge(at, training, VALUE, "learned from")
        draft.edge(at, score, VALUE, "model")
    known = shown(system.label.known)
    label = draft.node(Node(LABEL, system.label.name, "flag", "", known, shown(system.label.value)))
    _reads(draft, plan, plan.label, label, f"label {system.label.name}")
    _reads(draft, plan, plan.label_known, label, "clock of the label", INFLUENCE)
    draft.edge(label, training, VALUE, "learned from")
    for name, expr in system.features.items():
        if needs_label(expr):
            draft.edge(label, f"{FEATURE} {name}", VALUE, "fitted at build")
    draft.edge(training, score, INFLUENCE, "what the model learned")
    if f"{ROWS} {asked.source.name}" in draft.nodes:
        draft.edge(f"{ROWS} {asked.source.name}", training, INFLUENCE, "rows kept")
    money = draft.node(Node(MONEY, COST, "number", "", known, system.goal.about))
    draft.edge(label, money, VALUE, "costs")
    cuts = dict(system.policy.cuts)
    for action in system.policy.actions:
        made = f"from {cuts[action]:g}" if action in cuts else "otherwise"
        no, yes = system.goal.costs.of[action]
        said = f"{made}; costs {no:g}, or {yes:g} if it happens"
        at = draft.node(Node(ACTION, action, "", "", "when asked", said))
        draft.edge(score, at, VALUE, made)
        draft.edge(at, money, VALUE, "costs")


def _reads(draft: _Draft, plan: Plan, expr: Expr, to: str, via: str, at_most: str = VALUE) -> None:
    for column, how in roles(expr).items():
        kind = MOMENT if column == ASKED_AT else FACT if column in plan.facts else INPUT
        draft.edge(f"{kind} {column}", to, INFLUENCE if at_most == INFLUENCE else how, via)


def lineage_json(lineage: Lineage) -> dict[str, object]:
    """Nodes and edges as plain JSON values."""
    return {
        "nodes": [{"id": n.id, **n.__dict__} for n in lineage.nodes.values()],
        "edges": [dict(e.__dict__) for edges in lineage.into.values() for e in edges],
    }
