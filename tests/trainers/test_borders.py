"""Where the prompt of a text row ends: what is trained is what was given, whatever the tokens do at the border."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, GPT2TokenizerFast, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from smaug_eval.common.embedded import embedded_path
from smaug_eval.runs.recipe_file import load_recipe
from smaug_eval.trainers.pairs.build import build_pairs
from smaug_eval.trainers.pairs.read import read_pairs
from smaug_eval.trainers.tokenization import EncodedPair, PairEncoder
from tests.trainers.conftest import byte_tokenizer, make_sums

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture(scope="session")
def real(shared: Path) -> dict[str, PreTrainedTokenizerBase]:
    gpt2 = shared / "models" / "gpt2_tokenizer"
    return {
        "pythia": AutoTokenizer.from_pretrained(shared / "models" / "pythia_tokenizer"),
        "gpt2": GPT2TokenizerFast(vocab=str(gpt2 / "vocab.json"), merges=str(gpt2 / "merges.txt")),
    }


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """As Llama's: a space before the text, a begin token, spaces and letters that merge, bytes for what is unknown."""
    letters = ["▁", *"abcdehlorw:/<>1", "▁a", "▁h", "he", "ab", "//", ":/", "://", "/d"]
    vocab = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    merges = [("▁", "a"), ("▁", "h"), ("h", "e"), ("a", "b"), ("/", "/"), (":", "/"), (":", "//"), ("/", "d")]
    model = models.BPE(
        vocab={token: number for number, token in enumerate(vocab)},
        merges=merges,
        byte_fallback=True,
        unk_token="<unk>",  # noqa: S106
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)


def across_characters() -> PreTrainedTokenizerFast:
    """Bytes that merge over the borders of characters: the last byte of one with the first of the next."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ((letters, _),) = split.pre_tokenize_str("é中")  # two bytes and three, as letters
    merges = [(letters[1], letters[2]), ("a", "b"), ("ab", "c")]
    vocab = {letter: number for number, letter in enumerate([*alphabet, *("".join(pair) for pair in merges), "<eos>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    special = {"eos_token": "<eos>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)


MADE: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "bytes": byte_tokenizer,
    "sentencepiece": sentencepiece_like,
    "across": across_characters,
}
TOKENIZERS = ("pythia", "gpt2", *MADE)


def tokenizer_of(name: str, request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    if name in MADE:
        return MADE[name]()
    found: PreTrainedTokenizerBase = request.getfixturevalue("real")[name]
    return found


def row(prompt: str, chosen: str, rejected: str) -> dict[str, str]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def decoded(tokenizer: PreTrainedTokenizerBase, ids: np.ndarray[Any, Any]) -> str:
    """Ids without their end token as text."""
    kept = [token for token in ids.tolist() if token not in (tokenizer.eos_token_id, tokenizer.bos_token_id)]
    return str(tokenizer.decode(kept, clean_up_tokenization_spaces=False))


@pytest.mark.parametrize("name", ["pythia", "gpt2"])
@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected", "scored"),
    [
        ("<div>ok<", "/div>", "br>", "</div>"),
        ("See https:", "//example.org", "\\\\", "://example.org"),
        ("x = foo(", ")", "1)", "()"),
        ("The total is 1", "23 euros", "9 euros", " 123 euros"),
        ("import nu", "mpy as np", "ll", " numpy as np"),
        ('{"name": "', 'Ulm"}', '"}', None),
        ("Der Preis: 3", ",50", ".50", None),
    ],
)
def test_the_trained_completion_is_the_given_one(
    name: str, prompt: str, chosen: str, rejected: str, scored: str | None, request: pytest.FixtureRequest
) -> None:
    tokenizer = tokenizer_of(name, request)
    encoded = PairEncoder(tokenizer, 100).encode([row(prompt, chosen, rejected)])
    (pair,) = encoded.pairs
    assert decoded(tokenizer, pair.prompt) + decoded(tokenizer, pair.chosen) == prompt + chosen
    assert decoded(tokenizer, pair.prompt) + decoded(tokenizer, pair.rejected) == prompt + rejected
    if scored is not None:
        assert decoded(tokenizer, pair.chosen) == scored
        assert (encoded.merged, encoded.merged_characters) == (1, len(scored) - len(chosen))


WORDS = (
    "foo(",
    ")",
    "1",
    "23",
    ".5",
    "https:",
    "//",
    "<",
    "/div>",
    " the",
    "numpy",
    "nu",
    "\n",
    "    ",
    "ab",
    "bc",
    "c",
)
LETTERS = ("中", "文", "é", "e\u0301", "😀", "ß", '{"a": "', '"}', "\t", "self.", "_x")
PIECES = st.lists(st.sampled_from((*WORDS, *LETTERS)), min_size=1, max_size=12).map("".join)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60)
@given(text=PIECES, other=PIECES, cut=st.integers(0, 60))
def test_nothing_is_lost_at_a_random_cut(
    name: str, text: str, other: str, cut: int, request: pytest.FixtureRequest
) -> None:
    tokenizer = tokenizer_of(name, request)
    prompt, chosen = text[: cut % len(text)], text[cut % len(text) :]
    encoded = PairEncoder(tokenizer, 1000).encode([row(prompt, chosen, other)])
    if not encoded.pairs:  # chosen and the other are the same text, or the tokenizer's normaliser makes them so
        assert encoded.dropped == {"identical_tokens": 1}
        return
    (pair,) = encoded.pairs
    eos, bos = tokenizer.eos_token_id, tokenizer.bos_token_id
    alone = tokenizer(prompt.rstrip())["input_ids"]
    for completion, given_text in ((pair.chosen, chosen), (pair.rejected, other)):
        whole = tokenizer(prompt + given_text)["input_ids"]
        kept = [] if pair.prompt.tolist() in ([bos], [eos]) and whole[:1] != [bos] else pair.prompt.tolist()
        # All ids of the whole are there, in order, and the prompt's are the first of the prompt alone.
        assert [*kept, *completion.tolist()] == [*whole, eos]
        assert alone[: len(kept)] == kept
        text_of_completion, given_whole = _bytes(tokenizer, completion[:-1]), _bytes(tokenizer, np.array(whole))
        assert given_whole.endswith(text_of_completion)
        assert text_of_completion.endswith(
            _bytes(tokenizer, np.array(whole))[len(_bytes(tokenizer, np.array(alone))) :]
        )
    if name == "bytes":
        assert encoded.merged == 0
    # Where the prompt is no beginning of the wholes, the next token is the one that differs, and the pair is counted.
    assert encoded.merged == (len(kept) < len(alone))


def _bytes(tokenizer: PreTrainedTokenizerBase, ids: np.ndarray[Any, Any]) -> str:
    """What the tokens stand for, in letters that stand for bytes; a token may hold a part of a character."""
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    return "".join(tokenizer.convert_ids_to_tokens([token for token in ids.tolist() if token not in special]))


def test_a_token_may_hold_parts_of_two_characters() -> None:
    tokenizer = across_characters()
    # The second byte of the prompt's character and the first of the completion's are one token.
    encoded = PairEncoder(tokenizer, 100).encode([row("é", "中 x", "y")])
    (pair,) = encoded.pairs
    assert (encoded.merged, len(pair.prompt)) == (1, 1)
    assert pair.prompt.tolist() + pair.chosen.tolist() == [*tokenizer("é中 x")["input_ids"], tokenizer.eos_token_id]
    assert pair.prompt.tolist() + pair.rejected.tolist() == [*tokenizer("éy")["input_ids"], tokenizer.eos_token_id]


def test_both_completions_follow_the_same_prompt_however_they_merge() -> None:
    tokenizer = across_characters()
    # "xab" + "c" is [x, abc], "xab" + "d" is [x, ab, d]: the prompt is [x] for both, and "ab" is scored twice.
    (pair,) = PairEncoder(tokenizer, 100).encode([row("xab", "c", "d")]).pairs
    assert decoded(tokenizer, pair.prompt) == "x"
    assert tokenizer.convert_ids_to_tokens(pair.chosen.tolist()) == ["abc", "<eos>"]
    assert tokenizer.convert_ids_to_tokens(pair.rejected.tolist()) == ["ab", "d", "<eos>"]


def test_spaces_at_the_end_of_the_prompt_still_move() -> None:
    tokenizer = sentencepiece_like()
    (pair,) = PairEncoder(tokenizer, 100).encode([row("hello: ", "ab", "he")]).pairs
    assert decoded(tokenizer, pair.prompt) == " hello:"
    assert (decoded(tokenizer, pair.chosen), decoded(tokenizer, pair.rejected)) == (" ab", " he")
    assert pair.prompt[0] == tokenizer.bos_token_id
    assert pair.prompt.tolist().count(tokenizer.bos_token_id) == 1


def test_a_normaliser_that_joins_over_the_border_loses_nothing() -> None:
    tokenizer = sentencepiece_like()
    encoded = PairEncoder(tokenizer, 100).encode([row("he", "\u0301llo", "aw")])  # "e" and an accent become one letter
    (pair,) = encoded.pairs
    assert encoded.merged == 1
    assert decoded(tokenizer, pair.prompt) == " h"
    assert decoded(tokenizer, pair.chosen) == "\u00e9llo"
    assert decoded(tokenizer, pair.rejected) == "eaw"


def theirs(tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, str]], folder: Path) -> list[Any]:
    """TRL's own preparation of the same rows."""
    trl = pytest.importorskip("trl", reason="TRL, the oracle, is not installed here")
    datasets = pytest.importorskip("datasets")
    arguments = trl.DPOConfig(output_dir=str(folder), max_length=None, report_to="none", use_cpu=True, bf16=False)
    prepare = trl.DPOTrainer._prepare_dataset
    found = prepare(
        SimpleNamespace(_tokenizer=tokenizer), datasets.Dataset.from_list(rows), tokenizer, arguments, "train"
    )
    return [[each[f"{name}_ids"] for name in ("prompt", "chosen", "rejected")] for each in found]


@pytest.mark.parametrize("name", ["pythia", "gpt2"])
def test_ids_of_code_cut_at_random_are_trls(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(name, request)
    code = Path(__file__).read_text(encoding="utf-8")
    rng = random.Random(4)
    rows = []
    while len(rows) < 150:
        start, length = rng.randrange(len(code) - 300), rng.randrange(10, 200)
        prompt, chosen = code[start : start + length], code[start + length : start + length + rng.randrange(1, 60)]
        other = rng.randrange(len(code) - 60)
        # TRL leaves white space with the prompt, and a prompt of which no token is left without anything before it.
        if prompt == prompt.rstrip():
            rows.append(row(prompt, chosen, code[other : other + rng.randrange(1, 60)]))
    encoded = PairEncoder(tokenizer, 10_000).encode(rows)
    assert not encoded.dropped
    assert encoded.merged > 50
    ours = [[ids.tolist() for ids in (pair.prompt, pair.chosen, pair.rejected)] for pair in encoded.pairs]
    assert ours == theirs(tokenizer, rows, tmp_path)


def former(tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, str]]) -> list[tuple[list[int], ...]]:
    """The rule before tokens over the border were heeded: the whole from the length of the prompt's encoding on."""
    found = []
    for each in rows:
        prompt = tokenizer(each["prompt"].rstrip())["input_ids"]
        wholes = [tokenizer(each["prompt"] + each[side])["input_ids"] for side in ("chosen", "rejected")]
        found.append((prompt, *([*whole[len(prompt) :], tokenizer.eos_token_id] for whole in wholes)))
    return found


def as_lists(pairs: list[EncodedPair]) -> list[tuple[list[int], ...]]:
    return [(pair.prompt.tolist(), pair.chosen.tolist(), pair.rejected.tolist()) for pair in pairs]


def test_ids_of_the_demo_are_what_they_were(tmp_path: Path) -> None:
    build_pairs(load_recipe(RECIPES / "demo.yaml").pairs["arithmetic"], data_root=None, out_dir=tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(embedded_path("embedded:demo-model"))
    for file in ("train.jsonl", "eval.jsonl"):
        rows = [dict(each) for each in read_pairs(tmp_path / file)]
        encoded = PairEncoder(tokenizer, 10_000).encode(rows)
        assert as_lists(encoded.pairs) == former(tokenizer, rows)
        assert (encoded.merged, encoded.dropped) == (0, {})


def test_ids_of_questions_with_answers_are_what_they_were(real: dict[str, PreTrainedTokenizerBase]) -> None:
    steps = "\n48/2 = 24 clips in May.\n48+24 = 72 clips altogether.\n#### 72"
    rows = [
        row(f"Question: {each['prompt']} clips?\nAnswer:", f"{each['chosen']}{steps}", f"{each['rejected']}{steps}")
        for each in make_sums(40)
    ]
    for tokenizer in real.values():
        assert as_lists(PairEncoder(tokenizer, 10_000).encode(rows).pairs) == former(tokenizer, rows)
