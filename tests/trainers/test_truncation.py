"""What is cut of a pair that is too long, what is kept, and that it is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.settings import deciding_settings
from smaug_eval.trainers.checkpoints import TrainingResult
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.remarks import remarks
from smaug_eval.trainers.tokenization import EncodedPairs, PairEncoder
from smaug_eval.trainers.truncation import Limits, cut_prompt
from tests.trainers.conftest import byte_tokenizer

Run = Callable[..., TrainingResult]
LOOP = " I am not sure."


def encoded(rows: list[dict[str, Any]], limit: int, tokenizer: Any = None, **settings: Any) -> EncodedPairs:
    return PairEncoder(tokenizer or byte_tokenizer(), limit, **settings).encode(rows)


def texts(tokenizer: Any, found: EncodedPairs, index: int = 0) -> tuple[str, str, str]:
    pair = found.pairs[index]
    prompt, chosen, rejected = (tokenizer.decode(ids) for ids in (pair.prompt, pair.chosen, pair.rejected))
    return prompt, chosen, rejected


def test_an_endless_answer_does_not_take_the_prompt() -> None:
    rows = [
        {"prompt": f"Question {n}: what is {n} plus {n}? Answer:", "chosen": " 2", "rejected": LOOP * 80}
        for n in range(6)
    ]
    found = encoded(rows, 400)
    for index, row in enumerate(rows):
        prompt, chosen, rejected = texts(byte_tokenizer(), found, index)
        assert prompt == row["prompt"]
        assert chosen == " 2<|endoftext|>"
        assert rejected == (LOOP * 80)[: 400 - len(prompt)]
    assert (found.truncated_prompts, found.truncated_completions) == (0, 6)
    # The prompt is longer than half of the limit, and still whole: an answer more than twice as long as the other one
    # has a claim to a quarter of the limit.
    long = [{"prompt": "x" * 300, "chosen": " 2", "rejected": LOOP * 80}]
    assert [len(part) for part in texts(byte_tokenizer(), encoded(long, 400))[::2]] == [300, 100]


@pytest.mark.parametrize(
    ("prompt", "completions", "expected"),
    [
        (100, (50, 60), (100, 924)),  # fits
        (1000, (50, 60), (964, 60)),  # the prompt gives way
        (600, (500, 600), (424, 600)),  # to both, where both are long
        (600, (50, 4000), (600, 424)),  # not to an endless one
        (900, (50, 4000), (768, 256)),  # but for a quarter of the limit
        (900, (200, 4000), (624, 400)),  # or twice the other's length
        (600, (3000, 4000), (256, 768)),  # and never more than to a quarter of the limit
        (5, (3000, 4000), (5, 1019)),
    ],
)
def test_who_gives_way_worked_out_by_hand(prompt: int, completions: tuple[int, int], expected: tuple[int, int]) -> None:
    assert Limits(1024).room(prompt, completions) == expected
    assert Limits(1024).room(prompt, completions[::-1]) == expected


@pytest.mark.parametrize(
    ("limits", "prompt", "completions", "expected"),
    [
        (Limits(1024, max_completion_length=100), 1000, (4000, 50), (924, 100)),
        (Limits(1024, max_completion_length=100), 10, (4000, 50), (10, 100)),
        (Limits(1024, max_completion_length=2000), 900, (4000, 50), (768, 256)),
        (Limits(1024, max_prompt_length=10), 1000, (4000, 50), (10, 1014)),
        (Limits(1024, 512, 512), 1000, (4000, 50), (512, 512)),
        (Limits(1024, mode="keep_start"), 1000, (4000, 50), (1000, 24)),
        (Limits(1024, mode="keep_start"), 1024, (4, 50), (1024, 0)),
        (Limits(1024, 100, mode="keep_start"), 1024, (4, 50), (100, 924)),
    ],
)
def test_limits_of_their_own(
    limits: Limits, prompt: int, completions: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert limits.room(prompt, completions) == expected


lengths = st.integers(1, 3000)


@given(prompt=lengths, one=lengths, other=lengths, limit=st.integers(2, 2000), most=st.none() | st.integers(1, 2000))
def test_every_pair_fits_and_keeps_what_it_can(prompt: int, one: int, other: int, limit: int, most: int | None) -> None:
    kept, left = Limits(limit, max_completion_length=most).room(prompt, (one, other))
    assert 1 <= kept <= prompt
    assert left >= 1
    assert kept + min(max(one, other), left) <= limit
    if prompt + max(one, other) <= limit and (most is None or most >= max(one, other)):
        assert kept == prompt
        assert left >= max(one, other)  # nothing is cut of what fits
    if most is None:
        assert kept >= min(prompt, limit // 4)
    if kept < prompt:  # no token is cut for nothing
        assert kept + min(max(one, other), left) == limit


def test_what_is_cut_of_a_prompt() -> None:
    prompt = np.arange(10, dtype=np.int32)

    def cut(kept: int, *starts: int) -> tuple[list[int], int]:
        ids, place = cut_prompt(prompt, kept, starts)
        return ids.tolist(), place

    assert cut(10, 3, 1) == (list(range(10)), 0)
    assert cut(6, 3, 1) == ([0, 1, 2, 7, 8, 9], 0)
    assert cut(4, 3, 1) == ([0, 1, 2, 9], 0)
    assert cut(3, 3, 1) == ([0, 8, 9], 1)  # no quarter would be left for the question
    assert cut(1, 3, 1) == ([9], 2)
    assert cut(4, 0) == ([6, 7, 8, 9], 0)


def with_begin() -> PreTrainedTokenizerFast:
    """As Gemma's: a begin token before every text."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<bos>", "additional_special_tokens": ["<turn>", "</turn>"]})
    tokenizer.backend_tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", tokenizer.bos_token_id)]),
        ]
    )
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<turn>{{ m.role }}\n{{ m.content }}</turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
    )
    return tokenizer


def test_a_cut_prompt_keeps_its_begin_token() -> None:
    tokenizer = with_begin()
    found = encoded([{"prompt": "a long prompt that does not fit", "chosen": " x", "rejected": " y"}], 20, tokenizer)
    assert texts(tokenizer, found) == ("<bos>" + "that does not fit"[-16:], " x<|endoftext|>", " y<|endoftext|>")
    assert len(found.pairs[0].prompt) == 17
    assert (found.truncated_prompts, found.cut_systems) == (1, 0)


def chat(system: str | None, user: str, chosen: str = "x", rejected: str = "y") -> dict[str, Any]:
    prompt = [{"role": "system", "content": system}] if system else []
    return {
        "prompt": [*prompt, {"role": "user", "content": user}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def test_a_cut_chat_keeps_its_begin_token_its_system_turn_and_the_end_of_the_question() -> None:
    tokenizer = with_begin()
    question = "".join(f"{n} " for n in range(40)) + "why?"
    found = encoded([chat("Be brief.", question)], 80, tokenizer)
    prompt, chosen, _ = texts(tokenizer, found)
    head, tail = "<bos><turn>system\nBe brief.</turn>\n<turn>user\n", "why?</turn>\n<turn>assistant\n"
    assert prompt.startswith(head)
    assert prompt.endswith(tail)
    assert prompt[len(head) :] in question + tail[4:]
    assert found.pairs[0].length == 80
    assert chosen == "x</turn>\n"
    assert (found.truncated_prompts, found.cut_systems) == (1, 0)


def test_a_system_turn_that_does_not_fit_is_counted() -> None:
    tokenizer = with_begin()
    found = encoded([chat("Be brief. " * 9, "why is that so, and what is it that makes it so?")], 60, tokenizer)
    prompt, _, _ = texts(tokenizer, found)
    assert prompt.startswith("<bos>")
    assert prompt.endswith("makes it so?</turn>\n<turn>assistant\n")
    assert (found.truncated_prompts, found.cut_systems) == (1, 1)
    (remark,) = remarks(found, "pairs", asked=60, used=60)
    assert remark.text == (
        "1 of 1 pairs were cut (prompts: 1, completions: 0; max_length is 60); the system's turn did not fit in 1"
    )


def trl_ids(rows: list[list[list[int]]], limit: int) -> list[tuple[list[int], list[int]]]:
    """What TRL 1.16 trains on of tokenized pairs: its filter of long prompts, then its collator's cut."""
    pytest.importorskip("trl", reason="TRL, the oracle, is not installed here")
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    examples = [
        {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
        for prompt, chosen, rejected in rows
        if len(prompt) < limit
    ]
    batch = DataCollatorForPreference(pad_token_id=0, max_length=limit, truncation_mode="keep_start")(examples)
    kept = [ids[mask.bool()].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
    return list(zip(kept[: len(examples)], kept[len(examples) :], strict=True))


def test_keep_start_is_trls() -> None:
    rows = [
        {"prompt": "p" * (7 * n % 50 + 1), "chosen": "c" * (11 * n % 37 + 1), "rejected": f"{n}" + "r" * (13 * n % 61)}
        for n in range(1, 40)
    ]
    whole = encoded(rows, 1000)
    ids = [[part.tolist() for part in (pair.prompt, pair.chosen, pair.rejected)] for pair in whole.pairs]
    found = encoded(rows, 40, truncation_mode="keep_start")
    ours = [
        (pair.prompt.tolist() + pair.chosen.tolist(), pair.prompt.tolist() + pair.rejected.tolist())
        for pair in found.pairs
    ]
    assert ours == trl_ids(ids, 40)
    assert found.dropped == {"prompt_too_long": sum(len(prompt) >= 40 for prompt, _, _ in ids)}
    assert found.truncated_prompts == 0
    assert found.truncated_completions > 10


def test_keys_of_a_training() -> None:
    def config(**settings: Any) -> TrainingConfig:
        return TrainingConfig.model_validate({"loss": "dpo", **settings})

    with pytest.raises(ValueError, match="keep_end, which TRL has deprecated, cuts chosen and rejected apart"):
        config(truncation_mode="keep_end")
    with pytest.raises(ValueError, match="max_completion_length must be smaller than max_length"):
        config(max_completion_length=1024)
    with pytest.raises(ValueError, match="tokenize decides what is rendered"):
        config(chat_template_kwargs={"tokenize": True})
    # A finished training of an earlier version is known by the same settings as before.
    later = {"max_completion_length", "truncation_mode", "chat_template_kwargs"}
    assert not later & deciding_settings(config()).keys()
    assert deciding_settings(config(truncation_mode="keep_start"))["truncation_mode"] == "keep_start"
    assert "pairs" not in deciding_settings(config(max_completion_length=5), ("pairs",))


def test_what_is_cut_and_left_out_is_said_and_a_warning_above_one_in_a_hundred(run: Run, tmp_path: Path) -> None:
    loop = {"prompt": "Question: 1 + 1\nAnswer:", "chosen": " 2", "rejected": LOOP * 80}
    path = tmp_path / "loops.jsonl"
    rows = [loop | {"prompt": f"Question: {n} + 1\nAnswer:"} for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    notes: list[str] = []
    result = run(train_file=path, on_note=notes.append, config={"steps": 1, "max_length": 200})
    expected = [
        "12 of 12 training pairs were cut (prompts: 0, completions: 12; max_length is 200)",
        "1 of 13 training pairs were left out: 1 duplicate",
    ]
    assert result.warnings == expected
    assert [note for note in notes if note in expected] == expected
    assert result.encoding["notes"] == expected
    assert (result.encoding["rule"], result.encoding["date"], result.encoding["merged"]) == (2, None, 0)


def test_a_share_below_one_in_a_hundred_is_a_note() -> None:
    rows = [{"prompt": f"{n} + 1 =", "chosen": " 2", "rejected": " 3"} for n in range(200)]
    found = encoded([*rows, {"prompt": "p", "chosen": LOOP * 9, "rejected": " 1"}], 60)
    (remark,) = remarks(found, "training pairs", asked=60, used=60)
    assert not remark.is_warning
    assert remark.text.startswith("1 of 201 training pairs were cut (prompts: 0, completions: 1;")
    (remark,) = remarks(found, "training pairs", asked=70, used=60)  # a model's context, however few it cuts
    assert remark.is_warning


def test_nothing_is_left_names_the_reasons(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"prompt": "p" * 300, "chosen": "a", "rejected": "b"}) + "\n")
    with pytest.raises(SmaugError, match=r"no pair is left to train on \(1 prompt too long\)"):
        run(train_file=path, config={"truncation_mode": "keep_start"})
