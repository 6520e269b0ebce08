"""Prefix trees of texts: worked out by hand, and against plain forward passes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from smaug_eval.engines.trie import Forest, Text, cut_rows, grow, shared_lengths, sort_key, unique_tokens
from smaug_eval.prefix.layout import PrefixTree, Span, _block_mask, pack_trees
from smaug_eval.prefix.scorer import Way, scoring

VOCABULARY = 11
SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}


def text(*ids: int, scored: int = 1) -> Text:
    return Text(np.array(ids, np.int32), scored)


def listed(tree: PrefixTree) -> list[list[int]]:
    return [node.tolist() for node in tree.nodes]


# A question with three answers, one of which begins like another's; a second text that goes on behind an answer.
TEXTS = [
    text(1, 2, 3, 4, 5, scored=2),
    text(1, 2, 3, 4, 6, 7, scored=2),
    text(1, 2, 3, 8, scored=1),
    text(1, 2, 3, 8, 9, 9, scored=2),
    text(5, 5, scored=1),
]


def test_trees_by_hand() -> None:
    forest = grow(TEXTS, fewest=1)
    first, second = forest.trees
    assert listed(first) == [[1, 2, 3], [4], [5], [6, 7], [8], [9, 9]]
    assert first.parents == (-1, 0, 1, 1, 0, 4)
    # Scored: 4 5, 6 7, 8, 9 9.
    assert first.scored_from == (3, 0, 0, 0, 0, 0)
    assert first.fed == [3, 1, 0, 1, 1, 1]
    assert first.packed_length == 7
    assert (listed(second), second.fed, second.scored_from) == ([[5, 5]], [1], (1,))
    assert [places.tolist() for places in forest.places] == [[0, 1], [2, 3], [4], [5, 6], [7]]


def test_a_tree_in_a_packed_row_by_hand() -> None:
    layout = pack_trees(grow(TEXTS, fewest=1).trees)
    assert layout.input_ids.tolist() == [[1, 2, 3, 4, 6, 8, 9, 5]]
    assert layout.position_ids is not None
    assert layout.position_ids.tolist() == [[0, 1, 2, 3, 4, 3, 4, 0]]
    assert layout.targets.tolist() == [4, 5, 6, 7, 8, 9, 9, 5]
    assert layout.sources.tolist() == [2, 3, 3, 4, 2, 5, 6, 7]
    assert layout.spans == (Span(3, ()), Span(1, (0, 1), (0,), 3), Span(1, (1,), (0,), 3), Span(1, ()))


def test_few_shared_tokens_are_computed_again() -> None:
    (tree, _) = grow(TEXTS, fewest=2).trees
    assert sorted(listed(tree)) == [[1, 2, 3], [4, 5], [4, 6, 7], [8], [8, 9, 9]]
    assert tree.parents == (-1, 0, 0, 0, 0)


def test_a_root_that_saves_little_is_no_root() -> None:
    """As the BOS that all texts begin with."""
    forest = grow([text(1, 2, 2), text(1, 3, 3), text(1, 4)], fewest=3)
    assert sorted(tree.nodes[0].tolist() for tree in forest.trees) == [[1, 2, 2], [1, 3, 3], [1, 4]]


def test_unique_tokens_and_rows_by_hand() -> None:
    shared = shared_lengths(TEXTS)
    assert shared == [0, 4, 3, 4, 0]
    assert unique_tokens(TEXTS, shared) == 8
    # Cutting after the second text would compute 3 tokens of 5 again.
    assert list(cut_rows(TEXTS, shared, tokens=1, most=100)) == [range(4), range(4, 5)]
    assert list(cut_rows(TEXTS, shared, tokens=100, most=5)) == [range(3), range(3, 4), range(4, 5)]
    assert list(cut_rows(TEXTS, shared, tokens=100, most=1)) == [range(index, index + 1) for index in range(5)]
    assert list(cut_rows([], [], tokens=1, most=1)) == []


def test_flex_attention_sees_ancestors_and_earlier_tokens_of_the_own_node() -> None:
    layout = pack_trees(grow(TEXTS, fewest=1).trees)
    mask = _block_mask(layout.spans, "cpu").mask_mod
    zero = torch.tensor(0)
    places = range(8)
    sees = [[int(mask(zero, zero, torch.tensor(q), torch.tensor(k))) for k in places] for q in places]
    assert sees == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 1, 0, 0],
        [1, 1, 1, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 1],
    ]


@st.composite
def texts(draw: st.DrawFn) -> list[Text]:
    """Texts that share beginnings of any length: each is a beginning of one before it, and something new."""
    ids: dict[bytes, Text] = {}
    known: list[list[int]] = [[]]
    for _ in range(draw(st.integers(1, 12))):
        before = draw(st.sampled_from(known))
        kept = before[: draw(st.integers(0, len(before)))]
        new = draw(st.lists(st.integers(0, VOCABULARY - 1), min_size=0 if len(kept) > 1 else 2, max_size=8))
        whole = (kept + new)[:40]
        known.append(whole)
        array = np.array(whole, np.int32)
        ids[sort_key(array)] = Text(array, draw(st.integers(1, len(whole) - 1)))
    return [ids[key] for key in sorted(ids)]


def rebuilt(forest: Forest) -> list[list[int]]:
    """The scored tokens of each text, read back through its places."""
    targets = [token for tree in forest.trees for node, first in zip(tree.nodes, tree.scored_from, strict=True)
               for token in node[first:].tolist()]  # fmt: skip
    return [[targets[place] for place in places] for places in forest.places]


@given(texts(), st.integers(1, 5))
def test_every_text_finds_its_scored_tokens(drawn: list[Text], fewest: int) -> None:
    forest = grow(drawn, fewest)
    assert rebuilt(forest) == [each.ids[-each.scored :].tolist() for each in drawn]
    beginnings = {tuple(each.ids[:size].tolist()) for each in drawn for size in range(1, len(each.ids))}
    assert unique_tokens(drawn, shared_lengths(drawn)) == len(beginnings)
    computed = sum(tree.packed_length for tree in forest.trees)
    assert len(beginnings) <= computed <= sum(len(each.ids) - 1 for each in drawn)
    assert pack_trees(forest.trees).computed == computed
    if fewest == 1:
        assert computed == len(beginnings)


@given(texts(), st.integers(1, 60), st.integers(1, 80))
def test_rows_hold_every_text_once_and_keep_to_their_budget(drawn: list[Text], tokens: int, most: int) -> None:
    rows = list(cut_rows(drawn, shared_lengths(drawn), tokens, most))
    assert [index for row in rows for index in row] == list(range(len(drawn)))
    assert all(one.stop == other.start for one, other in pairwise(rows))
    for row in rows:
        computed = sum(tree.packed_length for tree in grow([drawn[index] for index in row], fewest=1).trees)
        assert len(row) == 1 or computed <= most


MODELS: dict[str, hf.PreTrainedConfig] = {
    "llama": hf.LlamaConfig(**SMALL, **HEADS),
    "mistral": hf.MistralConfig(**SMALL, **HEADS, sliding_window=5),
    "gpt2": hf.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128),
}
_models: dict[str, PreTrainedModel] = {}


def model_of(name: str) -> PreTrainedModel:
    if name not in _models:
        torch.manual_seed(0)
        model = hf.AutoModelForCausalLM.from_config(MODELS[name]).eval()
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.data.mul_(4)
        _models[name] = model
    return _models[name]


@pytest.mark.parametrize("name", list(MODELS))
@settings(max_examples=25)
@given(drawn=texts(), fewest=st.integers(1, 4), leaf_tokens=st.sampled_from([1, 4, 256]))
def test_trees_give_the_numbers_of_plain_passes(name: str, drawn: list[Text], fewest: int, leaf_tokens: int) -> None:
    model = model_of(name)
    forest = grow(drawn, fewest)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad(), scoring(model) as scorer:
        assert scorer.way is Way.PACKED
        patch.setattr("smaug_eval.prefix.layout.LEAF_TOKENS", leaf_tokens)
        log_probs, greedy = scorer.answers(model, scorer.tree_layout(forest.trees))
    for each, places in zip(drawn, forest.places, strict=True):
        ids = torch.from_numpy(each.ids).long()
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0, :-1][-each.scored :]
        targets = ids[-each.scored :]
        expected = torch.log_softmax(logits.float(), dim=-1).gather(1, targets[:, None]).squeeze(1)
        torch.testing.assert_close(log_probs[places], expected, atol=1e-4, rtol=0)
        best = logits.topk(2).values
        clear = best[:, 0] - best[:, 1] > 1e-3
        assert (greedy[places] == (logits.argmax(dim=-1) == targets))[clear].all()


def test_a_model_without_packed_rows_takes_no_trees() -> None:
    model = model_of("llama")
    with scoring(model, share=False) as scorer, pytest.raises(ValueError, match="sharing is switched off"):
        scorer.tree_layout(grow(TEXTS).trees)
