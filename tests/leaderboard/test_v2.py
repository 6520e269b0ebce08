"""The second leaderboard's prompts: by hand, and against those that its own harness makes."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard import v1, v2
from smaug_eval.leaderboard.benchmarks import bbh, gpqa, musr
from smaug_eval.leaderboard.chats import Chat, jinja_chat, tokenizer_chat
from smaug_eval.leaderboard.dump import dump_requests, dumped_name
from smaug_eval.leaderboard.forms import NO_CHOICE
from smaug_eval.leaderboard.math_rules import NO_ANSWER, boxed_answer
from tests.leaderboard.v2_mirror import write_mirror

MODES = ("none", "single", "multi")


def kit_template(messages: list[dict[str, str]]) -> str:
    """The template that the golden files declare."""
    return "".join(f"<|{each['role']}|>{each['content']}<|end|>" for each in messages) + "<|assistant|>"


def chat_of(mode: str) -> Chat | None:
    return None if mode == "none" else Chat(kit_template, mode == "multi")


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mirror(tmp_path_factory.mktemp("mirror"))


@pytest.mark.parametrize("mode", MODES)
def test_every_golden_request_is_made_byte_for_byte(shared: Path, tmp_path: Path, mode: str) -> None:
    folder = shared / "golden_v2" / ("" if mode == "none" else mode)
    kit = json.loads((shared / "golden_v2" / "summary.json").read_text())["tasks"][mode]
    for task, expected in kit.items():
        name = task.removeprefix("leaderboard_")
        out = tmp_path / f"{task}.jsonl"
        (found,) = dump_requests(
            v2.SUITE, [name], limit=expected["docs"], data_root=shared / "data_v2", out=out, chat=chat_of(mode)
        )
        assert (found.task, found.documents, found.requests) == (name, expected["docs"], expected["requests"])
        assert found.sha256 == expected["sha256"], task
        path = folder / "synthetic" / f"{task}.jsonl.gz" if "musr" in task else folder / f"{task}.jsonl.gz"
        golden = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        ours = [json.loads(line) for line in out.read_text().splitlines()]
        assert [line["doc"] for line in ours] == [line["doc"] for line in golden]
        if expected["type"] == "generate_until":
            for own, theirs in zip(ours, golden, strict=True):
                spec = v2.TASKS[f"open_llm_v2_{name}"].generation
                assert spec is not None
                assert own["requests"][0][0] == theirs["requests"][0][0]
                assert spec.max_new_tokens == theirs["requests"][0][1]["max_gen_toks"]
        else:
            assert [line["requests"] for line in ours] == [line["requests"] for line in golden]


def asked(mirror: Path, name: str, mode: str = "none") -> list[list[Any]]:
    spec = v2.TASKS[f"open_llm_v2_{name}"]
    document = v2.SUITE.documents(spec.name, mirror)[0]
    chat = chat_of(mode)
    if chat is not None:
        document = chat.document(spec, v2.SUITE.rows(spec, mirror)[0], document)
    from smaug_eval.leaderboard.protocol import requests

    return [list(each) for each in requests(spec, document, " " if chat is None else "")]


def test_prompts_by_hand(mirror: Path) -> None:
    (first, _) = asked(mirror, "bbh_sports_understanding")
    text = "Determine whether an artificially constructed sentence relating to sports is plausible or not."
    assert first[0].startswith(f"{text}Q: Is the following sentence plausible?")  # glued, as on the leaderboard
    assert first[0].endswith("\n\nQ: Is it sports_understanding 0?\nA:")
    assert asked(mirror, "bbh_snarks")[0][0].split("Q: ")[0].endswith("witty remarks.\n")  # the only one that is not
    assert asked(mirror, "mmlu_pro")[0][0].endswith("Answer: B\n\nWhich 0?\nA. red\nB.  blue\nAnswer:")
    assert [option for _, option in asked(mirror, "mmlu_pro")] == [" A", " B"]
    assert asked(mirror, "musr_team_allocation") == [
        ["Ann left.\n\nBob stayed {here}.\n\nWho?\n\n1 - Ann\n2 - Bob's\n\nAnswer:", " Ann"],
        ["Ann left.\n\nBob stayed {here}.\n\nWho?\n\n1 - Ann\n2 - Bob's\n\nAnswer:", " Bob's"],
    ]
    ((problem, stops),) = asked(mirror, "math_algebra_hard")
    assert problem.count("I hope it is correct.\n\nProblem:\n") == 4
    assert problem.endswith("Problem:\nFind 0.\n\nSolution:")
    assert stops == '{"until": ["Problem:"]}'
    assert asked(mirror, "ifeval") == [["Say it without commas.", '{"until": []}']]


def test_chats_by_hand(mirror: Path) -> None:
    ((one, choice), _) = asked(mirror, "bbh_sports_understanding", "single")
    assert choice == "yes"
    assert one.startswith("<|system|>Determine whether")
    assert one.count("<|user|>") == 1
    assert one.endswith("Q: Is it sports_understanding 0?\nA:<|end|><|assistant|>")
    ((many, _), _) = asked(mirror, "bbh_sports_understanding", "multi")
    assert many.count("<|user|>Q: ") == 4
    assert "\nA:<|end|><|assistant|>no<|end|><|user|>Q: " in many
    ((plain, _),) = asked(mirror, "ifeval", "multi")
    assert plain == "<|user|>Say it without commas.<|end|><|assistant|>"


def test_a_jinja_file_is_a_template_and_a_tokenizer_s_may_refuse_a_system_message(mirror: Path) -> None:
    text = "{% for m in messages %}<|{{m.role}}|>{{m.content}}<|end|>{% endfor %}"
    text += "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    spec = v2.TASKS["open_llm_v2_bbh_navigate"]
    (document, *_), shots = v2.SUITE.documents(spec.name, mirror), v2.SUITE.rows(spec, mirror)[0]
    right = Chat(kit_template).document(spec, shots, document)
    assert jinja_chat(text).document(spec, shots, document) == right
    with pytest.raises(SmaugError, match="cannot be rendered"):
        jinja_chat("{{ raise_exception('no') }}").document(spec, shots, document)

    class Tokenizer:
        chat_template = "its own"

        def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
            from jinja2 import TemplateError

            if messages[0]["role"] == "system":
                raise TemplateError("no system message")
            return kit_template(messages)

    found = tokenizer_chat(Tokenizer()).document(spec, shots, document)["ctx"]
    assert found == right["ctx"].partition("<|end|>")[2]


def test_a_right_answer_that_is_no_choice_leaves_every_choice_wrong(mirror: Path) -> None:
    golds = [document["gold"] for document in v2.SUITE.documents("open_llm_v2_bbh_ruin_names", mirror)]
    assert golds == [0, 5, NO_CHOICE]


def test_documents_keep_the_order_and_the_level_of_the_rows(mirror: Path) -> None:
    documents = v2.SUITE.documents("open_llm_v2_math_prealgebra_hard", mirror)
    assert [(each["doc"], each["answer"]) for each in documents] == [(0, "\\frac{0}{7}"), (1, "\\frac{2}{7}")]
    (column,) = v2.SUITE.select(["math_hard"])
    assert {row["level"] for row in v2.SUITE.column_rows(column, mirror)[1]} == {"Level 5"}
    assert [each["doc"] for each in v2.SUITE.documents("open_llm_v2_bbh_navigate", mirror)] == [0, 1, 2]


def test_gpqa_s_order_is_of_the_question_alone(mirror: Path) -> None:
    assert gpqa.cleaned(" right [title]one ") == "right. one"
    assert gpqa.cleaned("wrong  [2,3]one") == "wrong one"
    assert gpqa.cleaned(None) == " "
    random.seed(1)
    first = v2.SUITE.documents("open_llm_v2_gpqa_main", mirror)
    random.seed(2)
    assert v2.SUITE.documents("open_llm_v2_gpqa_main", mirror) == first
    for document in first:
        letter = "ABCD"[document["gold"]]
        assert f"\n({letter}) right. one\n" in document["query"]
        assert document["query"].endswith("\nAnswer: ")


@given(st.text(max_size=30))
def test_choices_that_are_no_list_of_texts_are_refused(text: str) -> None:
    try:
        found = musr.choices({"choices": text})
    except ValueError:
        return
    assert all(isinstance(choice, str) for choice in found)


def test_only_this_suite_takes_chats(mirror: Path) -> None:
    with pytest.raises(SmaugError, match="open_llm_v1 was run without chat templates"):
        dump_requests(v1.SUITE, ["arc_challenge"], data_root=mirror, chat=Chat(kit_template))


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("so $\\boxed{\\frac{1}{2}}$ and $\\boxed{x^{2}}$.", "x^{2}"),
        ("it is \\boxed 7$ then", "7"),
        ("\\fbox{3}", NO_ANSWER),  # lm-eval finds it and then takes it for nothing
        ("\\boxed{open", NO_ANSWER),
        ("nothing", NO_ANSWER),
    ],
)
def test_the_box_of_a_solution(solution: str, answer: str) -> None:
    assert boxed_answer(solution) == answer


def test_names_and_sizes() -> None:
    names = {dumped_name(v2.SUITE, spec) for spec in v2.TASKS.values()}
    assert {"bbh_navigate", "math_algebra_hard", "mmlu_pro", "ifeval", "gpqa_main", "musr_team_allocation"} <= names
    sizes = {column.title: sum(leaf.official_rows or 0 for leaf in column.leaves) for column in v2.SUITE.columns}
    assert sizes == {
        "IFEval": 541, "BBH": 5761, "MATH Lvl 5": 1324, "GPQA": 1192, "MuSR": 756, "MMLU-Pro": 12032,
    }  # fmt: skip
    assert len(bbh.PROMPTS) == 24
    assert all(shot["target"] in own["choices"] for own in bbh.PROMPTS.values() for shot in own["shots"])
