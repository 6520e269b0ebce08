"""What vLLM is asked, worked out by hand, and against something that caches blocks and tells as much as vLLM does."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smaug_eval.engines.trie import Text, shared_lengths, sort_key, unique_tokens
from smaug_eval.engines.vllm_plan import MOST_CHOSEN, Prompt, Told, ask_again, plan, score, told_by


def text(*ids: int, scored: int = 1) -> Text:
    return Text(np.array(ids, np.int32), scored)


def planned(*texts: Text) -> list[list[tuple[int, int, tuple[int, ...]]]]:
    """Of each text the prompts: tokens fed, first own token wanted, chosen tokens."""
    return [
        [(prompt.fed, prompt.first, prompt.chosen) for prompt in prompts]
        for prompts in plan(texts, shared_lengths(texts))
    ]


def log_prob(ids: Sequence[int], place: int) -> float:
    """Anything that depends on a token and all before it, and that a float32 holds."""
    return zlib.crc32(np.array(ids[: place + 1], np.int32).tobytes()) % 1000 / 8


def is_greedy(ids: Sequence[int], place: int) -> bool:
    return log_prob(ids, place) > 60


class Blocks:
    """Stands for vLLM: a cache of whole blocks, and nothing told of the tokens that come from it."""

    def __init__(self, size: int, deaf: bool = False) -> None:
        self.size, self.deaf = size, deaf
        self.cache: set[bytes] = set()
        self.asked: list[Prompt] = []
        self.computed = 0
        self._queue: list[tuple[Prompt, list[int]]] = []

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def ask(self, prompt: Prompt, ids: list[int]) -> None:
        assert len(ids) == prompt.fed >= 1
        assert len(prompt.chosen) <= MOST_CHOSEN
        self.asked.append(prompt)
        self._queue.append((prompt, ids))

    def answers(self) -> list[tuple[Prompt, list[Told]]]:
        """Of the next few prompts, so that a text's are not all answered together."""
        now, self._queue = self._queue[:3], self._queue[3:]
        return [(prompt, self._answer(prompt, ids)) for prompt, ids in now]

    def _answer(self, prompt: Prompt, ids: list[int]) -> list[Told]:
        blocks = [np.array(ids[:end], np.int32).tobytes() for end in range(self.size, len(ids) + 1, self.size)]
        cached = 0
        while prompt.cached and cached < len(ids) - self.size and blocks[cached // self.size] in self.cache:
            cached += self.size
        self.cache.update(blocks)
        self.computed += len(ids) - cached
        told: list[Told] = []
        if not self.deaf:
            longer = [[*ids, token] for token in prompt.chosen]
            told = [(len(ids), each[-1], log_prob(each, len(ids)), is_greedy(each, len(ids))) for each in longer]
        return told + self._told_of_own(prompt, ids, cached)

    def _told_of_own(self, prompt: Prompt, ids: list[int], cached: int) -> list[Told]:
        own = range(max(prompt.first, cached + 1), len(ids))
        return [(place, ids[place], log_prob(ids, place), is_greedy(ids, place)) for place in own]


class StaleBlocks(Blocks):
    """The same, whose answers have rows of cached tokens too, with ``planted`` in them, and are read as vLLM's are."""

    planted, planted_rows = 1e20, 0

    def _told_of_own(self, prompt: Prompt, ids: list[int], cached: int) -> list[Told]:
        rows: Any = SimpleNamespace(start_indices=[0], end_indices=[0], token_ids=[], logprobs=[])
        for place in range(1, len(ids)):
            stale = place <= cached
            own = self.planted if stale else log_prob(ids, place)
            likeliest = own if stale or is_greedy(ids, place) else own + 1
            self.planted_rows += stale and place >= prompt.first
            rows.start_indices.append(len(rows.logprobs))
            rows.token_ids += [ids[place], -1]
            rows.logprobs += [own, likeliest]
            rows.end_indices.append(len(rows.logprobs))
        behind = SimpleNamespace(token_ids=[0], logprobs=[{0: SimpleNamespace(logprob=0.0)}])
        output: Any = SimpleNamespace(
            outputs=[behind], prompt_token_ids=ids, prompt_logprobs=_Rows(**vars(rows)), num_cached_tokens=cached
        )
        return told_by(Prompt(prompt.text, prompt.fed, prompt.first, (), prompt.cached), output)


class _Rows(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.start_indices)


def test_a_context_is_asked_once_with_the_first_tokens_of_its_continuations() -> None:
    assert planned(text(1, 2, 3, 7), text(1, 2, 3, 8), text(1, 2, 3, 9)) == [[(3, 3, (7, 8, 9))], [], []]


def test_longer_continuations_are_asked_for_what_is_left_of_them() -> None:
    found = planned(text(1, 2, 3, 7, 8, scored=2), text(1, 2, 3, 8, 4, 5, scored=3), text(1, 2, 3, 9))
    # Of 7 8 the 8 is told behind 1 2 3 7; of 8 4 5 the 4 within and the 5 behind 1 2 3 8 4.
    assert found == [[(3, 3, (7, 8, 9)), (4, 4, (8,))], [(5, 4, (5,))], []]


def test_a_continuation_that_begins_like_another_goes_on_where_it_differs() -> None:
    found = planned(text(1, 2, 7, 8, 3, 4, scored=4), text(1, 2, 7, 8, 5, 6, scored=4))
    # The one continuation of a short context is asked with it; the other's 5 within 1 2 7 8 5, its 6 behind.
    assert found == [[(5, 2, (4,))], [(5, 4, (6,))]]


def test_texts_that_differ_in_their_last_token_are_told_behind_one_prompt() -> None:
    assert planned(text(1, 2, 3, 4, scored=2), text(1, 2, 3, 5, scored=2)) == [[(3, 2, (4, 5))], []]


def test_a_long_context_is_asked_by_itself_for_a_single_continuation() -> None:
    ids = range(100)
    assert planned(text(*ids, scored=3)) == [[(97, 97, (97,)), (99, 98, (99,))]]


def test_more_first_tokens_than_vllm_tells_are_asked_for_in_several_prompts() -> None:
    texts = [text(1, token) for token in range(300)]
    asked = [prompts[0][2] for prompts in planned(*texts) if prompts]
    assert [len(tokens) for tokens in asked] == [128, 128, 44]
    assert [token for tokens in asked for token in tokens] == list(range(300))


def test_few_missing_tokens_are_asked_for_one_by_one_and_many_without_the_cache() -> None:
    whole = text(*range(20), scored=10)
    assert ask_again(whole, 5, [12, 13]) == [Prompt(5, 12, 12, (12,)), Prompt(5, 13, 13, (13,))]
    assert ask_again(whole, 5, list(range(11, 17))) == [Prompt(5, 19, 11, (19,), cached=False)]


def test_what_is_never_told_ends_the_work() -> None:
    with pytest.raises(RuntimeError, match="returned nothing for tokens"):
        list(score(Blocks(4, deaf=True), [text(1, 2, 3)]))


@st.composite
def branching(draw: st.DrawFn) -> list[Text]:
    """Texts that go on from beginnings of others, the blocks' borders among the places."""
    whole: list[list[int]] = [[0]]
    for _ in range(draw(st.integers(1, 12))):
        parent = draw(st.sampled_from(whole))
        borders = [place for place in [0, 4, 8, 12, 16, 20] if place <= len(parent)] or [len(parent)]
        end = draw(st.sampled_from(borders) | st.integers(0, len(parent)))
        whole.append(parent[:end] + draw(st.lists(st.integers(0, 3), min_size=0 if end else 1, max_size=9)))
    texts = {sort_key(np.array(ids, np.int32)): ids for ids in whole if len(ids) > 1}
    return [text(*ids, scored=draw(st.integers(1, len(ids) - 1))) for _, ids in sorted(texts.items())]


@given(texts=branching(), size=st.sampled_from([1, 4, 16]), twice=st.booleans())
def test_every_token_is_told_rightly_whatever_texts_share(texts: list[Text], size: int, twice: bool) -> None:
    blocks = Blocks(size)
    for _ in range(1 + twice):  # the second time all of them are in the cache
        found = [answer for chunk in score(blocks, texts) for answer in chunk]
        assert [index for index, _, _ in found] == list(range(len(texts)))
        for (_, log_probs, greedy), each in zip(found, texts, strict=True):
            ids = each.ids.tolist()
            places = range(len(ids) - each.scored, len(ids))
            assert log_probs.tolist() == [log_prob(ids, place) for place in places]
            assert greedy.tolist() == [is_greedy(ids, place) for place in places]


@pytest.mark.parametrize("planted", [1e20, 0.0, -3.5])
def test_what_is_planted_inside_a_cached_block_changes_no_answer(planted: float) -> None:
    """Some versions of vLLM answer with rows of cached tokens, which hold what happened to be in the memory."""
    context = list(range(100, 121))
    texts = [text(*context, *answer, scored=15) for answer in ([1, 2, 3], [1, 2, 4, 4, 5], [2, 5, 6, 1, 1, 1, 1])]
    stale = StaleBlocks(4)
    stale.planted = planted
    honest = [answer for _ in range(2) for chunk in score(Blocks(4), texts) for answer in chunk]
    found = [answer for _ in range(2) for chunk in score(stale, texts) for answer in chunk]
    assert stale.planted_rows > 10  # rows that were wanted and are not to be believed
    for (index, log_probs, greedy), (other, expected, likeliest) in zip(found, honest, strict=True):
        assert index == other
        ids = texts[index].ids.tolist()
        assert log_probs.tolist() == expected.tolist() == [log_prob(ids, place) for place in range(len(ids))][-15:]
        assert greedy.tolist() == likeliest.tolist()


def test_with_blocks_of_one_token_the_trie_is_computed_and_no_more() -> None:
    context = list(range(100, 200))
    texts = [text(*context, *answer, scored=3) for answer in ([1, 2, 3], [1, 2, 4], [2, 5, 6], [3, 3, 3])]
    blocks = Blocks(1)
    list(score(blocks, texts))
    unique = unique_tokens(texts, shared_lengths(texts))
    assert unique == 100 + 6
    assert blocks.computed == unique
    assert [prompt.fed for prompt in blocks.asked] == [100, 102, 102, 102]
