from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from smaug_eval.common import workers
from smaug_eval.common.errors import SmaugError
from smaug_eval.reports.panels import samples as sample_panel
from smaug_eval.reports.samples import documents
from smaug_eval.reports.samples.documents import (
    CHOICE_CHARACTERS,
    CONTEXT_CHARACTERS,
    GENERATION_CHARACTERS,
    PROMPT_CHARACTERS,
    ChoiceScore,
    Read,
    Sample,
    failure_counts,
    read_ahead,
    task_samples,
)
from smaug_eval.reports.samples.generations import Run
from smaug_eval.reports.samples.outcomes import task_rows

CONTEXT = "Question: which?\nAnswer:"


def write(path: Path, samples: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return path


def shown(files: Sequence[Path | None], *, metric: str | None = None, baseline: int = 0) -> list[Sample]:
    """All documents of a task."""
    task = task_rows("t", files, metric=metric, baseline=baseline)
    return task_samples(task, task.rows, baseline=baseline)


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
    samples = shown([None, first, second], metric="acc_norm", baseline=1)
    assert [sample.document for sample in samples] == ["0", "1", "2", "3", "4"]
    assert [each.text.text for each in samples[0].choices] == ["ab", "abcd"]
    assert [each.is_right for each in samples[0].choices] == [False, True]
    # -2/2 = -1.0 and -3/4 = -0.75 per character: the second choice ranks first, for the other model the first does.
    assert samples[0].choices[0].scores == [None, ChoiceScore(-2.0, -1.0, False), ChoiceScore(-1.0, -0.5, True)]
    assert samples[0].choices[1].scores == [None, ChoiceScore(-3.0, -0.75, True), ChoiceScore(-8.0, -2.0, False)]
    assert samples[1].choices[0].scores == [None, ChoiceScore(-2.0, -1.0, False), None]
    assert [verdict and verdict.word for verdict in samples[0].verdicts] == [None, "right", "wrong"]
    assert [verdict and verdict.outcome for verdict in samples[0].verdicts] == [None, "right", "lost"]
    assert samples[1].verdicts[2] is None


def test_without_a_headline_metric_the_first_logged_one_ranks(tmp_path: Path) -> None:
    (sample,) = shown([write(tmp_path / "a.jsonl", [choice(0, [-2.0, -3.0], acc=0.0, acc_norm=1.0)])])
    assert sample.verdicts[0] is not None
    assert (sample.verdicts[0].metric, sample.verdicts[0].word) == ("acc", "wrong")
    assert [each.scores[0] and each.scores[0].is_pick for each in sample.choices] == [True, False]


def test_another_document_under_the_same_number_is_no_match(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", [choice(0, [-2.0, -3.0], acc=0.0)])
    second = write(tmp_path / "b.jsonl", [choice(0, [-2.0, -3.0], acc=1.0) | {"doc_hash": "other"}])
    own, other = shown([first, second])
    assert own.verdicts[1] is None
    assert other.verdicts[0] is None


def test_partial_scoring_shows_the_end_of_each_context(tmp_path: Path) -> None:
    raw = choice(0, [-1.0, -2.0], acc=1.0)
    contexts = ["Mia saw Max. Mia", "Mia saw Max. Max"]
    raw["arguments"] = {f"gen_args_{i}": {"arg_0": text, "arg_1": " ran."} for i, text in enumerate(contexts)}
    (sample,) = shown([write(tmp_path / "a.jsonl", [raw])])
    assert [each.text.text for each in sample.choices] == ["Mia ran.", "Max ran."]


def test_of_a_truthfulqa_document_the_mc2_answers_are_shown(tmp_path: Path) -> None:
    raw = choice(0, [-1.0, -2.0, -3.0, -4.0, -5.0], ["m", "n", "true", "also true", "false"], mc1=1.0, mc2=0.75)
    raw["doc"] = {"gold": 0, "n_mc1": 2, "n_true": 2, "query": "Q: short\nA:"}
    (sample,) = shown([write(tmp_path / "a.jsonl", [raw])], metric="mc2")
    assert [(each.text.text, each.is_right) for each in sample.choices] == [
        ("true", True), ("also true", True), ("false", False),
    ]  # fmt: skip
    assert sample.verdicts[0] is not None
    assert (sample.verdicts[0].value, sample.verdicts[0].word) == (0.75, "")
    assert sample.prompt.text == "Q: short\nA:"
    assert sample.context.text == CONTEXT


def test_generations_are_cut_and_the_filter_shown_where_it_changed_something(tmp_path: Path) -> None:
    raw = choice(0, [], [], exact_match=1.0)
    raw["arguments"] = {"gen_args_0": {"arg_0": CONTEXT, "arg_1": {"until": ["\n"]}}}
    long = "x" * (GENERATION_CHARACTERS + 5)
    raw |= {"resps": [[long]], "filtered_resps": ["42"], "target": "42"}
    (sample,) = shown([write(tmp_path / "a.jsonl", [raw]), None])
    answer = sample.answers[0]
    assert answer is not None
    assert (len(answer.text.text), answer.text.length) == (GENERATION_CHARACTERS, GENERATION_CHARACTERS + 5)
    assert answer.extracted is not None
    assert answer.extracted.text == "42"
    assert answer.failure is None  # no final number to reach
    assert sample.choices == []
    assert sample.answers[1] is None


def test_long_choices_are_cut(tmp_path: Path) -> None:
    raw = choice(0, [-1.0, -2.0], ["short", "y" * (CHOICE_CHARACTERS + 1)], acc=1.0)
    (sample,) = shown([write(tmp_path / "a.jsonl", [raw])])
    assert sample.choices[1].text.is_cut


def solution(doc_id: int, text: str, *, shots: str = "") -> dict[str, Any]:
    return choice(doc_id, [], [], acc=float(text.endswith("#### 12"))) | {
        "doc": {"query": "How many?"}, "target": "3 * 4 = 12\n#### 12", "resps": [[text]], "filtered_resps": [text],
        "arguments": {"gen_args_0": {"arg_0": f"{shots}How many?", "arg_1": {"until": [":"]}}},
    }  # fmt: skip


def test_solutions_are_held_against_the_baseline_s(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", [solution(0, "So 16.\n#### 16", shots="An example.\n\n")])
    second = write(tmp_path / "b.jsonl", [solution(0, "So 12.\n#### 12", shots="Another.\n\n")])
    (sample,) = shown([first, second], metric="acc", baseline=1)
    assert (sample.prompt.text, sample.context.text) == ("How many?", "Another.\n\n")
    assert sample.prompts_differ
    own, reference = sample.answers
    assert own is not None
    assert reference is not None
    assert (own.failure, reference.failure) == ("wrong-number", "right")
    assert own.runs == [Run("So ", False), Run("16", True), Run(".\n#### ", False), Run("16", True)]
    assert [run.text for run in reference.runs if run.is_changed] == ["12", "12"]
    (alike,) = shown([second, second])
    assert not alike.prompts_differ


def test_failures_are_counted_over_all_documents(tmp_path: Path) -> None:
    texts = ["#### 12", "#### 16", "Two steps: 3 * 4\n#### 12", "She buys", "12."]
    first = write(tmp_path / "a.jsonl", [solution(i, text) for i, text in enumerate(texts)])
    second = write(tmp_path / "b.jsonl", [solution(i, "#### 12") for i in range(3)])
    assert failure_counts(task_rows("t", [first, None, second], metric="acc")) == [
        {"right": 1, "wrong-number": 1, "after-colon": 1, "cut-short": 1, "no-number": 1}, {}, {"right": 3},
    ]  # fmt: skip
    choices = write(tmp_path / "c.jsonl", [choice(0, [-1.0, -2.0], acc=1.0)])
    assert failure_counts(task_rows("t", [choices], metric="acc")) is None


def test_where_there_is_much_to_read_several_processes_read_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved = write(tmp_path / "a.jsonl", [solution(i, f"#### {i}") for i in range(15)])
    chosen = write(tmp_path / "b.jsonl", [choice(0, [-1.0, -2.0], acc=1.0)])
    damaged = write(tmp_path / "c.jsonl", [{**choice(0, [-1.0, -2.0], acc=1.0), "resps": []}])
    tasks = [task_rows("t", [path, path], metric="acc") for path in (solved, chosen, damaged)]
    asked = [(task, task.rows[:2]) for task in tasks]
    assert read_ahead(asked, baseline=1) == [Read(None, None)] * 3  # it is soon read
    monkeypatch.setattr(documents, "_MANY_READ", 0)
    monkeypatch.setattr(workers, "cores", lambda: 2)
    assert read_ahead(asked, baseline=1) == [
        Read(task_samples(tasks[0], tasks[0].rows[:2], baseline=1), [Counter({"wrong-number": 14, "right": 1})] * 2),
        Read(task_samples(tasks[1], tasks[1].rows, baseline=1), None),
        Read(None, None),
    ]


def test_lines_of_megabytes_become_excerpts(tmp_path: Path) -> None:
    raw = solution(0, "w " * 500_000, shots="s" * 1_000_000)
    raw["doc"] = {"query": "q" * 1_000_000 + "How many?"}
    raw["arguments"]["gen_args_0"]["arg_0"] = "s" * 1_000_000 + raw["doc"]["query"]
    (sample,) = shown([write(tmp_path / "a.jsonl", [raw])] * 2)
    assert (len(sample.prompt.text), sample.prompt.length) == (PROMPT_CHARACTERS, 1_000_009)
    assert sample.prompt.text.endswith("How many?")
    assert (sample.context.text, sample.context.length) == ("s" * CONTEXT_CHARACTERS, 1_000_000)
    assert sample.answers[0] is not None
    assert sum(len(run.text) for run in sample.answers[0].runs) == GENERATION_CHARACTERS


@pytest.mark.parametrize("damage", [{"arguments": 3}, {"filtered_resps": [["x", "y"]]}, {"doc": None}, {"resps": []}])
def test_samples_of_another_format_are_named(tmp_path: Path, damage: dict[str, Any]) -> None:
    path = write(tmp_path / "samples_t.jsonl", [choice(0, [-1.0, -2.0], acc=1.0) | damage])
    with pytest.raises(SmaugError, match=r"samples_t\.jsonl: a sample is not in lm-eval's format"):
        shown([path])


def test_what_does_not_fit_is_drawn_and_said(
    run: Any, page: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run.evaluation("base", {"t": 0.5}, samples=[solution(i, "#### 12") for i in range(9)])
    run.evaluation("dpop", {"t": 0.5}, samples=[solution(i, f"#### {12 + (i < 4)}") for i in range(9)])
    monkeypatch.setattr(sample_panel, "CHANGED_SHOWN", 3)
    monkeypatch.setattr(sample_panel, "SHOWN", 5)
    report = page(run.path)
    assert report.row("t", "dpop")[2:] == ["0", "4", "5", "0", "0"]
    assert "5 of 9 documents: 3 of the 4 that a model gained or lost, and 2 others. Where not all fit" in report.text
    assert [attributes["data-outcome"] for _, attributes in report.elements if "data-outcome" in attributes] == [
        *["lost 1:lost"] * 3, *["both-right 1:both-right"] * 2,
    ]  # fmt: skip


def test_one_model_alone_is_right_or_wrong(run: Any, page: Callable[..., Any]) -> None:
    run.evaluation("base", {"t": 0.5}, samples=[solution(0, "#### 12"), solution(1, "#### 13")])
    report = page(run.path)
    assert report.row("t", "base")[2:] == ["1", "1", "0"]
    assert "On this page are 2 of 2 documents. Numbers" in report.text
    assert (
        "t 1 wrong How many? How many? right answer: 3 * 4 = 12 #### 12 base ✗ wrong (acc); wrong number" in report.text
    )


def test_of_many_models_fewer_documents_are_on_the_page() -> None:
    assert [sample_panel.shown_of(1300, models) for models in (2, 6, 12, 50)] == [1300, 1300, 650, 156]
