"""How groups are laid out, worked out by hand."""

from __future__ import annotations

import numpy as np
import torch

from smaug_eval.prefix.layout import PrefixGroup, Span, _tail_mask, pack, pad_rows


def group(prefix: list[int], *tails: list[int], scored_from: int) -> PrefixGroup:
    return PrefixGroup(np.array(prefix, np.int32), tuple(np.array(t, np.int32) for t in tails), scored_from)


PAIR = group([10, 11, 12, 13], [20, 21, 22], [30], scored_from=2)
SHORT = group([40, 41], [], [50, 51], scored_from=1)


def test_a_packed_row_by_hand() -> None:
    layout = pack([PAIR, SHORT])
    # Of each tail all but the last token is fed; positions go on from the prefix.
    assert layout.input_ids.tolist() == [[10, 11, 12, 13, 20, 21, 40, 41, 50]]
    assert layout.position_ids is not None
    assert layout.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 0, 1, 2]]
    # 12 and 13 of the prefix, then the tails, each of whose first tokens follows the prefix's last (3 and 7).
    assert layout.targets.tolist() == [12, 13, 20, 21, 22, 30, 41, 50, 51]
    assert layout.sources.tolist() == [1, 2, 3, 4, 5, 3, 6, 7, 8]
    assert layout.lengths == (2, 3, 1, 1, 0, 2)
    assert layout.spans == (Span(4, (2, 0)), Span(2, (0, 1)))
    assert layout.computed == PAIR.packed_length + SHORT.packed_length == 9


def test_a_prefix_without_tails_leaves_out_its_last_token() -> None:
    alone = group([1, 2, 3], [], scored_from=1)
    layout = pack([alone])
    assert layout.input_ids.tolist() == [[1, 2]]
    assert layout.targets.tolist() == [2, 3]
    assert layout.sources.tolist() == [0, 1]
    assert alone.packed_length == 2


def test_padded_rows_by_hand() -> None:
    layout = pad_rows([PAIR])
    assert layout.input_ids.tolist() == [[10, 11, 12, 13, 20, 21], [10, 11, 12, 13, 0, 0]]
    assert layout.position_ids is None
    assert layout.targets.tolist() == [12, 13, 20, 21, 22, 12, 13, 30]
    assert layout.sources.tolist() == [1, 2, 3, 4, 5, 7, 8, 9]
    assert layout.lengths == (5, 3)


def test_tails_see_their_prefix_and_themselves() -> None:
    mask = _tail_mask(Span(2, (2, 1)), None, torch.device("cpu"))
    assert mask is not None
    assert mask.int().tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 1]]
    # A window of 2 tokens: itself and the one before, across the seam.
    windowed = _tail_mask(Span(2, (2, 1)), 2, torch.device("cpu"))
    assert windowed is not None
    assert windowed.int().tolist() == [[0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 1, 0, 0, 1]]
    assert _tail_mask(Span(5, (0, 0)), None, torch.device("cpu")) is None
