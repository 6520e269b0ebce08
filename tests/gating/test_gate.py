"""Planted runs that are better, worse, equal, incomparable or too small, and what a gate says of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.gating import GateResult, Ruling
from smaug_eval.mt_bench.files.layout import settings_file
from smaug_eval.results.comparison import compare
from smaug_eval.results.merging import with_distinct_labels
from smaug_eval.results.sources import read_sources
from tests.results.others import STAMP, accuracy, lines, newest, sample, write

ARC, GSM8K = "open_llm_v1_arc_challenge", "open_llm_v1_gsm8k"
N = 400


def values(right: int, n: int = N, *, flipped: int = 0) -> list[float]:
    """``right`` of ``n`` answers right; ``flipped`` of the right ones and as many of the wrong ones change places."""
    found = np.array([1.0] * right + [0.0] * (n - right))
    found[:flipped] = 0.0
    found[right : right + flipped] = 1.0
    return [float(each) for each in found]


Write = Callable[..., Path]


@pytest.fixture
def planted(write_run: Callable[[str], Any]) -> Write:
    """Writes a run of one checkpoint with the values of two tasks."""

    def write_one(name: str, arc: Sequence[float], gsm8k: Sequence[float] | None = None, **options: Any) -> Path:
        run = write_run(name)
        run.manifest(models={"base": {"source": f"org/{name}"}}, recipe={"trainings": {}})
        for task, metric, own in ((ARC, "acc_norm", arc), (GSM8K, "acc", gsm8k)):
            if own is not None:
                rows = run.samples(own, metric, **options)
                run.evaluation("base", {task: float(np.mean(own))}, metric=metric, n=len(own), samples=rows)
        return Path(run.path)

    return write_one


def by_subject(result: GateResult) -> dict[str, Ruling]:
    return {check.evidence.subject: check.ruling for check in result.checks}


@pytest.mark.parametrize(
    ("right", "flipped", "n", "demand", "verdict", "code"),
    [
        (200, 0, N, {"is": "not worse"}, "pass", 0),  # the same answers
        (200, 10, N, {"is": "not worse"}, "pass", 0),  # 10 gained, 10 lost: ±2.2 points
        (160, 0, N, {"is": "not worse"}, "fail", 4),  # 40 lost, none gained
        (240, 0, N, {"is": "not worse"}, "pass", 0),
        (240, 0, N, {"is": "better"}, "pass", 0),
        (160, 0, N, {"is": "better"}, "fail", 4),
        (200, 10, N, {"is": "better"}, "cannot tell", 5),
        (10, 2, 20, {"is": "not worse"}, "cannot tell", 5),  # 20 documents find no loss of 5 points
        (10, 2, 20, {"is": "not worse", "must_detect": 40}, "pass", 0),
        (200, 10, N, {"not_worse_by_more_than": 3}, "pass", 0),
        (200, 10, N, {"not_worse_by_more_than": 2}, "cannot tell", 5),
        (160, 0, N, {"not_worse_by_more_than": 3}, "fail", 4),
        (200, 0, N, {"at_least": 50}, "pass", 0),
        (199, 0, N, {"at_least": 50}, "fail", 4),
        (200, 0, N, {"at_least": 50, "confident": True}, "cannot tell", 5),
        (240, 0, N, {"at_least": 50, "confident": True}, "pass", 0),
        (160, 0, N, {"at_least": 50, "confident": True}, "fail", 4),
        (160, 0, N, {"at_most": 50}, "pass", 0),
    ],
)
def test_planted_runs_give_the_right_exit_code(
    planted: Write, right: int, flipped: int, n: int, demand: dict[str, Any], verdict: str, code: int
) -> None:
    base = planted("old", values(n // 2, n))
    run = planted("new", values(right, n, flipped=flipped))
    policy = {"requirements": [{"column": "ARC", **demand}]}
    found = smaug_eval.gate(run, base, policy=policy)
    assert (found.verdict, found.exit_code) == (verdict, code)
    assert [check.evidence.n for check in found.checks] == [n]


def test_the_numbers_are_the_report_s(planted: Write) -> None:
    base, run = planted("old", values(200), values(200)), planted("new", values(215, flipped=5), values(150))
    gated = smaug_eval.gate(run, base)
    (name,) = gated.models
    comparison = compare(with_distinct_labels(read_sources([run, base])), title=None, baseline="old")
    (table,) = comparison.tables
    columns = dict(zip(table.columns, table.cells[name], strict=True))
    cells = {**columns, str(table.average_label): table.averages[name]}
    assert len(gated.checks) == 3
    for check in gated.checks:
        cell = cells[check.evidence.subject]
        assert cell is not None
        assert cell.difference is not None
        shown = (check.evidence.difference, check.evidence.interval, check.evidence.adjusted_p, check.evidence.score)
        assert shown == (
            cell.difference.points, cell.difference.interval, cell.difference.adjusted_p, cell.score.value
        )  # fmt: skip
    # 20 gained, 5 lost; exact McNemar, twice the binomial tail of 5 of 25, and Holm's factor 1 after GSM8K's
    assert gated.checks[1].evidence.p_value == pytest.approx(0.00407720, rel=1e-4)
    assert by_subject(gated) == {
        str(table.average_label): Ruling.FAIL, "ARC": Ruling.PASS, "GSM8K": Ruling.FAIL
    }  # fmt: skip
    assert (gated.verdict, gated.exit_code) == ("fail", 4)


def test_one_failure_outweighs_what_cannot_be_told(planted: Write) -> None:
    base, run = planted("old", values(200), values(200)), planted("new", values(100))
    found = smaug_eval.gate(run, base)
    assert found.exit_code == 4
    assert by_subject(found)["GSM8K"] is Ruling.CANNOT_TELL  # a benchmark that was left out does not pass
    assert "was not measured" in next(c.reason for c in found.checks if c.evidence.subject == "GSM8K")
    assert found.words == "of 3 requirements 1 failed, 2 undecided"


def test_what_does_not_compare_never_passes(planted: Write, tmp_path: Path) -> None:
    base = planted("old", values(200))
    other_prompts = planted("new", values(380), prompt="q")
    other_documents = planted("third", values(380), first=N)
    elsewhere = write(
        tmp_path / "lm" / f"results_{STAMP}.json", newest({"own_task": accuracy(0.9)}, model="org/third", n=100)
    ).parent
    demands: list[dict[str, Any]] = [
        {"is": "not worse"}, {"is": "better"}, {"not_worse_by_more_than": 50.0}
    ]  # fmt: skip
    for run in (other_prompts, other_documents, elsewhere):
        for demand in demands:
            for subject in ({"column": "ARC"}, {"column": "all"}, {"average": "all"}):
                found = smaug_eval.gate(run, base, policy={"requirements": [{**subject, **demand}]})
                assert (found.verdict, found.exit_code) == ("cannot tell", 5)
        assert smaug_eval.gate(run, base).exit_code == 5


def test_shots_of_another_rule_are_no_score_of_the_leaderboard(tmp_path: Path) -> None:
    """``at_least`` asks for no baseline, but a number under other rules is not the column's."""
    for name, shots in (("five", 5), ("twentyfive", 25)):
        result = newest(
            {"arc_challenge": accuracy(0.9, 0.01, "acc_norm,none")}, model=f"org/{name}", n=100, shots=shots
        )
        write(tmp_path / name / f"results_{STAMP}.json", result)
    policy = {"requirements": [{"column": "ARC", "at_least": 60}]}
    wrong = smaug_eval.gate(tmp_path / "five", tmp_path / "twentyfive", policy=policy)
    right = smaug_eval.gate(tmp_path / "twentyfive", tmp_path / "five", policy=policy)
    assert (wrong.exit_code, right.exit_code) == (5, 0)
    assert "5 shots" in wrong.checks[0].reason


def test_a_model_is_not_joined_with_the_baseline_of_its_name(tmp_path: Path) -> None:
    """One Hub id in two folders, with no task in common: a report shows one model, a gate compares two."""
    for folder, task in (("old", "task_a"), ("new", "task_b")):
        home = tmp_path / folder
        write(home / f"results_{STAMP}.json", newest({task: accuracy(0.5, 0.05)}, model="org/model", n=100))
    found = smaug_eval.gate(tmp_path / "new", tmp_path / "old")
    assert found.models == ["new/org/model"]
    assert found.baseline == "old/org/model"
    assert {check.ruling for check in found.checks} == {Ruling.CANNOT_TELL}


def test_files_of_lm_eval_are_paired_by_their_samples(tmp_path: Path) -> None:
    for folder, right in (("old", 300), ("new", 330)):
        home = tmp_path / folder
        own = values(right, 600)
        entry = accuracy(float(np.mean(own)), 0.02)
        write(home / f"results_{STAMP}.json", newest({"own_task": entry}, model=f"org/{folder}", n=600))
        write(home / f"samples_own_task_{STAMP}.jsonl", lines([sample(i, each) for i, each in enumerate(own)]))
    found = smaug_eval.gate(
        tmp_path / "new", tmp_path / "old", policy={"requirements": [{"column": "own_task", "is": "better"}]}
    )
    assert (found.exit_code, found.checks[0].evidence.test) == (0, "exact McNemar")
    only_totals = tmp_path / "new" / f"samples_own_task_{STAMP}.jsonl"
    only_totals.unlink()
    found = smaug_eval.gate(tmp_path / "new" / f"results_{STAMP}.json", tmp_path / "old")
    assert found.exit_code == 5  # unpaired: 5 points of 600 independent documents
    assert any("independent" in remark for remark in found.checks[-1].evidence.remarks)


def test_a_metric_in_its_own_unit_counts_in_its_own_direction(tmp_path: Path) -> None:
    for folder, perplexity in (("old", 12.0), ("new", 15.0), ("newer", 9.0)):
        entry = accuracy(perplexity, 0.2, "word_perplexity,none")
        document = newest(
            {"wikitext": entry}, model=f"org/{folder}", n=100, higher_is_better={"wikitext": {"word_perplexity": False}}
        )
        write(tmp_path / folder / f"results_{STAMP}.json", document)
    old = tmp_path / "old"
    assert smaug_eval.gate(tmp_path / "new", old).exit_code == 4
    assert smaug_eval.gate(tmp_path / "newer", old).exit_code == 0
    margin = {"requirements": [{"column": "wikitext", "not_worse_by_more_than": 4.0}]}
    assert smaug_eval.gate(tmp_path / "new", old, policy=margin).exit_code == 0
    ceiling = {"requirements": [{"column": "wikitext", "at_most": 14.0}]}
    assert smaug_eval.gate(tmp_path / "new", old, policy=ceiling).exit_code == 4


def test_the_normalised_scores_of_equal_runs_pass(tmp_path: Path) -> None:
    """The second leaderboard's scores are resampled: of equal documents no interval comes, yet nothing was lost."""
    rng = np.random.default_rng(0)
    own = [float(each) for each in rng.integers(0, 2, 500)]
    for folder in ("old", "new"):
        document = newest(
            {"leaderboard_gpqa_main": accuracy(float(np.mean(own)), 0.02, "acc_norm,none")},
            model=f"org/{folder}",
            n=500,
        )
        write(tmp_path / folder / f"results_{STAMP}.json", document)
        rows = [sample(i, each, "acc_norm") for i, each in enumerate(own)]
        write(tmp_path / folder / f"samples_leaderboard_gpqa_main_{STAMP}.jsonl", lines(rows))
    found = smaug_eval.gate(tmp_path / "new", tmp_path / "old")
    assert found.exit_code == 0
    assert {check.evidence.same_on for check in found.checks} == {500}


def judged(path: Path, scores: dict[str, Sequence[float]]) -> Path:
    rows = [
        {"question_id": n, "model": model, "judge": ["gpt-4", "single-v1"], "score": score, "turn": 1}
        for model, own in scores.items()
        for n, score in enumerate(own)
    ]
    return write(path, lines(rows))


def test_judged_answers_are_gated(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    old = [float(each) for each in rng.integers(3, 8, 80)]
    better = [min(10.0, each + float(gain)) for each, gain in zip(old, rng.integers(0, 3, 80), strict=True)]
    worse = [max(1.0, each - float(loss)) for each, loss in zip(old, rng.integers(0, 4, 80), strict=True)]
    file = judged(tmp_path / "judge_single.jsonl", {"old": old, "better": better, "worse": worse, "same": old})
    demands = {
        "not worse": {"better": 0, "worse": 4, "same": 0}, "better": {"better": 0, "worse": 4, "same": 5}
    }  # fmt: skip
    for demand, codes in demands.items():
        for model, code in codes.items():
            policy = {"requirements": [{"mt_bench": "all", "is": demand}]}
            assert smaug_eval.gate(file, "old", models=model, policy=policy).exit_code == code, (demand, model)
    own = judged(tmp_path / "own.jsonl", {"better": better})
    other = judged(tmp_path / "other.jsonl", {"old": old, "worse": worse})
    found = smaug_eval.gate(
        own, other, baseline_model="old", policy={"requirements": [{"mt_bench": "gpt-4", "at_least": 6}]}
    )
    assert found.checks[0].evidence.score == pytest.approx(np.mean(better))
    assert found.checks[0].evidence.difference == pytest.approx(np.mean(better) - np.mean(old))
    with pytest.raises(SmaugError, match="holds several models: old, worse"):
        smaug_eval.gate(own, other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"judge": ["gpt-4", "single-v2"]}, "the judge's prompt differs on 80 answers"),
        ({"judge": ["gpt-4-turbo", "single-v1"]}, "no scores of single answers of"),  # each lacks the other's set
        (
            {"settings": {"judge": "gpt-4", "mode": "single", "questions_sha256": "b" * 64}},
            "the questions, reference answers or judge's prompts differ",
        ),
    ],
)
def test_answers_judged_otherwise_never_pass(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    files = {}
    for name, score in (("old", 5.0), ("new", 9.0)):
        folder = tmp_path / name / "model_judgment" / "gpt-4"
        judge = change.get("judge", ["gpt-4", "single-v1"]) if name == "new" else ["gpt-4", "single-v1"]
        rows = [{"question_id": n, "model": name, "judge": judge, "score": score + n % 2, "turn": 1} for n in range(80)]
        files[name] = write(folder / "judge_single.jsonl", lines(rows))
        if "settings" in change:
            own = {"judge": "gpt-4", "mode": "single", "questions_sha256": "a" * 64}
            settings_file(files[name]).write_text(json.dumps(change["settings"] if name == "new" else own))
    policy = {"requirements": [{"mt_bench": "all", "is": "better"}]}
    found = smaug_eval.gate(files["new"], files["old"], policy=policy)
    assert (found.exit_code, {check.ruling for check in found.checks}) == (5, {Ruling.CANNOT_TELL})
    assert all(words in check.reason for check in found.checks)
    if "no scores" not in words:  # the report holds the same back, and says why
        numbers = json.loads(read_report([files["old"], files["new"]], tmp_path / "report.json", "json"))
        (pairs,) = (each for each in numbers["pairs"] if "judged" in each)
        assert pairs["pairs"] == []
        assert [(each["model"], each["other"], each["why_not"]) for each in pairs["not_compared"]] == [
            ("new", "old", words)
        ]
        for format_ in ("md", "html"):
            page = read_report([files["old"], files["new"]], tmp_path / f"report.{format_}", format_)
            assert unescape(words) in unescape(page)
            assert "+4.00" not in page


def read_report(paths: list[Path], out: Path, format_: str) -> str:
    return smaug_eval.report(paths, out, format_=format_).read_text()


def test_answers_judged_apart_are_compared_and_both_say_that_nothing_was_checked(tmp_path: Path) -> None:
    files = [judged(tmp_path / f"{name}.jsonl", {name: [score + n % period for n in range(80)]})
             for name, score, period in (("old", 4.0, 2), ("new", 7.0, 3))]  # fmt: skip
    told = "judged apart, and it is not recorded whether questions, references and judge's prompts are the same"
    found = smaug_eval.gate(files[1], files[0], policy={"requirements": [{"mt_bench": "all", "is": "better"}]})
    assert found.exit_code == 0
    assert told in found.checks[0].evidence.remarks
    page = read_report(files, tmp_path / "report.md", "md")
    assert f"new against old: {told}." in page.replace("\\", "")
    together = judged(tmp_path / "both.jsonl", {"old": [5.0, 6.0], "new": [9.0, 9.0]})
    assert "judged apart" not in read_report([together], tmp_path / "together.md", "md")


@pytest.mark.parametrize(
    ("log_ratio", "error", "demand", "code"),
    [
        (-20.0, 1.0, {"is": "not worse"}, 4),
        (-0.5, 1.0, {"is": "not worse"}, 0),  # 2.8 nats would be found
        (-0.5, 4.0, {"is": "not worse"}, 5),  # 11.2 nats
        (8.0, 1.0, {"is": "better"}, 0),
        (-20.0, None, {"is": "not worse"}, 4),  # as the report warns where no error was logged
        (8.0, None, {"is": "better"}, 5),
        (-2.0, 1.0, {"not_worse_by_more_than": 5}, 0),
        (-2.0, 1.0, {"not_worse_by_more_than": 3}, 5),
        (-20.0, 1.0, {"not_worse_by_more_than": 5}, 4),
        (-2.0, 1.0, {"at_least": -3}, 0),
        (-4.0, 1.0, {"at_least": -3}, 4),
    ],
)
def test_the_preferred_answers_log_ratio_is_gated(
    run: Any, log_ratio: float, error: float | None, demand: dict[str, Any], code: int
) -> None:
    run.training("dpo", {"eval": [(0, 0.0, 0.0), (9, log_ratio, -30.0)]}, {"loss": "dpo"})
    if error is not None:
        log = run.path / "train" / "dpo" / "log.jsonl"
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        log.write_text(lines([{**row, "log_ratios/chosen_se": error} for row in rows]))
    found = smaug_eval.gate(run.path, policy={"requirements": [{"log_ratio": "dpo", **demand}]})
    assert found.exit_code == code
    assert found.checks[0].evidence.score == log_ratio


def test_the_models_of_one_run_are_gated_against_its_base(write_run: Callable[[str], Any]) -> None:
    run = write_run("study")
    for model, right in (("base", 200), ("dpo", 150), ("dpop", 240)):
        own = values(right)
        run.evaluation(model, {ARC: right / N}, metric="acc_norm", n=N, samples=run.samples(own))
    every = smaug_eval.gate(run.path)
    assert (every.models, every.baseline, every.exit_code) == (["dpo", "dpop"], "base", 4)
    assert smaug_eval.gate(run.path, models="dpop").exit_code == 0
    assert smaug_eval.gate(run.path, "dpop", models=["dpo"]).exit_code == 4
    against = write_run("older")
    against.evaluation("base", {ARC: 0.5}, metric="acc_norm", n=N, samples=run.samples(values(200)))
    found = smaug_eval.gate(run.path, against.path)
    assert (found.models, found.baseline) == (["dpo", "dpop"], "older/base")  # the run's own base is not gated


def test_names_that_mean_nothing_are_refused(planted: Write, write_run: Callable[[str], Any]) -> None:
    base, run = planted("old", values(200)), planted("new", values(200))
    for given, words in (
        ({"baseline": None}, "there is no baseline"),
        ({"baseline": run}, "is the run itself"),
        ({"baseline": "nowhere/at/all"}, "neither a path that exists nor a model"),
        ({"baseline": "dpo"}, "neither a path that exists nor a model"),
        ({"baseline": base, "models": "dpo"}, "'dpo' is none of the models"),
        ({"baseline": base, "baseline_model": "dpo"}, "'dpo' is none of the models"),
    ):
        with pytest.raises(SmaugError, match=words):
            smaug_eval.gate(run, **given)
    only = write_run("only")
    only.evaluation("base", {ARC: 0.5}, metric="acc_norm", n=N, samples=only.samples(values(200)))
    with pytest.raises(SmaugError, match="no model but the baseline"):
        smaug_eval.gate(only.path)


def test_a_score_of_some_documents_says_so(planted: Write) -> None:
    base, run = planted("old", values(200)), planted("new", values(240))
    found = smaug_eval.gate(run, base, policy={"requirements": [{"column": "ARC", "at_least": 60}]})
    assert found.checks[0].reason == "the score is 60.0 (400 of 1,172 documents)"


def test_an_optional_requirement_needs_no_results(planted: Write) -> None:
    base, run = planted("old", values(200)), planted("new", values(200))
    requirement = {"mt_bench": "all", "is": "not worse"}
    strict = smaug_eval.gate(run, base, policy={"requirements": [requirement]})
    assert (strict.exit_code, strict.checks[0].reason) == (5, "neither side has it")
    arc = {"column": "ARC", "is": "not worse"}
    optional = {**requirement, "optional": True}
    assert smaug_eval.gate(run, base, policy={"requirements": [arc, optional]}).exit_code == 0
    nothing = smaug_eval.gate(run, base, policy={"requirements": [optional]})
    assert nothing.exit_code == 5  # a gate that judged by nothing is not passed


def test_columns_can_be_left_out(planted: Write) -> None:
    base, run = planted("old", values(200), values(200)), planted("new", values(200), values(100))
    for left_out in ("GSM8K", GSM8K):
        policy = {"requirements": [{"column": "all", "except": [left_out], "is": "not worse"}]}
        assert list(by_subject(smaug_eval.gate(run, base, policy=policy))) == ["ARC"]
    misspelt = {"requirements": [{"column": "all", "except": ["GSMK8"], "is": "not worse"}]}
    with pytest.raises(SmaugError, match=r"requirements\.0: column 'GSMK8' is none .*mean 'GSM8K'"):
        smaug_eval.gate(run, base, policy=misspelt)
    one = {"requirements": [{"column": GSM8K, "suite": "open_llm_v1", "is": "not worse"}]}
    assert smaug_eval.gate(run, base, policy=one).exit_code == 4
