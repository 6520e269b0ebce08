from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from reports.samples import CHOICE_CHARACTERS, GENERATION_CHARACTERS, ChoiceScore, task_samples
from smaug_eval.errors import SmaugError

CONTEXT = "Question: which?\nAnswer:"


def write(path: Path, samples: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return path


def choice(
    doc_id: int, values: Sequence[float], choices: Sequence[str] = ("ab", "abcd"), **metrics: float
) -> dict[str, Any]:
    arguments = {f"gen_args_{i}": {"arg_0": CONTEXT, "arg_1": f" {text}"} for i, text in enumerate(choices)}
    pairs = [[str(value), "False"] for value in values]
    return {
        "doc_id": doc_id, "doc": {"gold": 1}, "target": "1", "arguments": arguments,
        "resps": [[each] for each in pairs],
        "filtered_resps": pairs, "filter": "none", "metrics": list(metrics), "doc_hash": str(doc_id), **metrics,
    }  # fmt: skip


def test_two_models_side_by_side(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", [choice(i, [-2.0, -3.0], acc=0.0, acc_norm=1.0) for i in range(5)])
    second = write(tmp_path / "b.jsonl", [choice(i, [-1.0, -8.0], acc=0.0, acc_norm=0.0) for i in (4, 2, 0)])
    samples = task_samples([None, first, second], metric="acc_norm")
    assert [sample.document for sample in samples] == [0, 1, 2]
    assert [each.text.text for each in samples[0].choices] == ["ab", "abcd"]
    assert [each.is_right for each in samples[0].choices] == [False, True]
    # -2/2 = -1.0 and -3/4 = -0.75 per character: the second choice ranks first, for the other model the first does.
    assert samples[0].choices[0].scores == [None, ChoiceScore(-2.0, -1.0, False), ChoiceScore(-1.0, -0.5, True)]
    assert samples[0].choices[1].scores == [None, ChoiceScore(-3.0, -0.75, True), ChoiceScore(-8.0, -2.0, False)]
    assert samples[1].choices[0].scores == [None, ChoiceScore(-2.0, -1.0, False), None]
    assert [verdict and verdict.word for verdict in samples[0].verdicts] == [None, "right", "wrong"]
    assert samples[1].verdicts[2] is None


def test_without_a_headline_metric_the_first_logged_one_ranks(tmp_path: Path) -> None:
    (sample,) = task_samples([write(tmp_path / "a.jsonl", [choice(0, [-2.0, -3.0], acc=0.0, acc_norm=1.0)])])
    assert sample.verdicts[0] is not None
    assert (sample.verdicts[0].metric, sample.verdicts[0].word) == ("acc", "wrong")
    assert [each.scores[0] and each.scores[0].is_pick for each in sample.choices] == [True, False]


def test_another_document_under_the_same_number_is_no_match(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", [choice(0, [-2.0, -3.0], acc=0.0)])
    second = write(tmp_path / "b.jsonl", [choice(0, [-2.0, -3.0], acc=1.0) | {"doc_hash": "other"}])
    (sample,) = task_samples([first, second])
    assert sample.verdicts[1] is None


def test_partial_scoring_shows_the_end_of_each_context(tmp_path: Path) -> None:
    raw = choice(0, [-1.0, -2.0], acc=1.0)
    contexts = ["Mia saw Max. Mia", "Mia saw Max. Max"]
    raw["arguments"] = {f"gen_args_{i}": {"arg_0": text, "arg_1": " ran."} for i, text in enumerate(contexts)}
    (sample,) = task_samples([write(tmp_path / "a.jsonl", [raw])])
    assert [each.text.text for each in sample.choices] == ["Mia ran.", "Max ran."]


def test_of_a_truthfulqa_document_the_mc2_answers_are_shown(tmp_path: Path) -> None:
    raw = choice(0, [-1.0, -2.0, -3.0, -4.0, -5.0], ["m", "n", "true", "also true", "false"], mc1=1.0, mc2=0.75)
    raw["doc"] = {"gold": 0, "n_mc1": 2, "n_true": 2, "query": "Q: short\nA:"}
    (sample,) = task_samples([write(tmp_path / "a.jsonl", [raw])], metric="mc2")
    assert [(each.text.text, each.is_right) for each in sample.choices] == [
        ("true", True), ("also true", True), ("false", False),
    ]  # fmt: skip
    assert sample.verdicts[0] is not None
    assert (sample.verdicts[0].value, sample.verdicts[0].word) == (0.75, "")
    assert sample.prompt.text == "Q: short\nA:"
    assert sample.prompt_length == len(CONTEXT)


def test_generations_are_cut_and_the_filter_shown_where_it_changed_something(tmp_path: Path) -> None:
    raw = choice(0, [], [], exact_match=1.0)
    raw["arguments"] = {"gen_args_0": {"arg_0": CONTEXT, "arg_1": {"until": ["\n"]}}}
    long = "x" * (GENERATION_CHARACTERS + 5)
    raw |= {"resps": [[long]], "filtered_resps": ["42"], "target": "42"}
    (sample,) = task_samples([write(tmp_path / "a.jsonl", [raw]), None])
    answer = sample.answers[0]
    assert answer is not None
    assert (len(answer.text.text), answer.text.length) == (GENERATION_CHARACTERS, GENERATION_CHARACTERS + 5)
    assert answer.extracted is not None
    assert answer.extracted.text == "42"
    assert sample.choices == []
    assert sample.answers[1] is None


def test_long_choices_are_cut(tmp_path: Path) -> None:
    raw = choice(0, [-1.0, -2.0], ["short", "y" * (CHOICE_CHARACTERS + 1)], acc=1.0)
    (sample,) = task_samples([write(tmp_path / "a.jsonl", [raw])])
    assert sample.choices[1].text.is_cut


@pytest.mark.parametrize("damage", [{"arguments": 3}, {"filtered_resps": [["x", "y"]]}, {"doc": None}, {"resps": []}])
def test_samples_of_another_format_are_named(tmp_path: Path, damage: dict[str, Any]) -> None:
    path = write(tmp_path / "samples_t.jsonl", [choice(0, [-1.0, -2.0], acc=1.0) | damage])
    with pytest.raises(SmaugError, match=r"samples_t\.jsonl: a sample is not in lm-eval's format"):
        task_samples([path])
