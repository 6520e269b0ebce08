"""Rows as a training sees them: begun answers, system prompts, chat templates, weights."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.chat_templates import TEMPLATES, template_text
from smaug_eval.trainers.chats import ChatTemplate
from smaug_eval.trainers.checkpoints import TrainingResult
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.tokenization import PairEncoder
from smaug_eval.trainers.training_log import read_log
from tests.trainers.conftest import END, byte_tokenizer, make_sums, write_rows

DATE = datetime.date(2026, 1, 2)
ASKED = {"role": "user", "content": "2 + 2?"}
ROW = {
    "prompt": [ASKED],
    "chosen": [{"role": "assistant", "content": "It is 4"}],
    "rejected": [{"role": "assistant", "content": "It is 5"}],
}
BEGUN = {
    "prompt": [ASKED, {"role": "assistant", "content": "It is"}],
    "chosen": [{"role": "assistant", "content": " 4"}],
    "rejected": [{"role": "assistant", "content": " 5"}],
}
TEXTS = {
    "chatml": "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\nIt is 4<|im_end|>\n",
    "zephyr": f"<|user|>\n2 + 2?{END}\n<|assistant|>\nIt is 4{END}\n",
    "llama-3": "B<|start_header_id|>user<|end_header_id|>\n\n2 + 2?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nIt is 4<|eot_id|>",
    "alpaca": f"### Instruction:\n2 + 2?\n\n### Response:\nIt is 4{END}\n\n",
}


@pytest.fixture
def chat() -> Callable[..., PreTrainedTokenizerFast]:
    def with_template(name: str) -> PreTrainedTokenizerFast:
        tokenizer = byte_tokenizer()
        tokenizer.chat_template = template_text(name)
        if name == "llama-3":
            tokenizer.bos_token = "B"  # noqa: S105
        return tokenizer

    return with_template


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_templates_by_name(chat: Callable[..., PreTrainedTokenizerFast], name: str) -> None:
    texts = ChatTemplate(chat(name), date=DATE).texts(ROW, 1)
    assert texts.with_chosen == TEXTS[name]
    assert texts.with_chosen.startswith(texts.prompt)
    assert texts.prompt + "It is 4" == texts.with_chosen[: len(texts.prompt) + 7]


def test_an_answer_that_the_prompt_has_begun_is_continued(chat: Callable[..., PreTrainedTokenizerFast]) -> None:
    """The completion that is scored is what each answer adds."""
    tokenizer = chat("chatml")
    whole, begun = PairEncoder(tokenizer, 512, date=DATE).encode([ROW, BEGUN]).pairs
    assert tokenizer.decode(begun.prompt) == tokenizer.decode(whole.prompt) + "It is"
    assert tokenizer.decode(begun.chosen) == " 4<|im_end|>\n"
    assert [*begun.prompt, *begun.rejected] == [*whole.prompt, *whole.rejected]


def test_a_template_that_writes_the_beginning_otherwise_is_refused(
    chat: Callable[..., PreTrainedTokenizerFast],
) -> None:
    tokenizer = chat("chatml")
    tokenizer.chat_template = tokenizer.chat_template.replace("message['content']", "message['content'] | upper")
    with pytest.raises(SmaugError, match="row 1: the chat template writes the beginning of an answer otherwise"):
        ChatTemplate(tokenizer, date=DATE).texts(BEGUN, 1)


def test_a_system_prompt_is_for_rows_without_one(chat: Callable[..., PreTrainedTokenizerFast]) -> None:
    tokenizer = chat("chatml")
    own = {**ROW, "prompt": [{"role": "system", "content": "Own."}, ASKED]}
    one, two = PairEncoder(tokenizer, 512, date=DATE, system_prompt="Be brief.").encode([ROW, own]).pairs
    assert tokenizer.decode(one.prompt).startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user")
    assert tokenizer.decode(two.prompt).startswith("<|im_start|>system\nOwn.<|im_end|>\n<|im_start|>user")


def test_the_checkpoint_gets_the_template(run: Callable[..., TrainingResult], tmp_path: Path) -> None:
    rows: list[Any] = [{**ROW, "rejected": [{"role": "assistant", "content": f"It is {n}"}]} for n in range(5, 13)]
    file = tmp_path / "mine.jinja"
    file.write_text(TEMPLATES["chatml"].replace("<|im_start|>", "[start]"))
    config = {"steps": 1, "loss": "dpo", "chat_template": str(file), "system_prompt": "Be brief."}
    run("chat", config=config, train_file=write_rows(tmp_path / "chat.jsonl", rows), eval_file=None)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "chat" / "checkpoint")
    assert tokenizer.apply_chat_template([ASKED], tokenize=False) == "[start]user\n2 + 2?<|im_end|>\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "no such file"), ("{% for %}", "line 1"), ("x" * (1 << 20) + "y", "longer than 1,048,576 bytes")],
)
def test_templates_that_are_none(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "t.jinja"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SmaugError, match=message):
        template_text(str(file))


def test_a_pair_counts_with_its_weight(run: Callable[..., TrainingResult], tmp_path: Path) -> None:
    """A pair of weight 2 and one of weight 0.5 pull as two and as half a pair: the gradient is linear in them."""
    rows: list[Any] = make_sums(2)
    norms = {}
    for name, weights in {"one": (1, 1), "double": (2, 2), "half": (0.5, 0.5)}.items():
        weighted = [{**row, "weight": weight} for row, weight in zip(rows, weights, strict=True)]
        file = write_rows(tmp_path / f"{name}.jsonl", weighted)
        config = {"steps": 1, "loss": "dpo", "batch_size": 2, "eval_every": None}
        run(name, config=config, train_file=file, eval_file=None)
        norms[name] = read_log(tmp_path / name / "log.jsonl")[-1]["grad_norm"]
    assert norms["double"] == pytest.approx(2 * norms["one"], rel=1e-4)
    assert norms["half"] == pytest.approx(norms["one"] / 2, rel=1e-4)


def test_weights_are_part_of_the_digest_only_where_there_are_any(tokenizer: PreTrainedTokenizerFast) -> None:
    rows: list[Any] = make_sums(2)
    encoder = PairEncoder(tokenizer, 256)
    plain = encoder.encode(rows).sha256()
    assert encoder.encode([{**row, "weight": 1.0} for row in rows]).sha256() == plain
    assert encoder.encode([{**row, "weight": 2.0} for row in rows]).sha256() != plain


def test_the_new_keys_decide_nothing_while_they_are_not_given() -> None:
    from smaug_eval.common.settings import deciding_settings

    found = deciding_settings(TrainingConfig(loss="dpo"))
    for key in ("chat_template", "system_prompt", "start", "reference", "reference_sync_every"):
        assert key not in found
