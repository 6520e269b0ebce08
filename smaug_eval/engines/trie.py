"""Build prefix trees of texts that begin alike, and cut them into rows of a forward pass.

Sorted texts stand beside those that share most with them: what a text adds to a row is what it does not share with the
text before it, and where a row ends and the next begins, what the two texts share is computed again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from smaug_eval.prefix.layout import PrefixTree, TokenIds

FEWEST_SAVED = 8
"""Tokens whose saving is worth a node: computing fewer again takes less time than another call of attention."""
REPEATED = 0.08
"""Share of a row that may be computed again in the next one."""


@dataclass(frozen=True)
class Text:
    """Hold a text of which the last tokens are scored.

    Attributes:
        ids: Its tokens, at least two.
        scored: How many of the last ones are scored, at least one, at most all but the first.
    """

    ids: TokenIds
    scored: int


@dataclass(frozen=True)
class Forest:
    """Hold trees of some texts, and where each text is found in their scored tokens.

    Attributes:
        trees: The trees.
        places: For each text the indices of its scored tokens among those of all trees' nodes in order.
    """

    trees: tuple[PrefixTree, ...]
    places: tuple[npt.NDArray[np.int64], ...]


@dataclass(eq=False)
class _TrieNode:
    """Tokens ``start`` to ``end`` of a text, behind those of the parent."""

    ids: TokenIds
    start: int
    end: int
    parent: _TrieNode | None
    children: list[_TrieNode] = field(default_factory=list)
    ending: list[int] = field(default_factory=list)
    scored_from: int = 0  # counted from the beginning of the text
    index: int = 0  # in its tree
    first: int = 0  # index of its first scored token among those of all trees


def sort_key(ids: TokenIds) -> bytes:
    """Return a key that sorts texts by their tokens, so that those that begin alike stand together."""
    return ids.astype(">u4").tobytes()


def common_length(one: TokenIds, other: TokenIds) -> int:
    """Return how many tokens two texts share at their beginning."""
    size = min(len(one), len(other))
    differing = np.flatnonzero(one[:size] != other[:size])
    return int(differing[0]) if len(differing) else size


def unique_tokens(texts: Sequence[Text], shared: Sequence[int]) -> int:
    """Count the tokens that any scorer must feed to the model.

    These are the distinct beginnings of texts that a further token follows.

    Args:
        texts: Sorted by :func:`sort_key`, without repetitions.
        shared: From :func:`shared_lengths`.
    """
    return sum(_added(texts, shared, index) for index in range(len(texts)))


def shared_lengths(texts: Sequence[Text]) -> list[int]:
    """Return how many tokens each text shares with the one before it; 0 for the first."""
    lengths = [common_length(one.ids, other.ids) for one, other in itertools.pairwise(texts)]
    return [0, *lengths] if texts else []


def _added(texts: Sequence[Text], shared: Sequence[int], index: int) -> int:
    # The last token of a text is fed where another text continues behind it.
    continues = index > 0 and shared[index] == len(texts[index - 1].ids)
    return len(texts[index].ids) - 1 - shared[index] + continues


def cut_rows(texts: Sequence[Text], shared: Sequence[int], tokens: int, most: int, start: int = 0) -> Iterator[range]:
    """Cut sorted texts into rows.

    A row ends when it has ``tokens`` tokens and cutting there costs little, and in any case before ``most``.

    Args:
        texts: Sorted by :func:`sort_key`, without repetitions.
        shared: From :func:`shared_lengths`.
        tokens: Tokens of a row.
        most: Tokens that a row never exceeds, unless one text does.
        start: The first text to take.
    """
    first, filled = start, 0
    for index in range(start, len(texts)):
        added = _added(texts, shared, index)
        cheap = filled >= tokens and shared[index] <= REPEATED * filled
        if index > first and (cheap or filled + added > most):
            yield range(first, index)
            first, filled = index, 0
        filled += len(texts[index].ids) - 1 if index == first else added
    if first < len(texts):
        yield range(first, len(texts))


def grow(texts: Sequence[Text], fewest: int = FEWEST_SAVED) -> Forest:
    """Build the prefix trees of sorted texts.

    Args:
        texts: Sorted by :func:`sort_key`, without repetitions.
        fewest: Tokens that a node must save; what other nodes share is computed for each of them.
    """
    roots: list[_TrieNode] = []
    last: _TrieNode | None = None  # where the text before ends
    for number, text in enumerate(texts):
        shared = common_length(texts[number - 1].ids, text.ids) if number else 0
        branch = _branch(last, shared) if last and shared else None
        last = _TrieNode(text.ids, branch.end if branch else 0, len(text.ids), branch, ending=[number])
        (branch.children if branch else roots).append(last)
    ends: dict[int, _TrieNode] = {}
    orders = [_in_order(kept) for root in roots for kept in _worthwhile(root, fewest)]
    for order in orders:
        for node in order:
            node.scored_from = node.end
            ends.update(dict.fromkeys(node.ending, node))
    for number, text in enumerate(texts):
        _mark(ends[number], len(text.ids) - text.scored)
    trees, first = [], 0
    for order in orders:
        for index, node in enumerate(order):
            node.index, node.first = index, first
            first += node.end - node.scored_from
        trees.append(_tree(order))
    places = (_places(ends[number], len(text.ids) - text.scored) for number, text in enumerate(texts))
    return Forest(tuple(trees), tuple(places))


def _branch(node: _TrieNode, shared: int) -> _TrieNode:
    """The node behind which a text continues that shares ``shared`` tokens with the one that ends in ``node``."""
    while node.parent is not None and node.start >= shared:
        node = node.parent
    if shared < node.end:
        lower = _TrieNode(node.ids, shared, node.end, node, node.children, node.ending)
        for child in lower.children:
            child.parent = lower
        node.end, node.children, node.ending = shared, [lower], []
    return node


def _worthwhile(root: _TrieNode, fewest: int) -> list[_TrieNode]:
    """The tree without nodes that save less than ``fewest`` tokens, as one tree or, without its root, as several."""
    roots: list[_TrieNode] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        uses = len(node.children) + bool(node.ending)
        siblings = node.parent.children if node.parent else roots
        waiting += node.children[::-1]
        if not node.children or (node.end - node.start) * (uses - 1) >= fewest:
            siblings.append(node)
        else:
            for child in node.children:
                child.start, child.parent = node.start, node.parent
            if node.ending:
                siblings.append(node)
        node.children = []
    return roots


def _in_order(root: _TrieNode) -> list[_TrieNode]:
    """Pre-order, a node's leaves before its other children."""
    order, waiting = [], [root]
    while waiting:
        node = waiting.pop()
        order.append(node)
        waiting += sorted(node.children, key=lambda child: bool(child.children))[::-1]
    return order


def _mark(end: _TrieNode, scored_from: int) -> None:
    node: _TrieNode | None = end
    while node is not None and node.end > scored_from:
        node.scored_from = min(node.scored_from, max(scored_from, node.start))
        node = node.parent


def _tree(order: Sequence[_TrieNode]) -> PrefixTree:
    return PrefixTree(
        tuple(node.ids[node.start : node.end] for node in order),
        tuple(-1 if node.parent is None else node.parent.index for node in order),
        tuple(node.scored_from - node.start for node in order),
    )


def _places(end: _TrieNode, scored_from: int) -> npt.NDArray[np.int64]:
    pieces = []
    node: _TrieNode | None = end
    while node is not None and node.end > scored_from:
        begin = max(scored_from, node.start) - node.scored_from
        pieces.append(np.arange(node.first + begin, node.first + node.end - node.scored_from))
        node = node.parent
    return np.concatenate(pieces[::-1])
