"""Many rows through our trees at once, by LightGBM's own walk: the same sums to the last bit, several times faster.

Our trees are written in LightGBM's text form (v4) and read back by it. It decides `value <= cut`
and sums leaves tree by tree in doubles as `scorer` does; the tests compare every bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from underhood.build.booster import Booster

Array = np.ndarray[Any, Any]

_CATEGORICAL, _DEFAULT_LEFT, _NAN = 1, 2, 8  # bits of a node's decision type: what LightGBM's tree.h names
_BITS = 32
_ZERO = 1e-35  # LightGBM's kZeroThreshold
ROUNDS = 60  # trees of a foretold number: enough for a tenth of a second
FIRST, HINT = 10, 0.2  # trees that show whether more are worth it, by this share of what all must explain
SOME = 4_000  # rows on which that is seen
SHARE = 250_000  # rows laid side by side at a time: memory does not grow with all of them


def tree_sums(trees: Sequence[Any], columns: Sequence[Array]) -> Array:
    """The sum of the leaves that each row falls into: `columns` are doubles, NaN for null, level codes from -1."""
    shares = [slice(at, at + SHARE) for at in range(0, len(columns[0]), SHARE)]
    with Booster() as booster:
        booster.read(_text(trees, len(columns)))
        return np.concatenate([booster.sums(np.column_stack([c[s] for c in columns]), is_raw=True) for s in shares])


def foretold(
    columns: Sequence[Array], texts: Sequence[int], learned: Array, held: Array, target: Array, least: float
) -> Array | None:
    """What every row should have of a number, by trees that learn it from the rows numbered `learned`: least squares.

    `columns` are numbers with NaN for null; those numbered in `texts` hold codes of levels.
    Null if the others say too little: if of the variance in the rows numbered `held` less than `least` is explained, or
    next to nothing after the first trees. The same rows give the same answer: one thread learns, with a fixed seed.
    """
    given = {"objective": "l2", "num_leaves": 31, "min_data_in_leaf": 20, "seed": 0, "deterministic": True}
    given |= {"verbose": -1, "num_threads": 1}
    some = held[np.linspace(0, len(held) - 1, min(len(held), SOME)).astype(int)]
    with Booster() as booster:
        booster.learn(_side_by_side(columns, learned), target[learned], texts, given)
        for rounds, enough in ((FIRST, least * HINT), (ROUNDS - FIRST, least)):
            booster.grow(rounds)
            if explained(target[some], booster.sums(_side_by_side(columns, some), threads=1)) < enough:
                return None
        return booster.sums(_side_by_side(columns))


def _side_by_side(columns: Sequence[Array], rows: Array | slice = slice(None)) -> Array:
    """The chosen rows of each column, one row a row."""
    made: Array = np.column_stack([c[rows] for c in columns]).astype(float)
    return made


def explained(values: Array, told: Array) -> float:
    """The share of the variance of values that is explained by what was told of them; below 0 if that is worse."""
    return 1 - float(np.mean((values - told) ** 2) / max(np.var(values), 1e-12))


def can_sum(columns: Sequence[Array]) -> bool:
    """Whether LightGBM sees these values as they are: it takes what is nearer to 0 than 1e-35 for 0."""
    return not any(bool(((c != 0) & (np.abs(c) <= _ZERO)).any()) for c in columns)


def _text(trees: Sequence[Any], n_columns: int) -> str:
    names = " ".join(f"x{i}" for i in range(n_columns))
    head = [
        *("tree", "version=v4", "num_class=1", "num_tree_per_iteration=1", "label_index=0"),
        *(f"max_feature_idx={n_columns - 1}", f"feature_names={names}"),
        f"feature_infos={' '.join(['none'] * n_columns)}",
    ]
    return "\n".join([*head, "", *(_tree(n, t) for n, t in enumerate(trees)), "end of trees", "", "parameters:", ""])


def _tree(number: int, tree: Any) -> str:
    nodes: list[list[Any]] = []
    leaves: list[float] = []
    sets: list[list[int]] = []

    def place(node: Any) -> int:
        """Where a node stands: inner nodes from 0, leaves from -1 downwards."""
        if not isinstance(node, list):
            leaves.append(float(node))
            return -len(leaves)
        feature, cut, null_left, left, right = node
        mine: list[Any] = [int(feature), cut, _NAN | (_DEFAULT_LEFT if null_left else 0), 0, 0]
        nodes.append(mine)
        at = len(nodes) - 1
        if isinstance(cut, list):
            sets.append([int(c) for c in cut])
            mine[1], mine[2] = float(len(sets) - 1), _CATEGORICAL | _NAN
        mine[3], mine[4] = place(left), place(right)
        return at

    place(tree)
    columns = [" ".join(repr(v) if isinstance(v, float) else str(v) for v in each) for each in zip(*nodes, strict=True)]
    named = zip(("split_feature", "threshold", "decision_type", "left_child", "right_child"), columns, strict=False)
    lines = [f"Tree={number}", f"num_leaves={len(leaves)}", f"num_cat={len(sets)}"]
    lines += [f"{name}={values}" for name, values in named]
    lines.append(f"leaf_value={' '.join(map(repr, leaves))}")
    if sets:
        words = [_bitset(each) for each in sets]
        ends = np.cumsum([0, *map(len, words)]).tolist()
        lines.append(f"cat_boundaries={' '.join(map(str, ends))}")
        lines.append(f"cat_threshold={' '.join(str(w) for each in words for w in each)}")
    return "\n".join([*lines, "is_linear=0", "shrinkage=1", "", ""])


def _bitset(codes: Sequence[int]) -> list[int]:
    words = [0] * (max(codes, default=0) // _BITS + 1)
    for code in codes:
        words[code // _BITS] |= 1 << (code % _BITS)
    return words
