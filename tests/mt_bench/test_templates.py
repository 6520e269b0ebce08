"""Prompts equal those that FastChat builds; answers end where its do."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastchat.conversation import conv_templates, get_conv_template
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.mt_bench.templates import find_conversation, load_template

MODEL = embedded_path("demo-model")
QUESTIONS, ANSWER = ["What is the job of Vera?", "And\n\nher street? 路"], "Vera is a teacher.\n"


def model_with(
    folder: Path, chat_template: str | None = None, *, bos: str | None = None, eos: str | None = None
) -> Path:
    """The demo model's tokenizer with a chat template, and more tokens."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    tokenizer.chat_template = chat_template
    named = {"bos_token": bos, "eos_token": eos}
    tokenizer.add_special_tokens({name: token for name, token in named.items() if token is not None})
    tokenizer.save_pretrained(folder)
    return folder


def fastchats(name: str, system_prompt: str | None, questions: list[str], answers: list[str]) -> str:
    """The prompt as gen_model_answer.py builds it, turn by turn."""
    conversation = get_conv_template(name)
    if system_prompt is not None:
        conversation.set_system_message(system_prompt)
    for number, question in enumerate(questions):
        conversation.append_message(conversation.roles[0], question)
        conversation.append_message(conversation.roles[1], None)
        prompt = conversation.get_prompt()
        if number < len(answers):
            conversation.update_last_message(answers[number])
    return prompt


HOSTED = sorted(name for name, conversation in conv_templates.items() if conversation.sep_style is None)


@pytest.mark.parametrize("name", sorted(conv_templates.keys() - HOSTED))
def test_every_template_of_fastchat_byte_for_byte(name: str) -> None:
    template = load_template(name, MODEL)
    for questions, answers in ((QUESTIONS[:1], []), (QUESTIONS, [ANSWER]), (QUESTIONS, [""])):
        assert template.text(questions, answers) == fastchats(name, None, questions, answers)


@pytest.mark.parametrize("name", HOSTED)
def test_templates_without_text_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="Invalid style"):
        fastchats(name, None, QUESTIONS, [ANSWER])
    with pytest.raises(SmaugError, match="for a hosted model"):
        load_template(name, MODEL)


def test_the_setting_of_smaug_72b_by_hand() -> None:
    template = load_template("llama-2", MODEL, "You are a helpful assistant.")
    assert template.text(["Hello?", "Who?"], ["Hi."]) == (
        "[INST] <<SYS>>\nYou are a helpful assistant.\n<</SYS>>\n\nHello? [/INST] Hi. </s><s>[INST] Who? [/INST]"
    )
    assert template.stop == ()


def test_plain_is_how_base_models_know_questions() -> None:
    template = load_template("plain", MODEL)
    assert template.text(["Who?", "What?"], ["Me."]) == "Question: Who?\nAnswer: Me.\n\nQuestion: What?\nAnswer:"
    assert template.finished(" baker\n\nQuestion: Which?") == "baker"


def test_unknown_names_are_errors_and_name_the_nearest() -> None:
    with pytest.raises(SmaugError, match=r"vicuna_v1\.1") as caught:
        find_conversation("vicuna_v1.2")
    assert "one_shot" not in str(caught.value)
    with pytest.raises(SmaugError, match="neither FastChat nor we"):
        load_template("smaug-72b", MODEL)
    assert find_conversation("one_shot").name == "one_shot"


def test_a_model_without_a_template_of_its_own_is_told_so() -> None:
    with pytest.raises(SmaugError, match="no chat template"):
        load_template("tokenizer", MODEL)


def test_a_system_prompt_that_goes_nowhere_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match="no place for a system prompt"):
        load_template("plain", MODEL, "Be kind.")
    own = model_with(tmp_path, "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}")
    with pytest.raises(SmaugError, match="no place for a system prompt"):
        load_template("tokenizer", own, "Be kind.")


def test_the_tokenizers_own_template_once_and_without_a_second_bos(tmp_path: Path) -> None:
    own = model_with(
        tmp_path,
        "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}",
        bos="<s>",
    )
    template = load_template("tokenizer", own, "Be kind.")
    text = template.text(["Who?", "What?"], ["Me."])
    assert text == (
        "<s><system>Be kind.</system><user>Who?</user><assistant>Me.</assistant><user>What?</user><assistant>"
    )
    tokenizer = AutoTokenizer.from_pretrained(own)
    ids = template.prompt(["Who?", "What?"], ["Me."])
    assert tokenizer.decode(ids) == text
    assert ids.count(tokenizer.bos_token_id) == 1
    assert template.finished("Me.<s>  ") == "Me."


def test_a_template_that_refuses_says_so(tmp_path: Path) -> None:
    own = model_with(tmp_path, "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}x")
    load_template("tokenizer", own)
    with pytest.raises(SmaugError, match="no system"):
        load_template("tokenizer", own, "Be kind.")


def test_prompts_are_tokenised_as_fastchat_tokenises_them() -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    for name in ("llama-2", "vicuna_v1.1", "zephyr", "plain"):
        template = load_template(name, MODEL)
        text = template.text(QUESTIONS, [ANSWER])
        assert template.prompt(QUESTIONS, [ANSWER]) == tokenizer([text]).input_ids[0]


def fastchats_cut(output: str, stop: str | list[str] | None) -> str:
    """What gen_model_answer.py keeps of an output."""
    if isinstance(stop, list):
        found = sorted(output.find(text) for text in stop if output.find(text) > 0)
        output = output[: found[0]] if found else output
    elif stop and output.find(stop) > 0:
        output = output[: output.find(stop)]
    return output.replace("<|endoftext|>", "").strip()


CUT = {name: load_template(name, MODEL) for name in ("zero_shot", "Robin", "internlm-chat", "baize", "rwkv", "llama-2")}
PIECES = st.sampled_from(["###", "\n\n", "<human>", "[|Human|]", "</s>", "User", "<|endoftext|>", " ", "Yes. "])


@given(st.sampled_from(sorted(CUT)), st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=8).map("".join))
def test_answers_are_cut_where_fastchat_cuts_them(name: str, output: str) -> None:
    assert CUT[name].finished(output) == fastchats_cut(output, get_conv_template(name).stop_str)


def test_several_stop_texts_cut_at_the_first() -> None:
    (name,) = [name for name, each in conv_templates.items() if each.stop_str == ["###", "</s>", "[UNK]"]]
    assert load_template(name, MODEL).finished("One [UNK] two </s> three ### four") == "One"


def test_xgen_loses_the_role_it_writes() -> None:
    assert load_template("xgen", MODEL).finished(" Assistant: Hello. ") == "Hello."


def test_what_ends_an_answer(tmp_path: Path) -> None:
    # The demo model's own settings name token 0; internlm-chat's stop token is 103028; "###" is no token.
    assert load_template("internlm-chat", MODEL).stop_token_ids == (1, 103028, 0)
    assert load_template("zero_shot", MODEL).stop_token_ids == (0,)
    # A stop text that is a special token is not shown by engines, so its id stops them.
    own = model_with(tmp_path, None, eos="<end>")
    (end,) = AutoTokenizer.from_pretrained(own)("<end>").input_ids
    (name,) = [name for name, conversation in conv_templates.items() if conversation.stop_str == "<end>"]
    assert end in load_template(name, own).stop_token_ids
    (own / "generation_config.json").write_text('{"eos_token_id": [7, 9]}')
    assert load_template("zero_shot", own).stop_token_ids == (7, 9)
