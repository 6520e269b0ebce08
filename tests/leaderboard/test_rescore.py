"""Anybody's results in the leaderboard's terms; samples as lm-eval 0.4.13 writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.rescore import (
    AS_REPORTED,
    RECOMPUTED,
    Rescored,
    document_metrics,
    leaderboard_task,
    rescore,
)

NO_BOS = {"model_args": {"pretrained": "org/model", "add_bos_token": False}}


def choices(doc: dict[str, Any], scored: Sequence[tuple[str, float]], doc_id: int = 0) -> dict[str, Any]:
    """A logged sample of a task that scores (continuation, log-likelihood) pairs."""
    return {
        "doc_id": doc_id,
        "doc": doc,
        "arguments": {f"gen_args_{i}": {"arg_0": "Q", "arg_1": f" {text}"} for i, (text, _) in enumerate(scored)},
        "resps": [[[str(value), "False"]] for _, value in scored],
        "filtered_resps": [[str(value), "False"] for _, value in scored],
    }


def solution(text: str, until: list[str], doc_id: int = 0, **settings: Any) -> dict[str, Any]:
    return {
        "doc_id": doc_id,
        "doc": {"answer": "It is 7.\n#### 7"},
        "arguments": {"gen_args_0": {"arg_0": "Q", "arg_1": {"until": until, **settings}}},
        "resps": [[text]],
    }


def rescored(name: str, samples: list[dict[str, Any]] | None, *, shots: int | None, **entry: Any) -> Rescored:
    found = rescore(name, entry, {"num_fewshot": shots, "config": NO_BOS}, samples)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("arc_challenge", "open_llm_v1_arc_challenge"),
        ("harness|arc:challenge|25", "open_llm_v1_arc_challenge"),
        ("mmlu_college_physics", "open_llm_v1_mmlu_college_physics"),
        ("hendrycksTest-college_physics", "open_llm_v1_mmlu_college_physics"),
        ("harness|hendrycksTest-anatomy|5", "open_llm_v1_mmlu_anatomy"),
        ("truthfulqa_mc2", "open_llm_v1_truthfulqa"),
        ("harness|truthfulqa:mc|0", "open_llm_v1_truthfulqa"),
        ("gsm8k", "open_llm_v1_gsm8k"),
    ],
)
def test_names_of_the_leaderboard_s_tasks(name: str, task: str) -> None:
    spec = leaderboard_task(name)
    assert spec is not None
    assert spec.name == task


@pytest.mark.parametrize("name", ["arc_easy", "mmlu", "mmlu_stem", "mmlu_pro", "gsm8k_cot", "open_llm_v1_gsm8k", ""])
def test_other_tasks_are_not_the_leaderboard_s(name: str) -> None:
    assert leaderboard_task(name) is None
    assert rescore(name, {"acc,none": 1.0}, {}, None) is None


def test_acc_norm_divides_by_characters() -> None:
    # Per character: -6/3 = -2 against -6.5/5 = -1.3, so the longer choice wins acc_norm and loses acc.
    doc = {"question": "?", "choices": {"text": ["abc", "éèàùô"], "label": ["A", "B"]}, "answerKey": "2"}
    found = rescored("arc_challenge", [choices(doc, [("abc", -6.0), ("éèàùô", -6.5)])], shots=25)
    assert (found.entry["acc_norm,none"], found.entry["acc,none"], found.how) == (1.0, 0.0, RECOMPUTED)
    assert found.notes == ("not the leaderboard's shots: lm-eval's own draw",)


@pytest.mark.parametrize(
    ("name", "doc", "right"),
    [
        ("hellaswag", {"label": "1", "gold": 1}, 1),
        ("hellaswag", {"label": "1"}, 1),
        ("mmlu_anatomy", {"answer": 1}, 1),
        ("winogrande", {"answer": "2"}, 1),
        ("winogrande", {"answer": "1"}, 0),
    ],
)
def test_the_right_choice_in_the_hub_s_columns(name: str, doc: dict[str, Any], right: int) -> None:
    values = [-5.0, -5.0]
    values[right] = -1.0
    found = rescored(name, [choices(doc, list(zip("ab", values, strict=True)))], shots=5)
    assert found.entry["acc,none"] == 1.0


def test_equal_choices_go_to_the_first() -> None:
    spec = leaderboard_task("mmlu_anatomy")
    assert spec is not None
    tie = [("A", -1.0), ("B", -1.0)]
    values = document_metrics(spec, [choices({"answer": 0}, tie, 0), choices({"answer": 1}, tie, 1)])
    assert values["acc"].tolist() == [1.0, 0.0]


def test_mc2_splits_at_the_first_false_answer_or_masks() -> None:
    # Probabilities 4 : 2 : 1 with labels 1, 0, 1.
    doc = {"mc2_targets": {"choices": ["yes", "no", "maybe"], "labels": [1, 0, 1]}}
    scored = [("yes", math.log(4)), ("no", math.log(2)), ("maybe", 0.0)]
    found = rescored("truthfulqa_mc2", [choices(doc, scored)], shots=0)
    assert found.entry["mc2,none"] == pytest.approx(4 / 7)
    assert found.entry["mc2_masked,none"] == pytest.approx(5 / 7)
    assert found.notes == ()


def test_mc1_alone_says_nothing_of_mc2() -> None:
    doc = {"mc2_targets": {"choices": ["yes", "no", "maybe"], "labels": [1, 0, 1]}}
    samples = [choices(doc, [("yes", -1.0), ("no", -2.0)])]
    assert rescore("truthfulqa_mc1", {"acc,none": 1.0}, {"num_fewshot": 0}, samples) is None


def test_generations_are_cut_where_the_leaderboard_stopped() -> None:
    modern = ["Question:", "</s>", "<|im_end|>"]
    samples = [solution("So: it is 7.\n#### 7", modern, 0), solution("It is 7.\n#### 7.", modern, 1)]
    found = rescored("gsm8k", samples * 2, shots=5)  # once per filter
    assert found.entry["sample_len"] == 2
    assert found.documents["acc"].tolist() == [0.0, 0.0]
    assert found.documents["acc_unstopped"].tolist() == [1.0, 0.0]
    assert found.documents["strict_match"].tolist() == [1.0, 1.0]
    assert found.entry["acc_stderr,none"] == 0.0


def test_what_cutting_cannot_mend_is_said() -> None:
    found = rescored("gsm8k", [solution("#### 7", ["\n\n", "Question:"], max_gen_toks=1024)], shots=8)
    assert found.notes == (
        "not comparable: 8 shots, the leaderboard's 5",
        "not comparable: generation stopped at '\\n\\n', too",
        "at most 1024 new tokens, the leaderboard's 256",
    )


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        ({"config": {"model_args": "pretrained=org/model,add_bos_token=True"}}, "a BOS token before every prompt"),
        ({"config": {"model_args": "pretrained=org/model"}}, "whether a BOS token was added is not recorded"),
        ({"config": NO_BOS, "chat_template_sha": "1f"}, "not comparable: with a chat template"),
        ({"config": NO_BOS, "system_instruction_sha": "1f"}, "not comparable: with a system prompt"),
    ],
)
def test_prompts_that_differ(settings: dict[str, Any], note: str) -> None:
    found = rescore("mmlu_anatomy", {"acc,none": 0.5, "sample_len": 135}, {"num_fewshot": 5, **settings}, None)
    assert found is not None
    (told,) = found.notes
    assert note in told


def test_without_samples_numbers_are_taken_as_they_stand() -> None:
    entry = {"acc,none": 0.5, "acc_stderr,none": 0.05, "sample_len": 135}
    found = rescored("mmlu_anatomy", None, shots=5, **entry)
    assert (found.entry, found.how, found.notes) == (entry, AS_REPORTED, ())


def test_results_of_the_leaderboard_s_own_archive() -> None:
    found = rescored("harness|truthfulqa:mc|0", None, shots=None, mc1=0.3, mc2=0.45, mc2_stderr=0.014)
    assert (found.entry["mc2,none"], found.entry["mc2_stderr,none"], found.entry["sample_len"]) == (0.45, 0.014, 817)
    assert found.notes == ()  # its files are of all documents


def test_modern_rules_are_named_where_they_cannot_be_undone() -> None:
    entry = {"exact_match,strict-match": 0.4, "exact_match_stderr,strict-match": 0.01, "sample_len": 1319}
    found = rescored("gsm8k", None, shots=5, **entry)
    assert (found.entry["acc,none"], found.entry["acc_stderr,none"]) == (0.4, 0.01)
    assert "strict-match, since there are no samples" in found.notes[1]
    truth = rescored("truthfulqa_mc2", None, shots=0, **{"acc,none": 0.4, "sample_len": 817})
    assert truth.notes == ("lm-eval's label-masked mc2, since there are no samples",)


def test_entries_without_the_metric_are_passed_over() -> None:
    assert rescore("hellaswag", {"acc,none": 0.4, "sample_len": 10}, {"num_fewshot": 10}, None) is None


@pytest.mark.parametrize(
    "sample",
    [
        {},
        {"doc_id": 0, "doc": {"answer": 1}, "filtered_resps": [["x", "False"]]},
        {"doc_id": 0, "doc": {"answer": 1}, "filtered_resps": []},
        {"doc_id": 0, "doc": None, "filtered_resps": [["-1", "False"]]},
    ],
)
def test_damaged_samples_are_named(sample: dict[str, Any]) -> None:
    with pytest.raises(SmaugError, match="samples of open_llm_v1_mmlu_anatomy, line 1: not in lm-eval's format"):
        document_metrics(v1.TASKS["open_llm_v1_mmlu_anatomy"], [sample])
