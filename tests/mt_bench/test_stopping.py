"""Judging that stops when models are told apart: which questions, resume, the rest later, and what readers say."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import smaug_eval
from smaug_eval.cli import app
from smaug_eval.common.errors import Incomplete, SmaugError
from smaug_eval.mt_bench.files.record_files import read_judgments
from smaug_eval.mt_bench.scores.single import compare, single_scores
from smaug_eval.runs.mt_bench import JudgeResult, load_judgments
from smaug_eval.stats import Drawn, Outcome, mean_interval
from tests.mt_bench.test_sets import bench

SIZE, WITHIN = 40, 2.5


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty questions of two turns; each answer says which model gave it."""
    rows = [{"question_id": n, "category": "x", "turns": [f"Ask {n}?", f"Go on {n}?"]} for n in range(1, SIZE + 1)]
    models = ("base", "good", "same")
    answers = {model: [[f"{model} {n}.", f"{model} {n} more."] for n in range(1, SIZE + 1)] for model in models}
    return bench(tmp_path_factory.mktemp("stopping") / "bench", rows, answers)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bench"))


@pytest.fixture(scope="module")
def within(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Judge]:
    """A judging that stopped for both models, and its judge."""
    folder = tmp_path_factory.mktemp("within") / "bench"
    shutil.copytree(made, folder)
    judge = Judge()
    judged(folder, judge, within=WITHIN)
    return folder, judge


class Judge:
    """Rates by who answered, and counts; ``good`` is clearly ahead and ``same`` just as good as ``base``."""

    def __init__(self, broken: int | None = None, silent: int | None = None) -> None:
        self.asked: list[str] = []
        self.broken, self.silent = broken, silent

    def __call__(self, system: str, user: str) -> str:
        if self.broken is not None and len(self.asked) >= self.broken:
            raise RuntimeError("no more")
        answer = re.findall(r"(base|good|same) (\d+)( more)?\.", user)[-1]
        self.asked.append(" ".join(answer).strip())
        if int(answer[1]) == self.silent:
            return "I cannot say."
        return f"[[{score(answer[0], int(answer[1]))}]]"


def score(model: str, number: int) -> int:
    return 2 + number % 4 + (4 if model == "good" else 0)


def judged(folder: Path, judge: Judge, **changed: Any) -> JudgeResult:
    files = [folder / "model_answer" / f"{name}.jsonl" for name in ("base", "good", "same")]
    settings = {"stop": "decided", "against": "base", "model": "judge-1", **changed}
    return smaug_eval.judge_mt_bench(files, folder, judge=judge, questions=folder, **settings)


def decisions(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "model_judgment/judge-1_single.decisions.json").read_text())
    return found


def test_each_model_stops_for_itself_on_the_same_questions(folder: Path) -> None:
    judge = Judge()
    judged(folder, judge)
    found = decisions(folder)["models"]
    good, same = found["good"], found["same"]
    assert (good["outcome"], good["n"]) == ("better", 14)
    assert (same["outcome"], same["n"]) == ("inconclusive", SIZE)  # equal on every question: never better or worse
    assert same["interval"] == pytest.approx([0, 0], abs=1e-6)
    # The difference is 4 on every one; each look's interval holds, so what is left is what all of them hold.
    looks = [mean_interval(Drawn(np.full(n, 4.0), SIZE, 9.0)) for n in (10, 12, 14)]
    assert good["interval"] == pytest.approx((max(low for low, _ in looks), min(high for _, high in looks)), abs=1e-9)
    assert looks[-2][0] < 0 < looks[-1][0]
    by_model = {model: {line.split()[1] for line in judge.asked if line.startswith(model)} for model in found}
    assert by_model["good"] <= by_model["base"]
    assert len(by_model["good"]) == 14
    assert len(judge.asked) == len(set(judge.asked)) == 2 * (14 + SIZE + SIZE)


def test_within_a_margin_equal_models_stop(within: tuple[Path, Judge]) -> None:
    folder, judge = within
    found = decisions(folder)["models"]
    assert found["same"]["outcome"] == "no detectable difference"
    n = found["same"]["n"]
    assert n < SIZE
    assert found["base"]["n"] == n
    assert -WITHIN <= found["same"]["interval"][0] <= 0 <= found["same"]["interval"][1] <= WITHIN
    assert len(judge.asked) == 2 * (14 + n + n)
    values = [score("base", int(line.split()[1])) for line in judge.asked if line.startswith("base")]
    low, high = found["base"]["score_interval"]
    assert low < np.mean(values) < high
    assert low < 3.5 < high  # of all questions


def test_the_order_is_of_the_seed(folder: Path, tmp_path: Path) -> None:
    def first(seed: int) -> set[str]:
        judge = Judge()
        files = [folder / "model_answer" / f"{name}.jsonl" for name in ("base", "good")]
        smaug_eval.judge_mt_bench(
            files, tmp_path / f"{seed} {len(list(tmp_path.iterdir()))}", judge=judge, questions=folder, stop="decided",
            against="base", seed=seed,
        )  # fmt: skip
        return {line.split()[1] for line in judge.asked}

    assert first(1) == first(1) != first(2)
    assert first(1) != {str(n) for n in range(1, 15)}


def test_a_judge_that_fails_is_asked_for_the_rest_alone(folder: Path, within: tuple[Path, Judge]) -> None:
    whole, judge = within
    broken = Judge(broken=25)
    with pytest.raises(Incomplete):
        judged(folder, broken, within=WITHIN, attempts=1, backoff=0.0, concurrency=1)
    again = Judge()
    judged(folder, again, within=WITHIN)
    assert decisions(folder) == decisions(whole)
    assert sorted(broken.asked + again.asked) == sorted(judge.asked)


def test_later_completion_asks_only_for_the_rest(within: tuple[Path, Judge], tmp_path: Path) -> None:
    first, rest, all_ = within[1], Judge(), Judge()
    folder = Path(shutil.copytree(within[0], tmp_path / "bench"))
    done = judged(folder, rest, stop=None, against=None)
    assert len(first.asked) + len(rest.asked) == len(set(first.asked + rest.asked)) == 3 * 2 * SIZE
    other = smaug_eval.judge_mt_bench(folder, tmp_path / "whole", judge=all_, questions=folder, model="judge-1")
    files = [read_judgments([each.file]).single for each in (done, other)]
    assert [(r.model, r.question_id, r.turn, r.score) for r in files[0]] == [
        (r.model, r.question_id, r.turn, r.score) for r in files[1]
    ]
    assert not any("stopped" in each.smaug for each in files[0])
    assert not list(folder.glob("model_judgment/*.decisions.json"))
    assert single_scores(files[0]) == single_scores(files[1])


def test_a_question_without_a_verdict_leaves_the_comparison_open(folder: Path, within: tuple[Path, Judge]) -> None:
    files = [folder / "model_answer" / f"{name}.jsonl" for name in ("base", "good")]
    settings: dict[str, Any] = {"questions": folder, "stop": "decided", "against": "base", "model": "judge-1"}
    asked = next(line for line in within[1].asked if line.startswith("good"))
    result = smaug_eval.judge_mt_bench(files, folder, judge=Judge(silent=int(asked.split()[1])), **settings)
    assert decisions(folder)["models"]["good"]["n"] == SIZE
    assert not any("stopped" in each.smaug for each in load_judgments([result.file]).single)


def test_readers_show_the_anytime_interval_and_no_other(within: tuple[Path, Judge], tmp_path: Path) -> None:
    folder = within[0]
    file = folder / "model_judgment/judge-1_single.jsonl"
    found = decisions(folder)["models"]
    n = found["good"]["n"]
    records = load_judgments([file]).single
    scores = single_scores(records)
    assert scores["good"].intervals == {
        "turn1": None, "turn2": None, "average": pytest.approx(tuple(found["good"]["score_interval"])),
    }  # fmt: skip
    assert all(each.interval is None for each in scores["good"].by_category.values())
    apart = compare(records, "good", "base")
    assert apart is not None
    assert (apart.interval, apart.p_value) == (tuple(found["good"]["interval"]), None)
    assert apart.decided is Outcome.BETTER
    turned = compare(records, "base", "good")
    assert turned is not None
    assert turned.interval == pytest.approx((-found["good"]["interval"][1], -found["good"]["interval"][0]))
    assert turned.decided is Outcome.WORSE
    untested = compare(records, "good", "same")
    assert untested is not None
    assert (untested.interval, untested.p_value, untested.decided) == (None, None, Outcome.INCONCLUSIVE)

    shown = CliRunner().invoke(app, ["mt-bench", "score", str(file)])
    assert f"good: stopped after {n} of {SIZE} questions, anytime-valid" in " ".join(shown.output.split())
    low, high = found["good"]["score_interval"]
    assert f"{low:.2f} - {high:.2f}" in shown.output
    page = re.sub(r"<[^>]+>", " ", smaug_eval.report(folder, tmp_path / "r.html", baseline="base").read_text())
    assert f"stopped after {n} of {SIZE} questions, anytime-valid: interval" in " ".join(page.split())
    text = smaug_eval.report(folder, tmp_path / "r.md", format_="md", baseline="base").read_text()
    assert f"stopped after {n} of {SIZE} questions, anytime-valid" in text
    assert "p = " not in text


def test_one_model_alone_has_nothing_to_stop_by(folder: Path) -> None:
    with pytest.raises(SmaugError, match="there is no model to compare with"):
        smaug_eval.judge_mt_bench(
            folder / "model_answer/base.jsonl", folder, judge=Judge(), questions=folder, stop="decided"
        )
    with pytest.raises(SmaugError, match="nothing to compare with 'bas'"):
        judged(folder, Judge(), against="bas")


@pytest.mark.slow
def test_a_run_stops_and_is_completed(folder: Path, tmp_path: Path) -> None:
    """Stages of a recipe; the demo's rule judges eight questions, of which none is left out, and then all again."""
    talk = {"questions": "demo", "chat_template": "plain", "max_new_tokens": 8, "engine": "torch", "judge": "demo"}
    content = {
        "name": "small",
        "model": {"path": "embedded:demo-model", "dtype": "float32"},
        "models": {"twin": {"path": "embedded:demo-model", "dtype": "float32"}},
        "mt_bench": {"talk": {**talk, "stop": "decided", "within": 8}},
    }
    done = smaug_eval.run(content, runs=tmp_path)
    assert [name for name in done.did if "answer" not in name] == [
        "mt-bench/talk/decided",
        "mt-bench/talk/model_judgment/base",
        "mt-bench/talk/model_judgment/twin",
        "report",
    ]
    assert smaug_eval.run(content, runs=tmp_path).did == ()
    (found,) = (done.path / "mt-bench/talk/decided").glob("*.decisions.json")
    assert json.loads(found.read_text())["models"]["twin"]["interval"] == pytest.approx([0, 0], abs=1e-6)
    file = done.path / "mt-bench/talk/model_judgment/twin/demo-rule-judge_single.jsonl"
    assert {each.model for each in read_judgments([file]).single} == {"twin"}
    content["mt_bench"]["talk"] = talk
    completed = smaug_eval.run(content, runs=tmp_path)
    assert completed.did == ("mt-bench/talk/model_judgment/base", "mt-bench/talk/model_judgment/twin", "report")
    assert len(read_judgments([file]).single) == 16
