"""Rows of messages against TRL and the chat templates that it ships: nothing that a row gives is dropped in silence."""

from __future__ import annotations

import datetime
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.pairs.formats import pair_of_row
from smaug_eval.trainers.remarks import remarks
from smaug_eval.trainers.tokenization import EncodedPairs, PairEncoder
from tests.trainers.conftest import byte_tokenizer

DAY = datetime.date(2024, 2, 29)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "weather of a town",
            "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
        },
    }
]


def said(role: str, content: str | None, **further: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **further}


def call(*towns: str, text: bool = False) -> list[dict[str, Any]]:
    arguments: list[Any] = [f'{{"town": "{town}"}}' if text else {"town": town} for town in towns]
    return [{"type": "function", "function": {"name": "weather", "arguments": each}} for each in arguments]


ASKED = said("user", "rain in Ulm?")
YES, NO = said("assistant", "yes"), said("assistant", "no")
CALLED = said("assistant", "", tool_calls=call("Ulm"))
PLAIN = {"prompt": [ASKED], "chosen": [YES], "rejected": [NO]}
SYSTEM = {**PLAIN, "prompt": [said("system", "Be brief."), ASKED]}
TURNS = {**PLAIN, "prompt": [ASKED, YES, said("user", "and in Rom?")]}
REASONING = {
    **PLAIN,
    "chosen": [said("assistant", "yes", reasoning_content="good steps")],
    "rejected": [said("assistant", "yes", reasoning_content="bad steps")],
}
CALLS = {
    "prompt": [ASKED],
    "chosen": [CALLED],
    "rejected": [said("assistant", "", tool_calls=call("Rom"))],
    "tools": TOOLS,
}
NULL = {**CALLS, "chosen": [said("assistant", None, tool_calls=call("Ulm"))], "rejected": [NO]}
TOOL_ENDED = {
    "prompt": [ASKED, CALLED, said("tool", "dry", name="weather")],
    "chosen": [said("assistant", "dry")],
    "rejected": [said("assistant", "rain")],
    "tools": TOOLS,
}


@cache
def template(name: str) -> str:
    trl = pytest.importorskip("trl", reason="TRL, the oracle, is not installed here")
    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def tokenizer_with(chat_template: str, *, end: str = "<|endoftext|>") -> PreTrainedTokenizerFast:
    """Bytes, with the tags of a template as special tokens."""
    tokenizer = byte_tokenizer()
    tags = sorted({*re.findall(r"<\|?[A-Za-z_]+\|?>", chat_template), end})
    tokenizer.add_special_tokens({"additional_special_tokens": tags, "eos_token": end, "bos_token": "<bos>"})
    tokenizer.chat_template = chat_template
    return tokenizer


def encoded(row: dict[str, Any], tokenizer: PreTrainedTokenizerFast, **settings: Any) -> EncodedPairs:
    pair, _ = pair_of_row("here", row)
    return PairEncoder(tokenizer, 100_000, date=DAY, **settings).encode([pair.row()])


def as_lists(found: EncodedPairs) -> list[list[int]]:
    (pair,) = found.pairs
    return [ids.tolist() for ids in (pair.prompt, pair.chosen, pair.rejected)]


def texts(found: EncodedPairs, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    return [str(tokenizer.decode(ids)) for ids in as_lists(found)]


def trls(row: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    """What TRL 1.16 makes of a row (``DPOTrainer._prepare_dataset``; Arrow would pad the messages with nulls)."""
    pytest.importorskip("trl", reason="TRL, the oracle, is not installed here")
    from trl.data_utils import _tokenize, common_prefix_length

    settings = {"tools": row.get("tools"), "strftime_now": DAY.strftime, **row.get("chat_template_kwargs", {})}
    prompt = _tokenize(tokenizer, row["prompt"], add_generation_prompt=True, **settings)["input_ids"]
    wholes = [
        _tokenize(tokenizer, row["prompt"] + row[side], **settings)["input_ids"] for side in ("chosen", "rejected")
    ]
    length = min(common_prefix_length(prompt, whole) for whole in wholes)
    return [prompt[:length], *(whole[length:] for whole in wholes)]


ENDS_ITSELF = {
    # A base tokenizer, whose end of text is not the template's end of a turn; and the chat model's own.
    "gemma": ("<eos>", "<end_of_turn>"),
    "gemma3": ("<eos>",),
    "llama3": ("<|end_of_text|>", "<|eot_id|>"),
    "llama3_1": ("<|end_of_text|>", "<|eot_id|>"),
    "qwen2_5": ("<|endoftext|>", "<|im_end|>"),
    "qwen3": ("<|endoftext|>", "<|im_end|>"),
    "phi3": ("<|endoftext|>", "<|end|>"),
    "gptoss": ("<|return|>",),
    "deepseekv3": ("<｜end▁of▁sentence｜>",),
}


@pytest.mark.parametrize(("name", "end"), [(name, end) for name, ends in ENDS_ITSELF.items() for end in ends])
def test_one_end_of_turn_and_ids_are_trls(name: str, end: str) -> None:
    tokenizer = tokenizer_with(template(name), end=end)
    for row in (PLAIN, SYSTEM, TURNS):
        if row is SYSTEM and name == "gemma":
            continue  # it refuses one
        found = encoded(row, tokenizer)
        assert as_lists(found) == trls(row, tokenizer)
        assert as_lists(encoded(row, tokenizer, append_eos=False)) == as_lists(found)


@pytest.mark.parametrize("append_eos", [True, False])
def test_a_template_that_ends_no_turn_gets_an_end_of_text(append_eos: bool) -> None:
    tokenizer = tokenizer_with("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    _, chosen, rejected = texts(encoded(PLAIN, tokenizer, append_eos=append_eos), tokenizer)
    end = "<|endoftext|>" * append_eos
    assert (chosen, rejected) == (f"assistant: yes\n{end}", f"assistant: no\n{end}")


@pytest.mark.parametrize(
    ("name", "row"),
    [
        (name, row)
        for name, rows in {
            "qwen2_5": (CALLS, NULL, TOOL_ENDED),
            "qwen3": (CALLS, NULL, TOOL_ENDED, REASONING),
            "qwen3_5_think": (CALLS, NULL, TOOL_ENDED, REASONING),
            "llama3_1": (CALLS, NULL, TOOL_ENDED),
            "gptoss": (CALLS,),
            "lfm2_v2": (CALLS, NULL, TOOL_ENDED),
            "gemma4": (CALLS, NULL, TOOL_ENDED),
        }.items()
        for row in rows
    ],
)
def test_calls_tools_and_reasoning_reach_the_template_as_trls(name: str, row: dict[str, Any]) -> None:
    tokenizer = tokenizer_with(template(name))
    found = encoded(row, tokenizer)
    assert as_lists(found) == trls(row, tokenizer)
    prompt, chosen, rejected = texts(found, tokenizer)
    assert ("weather of a town" in prompt) == ("tools" in row)
    assert chosen != rejected
    if row in (CALLS, NULL):
        assert "Ulm" in chosen
    if row is REASONING:
        assert ("good steps" in chosen, "bad steps" in rejected) == (True, True)


CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
OPENED = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
NO_CALLS = CHATML + OPENED
LOOP = "{% for c in m.tool_calls %}[{{ c.function.name }} {{ c.function.arguments | tojson }}]{% endfor %}"
TOOLS_SHOWN = "{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
WITH_CALLS = TOOLS_SHOWN + CHATML.replace("<|im_end|>", f"{LOOP}<|im_end|>") + OPENED


@pytest.mark.parametrize(
    ("chat_template", "row", "message"),
    [
        (NO_CALLS, CALLS, "does not read tool_calls of a message of role assistant"),
        (NO_CALLS, NULL, "does not read tool_calls of a message of role assistant"),
        (NO_CALLS, {**PLAIN, "tools": TOOLS}, "does not read tools, so that they would be lost"),
        (NO_CALLS, {**PLAIN, "documents": [{"title": "t", "text": "x"}]}, "does not read documents"),
        (NO_CALLS, REASONING, "does not read reasoning_content of a message of role assistant"),
        (WITH_CALLS, REASONING, "does not read reasoning_content"),
        (
            NO_CALLS.replace("{% for m in messages %}", "{% for m in messages if m.role in ('user', 'assistant') %}"),
            SYSTEM,
            "does not write messages of role system",
        ),
        (
            NO_CALLS.replace("{% for m in messages %}", "{% for m in messages if m.role != 'developer' %}"),
            {**SYSTEM, "prompt": [said("developer", "Be brief."), ASKED]},
            "does not write messages of role developer",
        ),
        (  # one call of two
            WITH_CALLS.replace("in m.tool_calls", "in (m.tool_calls or [])[:1]"),
            {**CALLS, "chosen": [said("assistant", "", tool_calls=call("Ulm", "Bonn"))]},
            "does not read tool_calls",
        ),
    ],
)
def test_what_would_be_lost_is_refused_by_name(chat_template: str, row: dict[str, Any], message: str) -> None:
    with pytest.raises(SmaugError, match=f"row 1: the model's chat template {message}") as caught:
        encoded(row, tokenizer_with(chat_template))
    assert caught.value.fix


def test_the_developer_speaks_where_the_template_lets_it() -> None:
    tokenizer = tokenizer_with(NO_CALLS)
    prompt, *_ = texts(encoded({**PLAIN, "prompt": [said("developer", "Be brief."), ASKED]}, tokenizer), tokenizer)
    assert prompt.startswith("<|im_start|>developer\nBe brief.<|im_end|>\n<|im_start|>user\n")


AS_TEXT = "{% for c in m.tool_calls %}[{{ c.function.name + ' ' + c.function.arguments }}]{% endfor %}"


@pytest.mark.parametrize("written", [LOOP, AS_TEXT], ids=["takes objects", "takes JSON text"])
@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("content", [None, ""])
@pytest.mark.parametrize("shown", ["{{ m.content }}", "{{ m.content + '' }}", "{{ m.content or '' }}"])
def test_null_contents_and_arguments_come_in_the_form_that_the_template_takes(
    written: str, text: bool, content: str | None, shown: str
) -> None:
    tokenizer = tokenizer_with(WITH_CALLS.replace("{{ m.content }}", shown).replace(LOOP, written))
    row = {**CALLS, "chosen": [said("assistant", content, tool_calls=call("Ulm", text=text))]}
    _, chosen, rejected = texts(encoded(row, tokenizer), tokenizer)
    assert (chosen, rejected) == ('[weather {"town": "Ulm"}]<|im_end|>\n', '[weather {"town": "Rom"}]<|im_end|>\n')


def test_calls_that_are_written_only_beside_null() -> None:
    """As DeepSeek's first templates."""
    only = WITH_CALLS.replace("{% for c in m.tool_calls %}", "{% for c in m.tool_calls if m.content is none %}")
    only = only.replace("{{ m.content }}", "{{ m.content or '' }}")
    tokenizer = tokenizer_with(only)
    assert texts(encoded(CALLS, tokenizer), tokenizer)[1] == '[weather {"town": "Ulm"}]<|im_end|>\n'
    with_words = {**CALLS, "chosen": [said("assistant", "I ask.", tool_calls=call("Ulm"))]}
    with pytest.raises(SmaugError, match="does not read tool_calls"):
        encoded(with_words, tokenizer)


def test_what_need_not_be_read_is_named_once() -> None:
    tokenizer = tokenizer_with(WITH_CALLS)
    row = {
        **TOOL_ENDED,
        "prompt": [*TOOL_ENDED["prompt"][:2], said("tool", "dry", name="weather", tool_call_id="1", weight=0)],
        "chat_template_kwargs": {"enable_thinking": False},
    }
    found = encoded(row, tokenizer)
    assert found.unread == ("chat_template_kwargs.enable_thinking", "name", "tool_call_id", "weight")
    (remark,) = remarks(found, "training pairs", asked=100_000, used=100_000)
    assert remark.text.startswith(
        "the chat template does not read, of the training pairs: chat_template_kwargs.enable_t"
    )
    assert not remark.is_warning
    # One that does read a key of its own is shown it.
    moody = tokenizer_with(NO_CALLS.replace("{{ m.content }}", "{{ m.mood or '' }}{{ m.content }}"))
    found = encoded({**PLAIN, "prompt": [{**ASKED, "mood": "sad: "}]}, moody)
    assert (texts(found, moody)[0].count("sad: rain"), found.unread) == (1, ())


def test_reasoning_of_earlier_turns_may_be_left_out_but_is_named() -> None:
    tokenizer = tokenizer_with(template("qwen3"))
    row = {
        **REASONING,
        "prompt": [ASKED, said("assistant", "yes", reasoning_content="I looked."), said("user", "sure?")],
    }
    found = encoded(row, tokenizer)
    assert as_lists(found) == trls(row, tokenizer)
    assert found.unread == ("reasoning_content of earlier turns",)


def test_a_template_that_changes_an_answer_is_counted() -> None:
    split = NO_CALLS.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}")
    tokenizer = tokenizer_with(split)
    row = {**PLAIN, "chosen": [said("assistant", "<think>\nsteps\n</think>4")], "rejected": [said("assistant", "5")]}
    found = encoded(row, tokenizer)
    assert (found.altered, texts(found, tokenizer)[1]) == (1, "4<|im_end|>\n")
    (remark,) = remarks(found, "training pairs", asked=100_000, used=100_000)
    assert remark.is_warning
    assert remark.text.startswith("1 of 1 training pairs have an answer of which the chat template leaves out")
    # Where nothing but the reasoning differs, nothing is left to learn; that is counted, too.
    row["rejected"] = [said("assistant", "<think>\nother steps\n</think>4")]
    assert encoded(row, tokenizer).dropped == {"identical_tokens": 1}


def test_a_template_that_opens_an_answer_otherwise_is_as_trl_and_said() -> None:
    tokenizer = tokenizer_with(template("deepseek_r1_distill"), end="<｜end▁of▁sentence｜>")
    found = encoded(PLAIN, tokenizer)
    assert as_lists(found) == trls(PLAIN, tokenizer)
    assert (found.reopened, found.merged) == (1, 0)
    assert "<think>" not in texts(found, tokenizer)[0]
    (remark,) = remarks(found, "training pairs", asked=100_000, used=100_000)
    assert remark.is_warning
    assert "opens one otherwise than it writes one" in remark.text


DATED = "{{ date_string if date_string is defined else strftime_now('%d %b %Y') }}\n" + NO_CALLS


def test_the_date_is_the_given_one_unless_the_row_has_its_own() -> None:
    tokenizer = tokenizer_with(DATED)
    found = encoded(PLAIN, tokenizer)
    assert texts(found, tokenizer)[0].startswith("29 Feb 2024\n<|im_start|>user")
    assert found.date == DAY
    own = {**PLAIN, "chat_template_kwargs": {"date_string": "1 Jan 2000"}}
    for found in (encoded(own, tokenizer), encoded(own, tokenizer, template_settings={"date_string": "2 Jan 2000"})):
        assert texts(found, tokenizer)[0].startswith("1 Jan 2000\n")
        assert found.date is None
    found = encoded(PLAIN, tokenizer, template_settings={"date_string": "2 Jan 2000"})
    assert texts(found, tokenizer)[0].startswith("2 Jan 2000\n")
    assert encoded(PLAIN, tokenizer_with(NO_CALLS)).date is None


def test_settings_of_a_row_reach_the_template() -> None:
    tokenizer = tokenizer_with(template("qwen3"))
    row = {**PLAIN, "chat_template_kwargs": {"enable_thinking": False}}
    found = encoded(row, tokenizer)
    assert as_lists(found) == trls(row, tokenizer)
    assert texts(found, tokenizer)[0].endswith("<think>\n\n</think>\n\n")
    assert texts(found, tokenizer)[1] == "yes<|im_end|>\n"
