from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.tokenization import EncodedPair, PairEncoder, TokenIds, batches_by_length

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


# A turn is "a" and the text for the user, "b" and the text, an end token and a space for the assistant.
CHAT = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'user' %}a{{ m.content }}{% else %}b{{ m.content }}{{ eos_token }} {% endif %}"
    "{% endfor %}{% if add_generation_prompt %}b{% endif %}"
)


def chat_words(chat_template: str = CHAT, **kwargs: Any) -> PreTrainedTokenizerFast:
    tokenizer = words(**kwargs)
    tokenizer.chat_template = chat_template
    return tokenizer


def turns(*contents: str, start: str = "user") -> list[dict[str, str]]:
    """Messages of alternating roles."""
    roles = ("user", "assistant") if start == "user" else ("assistant", "user")
    return [{"role": roles[index % 2], "content": content} for index, content in enumerate(contents)]


def chat_row(prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    return {
        "prompt": turns(prompt),
        "chosen": turns(chosen, start="assistant"),
        "rejected": turns(rejected, start="assistant"),
    }


def ids(pair: EncodedPair) -> tuple[list[int], list[int], list[int]]:
    return pair.prompt.tolist(), pair.chosen.tolist(), pair.rejected.tolist()


def encode_one(encoder: PairEncoder, prompt: str, chosen: str, rejected: str) -> tuple[list[int], list[int], list[int]]:
    (pair,) = encoder.encode([row(prompt, chosen, rejected)]).pairs
    return ids(pair)


@pytest.mark.parametrize("template", [None, "<s> $A", "<s> $A </s>", "$A </s>"])
def test_one_begin_token_if_the_tokenizer_adds_one_and_one_end_token(template: str | None) -> None:
    start = [BOS] if template and template.startswith("<s>") else []
    encoder = PairEncoder(words(template=template), max_length=20)
    assert encode_one(encoder, "ab", "c", "x") == ([*start, A, B], [C, EOS], [X, EOS])


@pytest.mark.parametrize("template", ["<s> $A", "<s> $A </s>"])
def test_special_tokens_written_in_the_text_are_not_doubled(template: str) -> None:
    encoder = PairEncoder(words(template=template), max_length=20)
    assert encode_one(encoder, "<s>ab", "c</s>", "x</s>") == ([BOS, A, B], [C, EOS], [X, EOS])
    assert encode_one(encoder, "<s><s>ab", "c</s></s>", "x</s> </s> ") == ([BOS, A, B], [C, EOS], [X, EOS])
    assert encode_one(encoder, "ab", "<s>c", "x") == ([BOS, A, B], [C, EOS], [X, EOS])


def test_an_end_token_before_more_text_does_not_end_the_completion() -> None:
    assert encode_one(PairEncoder(words(), 20), "ab", "c</s>x", "c") == ([A, B], [C, EOS, X, EOS], [C, EOS])


def test_no_end_token_on_request() -> None:
    encoder = PairEncoder(words(template="<s> $A </s>"), max_length=20, append_eos=False)
    assert encode_one(encoder, "ab", "c", "x") == ([BOS, A, B], [C], [X])


def test_spaces_at_the_end_of_the_prompt_move_to_the_completions() -> None:
    assert encode_one(PairEncoder(words(), 20), "ab ", "c", "x") == ([A, B], [SPACE, C, EOS], [SPACE, X, EOS])


def test_a_token_across_the_border_belongs_to_the_completions() -> None:
    # "ca" + "bc" is [c, ab, c]: both completions begin behind [c], and none of the given one is lost.
    encoder = PairEncoder(words(merges=True), 20)
    assert encode_one(encoder, "ca", "bc", "xc") == ([C], [AB, C, EOS], [A, X, C, EOS])
    # Nothing of the prompt is left: its place is taken by what stands before an empty one.
    assert encode_one(encoder, "a", "bc", "xc") == ([BOS], [AB, C, EOS], [A, X, C, EOS])
    assert encode_one(PairEncoder(words(template="<s> $A", merges=True), 20), "a", "bc", "xc")[0] == [BOS]


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
            row("a", "b", "c"),  # "ab" is one token, which is the completion's: this one can be trained on
            row("c", "a", "a</s>"),  # the same once the end token is there
            row("ccc", "aa", "xx"),  # cut, but still different
            row("c", "a", "x"),  # seen before
            row("cc", "aa", "xx"),  # the same as an earlier one once that was cut
            row("c", "</s>", "x"),  # nothing but an end
        ]
    )
    assert encoded.dropped == {
        "identical_after_truncation": 1,
        "empty_completion": 1,
        "identical_tokens": 1,
        "duplicate": 2,
    }
    assert len(encoded.pairs) == 3
    assert encoded.truncated == 1


LONG = [
    row("abc", "aaa", "xx"),  # 3 + 4 tokens
    row("abc", "c", "x"),  # 3 + 2
    row("c", "aaaaaaa", "x"),  # 1 + 8
    row("abcc", "a", "b"),  # 4 + 2
]


def test_cuts_are_counted_by_what_was_cut() -> None:
    encoded = PairEncoder(words(), max_length=6).encode(LONG)
    assert [len(pair.prompt) for pair in encoded.pairs] == [2, 3, 1, 4]
    assert (encoded.truncated, encoded.truncated_prompts, encoded.truncated_completions) == (2, 1, 1)
    encoded = PairEncoder(words(), max_length=3, max_prompt_length=1).encode(LONG)
    assert (encoded.truncated, encoded.truncated_prompts, encoded.truncated_completions) == (4, 3, 2)


def test_pairs_whose_prompt_must_be_cut_can_be_dropped() -> None:
    encoded = PairEncoder(words(), max_length=6, long_prompts="drop").encode(LONG)
    assert [len(pair.prompt) for pair in encoded.pairs] == [3, 1, 4]
    assert encoded.dropped == {"prompt_too_long": 1}
    assert (encoded.truncated, encoded.truncated_prompts, encoded.truncated_completions) == (1, 0, 1)
    encoded = PairEncoder(words(), max_length=20, max_prompt_length=3, long_prompts="drop").encode(LONG)
    assert [len(pair.prompt) for pair in encoded.pairs] == [3, 3, 1]


@pytest.mark.parametrize(
    ("chosen", "rejected", "common"), [("abc", "abx", 2), ("c", "x", 0), ("ab", "abc", 2), ("abc", "ab", 2)]
)
def test_what_both_completions_share(chosen: str, rejected: str, common: int) -> None:
    (pair,) = PairEncoder(words(), 20, append_eos=False).encode([row("c", chosen, rejected)]).pairs
    assert pair.common == common


@pytest.mark.parametrize("template", [None, "<s> $A", "<s> $A </s>"])
def test_messages_begin_and_end_as_the_template_writes(template: str | None) -> None:
    encoder = PairEncoder(chat_words(template=template), max_length=20)
    (pair,) = encoder.encode([chat_row("c", "x", "xx")]).pairs
    assert ids(pair) == ([BOS, A, C, B], [X, EOS, SPACE], [X, X, EOS, SPACE])
    (pair,) = encoder.encode([chat_row("c", "x</s>", "xx")]).pairs  # an end in the text is not doubled
    assert ids(pair) == ([BOS, A, C, B], [X, EOS, SPACE], [X, X, EOS, SPACE])
    # What the template does not write, nobody adds: so it is at inference.
    (pair,) = (
        PairEncoder(chat_words(CHAT.replace("{{ bos_token }}", ""), template=template), 20)
        .encode([chat_row("c", "x", "xx")])
        .pairs
    )
    assert ids(pair)[0] == [A, C, B]


def test_a_template_without_an_end_token_gets_one() -> None:
    template = CHAT.replace("{{ eos_token }} ", "")
    (pair,) = PairEncoder(chat_words(template), 20).encode([chat_row("c", "x", "xx")]).pairs
    assert ids(pair) == ([BOS, A, C, B], [X, EOS], [X, X, EOS])


def test_turns_before_the_last_keep_their_end_tokens() -> None:
    messages = {
        "prompt": turns("c", "a", "x"),
        "chosen": turns("x", "c", "a", start="assistant"),
        "rejected": turns("c", start="assistant"),
    }
    (pair,) = PairEncoder(chat_words(), 40).encode([messages]).pairs
    assert ids(pair) == (
        [BOS, A, C, B, A, EOS, SPACE, A, X, B],
        [X, EOS, SPACE, A, C, B, A, EOS, SPACE],
        [C, EOS, SPACE],
    )


def test_a_token_across_the_opening_of_an_answer_is_not_lost() -> None:
    # The prompt is "ca", "ab" is one token: [c, a] alone, but [c, ab, c] with "bc" behind it.
    template = "{% for m in messages %}{{ m.content }}{% if m.role == 'user' %}a{% endif %}{% endfor %}"
    (pair,) = PairEncoder(chat_words(template, merges=True), 20).encode([chat_row("c", "bc", "x")]).pairs
    assert ids(pair) == ([C], [AB, C, EOS], [A, X, EOS])


def test_text_and_messages_mix() -> None:
    encoded = PairEncoder(chat_words(), 20).encode([row("ab", "c", "x"), chat_row("c", "x", "xx")])
    assert [ids(pair)[0] for pair in encoded.pairs] == [[A, B], [BOS, A, C, B]]


def test_messages_without_a_template_stop_before_anything_is_encoded() -> None:
    with pytest.raises(SmaugError, match="row 2 holds messages, but the model's tokenizer has no chat template"):
        PairEncoder(words(), 20).encode([row("", "c", "x"), chat_row("c", "x", "xx")])


def test_a_template_that_writes_the_prompt_otherwise_is_refused() -> None:
    unstable = "{% if messages|length > 2 or not add_generation_prompt and messages[0].content == 'x' %}x{% endif %}"
    rows = [chat_row("c", "x", "xx"), chat_row("x", "x", "xx")]
    with pytest.raises(SmaugError, match="row 2: the chat template is not prefix-stable"):
        PairEncoder(chat_words(unstable + CHAT), 20).encode(rows)


def test_a_template_that_refuses_messages_names_the_row() -> None:
    template = "{% if messages[0].content == 'x' %}{{ raise_exception('no x here') }}{% endif %}" + CHAT
    rows = [chat_row("c", "x", "xx"), chat_row("x", "x", "xx")]
    with pytest.raises(SmaugError, match=r"row 2: .* refuses the messages: no x here"):
        PairEncoder(chat_words(template), 20).encode(rows)


@pytest.mark.parametrize("tokenizer", ["stories260K", "pythia_tokenizer"])
def test_real_conversations_and_tokenizers(shared: Path, tokenizer: str) -> None:
    """Llama's tokenizer adds a begin token to text, not to what a template wrote; Pythia's has one for both ends."""
    loaded = AutoTokenizer.from_pretrained(shared / "models" / tokenizer)
    loaded.chat_template = (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    lines = (shared / "preferences/orca_dpo_pairs_sample_validation.jsonl").read_text().splitlines()[:40]
    sources = [json.loads(line) for line in lines]
    rows = [
        {
            "prompt": each["input"]["messages"],
            "chosen": each["preferred_output"],
            "rejected": each["non_preferred_output"],
        }
        for each in sources
    ]
    pairs = PairEncoder(loaded, 10_000).encode(rows).pairs
    assert len(pairs) == 40
    for pair, source in zip(pairs, rows, strict=True):
        starts = pair.prompt.tolist().count(loaded.bos_token_id)
        assert starts == (0 if tokenizer == "stories260K" else len(source["prompt"]))
        for completion, side in ((pair.chosen, "chosen"), (pair.rejected, "rejected")):
            assert completion.tolist().count(loaded.eos_token_id) == 1
            text, end, rest = loaded.decode(completion).partition(loaded.eos_token)
            assert text.strip() == source[side][0]["content"].strip()
            assert (end, rest.strip(), rest[-1]) == (loaded.eos_token, "", "\n")


CONTENT = st.text("abcx ", min_size=1, max_size=8)


@given(prompt=CONTENT, chosen=CONTENT, rejected=CONTENT)
def test_prompt_and_completion_are_the_whole_conversation(prompt: str, chosen: str, rejected: str) -> None:
    tokenizer = chat_words(merges=True)
    encoded = PairEncoder(tokenizer, 100).encode([chat_row(prompt, chosen, rejected)])
    assert len(encoded.pairs) == (chosen != rejected)
    for pair in encoded.pairs:
        for completion, content in ((pair.chosen, chosen), (pair.rejected, rejected)):
            whole = tokenizer(f"<s>a{prompt}b{content}</s> ")["input_ids"]
            assert [*pair.prompt.tolist(), *completion.tolist()] == whole


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
