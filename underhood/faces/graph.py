"""Lineage as an SVG that stands alone: sources left, money right, value drawn through, influence dashed.

Layers by longest way, ordered by barycentre sweeps (Sugiyama, Tagawa and Toda 1981); long edges
are led through places of their own, so that none runs behind a box.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from underhood.plan.lineage import ENDS, FEATURE, INPUT, MONEY, ROWS, VALUE, Edge, Lineage, Node, downstream, upstream

WIDTH, HEIGHT, ACROSS, DOWN, EDGE = 180, 34, 240, 48, 14
SWEEPS = 8
_APART = (0.35, 0.75, 1.0)  # rows between two lines, a line and a box, two boxes
Place = str | tuple[str, str, int]

_STYLE = """
svg{font:12px ui-sans-serif,system-ui,sans-serif;background:#fbfaf7}
.box{fill:#fff;stroke:#8b8778}.name{fill:#22201a}.sub{fill:#6b6759;font-size:10px}
.edge{fill:none;stroke:#8b8778;stroke-width:1.2}.influence{stroke-dasharray:3 4;stroke:#b9b4a4}
.end{stroke:#22201a;stroke-width:1.6}.meant{stroke:#c2410c;stroke-width:2}
@media(prefers-color-scheme:dark){svg{background:#191815}.box{fill:#24221d;stroke:#7d7868}.name{fill:#ece8dc}
.sub{fill:#a39e8d}.edge{stroke:#7d7868}.influence{stroke:#55513f}.end{stroke:#ece8dc}.meant{stroke:#fb923c}}
"""


def around(lineage: Lineage, node: Node) -> Lineage:
    """The part of a lineage that a node comes from or reaches."""
    kept = {node.id: node}
    for reached in (*upstream(lineage, node.id), *downstream(lineage, node.id)):
        kept[reached.node.id] = reached.node
    return _part(lineage, kept)


def used(lineage: Lineage) -> Lineage:
    """The part of a lineage that reaches an end: without columns that nobody reads."""
    kept: dict[str, Node] = {}
    for end in [n for n in lineage.nodes.values() if n.kind in ENDS]:
        kept[end.id] = end
        kept.update({r.node.id: r.node for r in upstream(lineage, end.id)})
    return _part(lineage, kept)


def _part(lineage: Lineage, kept: Mapping[str, Node]) -> Lineage:
    into = {n: tuple(e for e in lineage.into[n] if e.origin in kept) for n in kept}
    out_of = {n: tuple(e for e in lineage.out_of[n] if e.to in kept) for n in kept}
    return Lineage(kept, into, out_of)


def draw(lineage: Lineage, meant: str = "") -> str:
    """The SVG's text; `meant` is the id of the node to stand out. Names are escaped, nothing is fetched or run."""
    nodes, edges = _folded(lineage)
    places = _layout(list(nodes), [(e.origin, e.to) for e in edges])
    width = max((x for x, _ in places.values()), default=0) * ACROSS + WIDTH + 2 * EDGE
    height = max((y for _, y in places.values()), default=0) * DOWN + HEIGHT + 2 * EDGE
    body = [_edge(e, places) for e in sorted(edges, key=lambda e: e.how == VALUE)]
    body += [_box(node, places[name], name == meant) for name, node in nodes.items()]
    label = f"lineage, {len(nodes)} nodes"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="{label}"><style>{_STYLE}</style>{"".join(body)}</svg>\n'
    )


def _folded(lineage: Lineage) -> tuple[dict[str, Node], list[Edge]]:
    """Without inputs that are a feature under the same name: one box says it."""
    edges = [e for found in lineage.into.values() for e in found]
    folded = {
        f"{INPUT} {n.name}": n.id
        for n in lineage.nodes.values()
        if n.kind == FEATURE and n.made == n.name and f"{INPUT} {n.name}" in lineage.nodes
    }
    nodes = {name: node for name, node in lineage.nodes.items() if name not in folded}
    made: dict[tuple[str, str], Edge] = {}
    for e in edges:
        origin, to = folded.get(e.origin, e.origin), folded.get(e.to, e.to)
        if origin != to and (e.how == VALUE or (origin, to) not in made):
            made[origin, to] = Edge(origin, to, e.how, e.via)
    return nodes, list(made.values())


def _layout(names: Sequence[str], edges: Iterable[tuple[str, str]]) -> dict[Place, tuple[float, float]]:
    """Column and row of each node, and of each place that a long edge is led through."""
    before: dict[Place, list[Place]] = {n: [] for n in names}
    after: dict[Place, list[Place]] = {n: [] for n in names}
    for origin, to in edges:
        before[to].append(origin)
        after[origin].append(to)
    layer = _layers(names, before, after)
    _lead_through(before, after, layer)
    rows: list[list[Place]] = [[] for _ in range(max(layer.values(), default=0) + 1)]
    for place, at in layer.items():
        rows[at].append(place)
    for sweep in range(SWEEPS):
        _sweep(rows if sweep % 2 == 0 else rows[::-1], before if sweep % 2 == 0 else after, rows)
    y = _heights(rows, before)
    least = min(y.values(), default=0.0)
    return {place: (float(at), y[place] - least) for place, at in layer.items()}


def _layers(
    names: Sequence[str], before: Mapping[Place, Sequence[Place]], after: Mapping[Place, Sequence[Place]]
) -> dict[Place, int]:
    """The longest way from the left, then pulled right, next to what a node feeds."""
    left: dict[Place, int] = {n: len(before[n]) for n in names}
    layer: dict[Place, int] = dict.fromkeys(names, 0)
    waiting = [n for n in layer if not left[n]]
    order: list[Place] = []
    while waiting:
        place = waiting.pop()
        order.append(place)
        for other in after[place]:
            layer[other] = max(layer[other], layer[place] + 1)
            left[other] -= 1
            if not left[other]:
                waiting.append(other)
    for place in reversed(order):
        if after[place]:
            layer[place] = min(layer[other] for other in after[place]) - 1
    return layer


def _lead_through(before: dict[Place, list[Place]], after: dict[Place, list[Place]], layer: dict[Place, int]) -> None:
    for origin in list(after):
        for to in list(after[origin]):
            last: Place = origin
            for at in range(layer[origin] + 1, layer[to]):
                step: Place = (str(origin), str(to), at)
                layer[step], before[step], after[step] = at, [last], []
                after[last] = [step if n == to else n for n in after[last]] if last == origin else [step]
                last = step
            if last != origin:
                after[last] = [to]
                before[to] = [last if n == origin else n for n in before[to]]


def _sweep(
    rows: Sequence[list[Place]], beside: Mapping[Place, Sequence[Place]], everything: Sequence[list[Place]]
) -> None:
    at = {place: n for row in everything for n, place in enumerate(row)}
    for row in rows:
        row.sort(key=lambda p: sum(at[o] for o in beside[p]) / len(beside[p]) if beside[p] else at[p])
        at.update({place: n for n, place in enumerate(row)})


def _heights(rows: Sequence[Sequence[Place]], before: Mapping[Place, Sequence[Place]]) -> dict[Place, float]:
    y: dict[Place, float] = {}
    for _ in range(3):
        for row in rows:
            last, was_box = -1.0, True
            for n, place in enumerate(row):
                is_box = isinstance(place, str)
                beside = [y[o] for o in before[place] if o in y]
                want = sum(beside) / len(beside) if beside else float(n)
                last = max(last + _APART[is_box + was_box], want)
                y[place], was_box = last, is_box
    return y


def _edge(edge: Edge, places: Mapping[Place, tuple[float, float]]) -> str:
    led = [p for p in places if isinstance(p, tuple) and p[:2] == (edge.origin, edge.to)]
    through: list[Place] = [*sorted(led, key=lambda p: p[2]), edge.to]
    x, y = _at(places[edge.origin])
    x += WIDTH
    text = f"M{x:.0f},{y:.0f}"
    for place in through:
        x2, y2 = _at(places[place])
        middle = (x + x2) / 2
        text += f"C{middle:.0f},{y:.0f} {middle:.0f},{y2:.0f} {x2:.0f},{y2:.0f}"
        x, y = x2, y2
        if isinstance(place, tuple):
            text += f"h{WIDTH}"
            x += WIDTH
    kind = "edge" if edge.how == VALUE else "edge influence"
    return f'<path class="{kind}" d="{text}"><title>{escape(edge.via or edge.how)}</title></path>'


def _at(place: tuple[float, float]) -> tuple[float, float]:
    return EDGE + place[0] * ACROSS, EDGE + place[1] * DOWN + HEIGHT / 2


def _box(node: Node, place: tuple[float, float], is_meant: bool) -> str:
    x, y = _at(place)
    kind = "box meant" if is_meant else "box end" if node.kind in (FEATURE, MONEY, "action", "label") else "box"
    name = f"rows of {node.name}" if node.kind == ROWS else f"{node.name} as read" if node.kind == "raw" else node.name
    under = ", ".join(filter(None, [node.kind, node.type, node.owner]))
    said = "; ".join(filter(None, [node.made, f"known {node.known}" if node.known else ""]))
    return (
        f'<g transform="translate({x:.0f},{y - HEIGHT / 2:.0f})"><title>{escape(f"{node.id}: {said}")}</title>'
        f'<rect class="{kind}" width="{WIDTH}" height="{HEIGHT}" rx="3"/>'
        f'<text class="name" x="8" y="15">{escape(_cut(name, 26))}</text>'
        f'<text class="sub" x="8" y="28">{escape(_cut(under, 30))}</text></g>'
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
