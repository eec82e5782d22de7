"""Columns of rows through trees, all rows at once and each tree by its columns: the leaves, and their sums.

Where a row goes right at a node, the leaves on the node's left are struck off its list, a bit each; the leftmost that
remains is the row's (QuickScorer, Lucchese et al. 2015). What all nodes of a tree that ask the same
column strike off together depends only on between which of the model's cuts a value lies. So a value is placed among
the cuts once for all trees, and a tree costs each row one look into a small table per column, not one test per node.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SHARE = 16_384  # rows walked at a time: their columns stay near
BITS = 32  # leaves in a word
_ALL = (1 << BITS) - 1


@dataclass(frozen=True)
class _Asked:
    """A column as trees ask of it: by its sorted `cuts`, or (null) by sets of its level codes."""

    feature: int
    cuts: Array | None
    size: int

    @cached_property
    def place_of(self) -> dict[float, int]:
        """The place of each cut among them."""
        return {} if self.cuts is None else {cut: n for n, cut in enumerate(self.cuts.tolist())}

    def places(self, values: Array) -> Array:
        """Each row's place in a table: among the cuts, or its code from 0; the last is null, or in no set."""
        if self.cuts is None:
            made: Array = values.astype(np.intp) + 1
            return made
        made = np.searchsorted(self.cuts, values, side="left")
        made[np.isnan(values)] = self.size - 1
        return made


@dataclass(frozen=True)
class _Tree:
    """The worth of its leaves from left to right; by word of BITS leaves what each asked column leaves of them."""

    values: Array
    words: tuple[tuple[tuple[int, Array], ...], ...]


@dataclass(frozen=True)
class _Node:
    feature: int
    cut: float | list[int]
    null_left: bool
    first: int
    last: int


def sum_of_trees(trees: Sequence[Any], columns: Sequence[Array]) -> Array:
    """The sum of the leaves that each row falls into, tree by tree: doubles, NaN for null, level codes from -1."""
    total = np.zeros(len(columns[0]))

    def walk(at: int, found: Iterator[tuple[_Tree, Array]]) -> None:
        for tree, leaf in found:
            total[at : at + SHARE] += tree.values[leaf]

    _walk(trees, columns, walk)
    return total


def leaves_of_trees(trees: Sequence[Any], columns: Sequence[Array]) -> Array:
    """Which leaf of each tree each row falls into, counted from the left: integers, rows × trees."""
    leaves = np.zeros((len(columns[0]), len(trees)), dtype=np.int16)

    def walk(at: int, found: Iterator[tuple[_Tree, Array]]) -> None:
        for n, (_, leaf) in enumerate(found):
            leaves[at : at + SHARE, n] = leaf

    _walk(trees, columns, walk)
    return leaves


def _walk(
    trees: Sequence[Any], columns: Sequence[Array], walk: Callable[[int, Iterator[tuple[_Tree, Array]]], None]
) -> None:
    """Calls `walk` for each share of the rows, on all cores: with where it begins and its leaves, tree by tree."""
    asked, made = _tables_of(_Same(trees))

    def one(at: int) -> None:
        places = [a.places(columns[a.feature][at : at + SHARE]) for a in asked]
        looked = np.empty(len(columns[0][at : at + SHARE]), dtype=np.uint32)
        walk(at, ((tree, _leaf_of(tree, places, looked)) for tree in made))

    shares = range(0, len(columns[0]), SHARE)
    if len(shares) < 2:
        for at in shares:
            one(at)
        return
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(one, shares):
            pass


def _leaf_of(tree: _Tree, places: Sequence[Array], looked: Array) -> Array:
    found = np.zeros(len(looked), dtype=np.intp)
    for word in reversed(range(len(tree.words))):
        left = np.full(len(looked), _ones(min(BITS, len(tree.values) - word * BITS)), dtype=np.uint32)
        for column, table in tree.words[word]:
            # a code that no set names is beyond the table: clipped to its last place
            left &= np.take(table, places[column], out=looked, mode="clip")
        # the exponent of a power of two says which bit it is
        lowest = ((left & -left).astype(np.float32).view(np.int32) >> 23) - 127
        found = np.where(left > 0, word * BITS + lowest, found)
    return found


class _Same:
    """Trees as a key: equal if they are the very same list."""

    def __init__(self, trees: Sequence[Any]) -> None:
        self.trees = trees

    def __hash__(self) -> int:
        return id(self.trees)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.trees is other.trees


@lru_cache(maxsize=2)  # a case scores with one bundle, and with another that it tries, again and again
def _tables_of(held: _Same) -> tuple[list[_Asked], list[_Tree]]:
    return _tables(held.trees)


def _tables(trees: Sequence[Any]) -> tuple[list[_Asked], list[_Tree]]:
    """The columns as they are asked of, and for each tree what every place of each leaves of its leaves."""
    flat: list[tuple[list[float], list[_Node]]] = []
    for tree in trees:
        values: list[float] = []
        nodes: list[_Node] = []
        _spread(tree, values, nodes)
        flat.append((values, nodes))
    asked = _asked([node for _, nodes in flat for node in nodes])
    number = {(a.feature, a.cuts is None): n for n, a in enumerate(asked)}
    return asked, [_tree(values, nodes, asked, number) for values, nodes in flat]


def _asked(nodes: Sequence[_Node]) -> list[_Asked]:
    cuts: dict[int, set[float]] = {}
    most: dict[int, int] = {}
    for node in nodes:
        if isinstance(node.cut, list):
            most[node.feature] = max(most.get(node.feature, -1), *node.cut)
        else:
            cuts.setdefault(node.feature, set()).add(node.cut)
    return [_Asked(f, np.array(sorted(of)), len(of) + 2) for f, of in cuts.items()] + [
        _Asked(f, None, code + 3) for f, code in most.items()
    ]


def _tree(
    values: list[float], nodes: Sequence[_Node], asked: Sequence[_Asked], number: dict[tuple[int, bool], int]
) -> _Tree:
    words: list[dict[int, Array]] = [{} for _ in range(-(-len(values) // BITS))]
    for node in nodes:
        column = number[node.feature, isinstance(node.cut, list)]
        of = asked[column]
        for word in range(node.first // BITS, (node.last - 1) // BITS + 1):
            low, high = max(node.first - word * BITS, 0), min(node.last - word * BITS, BITS)
            if column not in words[word]:
                words[word][column] = np.full(of.size, _ALL, dtype=np.uint32)
            _strike(words[word][column], of, node, np.uint32(_ALL ^ (_ones(high - low) << low)))
    return _Tree(np.array(values), tuple(tuple(tables.items()) for tables in words))


def _strike(table: Array, of: _Asked, node: _Node, left: np.uint32) -> None:
    """Keeps only `left` where a row goes right: at the places above the cut, or in none of its levels."""
    if isinstance(node.cut, list):
        right = np.ones(of.size, dtype=bool)
        right[np.asarray(node.cut, dtype=np.intp) + 1] = False
        table[right] &= left
        return
    table[of.place_of[node.cut] + 1 : -1] &= left
    if not node.null_left:
        table[-1] &= left


def _ones(n: int) -> int:
    return (1 << n) - 1


def _spread(node: Any, values: list[float], nodes: list[_Node]) -> None:
    """A tree as its leaves from left to right, and its nodes with the span of leaves on their left."""
    if not isinstance(node, list):
        values.append(float(node))
        return
    feature, cut, null_left, left, right = node
    first = len(values)
    _spread(left, values, nodes)
    nodes.append(_Node(int(feature), cut, bool(null_left), first, len(values)))
    _spread(right, values, nodes)
