"""Evaluations that stop when they are decided: keys, documents, completion, report, and what is refused."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import smaug_eval
from smaug_eval.cli import app
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import Interrupted, SmaugError
from smaug_eval.engines.pool import EnginePool
from smaug_eval.leaderboard import evaluate
from smaug_eval.leaderboard.benchmarks import ifeval
from smaug_eval.leaderboard.orders import DocumentOrder, order_of
from smaug_eval.leaderboard.registry import find_suite
from smaug_eval.reports import build_report
from smaug_eval.results.kept_values import scored_samples
from smaug_eval.results.pairing import ColumnPair, _is_what_was_decided
from smaug_eval.results.sources import read_source
from smaug_eval.results.stopping import Decided, EarlyStop
from smaug_eval.runs import deciding
from smaug_eval.runs.jobs import EvaluationJob, Workplace
from smaug_eval.runs.recipe_file import parse_recipe
from smaug_eval.stats import Drawn, Outcome, mean_interval
from tests.leaderboard import v2_mirror
from tests.lm_eval_folder import write_mirror, write_tasks

MODEL = "embedded:demo-model"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model much worse than the demo's, and runs."""
    place = tmp_path_factory.mktemp("stopping")
    shutil.copytree(embedded_path(MODEL), place / "worse")
    file = place / "worse/model.safetensors"
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: value + 0.03 * torch.randn(value.shape, generator=generator) for name, value in load_file(file).items()
    }
    save_file(weights, file, metadata={"format": "pt"})
    return place


def recipe(place: Path, name: str = "stop", **changed: Any) -> dict[str, Any]:
    evaluation = {"suite": "demo", "tasks": ["facts", "subjects"], "engine": "torch", "device": "cpu", **changed}
    return {
        "name": name,
        "model": {"path": MODEL, "dtype": "float32"},
        "models": {"worse": {"path": str(place / "worse"), "dtype": "float32"}},
        "evaluations": {"demo": {key: value for key, value in evaluation.items() if value is not None}},
    }


@pytest.fixture(scope="module")
def stopped(place: Path) -> Path:
    """A run that was interrupted after the first model's first answers, and called again."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deciding.Rounds, "_compare", interrupt)
        with pytest.raises(Interrupted, match="compare base, worse until demo is"):
            smaug_eval.run(recipe(place, stop="decided"), runs=place / "runs")
    return smaug_eval.run(recipe(place, stop="decided"), runs=place / "runs").path


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """Both models in full, computed without a journal of anything else."""
    return smaug_eval.run(recipe(place, "whole", tasks=["facts"]), runs=place / "runs").path


def samples(run: Path, model: str, column: str, task: str) -> dict[int, Mapping[str, Any]]:
    (file,) = (run / "eval" / model / "demo" / column).glob(f"samples_{task}_2*.jsonl")
    return {line["doc_id"]: line for line in map(json.loads, file.read_text().splitlines())}


def message(content: dict[str, Any]) -> str:
    with pytest.raises(SmaugError) as error:
        parse_recipe(content)
    return error.value.message


class TestKeys:
    @pytest.mark.parametrize(
        ("changed", "expected"),
        [
            ({"within": 2}, "within does nothing without stop"),
            ({"against": "base"}, "against does nothing without stop"),
            ({"stop": "decided", "limit": 10}, "limit and stop both say which documents are scored"),
            ({"stop": "decided", "sampling": {}}, "stop compares one greedy answer"),
            ({"stop": "decided", "engine": "hf"}, "stop needs an engine that keeps a journal, and hf does not"),
            ({"stop": "early"}, "stop = 'early': unknown; there is decided"),
            ({"stop": "decided", "against": "wors"}, "no such model or results"),
            ({"stop": "decided", "models": ["base"]}, "there is no model to compare with 'base'"),
        ],
    )
    def test_what_does_not_fit_is_named(self, changed: dict[str, Any], expected: str, tmp_path: Path) -> None:
        assert expected in message({**recipe(tmp_path, **changed), "report": {"baseline": "base"}})

    def test_the_baseline_is_one_of_the_models_scored(self, tmp_path: Path) -> None:
        content = recipe(tmp_path, stop="decided", models=["worse"], against="base")
        assert "evaluations.demo.against: 'base' is none of the models of this evaluation" in message(content)

    @pytest.mark.parametrize(
        ("changed", "expected"),
        [
            ({"judge": None}, "stop says which answers are judged, and there is no judge"),
            ({"stop": None, "within": 1}, "within does nothing without stop"),
            ({"judge": {"demo": True, "mode": "pairwise-all"}}, "stop compares ratings of single answers"),
            ({"against": "wors"}, "'wors' is none of the models that answer; did you mean 'worse'?"),
            ({"models": ["base"]}, "there is no model to compare with 'base'"),
        ],
    )
    def test_what_does_not_fit_of_mt_bench_is_named(self, changed: dict[str, Any], expected: str) -> None:
        talk = {"questions": "demo", "judge": "demo", "stop": "decided", **changed}
        content = {"name": "x", "model": MODEL, "models": {"worse": MODEL}, "mt_bench": {"talk": talk}}
        assert expected in message(content)

    def test_a_published_row_is_never_reproduced_by_a_stopped_score(self) -> None:
        with pytest.raises(SmaugError, match="stops early stands for no published row"):
            smaug_eval.reproduce(MODEL, against="abacusai/Smaug-72B-v0.1", stop="decided")

    def test_the_command_line_takes_the_keys(self) -> None:
        told = CliRunner().invoke(app, ["eval", MODEL, "--suite", "demo", "--within", "1"])
        assert told.exit_code == 1
        assert "within does nothing without stop" in str(told.exception)
        told = CliRunner().invoke(app, ["eval", MODEL, "--suite", "demo", "--stop", "decided"])
        assert "there is no model to compare with 'base'" in str(told.exception)

    def test_the_plan_says_that_it_is_the_most(self, place: Path) -> None:
        found = smaug_eval.plan(recipe(place, stop="decided"), gpus="H200x1")
        assert any(line.startswith("evaluations.demo stops when it is decided") for line in found.assumptions)

    def test_stages_without_the_key_are_as_they_were(self, place: Path) -> None:
        plain = smaug_eval.prepare(recipe(place), runs=place / "none")
        names = [stage.name for stage in plain.stages]
        assert names == [
            f"eval/{model}/demo/{column}" for model in ("base", "worse") for column in ("facts", "subjects")
        ] + ["report"]
        assert plain.stages[0].inputs.keys() == {
            "suite",
            "task",
            "limit",
            "engine",
            "engine_args",
            "dtype",
            "data",
            "model",
        }


class TestOrder:
    def test_every_document_comes_once_and_for_a_seed_always_so(self) -> None:
        order = DocumentOrder("t", {"a": 3, "b": 7}, seed=5)
        keys = list(order.keys(0, 10))
        assert sorted(keys) == [("a", n) for n in range(3)] + [("b", n) for n in range(7)]
        assert keys == list(DocumentOrder("t", {"a": 3, "b": 7}, seed=5).keys(0, 10))
        assert keys != list(DocumentOrder("t", {"a": 3, "b": 7}, seed=6).keys(0, 10))

    def test_weights_make_the_mean_of_documents_the_mean_of_tasks(self) -> None:
        order = DocumentOrder("t", {"a": 2, "b": 8}, seed=0)
        values = np.array([1.0 if task == "a" else 0.25 for task, _ in order.keys(0, 10)])
        assert float((order.weights * values).mean()) == pytest.approx((1.0 + 0.25) / 2)
        assert order.bound == 10 / (2 * 2)

    def test_a_group_is_weighted_as_it_says(self) -> None:
        sizes, means = {"a": 2, "b": 8}, {"a": 1.0, "b": 0.25}
        for weighted, score in ((True, 0.4), (False, 0.625)):
            order = DocumentOrder("t", sizes, 0, weighted, needs_each=True)
            values = np.array([means[task] for task, _ in order.keys(0, 10)])
            assert float((order.weights * values).mean()) == pytest.approx(score)
            first = [task for task, _ in order.keys(0, 10)].index("a")
            assert not order.may_end(first)  # lm-eval gives no score of a group that lacks a task
            assert order.may_end(10)


def answered(order: DocumentOrder, seed: int) -> tuple[list[float], dict[str, list[float]]]:
    """Values of documents in their order, some tasks worse than guessing; and by task."""
    generator = np.random.default_rng(seed)
    chances = {task: generator.uniform(0.05, 0.9) for task in order.sizes}
    values, by_task = [], {task: [] for task in order.sizes}
    for task, _ in order.keys(0, order.size):
        values.append(float(generator.random() < chances[task]))
        by_task[task].append(values[-1])
    return values, by_task


def course_of(order: DocumentOrder, *values: list[float]) -> deciding._Course:
    return deciding._Course(deciding.ColumnToDecide("t", "acc", order), *values)


class TestSecondLeaderboard:
    """What the sequence bounds is the column's own score, by the program that scores results."""

    @pytest.mark.parametrize("title", ["BBH", "MATH Lvl 5", "GPQA", "MuSR", "MMLU-Pro"])
    def test_with_all_documents_it_is_the_difference_of_the_scores(self, title: str) -> None:
        column = next(each for each in find_suite("open_llm_v2").columns if each.title == title)
        sizes = {leaf.name: 20 + 7 * number for number, leaf in enumerate(column.leaves)}
        order = DocumentOrder(
            title, sizes, 3, column.weighted_by_size,
            floors=column.floors if any(column.floors) else (), floor=column.floor, needs_each=True,
        )  # fmt: skip
        (own, by_task), (other, theirs) = answered(order, 5), answered(order, 7)
        scores = [
            column.normalised([float(np.mean(side[leaf.name])) for leaf in column.leaves], list(sizes.values()))
            for side in (by_task, theirs)
        ]
        course = course_of(order, own, other)
        assert course.difference == pytest.approx(scores[0] - scores[1], abs=1e-9)
        assert course.difference_interval(0.05) == pytest.approx((scores[0] - scores[1],) * 2, abs=1e-6)
        assert course.score_interval() == pytest.approx((scores[0],) * 2, abs=1e-6)
        half = order.size // 2
        low, high = course_of(order, own[:half], other[:half]).difference_interval(0.05)
        assert low < scores[0] - scores[1] < high
        low, high = course_of(order, own[:half], other[:half]).score_interval()
        assert 0 <= low < scores[0] < high

    def test_ifeval_is_the_mean_of_prompts_and_instructions(self) -> None:
        generator = np.random.default_rng(0)
        entries = tuple(generator.integers(1, 4, 60).tolist())
        order = DocumentOrder("ifeval", {"ifeval": 60}, 1, entries=entries)
        rows, scores = [], []
        for chance in (0.7, 0.5):
            kept = [[bool(each) for each in generator.random(n) < chance] for n in entries]
            results = {
                "prompt_level_strict_acc,none": float(np.mean([all(each) for each in kept])),
                "inst_level_strict_acc,none": sum(map(sum, kept)) / sum(entries),
            }
            scores.append(ifeval.entry(results)["strict_acc,none"])
            samples = [
                {"doc_id": n, "prompt_level_strict_acc": all(each), "inst_level_strict_acc": each}
                for n, each in enumerate(kept)
            ]
            read = {each.number: each.value for each in scored_samples(samples, ifeval.BOTH, order.per_entry)}
            rows.append([read[number] for _, number in order.keys(0, 60)])
        course = course_of(order, *rows)
        assert course.difference == pytest.approx(scores[0] - scores[1], abs=1e-9)
        assert course.difference_interval(0.05) == pytest.approx((scores[0] - scores[1],) * 2, abs=1e-6)
        assert course.score_interval() == pytest.approx((scores[0],) * 2, abs=1e-6)
        assert max(rows[0]) <= order.largest.max()
        assert order.bound == pytest.approx((1 + 3 * 60 / sum(entries)) / 2)
        low, high = course_of(order, rows[0][:30], rows[1][:30]).difference_interval(0.05)
        assert low < scores[0] - scores[1] < high

    def test_documents_of_two_levels_are_known_again(self) -> None:
        # Rows as the report reads IFEval's: prompt followed, instructions followed, instructions.
        own, other = np.array([[1, 2, 2], [0, 1, 3]], float), np.array([[0, 1, 2], [0, 2, 3]], float)
        # With 2/3 for an instruction: (1 + 2/3) and -2/3, so 1/2 on average.
        stopped = EarlyStop(2, 9, found=Decided(1.0, (0, 2), Outcome.INCONCLUSIVE), apart=50.0, per_entry=2 / 3)
        pair = ColumnPair([(own, other)], None)
        assert _is_what_was_decided(pair, stopped)
        assert not _is_what_was_decided(pair, replace(stopped, apart=49.9))
        assert not _is_what_was_decided(pair, replace(stopped, n=3))
        plain = ColumnPair([(np.array([1.0]), np.array([0.0])), (np.array([0.0]), np.array([0.0]))], None)
        assert _is_what_was_decided(plain, stopped)

    @pytest.mark.slow
    def test_a_run_stops_and_the_report_shows_the_normalised_difference(self, place: Path) -> None:
        """BBH of a mirror: 24 tasks of three documents."""
        root = v2_mirror.write_mirror(place / "v2")
        asked = {"suite": "open_llm_v2", "tasks": ["bbh"], "stop": "decided", "within": 95}
        done = smaug_eval.run({**recipe(place, "second", **asked), "data_root": str(root)}, runs=place / "runs")
        found = json.loads((done.path / "decided/demo/decisions.json").read_text())["models"]
        column = found["worse"]["columns"]["BBH"]
        assert (column["outcome"], column["of"]) == ("no detectable difference", 72)
        n = column["n"]
        assert n < 72
        bbh = next(each for each in find_suite("open_llm_v2").columns if each.title == "BBH")
        scores = []
        for model in ("worse", "base"):
            folder = next(iter((done.path / "eval" / model / "demo").iterdir()))
            results = json.loads(next(folder.glob("results_*")).read_text())["results"]
            scores.append(100 * bbh.normalised([results[leaf.name]["acc_norm,none"] for leaf in bbh.leaves], [1] * 24))
        low, high = column["interval"]
        assert low <= scores[0] - scores[1] <= high
        page = re.sub(r"<[^>]+>", " ", done.report.read_text())
        assert f"stopped after {n} of 72 documents, anytime-valid: interval for all 72" in page
        numbers = json.dumps(json.loads(build_report([done.path], place / "v2.json", format_="json").read_text()))
        assert json.dumps(low)[:8] in numbers
        own = found["base"]["columns"]["BBH"]["score_interval"]
        assert 0 <= own[0] <= scores[1] <= own[1]

    def test_orders_of_the_suite_have_its_rules(self, tmp_path: Path) -> None:
        suite = find_suite("open_llm_v2")
        root = v2_mirror.write_mirror(tmp_path)
        orders = {each.title: order_of(suite, each, root, 0) for each in suite.columns}
        assert orders["IFEval"].entries == (1, 2)
        assert orders["IFEval"].per_entry == pytest.approx(2 / 3)
        assert (orders["GPQA"].floor, orders["GPQA"].floors, orders["GPQA"].weighted_by_size) == (0.25, (), True)
        assert orders["MMLU-Pro"].floors == (0.1,)
        assert orders["BBH"].floors[0] == 0.5
        assert orders["MATH Lvl 5"].floors == ()
        assert [each.needs_each for each in orders.values()] == [False, True, False, True, True, True]


@pytest.mark.slow
class TestRun:
    def test_a_column_stops_on_the_first_documents_of_the_order(self, stopped: Path) -> None:
        decisions = json.loads((stopped / "decided/demo/decisions.json").read_text())
        found = decisions["models"]["worse"]["columns"]["Facts"]
        n = found["n"]
        assert n < found["of"] == 120
        assert found["outcome"] == "worse"
        order = DocumentOrder("demo_facts", {"demo_facts": 120}, seed=42)
        wanted = {number for _, number in order.keys(0, n)}
        own, other = (samples(stopped, model, "facts", "demo_facts") for model in ("worse", "base"))
        assert own.keys() == other.keys() == wanted
        values = np.array([own[k]["acc_norm"] - other[k]["acc_norm"] for _, k in order.keys(0, n)])
        assert found["difference"] == pytest.approx(100 * values.mean())
        # Two columns and their average share 5%.
        assert found["interval"] == pytest.approx(
            [100 * end for end in mean_interval(Drawn(values, 120), 0.05 / 3)], abs=0.01
        )

    def test_a_run_that_was_interrupted_computes_no_answer_twice(self, stopped: Path) -> None:
        files = list((stopped / "journal").glob("*.jsonl"))
        assert len(files) == 2  # one of each model
        for file in files:
            lines = [json.loads(line) for line in file.read_text().splitlines()[1:]]
            keys = [key for line in lines for key in line.get("answers", {})]
            assert len(keys) == len(set(keys)) > 200

    def test_scores_are_those_of_the_full_evaluation_on_these_documents(self, stopped: Path, whole: Path) -> None:
        for model in ("base", "worse"):
            own, full = (samples(run, model, "facts", "demo_facts") for run in (stopped, whole))
            for number, line in own.items():
                assert line["acc_norm"] == full[number]["acc_norm"]
                assert line["prompt_hash"] == full[number]["prompt_hash"]

    def test_the_report_says_so_with_the_anytime_interval(self, stopped: Path, tmp_path: Path) -> None:
        numbers = json.loads(build_report([stopped], tmp_path / "r.json", format_="json").read_text())
        page = re.sub(r"<[^>]+>", " ", build_report([stopped], tmp_path / "r.html").read_text())
        decisions = json.loads((stopped / "decided/demo/decisions.json").read_text())["models"]["worse"]
        facts = decisions["columns"]["Facts"]
        assert f"stopped after {facts['n']} of 120 documents, anytime-valid" in page
        assert "for other documents than these 120 the interval is" in page
        brief = build_report([stopped], tmp_path / "r.md", format_="md").read_text()
        assert "stopped as soon as it was decided, with anytime-valid intervals and no p values" in brief
        assert "Columns that stopped early have anytime-valid intervals" in brief
        text = json.dumps(numbers)
        assert json.dumps(facts["interval"][0])[:8] in text
        assert json.dumps(decisions["average"]["interval"][0])[:8] in text

    def test_no_rank_and_no_verdict_on_a_published_row(self, stopped: Path, place: Path) -> None:
        results = read_source(stopped).results["worse"]
        assert results["demo_facts"].stopped is not None
        copied = place / "copied"
        shutil.copytree(stopped / "eval/worse/demo/facts", copied, dirs_exist_ok=True)
        (copied / "stage.json").unlink()  # the results file alone says it, too
        shown = read_source(copied).results
        assert next(iter(shown.values()))["demo_facts"].notes[0].startswith("stopped after")

    def test_a_second_call_has_nothing_to_do(self, stopped: Path, place: Path) -> None:
        again = smaug_eval.run(recipe(place, stop="decided"), runs=place / "runs")
        assert again.did == ()

    def test_completion_computes_the_rest_alone_and_equals_the_full_evaluation(
        self, stopped: Path, whole: Path, place: Path
    ) -> None:
        shutil.copytree(stopped, place / "more/stop")
        done = smaug_eval.run(recipe(place, tasks=["facts"]), runs=place / "more")
        record = json.loads((done.path / "eval/worse/demo/facts/stage.json").read_text())
        asked = samples(stopped, "worse", "facts", "demo_facts")
        assert record["summary"]["documents"] == 120
        assert record["summary"]["tokens"]["recalled"] >= len(asked)  # at least one request of each document
        assert "stopped" not in json.loads(next((done.path / "eval/worse/demo/facts").glob("results_*")).read_text())
        for model in ("base", "worse"):
            own, full = (samples(run, model, "facts", "demo_facts") for run in (done.path, whole))
            assert own.keys() == full.keys()
            for number, line in own.items():
                assert line["acc_norm"] == full[number]["acc_norm"]
                ours, theirs = ([each[0] for each in side["filtered_resps"]] for side in (line, full[number]))
                np.testing.assert_allclose(np.array(ours, float), np.array(theirs, float), atol=1e-3)

    def test_against_results_that_are_there(self, whole: Path, stopped: Path, place: Path) -> None:
        """The baseline is not scored again; the difference is the one found when it was."""
        kept = place / "kept"
        if not kept.exists():
            shutil.copytree(whole / "eval/base", kept)
        done = smaug_eval.evaluate(
            str(place / "worse"), against=kept, stop="decided", suite="demo", tasks=["facts"], engine="torch",
            device="cpu", runs=place / "runs", name="against",
        )  # fmt: skip
        found = json.loads((done.path / "decided/demo/decisions.json").read_text())
        assert list(found["models"]) == ["base"]  # the run's only model
        column = found["models"]["base"]["columns"]["Facts"]
        first = json.loads((stopped / "decided/demo/decisions.json").read_text())["models"]["worse"]["columns"]["Facts"]
        assert column["difference"] == pytest.approx(first["difference"])
        page = re.sub(r"<[^>]+>", " ", done.report.read_text())
        assert f"stopped after {column['n']} of 120 documents, anytime-valid: interval for all 120" in page

    def test_results_without_all_documents_are_refused(self, stopped: Path, place: Path) -> None:
        with pytest.raises(SmaugError, match=r"has \d+ of 120 documents of demo_facts"):
            smaug_eval.evaluate(
                str(place / "worse"), against=stopped / "eval/base", stop="decided", suite="demo", tasks=["facts"],
                engine="torch", device="cpu", runs=place / "none",
            )  # fmt: skip


@pytest.mark.slow
def test_a_run_of_several_models_is_no_baseline(stopped: Path) -> None:
    with pytest.raises(SmaugError, match="holds 2 models"):
        smaug_eval.evaluate(
            MODEL, against=stopped, stop="decided", suite="demo", tasks=["facts"], runs=stopped / "none"
        )


class Quiet:
    def say(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def update(self, done: int, total: int, note: str = "") -> None: ...


@pytest.mark.slow
class TestPrompts:
    """Some documents are asked exactly as all of them are."""

    def test_tasks_without_a_document_are_left_out(self, tmp_path: Path) -> None:
        pipeline = smaug_eval.prepare(
            recipe(tmp_path, models=["base"], tasks=["subjects"]) | {"models": {}}, runs=tmp_path
        )
        job = pipeline.stages[0].work
        assert isinstance(job, EvaluationJob)
        wanted = {"demo_subjects_animals": [0, 3], "demo_subjects_village": [31]}
        found = job.samples(wanted, Workplace(EnginePool(), Quiet(), lambda: False))
        assert {task: [each["doc_id"] for each in rows] for task, rows in found.items()} == wanted

    def test_lm_evals_draw_of_shots_is_that_of_all_documents(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_mirror(tmp_path / "data")
        write_tasks(tmp_path / "tasks")
        asked = {"suite": "lm_eval", "include_path": str(tmp_path / "tasks"), "tasks": ["own_choice"], "num_fewshot": 2}
        content = {**recipe(tmp_path, **asked), "models": {}, "data_root": str(tmp_path / "data")}
        job = smaug_eval.prepare(content, runs=tmp_path).stages[0].work
        assert isinstance(job, EvaluationJob)
        place = Workplace(EnginePool(), Quiet(), lambda: False)

        def prompts(numbers: list[int]) -> dict[int, str]:
            return {
                each["doc_id"]: each["prompt_hash"]
                for each in job.samples({"own_choice": numbers}, place)["own_choice"]
            }

        whole = prompts(list(range(13)))
        assert len(set(whole.values())) == 13
        assert prompts([4, 9]) == {4: whole[4], 9: whole[9]}
        monkeypatch.setattr(evaluate, "prompts_of_all", contextlib.nullcontext)
        assert prompts([4, 9]) != {4: whole[4], 9: whole[9]}  # as lm-eval draws them for some documents alone


@pytest.mark.slow
class TestGroups:
    """Groups of lm-eval are asked as a whole, and scored as they say."""

    @pytest.fixture(scope="class")
    def made(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        made = tmp_path_factory.mktemp("groups")
        write_mirror(made / "data", {"train": 9, "test": 90})
        write_tasks(made / "tasks", ["own_choice", "own_first"])
        group = {"group": "own_pair", "task": ["own_choice", "own_first"]}
        group["aggregate_metric_list"] = [{"metric": "acc", "weight_by_size": False}]
        (made / "tasks/own_pair.yaml").write_text(json.dumps(group))
        return made

    def content(self, made: Path, place: Path, **changed: Any) -> dict[str, Any]:
        asked = {"suite": "lm_eval", "include_path": str(made / "tasks"), "tasks": ["own_pair"], **changed}
        return {**recipe(place, "groups", **asked), "data_root": str(made / "data")}

    def test_a_group_stops_with_lm_evals_own_score_of_what_was_asked(self, made: Path, place: Path) -> None:
        done = smaug_eval.run(self.content(made, place, stop="decided", within=50), runs=made / "runs")
        found = json.loads((done.path / "decided/demo/decisions.json").read_text())["models"]["worse"]["columns"]
        column = found["own_pair"]
        assert (column["of"], column["outcome"]) == (180, "no detectable difference")
        n = column["n"]
        assert n < 180
        order = DocumentOrder("own_pair", {"own_choice": 90, "own_first": 90}, 42)
        keys = list(order.keys(0, n))
        sides = []
        for model in ("worse", "base"):
            folder = next(iter((done.path / "eval" / model / "demo").iterdir()))
            results = json.loads(next(folder.glob("results_*")).read_text())
            rows = {}
            for task in order.sizes:
                own = [json.loads(line) for line in next(folder.glob(f"samples_{task}_2*")).read_text().splitlines()]
                rows |= {(task, line["doc_id"]): line["acc"] for line in own}
            assert rows.keys() == set(keys)
            means = [np.mean([value for key, value in rows.items() if key[0] == task]) for task in order.sizes]
            assert results["results"]["own_pair"]["acc,none"] == pytest.approx(np.mean(means))
            sides.append([rows[key] for key in keys])
        assert column["difference"] == pytest.approx(100 * (np.array(sides[0]) - sides[1]).mean())
        page = re.sub(r"<[^>]+>", " ", done.report.read_text())
        assert f"stopped after {n} of 180 documents, anytime-valid: interval for all 180" in page

    def test_a_task_without_a_document_in_a_round_is_asked_its_first(self, made: Path, place: Path) -> None:
        content = self.content(made, place) | {"models": {}}
        job = smaug_eval.prepare(content, runs=made / "none").stages[0].work
        assert isinstance(job, EvaluationJob)
        found = job.samples({"own_choice": [4, 9]}, Workplace(EnginePool(), Quiet(), lambda: False))
        assert {task: [each["doc_id"] for each in rows] for task, rows in found.items()} == {
            "own_choice": [4, 9],
            "own_first": [0],
        }

    def test_a_group_without_a_mean_of_the_metric_is_refused(self, made: Path, place: Path) -> None:
        (made / "tasks/own_silent.yaml").write_text(
            json.dumps({"group": "own_silent", "task": ["own_choice", "own_first"]})
        )
        with pytest.raises(SmaugError, match="own_silent: acc: the group reports no mean of it"):
            smaug_eval.prepare(self.content(made, place, tasks=["own_silent"], stop="decided"), runs=made / "none")


@pytest.mark.slow
def test_against_another_baseline_nothing_is_tested(stopped: Path, tmp_path: Path) -> None:
    text = build_report([stopped], tmp_path / "r.html", baseline="worse").read_text()
    assert "stopped early: nothing is tested" in re.sub(r"<[^>]+>", " ", text)
