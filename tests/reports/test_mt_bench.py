"""The panel of judged answers: every number on it, what it calls things, and that nothing it shows can do harm."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.mt_bench.files.layout import answers_stage, judgments_stage, settings_file
from smaug_eval.mt_bench.files.records import AnswerRecord, JudgmentRecord, PairJudgmentRecord, RecordWriter
from smaug_eval.reports import build_report

Build = Callable[..., Any]
SETTINGS = {
    "judge": "gpt-4-0613",
    "question_set": "MT-Bench",
    "references": "original",
    "missing": [],
    "not_judged": [],
}


def judged(question: int, turn: int, score: float, model: str = "base", text: str | None = None, **smaug: Any) -> Any:
    text = f"Fine. [[{score}]]" if text is None else text
    return JudgmentRecord(question, model, ("gpt-4-0613", "single-v1"), "", text, score, turn, 0.0, smaug)


def paired(question: int, g1: str, g2: str) -> PairJudgmentRecord:
    text = {"model_1": "[[A]]", "model_2": "[[B]]", "tie": "[[C]]", "error": "?"}
    other = text | {"model_1": "[[B]]", "model_2": "[[A]]"}
    return PairJudgmentRecord(
        question, "base", "dpop", g1, g2, ("gpt-4-0613", "pair-v2"), "", text[g1], "", other[g2], 1
    )


def write(path: Path, *records: Any, settings: Mapping[str, Any] | None = None) -> Path:
    path.unlink(missing_ok=True)
    with RecordWriter(path) as writer:
        for record in records:
            writer.append(record)
    if settings is not None:
        settings_file(path).write_text(json.dumps(settings))
    return path


def in_run(run: Any, *records: Any, name: str = "main", what: str = "all", **settings: Any) -> Path:
    """Judgments where a run's stage leaves them."""
    return write(run.path / judgments_stage(name, what) / "judge_single.jsonl", *records, settings=SETTINGS | settings)


def base_and_dpop() -> list[JudgmentRecord]:
    """Base: 4, 6 and 2, 8; dpop one point better in turn 1, the same in turn 2."""
    base = [judged(81, 1, 4), judged(111, 1, 6), judged(81, 2, 2), judged(111, 2, 8)]
    better = [each.score + (each.turn == 1) for each in base]
    dpop = [replace(each, model="dpop", score=score) for each, score in zip(base, better, strict=True)]
    return [*base, *(replace(each, judgment=f"[[{each.score}]]") for each in dpop)]


def test_scores_with_intervals_and_paired_differences(run: Any, page: Build) -> None:
    in_run(run, *base_and_dpop())
    report = page(run.path)
    assert "Judged by gpt-4-0613, with the original reference answers." in report.text
    # Two questions leave one degree of freedom, and t of 12.7: the intervals go from end to end of the scale.
    whole = "[1.00, 10.00]"
    assert report.row("base baseline")[1:] == [*[f"5.00 {whole}"] * 3, "", "4", "0"]
    assert report.row("dpop")[1:] == [
        f"6.00 {whole}",
        f"5.00 {whole}",
        f"5.50 {whole}",
        "+0.50 the same on every question, p = 0.500, 2 questions",
        "4",
        "0",
    ]
    assert (
        "inconclusive dpop is scored 0.50 of 10 points higher than base by gpt-4-0613 on MT-Bench (the same on every "
        "question, p = 0.500, 2 questions)." in report.text
    )
    assert ["base", "3.00", "7.00"] in report.rows
    assert ["model", "writing", "math"] in report.rows


def test_intervals_are_student_s_and_p_values_holm_s(run: Any, page: Build) -> None:
    models = {"base": (4, 6, 5, 7, 4, 4), "dpo": (5, 7, 6, 8, 5, 6), "dpop": (4, 6, 5, 7, 4, 5)}
    in_run(run, *(judged(81 + i, 1, score, model) for model, own in models.items() for i, score in enumerate(own)))
    report = page(run.path)
    # Mean 5, standard deviation 1.265, over sqrt(6) 0.516, times t with 5 degrees, 2.5706.
    assert report.row("base baseline")[1] == "5.00 [3.67, 6.33]"
    # Differences 1, 1, 1, 1, 1, 2: 7/6 ± 2.5706 / 6; all positive, so p = 2 / 2^6, twice that by Holm's method.
    assert report.row("dpo")[4] == "+1.17 [0.74, 1.60] p = 0.062, 6 questions, above 0 unadjusted"
    assert report.row("dpop")[4] == "+0.17 [−0.26, 0.60] p > 0.99, 6 questions"
    assert "inconclusive dpo is scored 1.17 of 10 points higher than base" in report.text
    assert "(95% interval 0.74 to 1.60, p = 0.062, 6 questions). The interval, which is not adjusted," in report.text


def test_scores_that_are_all_equal_have_no_interval(run: Any, page: Build) -> None:
    in_run(run, *(judged(question, 1, 9, model) for question in (81, 82, 83) for model in ("base", "dpop")))
    report = page(run.path)
    assert report.row("base baseline")[1:4] == ["9.00", "n/a", "9.00"]
    assert report.row("dpop")[4] == "0.00 the same on every question, p > 0.99, 3 questions"
    assert "is scored the same as base by gpt-4-0613 on MT-Bench (the same on every question, p > 0.99" in report.text
    assert "0.00, 0.00" not in report.text


def test_the_baseline_can_be_chosen_among_judged_models(run: Any, page: Build) -> None:
    in_run(run, *base_and_dpop())
    report = page(run.path, baseline="dpop")
    assert report.row("dpop baseline")[3] == "5.50 [1.00, 10.00]"
    assert report.row("base")[4].startswith("−0.50")
    with pytest.raises(SmaugError, match=r"baseline 'dpo' is none of the models: .*base.*\n  fix: did you mean 'dpop'"):
        page(run.path, baseline="dpo")


def test_failures_and_disagreements_are_counted_and_listed(run: Any, page: Build) -> None:
    in_run(
        run,
        judged(81, 1, 7, text="I say [[7]], or rather [[3]]"),
        judged(82, 1, -1, text="No verdict at all"),
        judged(83, 1, 8),
    )
    report = page(run.path)
    assert report.row("base", "7.50", "1") == ["base", "7.50", "1", "5.50", "1"]  # (7 + 8) / 2 and (3 + 8) / 2
    assert "1 of 3 judgments without a verdict, 1 that the two rules read differently" in report.text
    assert report.row("81", "1", "base") == [
        "81", "1", "base", "7", "3", "FastChat's rule says 7, the strict reader 3", "I say [[7]], or rather [[3]]",
    ]  # fmt: skip
    assert report.row("82", "1", "base")[3:] == ["none", "none", "no score by either rule", "No verdict at all"]
    assert "MT-Bench: judgments without a verdict, listed with the scores and counted nowhere: 1." in report.text


def test_a_long_list_is_cut_and_says_so(run: Any, page: Build) -> None:
    in_run(run, *(judged(81 + number, 1, -1, text=f"none {number}") for number in range(120)))
    report = page(run.path)
    assert "120 of 120 judgments without a verdict" in report.text
    assert "and 20 more" in report.text
    listed = [row[-1] for row in report.rows if row[-1].startswith("none ")]
    assert listed == [f"none {number}" for number in range(100)]


def test_judge_variance_over_repeats(run: Any, page: Build) -> None:
    in_run(
        run,
        *(judged(81, 1, score, repeat=number) for number, score in enumerate((4, 8, 6), 1)),
        judged(82, 1, 5, repeat=1),
    )
    report = page(run.path)
    assert report.row("base")[1] == "5.50 [1.00, 10.00]"
    # Of 4, 8, 6: 2. Averages of the repeats: 4.5, 8, 6; their standard deviation is 1.756.
    assert ["base", "3", "2.00", "1.756"] in report.rows
    assert "Scores are medians over repeats." in report.text


def test_pairs_and_position_bias(run: Any, page: Build) -> None:
    games = [
        ("model_1", "model_1"),
        ("model_1", "model_2"),
        ("tie", "tie"),
        ("model_2", "model_2"),
        ("model_2", "model_2"),
        ("error", "tie"),
    ]
    path = run.path / judgments_stage("main", "base-vs-dpop") / "judge_pair.jsonl"
    write(path, *(paired(81 + number, *each) for number, each in enumerate(games)), settings=SETTINGS)
    report = page(run.path)
    assert report.row("dpop")[:4] == ["dpop", "2", "1", "2"]
    assert report.row("dpop")[4].startswith("60.0% [")
    assert report.row("base")[4].startswith("40.0% [")
    assert report.row("base")[5] == "1"
    assert "of 5 pairs judged in both orders, the two verdicts agree in 80.0%" in report.text
    assert "the answer shown first in 20.0%, and of the one shown second in 0.0%" in report.text
    assert report.row("86", "1", "base against dpop, game 1")[3:6] == ["error", "none", "no winner by either rule"]
    assert "Scores are from 1 to 10" not in report.text  # there are none
    summary = build_report([run.path], run.path.parent / "report.md", format_="md").read_text(encoding="utf-8")
    assert "| dpop | 2 | 1 | 2 | 60.0% [" in summary


def test_marks_of_answers_and_what_is_missing(run: Any, page: Build) -> None:
    in_run(run, judged(81, 1, 5), missing=[{"question_id": 82}], not_judged=[{}, {}])
    answers = [AnswerRecord(81, "a", "base", (("x", ""),), 0.0, {"marks": ["ok", "empty"]})]
    answers += [AnswerRecord(82, "b", "base", (("x", "y"),), 0.0, {"marks": ["ok", "truncated"]})]
    write(run.path / answers_stage("main", "base") / "base.jsonl", *answers)
    report = page(run.path)
    assert ["model", "ok", "empty", "truncated"] in report.rows
    assert ["base", "2", "1", "1"] in report.rows
    assert "MT-Bench: judgments that are missing, since the judge did not answer: 1." in report.text
    assert "MT-Bench: turns without an answer, which were not judged: 2." in report.text


def test_answers_without_judgments_are_shown_as_such(run: Any, page: Build) -> None:
    file = run.path / answers_stage("main", "base") / "base.jsonl"
    write(file, AnswerRecord(81, "a", "base", (("x",),), 0.0, {"marks": ["ok"]}), settings={"question_set": "sums"})
    run.manifest()
    report = page(run.path)
    assert "sums Not judged yet." in report.text
    assert ["base", "1"] in report.rows


def test_the_demo_s_judge_and_questions_are_never_taken_for_the_real_ones(run: Any, page: Build) -> None:
    record = replace(judged(1, 1, 9), judge=("demo-rule-judge", "single-v1"))
    in_run(run, record, question_set="demo dialogue", judge="demo-rule-judge", demo=True)
    report = page(run.path)
    assert "Demo judge: a rule, not a model." in report.text
    assert "demo dialogue: the judge is a rule of the demo, not a model" in report.text
    assert "MT-Bench" not in report.html


def test_the_demo_s_judge_is_known_by_its_name_where_nothing_else_says_so(tmp_path: Path, page: Build) -> None:
    record = replace(judged(1, 1, 9), judge=("demo-rule-judge", "single-v1"))
    assert "Demo judge: a rule, not a model." in page(write(tmp_path / "x.jsonl", record)).text


def test_what_served_the_judge_s_name_is_shown(run: Any, page: Build) -> None:
    in_run(
        run, judged(81, 1, 5, replies=[{"served_by": "gpt-4-0613-eu"}]), judged(82, 1, 5, replies=[{"served_by": None}])
    )
    assert "Judged by gpt-4-0613 (answered by gpt-4-0613-eu), with" in page(run.path).text


def test_fastchat_s_own_files_and_folders(tmp_path: Path, page: Build) -> None:
    file = write(tmp_path / "mt_bench" / "model_judgment" / "gpt-4_single.jsonl", *base_and_dpop())
    for path in (file, tmp_path / "mt_bench"):
        report = page(path)
        assert "The files do not say which questions were asked." in report.text
        assert report.row("dpop")[3] == "5.50 [1.00, 10.00]"
        assert "2 models: base baseline dpop" in report.text
        assert "MT-Bench" not in report.html


def test_files_of_one_judge_share_a_table_and_models_keep_apart(tmp_path: Path, page: Build) -> None:
    first = write(tmp_path / "first.jsonl", judged(81, 1, 4), judged(81, 1, 6, "dpop"))
    second = write(tmp_path / "second.jsonl", judged(81, 1, 9), replace(judged(81, 1, 2, "sft"), judge=("claude", "x")))
    report = page(first, second)
    assert [report.row(name)[1] for name in ("first/base", "second/base", "dpop", "sft")] == [
        "4.00",
        "9.00",
        "6.00",
        "2.00",
    ]
    assert report.text.count("Judged by ") == 2


def test_duplicates_are_noted_and_torn_lines_warned_of(tmp_path: Path, page: Build) -> None:
    path = write(tmp_path / "twice.jsonl", judged(81, 1, 4), judged(81, 1, 6))
    path.write_bytes(path.read_bytes() + b'{"question_id"')
    report = page(path)
    assert (
        "Note: judgments of a question and turn that an earlier line judges: 1; each counts, as in show_result."
        in report.text
    )
    assert "twice.jsonl: the last line was never finished and is left out." in report.text


def test_nothing_from_the_files_can_do_harm(tmp_path: Path, page: Build) -> None:
    hostile = '<script>alert(1)</script>{{ 7 * 7 }}"><img src=x onerror=alert(1)>\u202e'
    record = replace(judged(81, 1, -1, hostile, text=hostile + "no verdict"), judge=(hostile, "x"))
    settings = {"question_set": hostile, "references": hostile, "missing": "not a list", hostile: [hostile]}
    marked = AnswerRecord(81, "a", hostile, (("x",),), 0.0, {"marks": [hostile]})
    folder = tmp_path / "bench"
    write(folder / "model_answer" / "m.jsonl", marked)
    write(folder / "model_judgment" / "j.jsonl", record, settings=settings)
    report = page(folder)
    tags = [tag for tag, _ in report.elements]
    assert tags.count("script") == 1  # the page's own
    assert not {"img", "svg"} & set(tags)
    assert "{{ 7 * 7 }}" in report.text
    assert "⟨U+202E⟩" in report.text
    assert "\u202e" not in report.html


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"doc": 1}\n')
    with pytest.raises(SmaugError, match=r"x\.jsonl, line 1: neither a judgment of one answer"):
        build_report([tmp_path / "x.jsonl"], tmp_path / "report.html")


def test_judgments_stand_beside_leaderboard_scores(run: Any, page: Build) -> None:
    run.evaluation("base", {"odd": 0.5}).evaluation("dpop", {"odd": 0.6})
    in_run(run, *base_and_dpop())
    report = page(run.path)
    assert report.row("odd", "acc")[2].startswith("0.5 ")
    assert report.row("base baseline")[3] == "5.00 [1.00, 10.00]"
    assert "no evaluation results yet" not in report.text


def test_the_real_judgments(shared: Path, page: Build) -> None:
    files = sorted((shared / "mt_bench" / "model_judgment").glob("*.jsonl"))
    report = page(*files)
    assert [cell.split(" [")[0] for cell in report.row("vicuna-7b-v1.3")[1:4]] == ["6.73", "5.47", "6.10"]
    assert report.row("unify")[-2:] == ["159", "1"]
    assert report.row("phi-3-dpo")[1:4] == ["20", "18", "35"]
    assert "4 of 950 judgments without a verdict, 0 that the two rules read differently" in report.text
    assert "agree in 63.0%, differ in favour of the answer shown first in 32.9%" in report.text


@pytest.mark.parametrize("failed", ["base", "dpop"])
def test_a_model_whose_judgments_all_failed_is_counted_and_not_compared(run: Any, page: Build, failed: str) -> None:
    records = [judged(81 + number, 1, 5.0, model) for number in range(3) for model in ("base", "dpop")]
    in_run(run, *(replace(each, score=-1, judgment="?") if each.model == failed else each for each in records))
    report = page(run.path)
    scored = next(row for row in report.rows if row[0].split()[0] == failed and len(row) > 5)
    assert scored[-2:] == ["0", "3"]
    assert "is scored" not in report.text
