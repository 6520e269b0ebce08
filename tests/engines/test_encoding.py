"""Texts tokenised in pieces: always the tokens of the whole text."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from smaug_eval.common.embedded import embedded_path
from smaug_eval.engines import encoding
from smaug_eval.engines.encoding import TextEncoder
from smaug_eval.leaderboard.protocol import build_documents, requests
from smaug_eval.leaderboard.v1 import SUITE

CORPUS = [
    "Question: Anna has 3 apples. She buys 4 more apples, and he's glad.\nAnswer: seven\n\nQuestion: Is it so?",
    "The following are multiple choice questions (with answers) about birds.\n\nA. one\nB. two\n\n",
    "I'm sure it isn't   what they've said.  \n\n\tNo, it wasn't; 12,345 others were there: the end.",
] * 20
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def wrapped(tokenizer: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def byte_level(pattern: str | None, size: int = 400) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    split = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, level])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet))
    return wrapped(tokenizer)


def llama_2(size: int = 300) -> PreTrainedTokenizerFast:
    """A space in front of every text, spaces as part of the words behind them, no pre-tokenizer."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trained.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=size))
    trained.pre_tokenizer = None
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return wrapped(trained)


def across_spaces() -> PreTrainedTokenizerFast:
    """A regular expression that keeps two words together."""
    return byte_level(r"\p{L}+ \p{L}+|\s|[^\s]+")


def crossing() -> PreTrainedTokenizerFast:
    """As :func:`llama_2`, with a token that goes on behind a space."""
    letters = {letter: number for number, letter in enumerate("\u2581abcdehimnorstuvwy\n")}
    pieces = {"o\u2581": len(letters), "o\u2581w": len(letters) + 1}
    model = models.BPE(vocab=letters | pieces, merges=[("o", "\u2581"), ("o\u2581", "w")])
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return wrapped(tokenizer)


KINDS: dict[str, Any] = {
    "gpt2": lambda: byte_level(None),
    "llama-3": lambda: byte_level(LLAMA_3),
    "llama-2": llama_2,
    "demo": lambda: AutoTokenizer.from_pretrained(embedded_path("demo-model")),
}
made: dict[str, Any] = {}


def tokenizer(kind: str) -> Any:
    if kind not in made:
        made[kind] = KINDS[kind]()
    return made[kind]


WORDS = st.sampled_from(
    ["apples", "I'm", "it", "A.", "12", "é", "n\u0303o", "\u2581", "ok:", "(x)", "日本", "", "a", "\u00a0b"]
)
GAPS = st.sampled_from([" ", "\n\n", "\n", "  ", "\n\n\n", " \n\n ", "\t", "", "\r\n\r\n", ". "])
TEXTS = st.lists(st.tuples(WORDS, GAPS), max_size=30).map(lambda parts: "".join(map("".join, parts)))


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(TEXTS | st.text(max_size=40), max_size=6), share=st.floats(0, 1))
def test_pieces_have_the_tokens_of_the_whole(kind: str, texts: list[str], share: float) -> None:
    some = tokenizer(kind)
    keeps_space = encoding._keeps_space(some)
    assert keeps_space is (kind != "llama-2") or kind == "demo"
    if keeps_space is not None:
        ends = [int(share * len(text)) for text in texts]
        found = encoding._in_pieces(some, texts, keeps_space, ends)
        assert [ids.tolist() for ids in found] == [some(text, add_special_tokens=False)["input_ids"] for text in texts]


@pytest.mark.parametrize("kind", ["gpt2", "llama-3", "llama-2"])
def test_common_parts_are_tokenised_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    some = tokenizer(kind)
    shots = "\n\n".join(f"Question: How many birds sit on tree {n} of them?\nAnswer: so many" for n in range(20))
    texts = [f"{shots}\n\nQuestion: Is it so {n}?\nAnswer: {answer}" for n in range(20) for answer in ("yes", "no")]
    given_texts: list[str] = []
    whole = encoding._whole

    def counted(tokenizer: Any, some: Any, special: Any) -> Any:
        given_texts.extend(some)
        return whole(tokenizer, some, special)

    monkeypatch.setattr(encoding, "_whole", counted)
    monkeypatch.setattr(encoding, "TRIED", 1)
    found = TextEncoder(some).encode(texts)
    assert sum(map(len, given_texts)) < 0.3 * sum(map(len, texts))
    assert [ids.tolist() for ids in found] == [some(text, add_special_tokens=False)["input_ids"] for text in texts]


def test_tokenizers_whose_tokens_cross_spaces_get_whole_texts() -> None:
    some = across_spaces()
    assert encoding._keeps_space(some) is None
    marked = byte_level(None)
    marked.add_tokens(["two words"])
    assert encoding._keeps_space(marked) is None
    assert encoding._keeps_space(crossing()) is None
    for each in (some, marked, crossing()):
        texts = ["two words\n\nare here and there\n\nor so it seems"] * 3
        expected = each(texts, add_special_tokens=False)["input_ids"]
        assert [ids.tolist() for ids in TextEncoder(each).encode(texts)] == expected


def test_a_tokenizer_that_was_misjudged_is_found_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    some = across_spaces()
    monkeypatch.setattr(encoding, "_keeps_space", lambda tokenizer: True)
    texts = ["Question: which birds sit there\n\nAnswer: the small ones do so"] * 2
    with caplog.at_level(logging.WARNING):
        found = TextEncoder(some).encode(texts)
    assert "crosses spaces between letters; tokenising whole texts" in caplog.text
    assert [ids.tolist() for ids in found] == some(texts, add_special_tokens=False)["input_ids"]


def test_special_tokens_are_the_tokenizers_own() -> None:
    some = tokenizer("demo")
    texts = ["Anna has 3 apples.", ""]
    for special in (True, None):
        options = {} if special is None else {"add_special_tokens": special}
        expected = [some(text, **options)["input_ids"] for text in texts]
        assert [ids.tolist() for ids in TextEncoder(some).encode(texts, special=special)] == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pythia_tokenizer", "stories260K", "bitstories-1M"])
def test_prompts_of_the_leaderboard(name: str, shared: Path) -> None:
    some = AutoTokenizer.from_pretrained(shared / "models" / name)
    for column in SUITE.columns[:5]:
        spec = column.leaves[0]
        documents = build_documents(spec, *SUITE.rows(spec, shared / "data"))[:40]
        pairs = [pair for document in documents for pair in requests(spec, document)]
        texts = list(dict.fromkeys(text for context, more in pairs for text in (context.rstrip(), context + more)))
        keeps_space = encoding._keeps_space(some)
        assert keeps_space is not None
        found = encoding._in_pieces(some, texts, keeps_space)
        expected = some(texts, add_special_tokens=False)["input_ids"]
        assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
