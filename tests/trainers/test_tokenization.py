from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from smaug_eval.errors import SmaugError
from trainers.tokenization import EncodedPair, PairEncoder, TokenIds, batches_by_length

WORDS = {word: index for index, word in enumerate(["<s>", "</s>", "a", "b", "c", " ", "x", "ab"])}
BOS, EOS, A, B, C, SPACE, X, AB = range(8)


def words(*, template: str | None = None, merges: bool = False, bos: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer of single letters that adds what ``template`` says; with ``merges``, "ab" is one token."""
    tokenizer = Tokenizer(models.BPE(vocab=WORDS, merges=[("a", "b")] if merges else []))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated") if not merges else None
    if template:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[("<s>", BOS), ("</s>", EOS)]
        )
    special = {"eos_token": "</s>"} | ({"bos_token": "<s>"} if bos else {})
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def row(prompt: str, chosen: str, rejected: str) -> dict[str, str]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def encode_one(encoder: PairEncoder, prompt: str, chosen: str, rejected: str) -> tuple[list[int], list[int], list[int]]:
    (pair,) = encoder.encode([row(prompt, chosen, rejected)]).pairs
    return pair.prompt.tolist(), pair.chosen.tolist(), pair.rejected.tolist()


@pytest.mark.parametrize("template", [None, "<s> $A", "<s> $A </s>", "$A </s>"])
def test_one_begin_token_if_the_tokenizer_adds_one_and_one_end_token(template: str | None) -> None:
    start = [BOS] if template and template.startswith("<s>") else []
    encoder = PairEncoder(words(template=template), max_length=20)
    assert encode_one(encoder, "ab", "c", "x") == ([*start, A, B], [C, EOS], [X, EOS])


@pytest.mark.parametrize("template", ["<s> $A", "<s> $A </s>"])
def test_special_tokens_written_in_the_text_are_not_doubled(template: str) -> None:
    encoder = PairEncoder(words(template=template), max_length=20)
    assert encode_one(encoder, "<s>ab", "c</s>", "x</s>") == ([BOS, A, B], [C, EOS], [X, EOS])


def test_no_end_token_on_request() -> None:
    encoder = PairEncoder(words(template="<s> $A </s>"), max_length=20, append_eos=False)
    assert encode_one(encoder, "ab", "c", "x") == ([BOS, A, B], [C], [X])


def test_spaces_at_the_end_of_the_prompt_move_to_the_completions() -> None:
    assert encode_one(PairEncoder(words(), 20), "ab ", "c", "x") == ([A, B], [SPACE, C, EOS], [SPACE, X, EOS])


def test_the_split_is_the_harness_rule_where_tokens_merge_across_it() -> None:
    # "a" + "bc" is [ab, c]: the prompt keeps its own encoding [a], the completion is what follows position 1.
    assert encode_one(PairEncoder(words(merges=True), 20), "a", "bc", "xc") == ([A], [C, EOS], [X, C, EOS])


def test_an_empty_prompt_starts_with_the_begin_or_end_token() -> None:
    assert encode_one(PairEncoder(words(), 20), "", "c", "x") == ([BOS], [C, EOS], [X, EOS])
    assert encode_one(PairEncoder(words(bos=False), 20), "", "c", "x")[0] == [EOS]
    assert encode_one(PairEncoder(words(template="<s> $A"), 20), "", "c", "x") == ([BOS], [C, EOS], [X, EOS])
    without = words(bos=False)
    without.eos_token = None
    with pytest.raises(SmaugError, match="empty prompt"):
        encode_one(PairEncoder(without, 20), "", "c", "x")


def test_the_prompt_loses_its_beginning_and_both_completions_see_the_same() -> None:
    encoder = PairEncoder(words(), max_length=6)
    assert encode_one(encoder, "abcab", "cc", "x") == ([C, A, B], [C, C, EOS], [X, EOS])
    encoder = PairEncoder(words(), max_length=20, max_prompt_length=2)
    assert encode_one(encoder, "abcab", "cc", "x") == ([A, B], [C, C, EOS], [X, EOS])


def test_a_completion_keeps_its_beginning() -> None:
    assert encode_one(PairEncoder(words(), max_length=4), "ab", "abcabc", "axcabc") == ([B], [A, B, C], [A, X, C])


def test_pairs_that_teach_nothing_are_dropped_and_counted() -> None:
    encoder = PairEncoder(words(merges=True), max_length=4)
    encoded = encoder.encode(
        [
            row("c", "a", "x"),
            row("c", "aaaab", "aaaax"),  # the difference is cut off
            row("a", "b", "c"),  # "ab" is one token, so nothing is left after the prompt
            row("c", "a", "a</s>"),  # the same once the end token is there
            row("ccc", "aa", "xx"),  # cut, but still different
        ]
    )
    assert encoded.dropped == {"identical_after_truncation": 1, "empty_completion": 1, "identical_tokens": 1}
    assert len(encoded.pairs) == 2
    assert encoded.truncated == 1


def test_the_digest_covers_ids_and_boundaries() -> None:
    encoder = PairEncoder(words(), 20)
    digests = [
        encoder.encode([row(*texts)]).sha256()
        for texts in [("ab", "c", "x"), ("a", "bc", "x"), ("ab", "x", "c"), ("ab", "c", "xx")]
    ]
    assert len(set(digests)) == 4
    assert digests[0] == encoder.encode([row("ab", "c", "x")]).sha256()


def test_batches_hold_every_pair_once_longest_first() -> None:
    def ids(length: int) -> TokenIds:
        return np.zeros(length, np.int32)

    pairs = [EncodedPair(ids(1), ids(length), ids(1)) for length in (3, 9, 3, 5, 1)]
    assert batches_by_length(pairs, 2) == [[1, 3], [0, 2], [4]]
