"""What scores IFEval and MATH: lm-eval's own checker and math-verify, which are an extra."""

from __future__ import annotations

import gzip
import json
import random
import sys
import threading
from pathlib import Path

import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard import v2, v2_packages
from smaug_eval.leaderboard.benchmarks import ifeval, math_hard

SOLUTION = "Thus it is $\\boxed{\\frac{1}{2}}$."


@pytest.fixture
def extra() -> None:
    for package in ("math_verify", "antlr4", "langdetect", "immutabledict", "punkt"):
        pytest.importorskip(package)


@pytest.mark.usefixtures("extra")
@pytest.mark.parametrize(
    ("text", "verdicts"),
    [
        ("so $x = \\frac{1}{2}$", (1, 0, 0)),  # math-verify needs no phrase before the answer
        ("Final Answer: The final answer is $0.5$. I hope it is correct.", (1, 1, 1)),
        ("Final Answer: The final answer is $\\frac{1}{3}$. I hope it is correct.", (0, 0, 0)),
        ("", (0, 0, 0)),
    ],
)
def test_math_by_three_rules(text: str, verdicts: tuple[int, int, int]) -> None:
    found = math_hard.metrics({"solution": SOLUTION, "answer": "\\frac{1}{2}"}, [text])
    assert tuple(found.values()) == verdicts


@pytest.mark.usefixtures("extra")
def test_equal_texts_that_sympy_cannot_read_are_right_since_october_2024() -> None:
    document = {"solution": "It is $\\boxed{[2,5)}$.", "answer": "[2,5)"}
    text = "Final Answer: The final answer is $[2,5)$. I hope it is correct."
    found = math_hard.metrics(document, [text])
    assert (found["exact_match_original"], found["exact_match_launch"]) == (1.0, 0.0)


@pytest.mark.usefixtures("extra")
def test_a_thread_of_a_worker_scores_as_the_main_thread_does() -> None:
    document = {"solution": SOLUTION, "answer": "\\frac{1}{2}"}
    texts = ["Final Answer: The final answer is $0.5$. I hope it is correct.", "$2$"]
    found: list[dict[str, float]] = []
    thread = threading.Thread(target=lambda: found.extend(math_hard.metrics(document, [text]) for text in texts))
    thread.start()
    thread.join()
    assert found == [math_hard.metrics(document, [text]) for text in texts]
    assert [each["exact_match"] for each in found] == [1.0, 0.0]


@pytest.mark.usefixtures("extra")
def test_the_checker_leaves_the_random_state_alone_and_repeats_itself() -> None:
    document = {
        "key": 1, "prompt": "p", "instruction_id_list": ["keywords:letter_frequency"],
        "kwargs": [{"letter": "#", "let_frequency": 1, "let_relation": "at least"}],
    }  # fmt: skip
    random.seed(5)
    expected = random.random()
    random.seed(5)
    found = [ifeval.metrics(document, ["abcdefghijklm"]) for _ in range(5)]
    assert random.random() == expected
    assert all(each == found[0] for each in found)


@pytest.mark.usefixtures("extra")
def test_an_unknown_instruction_names_its_row() -> None:
    document = {"key": 7, "prompt": "p", "instruction_id_list": ["no:such"], "kwargs": [{}]}
    with pytest.raises(SmaugError, match="key 7: there is no instruction 'no:such'"):
        ifeval.metrics(document, ["x"])


@pytest.mark.slow
@pytest.mark.usefixtures("extra")
def test_gpt_4_s_recorded_answers_get_the_fork_s_accuracies(shared: Path) -> None:
    documents = v2.SUITE.documents(ifeval.TASK.name, shared / "data_v2")
    with gzip.open(shared / "ifeval" / "gpt4_answers.jsonl.gz", "rt") as lines:
        answers = [json.loads(line)["response"] for line in lines]
    expected = json.loads((shared / "ifeval" / "expected.json").read_text())
    found = [ifeval.metrics(doc, [answer]) for doc, answer in zip(documents, answers, strict=True)]
    for document, own, row in zip(documents, found, expected["per_document"], strict=True):
        assert [document["key"], own[ifeval.INSTRUCTIONS], own[ifeval.LOOSE_INSTRUCTIONS]] == row[:3]
        assert [own[ifeval.PROMPTS], own[ifeval.LOOSE_PROMPTS]] == row[3:]
    for name in (ifeval.INSTRUCTIONS, ifeval.LOOSE_INSTRUCTIONS):
        assert ifeval.instruction_accuracy([own[name] for own in found]) == expected["accuracies"][name]
    for name in (ifeval.PROMPTS, ifeval.LOOSE_PROMPTS):
        assert sum(own[name] for own in found) / len(found) == expected["accuracies"][name]


def test_missing_packages_are_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v2_packages, "_NEEDED", ("json", "surely_not_here"))
    with pytest.raises(SmaugError) as error:
        v2_packages.check_packages()
    assert error.value.message.endswith("missing: surely_not_here")
    assert error.value.fix == "pip install 'smaug-eval[v2]'"
    monkeypatch.setitem(sys.modules, "langdetect", None)
    with pytest.raises(SmaugError, match="langdetect"):
        v2_packages.imported("langdetect")
