"""A study: its section of a recipe, the trainings it becomes, and a small one from beginning to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from rich.console import Console

import smaug_eval
import smaug_eval.trainers.reference_scoring
from smaug_eval.cli.tables.study import grid_of, grid_table, seed_means
from smaug_eval.common.console import Reporter
from smaug_eval.common.embedded import find_recipe
from smaug_eval.common.errors import Interrupted, SmaugError
from smaug_eval.runs.pipeline import RunResult
from smaug_eval.runs.recipe import Recipe, recipe_as_dict
from smaug_eval.runs.recipe_file import load_recipe, parse_recipe

RECIPE = """\
model: embedded:demo-model
pairs:
  low: &low {source: metamath, path: embedded:demo-arithmetic, limit: 16, holdout: 4, shots: [0, 0]}
  high: {<<: *low, falsify: all}
study:
  seeds: [1, 2]
  training: {steps: 3, batch_size: 4, beta: 0.3}
  arms:
    dpo: {loss: dpo, sets: [low, high]}
    dpop: {loss: dpop, lambda: 5, sets: [low, high]}
    dpo-beta-1.0: {loss: dpo, beta: 1.0, sets: [low], seeds: [7]}
  questions: {curve: [low, high]}
evaluations:
  some: {suite: demo, models: [base, dpo, dpop.low, dpop.high.s2]}
"""


def recipe(text: str = RECIPE) -> Recipe:
    return parse_recipe({"name": "tiny", **yaml.safe_load(text)})


def message(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SmaugError) as caught:
        load_recipe(path)
    return str(caught.value)


def test_the_grid_becomes_trainings_seed_by_seed() -> None:
    trainings = recipe().trainings
    assert list(trainings) == [
        *("dpo.low.s1", "dpo.high.s1", "dpop.low.s1", "dpop.high.s1"),
        *("dpo.low.s2", "dpo.high.s2", "dpop.low.s2", "dpop.high.s2"),
        "dpo-beta-1.0.low.s7",
    ]
    one = trainings["dpop.high.s2"]
    assert (one.loss, one.lambda_, one.beta, one.steps, one.pairs, one.seed) == ("dpop", 5, 0.3, 3, "high", 2)
    assert trainings["dpo-beta-1.0.low.s7"].beta == 1.0


def test_an_arm_stands_for_its_trainings_where_models_are_named() -> None:
    models = recipe().models_of(recipe().evaluations["some"])
    dpo = ["dpo.low.s1", "dpo.high.s1", "dpo.low.s2", "dpo.high.s2"]
    assert sorted(models) == sorted(["base", *dpo, "dpop.low.s1", "dpop.low.s2", "dpop.high.s2"])


def test_a_recipe_written_out_is_the_same_recipe() -> None:
    written = recipe_as_dict(recipe())
    roles = {"subject": "dpo", "remedy": "dpop", "before": "base"}
    assert written["study"]["questions"] == roles | {"low": "low", "high": "high", "curve": ["low", "high"]}
    assert written["study"]["arms"]["dpop"]["lambda"] == 5
    assert parse_recipe(json.loads(json.dumps(written))) == recipe()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("beta: 1.0", "betta: 1.0", "line 11: study.arms.dpo-beta-1.0.betta = 1.0: unknown key; did you mean 'beta'?"),
        ("batch_size: 4", "bach_size: 4", "study.training: bach_size: unknown key; did you mean 'batch_size'?"),
        ("seeds: [1, 2]", "seeds: [1, 1]", "line 6: study.seeds: 1 is given twice"),
        ("seeds: [1, 2]", "seeds: []", "line 6: study.seeds"),
        ("sets: [low], seeds", "sets: [low, low], seeds", "study.arms.dpo-beta-1.0.sets: 'low' is given twice"),
        ("sets: [low], seeds", "sets: [lowe], seeds", "study.arms.dpo-beta-1.0.sets: no pair set 'lowe'; did you mean"),
        ("sets: [low], seeds: [7]", "sets: [low], seed: 7", "seed has no meaning for an arm: give seeds"),
        ("{curve: [low, high]}", "{subject: dpo-p}", "questions.subject = 'dpo-p': no such arm; did you mean 'dpop'?"),
        ("{curve: [low, high]}", "{before: bas}", "questions.before = 'bas': no such arm; did you mean 'base'?"),
        ("{curve: [low, high]}", "{remedy: dpo}", "questions.remedy = 'dpo': the subject cannot be its own remedy"),
        ("{curve: [low, high]}", "{curve: [low, edits]}", "questions.curve.1 = 'edits': the subject dpo is not"),
        ("{curve: [low, high]}", "{remedy: dpo-beta-1.0}", "questions.high = 'high': the remedy dpo-beta-1.0 is not"),
        ("{curve: [low, high]}", "{curves: [low]}", "study.questions.curves = ['low']: unknown key; did you mean 'cu"),
        ("dpop.low, dpop.high.s2", "dpo.lowe", "evaluations.some.models: no model 'dpo.lowe'; did you mean 'dpo.low"),
        ("dpo-beta-1.0:", f"{'x' * 61}:", "shorten the arm's or the set's name"),
        ("falsify: all", "falsify: 0.5", "line 4: pairs.high.falsify: 0.5 is no number of places: give 1, 2"),
        ("dpo-beta-1.0:", "base:", "study.arms: base: this name means the model before training"),
        ("dpop, lambda: 5", "sft", "beta has no meaning for loss sft"),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in RECIPE
    assert expected in message(tmp_path, RECIPE.replace(old, new))


def test_a_training_of_the_same_name_is_refused(tmp_path: Path) -> None:
    own = "trainings: {dpo.low.s1: {loss: sft, pairs: low}}\n"
    assert "trainings.dpo.low.s1: the study makes a training of this name" in message(tmp_path, RECIPE + own)


def test_two_arms_cannot_make_one_name(tmp_path: Path) -> None:
    text = RECIPE.replace("  high:", "  x.low: *low\n  high:").replace("dpo-beta-1.0:", "dpo.x:")
    text = text.replace("loss: dpo, sets: [low, high]", "loss: dpo, sets: [low, high, x.low], seeds: [7]")
    assert "two trainings are called 'dpo.x.low.s7'" in message(tmp_path, text)


@pytest.mark.parametrize("name", ["study", "study-null", "study-remedies", "study-batching"])
def test_the_committed_studies_hold(name: str) -> None:
    study = load_recipe(find_recipe(name)).study
    assert study is not None
    assert len(study.seeds) == 3


def test_the_committed_null_study_has_nothing_to_find() -> None:
    found = load_recipe(find_recipe("study-null"))
    assert found.pairs["low"] == found.pairs["high"]
    assert found.study is not None
    one, other = (found.study.arms[name] for name in (found.study.questions.subject, found.study.questions.remedy))
    assert one.model_dump(exclude={"seeds"}) == other.model_dump(exclude={"seeds"})
    assert not set(found.study.seeds_of("one")) & set(found.study.seeds_of("other"))
    assert found.study.questions.before == found.study.questions.remedy


def test_the_scores_of_the_seeds_are_averaged() -> None:
    study = recipe().study
    assert study is not None
    models = {"base": 50.0, "dpo.low.s1": 40.0, "dpo.low.s2": 45.0, "dpop.low.s1": 60.0, "dpo-beta-1.0.low.s7": 30.0}
    frame = pd.DataFrame(
        {"suite": "demo", "model": model, "column": "Facts", "metric": "acc", "score": score, "stderr": 2.0}
        for model, score in models.items()
    )
    means = seed_means(frame, study)
    assert dict(zip(means["model"], means["score"], strict=True)) == {
        "base": 50,
        "dpo.low, mean of 2": 42.5,
        "dpop.low, mean of 1": 60,
        "dpo-beta-1.0.low, mean of 1": 30,
    }
    assert means["stderr"].isna().tolist() == [False, True, True, True]


TINY = (
    RECIPE.replace("seeds: [1, 2]", "seeds: [1]")
    .replace("steps: 3", "steps: 2")
    .replace("models: [base, dpo, dpop.low, dpop.high.s2]", "tasks: [facts], limit: 2, models: [base, dpop.low]")
)


class StopsInTraining(Reporter):
    """Presses Ctrl-C in the middle of one training."""

    def __init__(self, training: str) -> None:
        super().__init__(Console(quiet=True), quiet=True)
        self._training = training
        self._now = ""

    def stage(self, title: str) -> Any:
        self._now = title
        return super().stage(title)

    def update(self, done: int, total: int, note: str = "") -> None:
        if self._training in self._now and note.startswith("loss"):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def stopped_and_continued(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, list[str], str]:
    """A small study that was stopped and continued; how often the reference was asked; and the plan in between."""
    runs = tmp_path_factory.mktemp("runs")
    tiny = recipe(TINY)
    asked: list[str] = []
    score: Callable[..., Any] = smaug_eval.trainers.reference_scoring.score_pairs

    def counted(*arguments: Any, **settings: Any) -> Any:
        asked.append("once")
        return score(*arguments, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smaug_eval.trainers.reference_scoring, "score_pairs", counted)
        with pytest.raises(Interrupted):
            smaug_eval.run(tiny, runs=runs, reporter=StopsInTraining("dpop.low.s1"))
        pipeline = smaug_eval.prepare(tiny, runs=runs)
        assert tiny.study is not None
        console = Console(width=120)
        with console.capture() as shown:
            console.print(grid_table(tiny.study, grid_of(tiny.study, pipeline.states())[0]))
        result = pipeline.run()
    return result, asked, shown.get()


@pytest.mark.slow
@pytest.mark.xdist_group("study")
class TestSmallStudy:
    def test_an_interrupted_study_goes_on_where_it_stopped(
        self, stopped_and_continued: tuple[RunResult, list[str], str]
    ) -> None:
        result, _, _ = stopped_and_continued
        trained = ["train/dpo.low.s1", "train/dpo.high.s1"]
        assert [name for name in result.skipped if name.startswith("train/")] == trained
        assert [name for name in result.did if name.startswith("train/")] == [
            *("train/dpop.low.s1", "train/dpop.high.s1", "train/dpo-beta-1.0.low.s7")
        ]
        stages = json.loads((result.path / "manifest.json").read_text())["stages"]
        assert {stage["status"] for stage in stages} == {"done"}
        evaluated = [stage["name"] for stage in stages if stage["name"].startswith("eval/")]
        assert evaluated == ["eval/base/some/facts", "eval/dpop.low.s1/some/facts"]

    def test_the_plan_is_a_grid(self, stopped_and_continued: tuple[RunResult, list[str], str]) -> None:
        _, _, shown = stopped_and_continued
        rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines()[1:]}
        assert rows["arm"] == ["low", "high", "evaluations"]
        assert rows["dpo"] == ["1/1", "1/1", "0/0"]
        assert rows["dpop"] == ["0/1", "(1", "started)", "0/1", "0/1"]
        assert rows["dpo-beta-1.0"] == ["0/1", "0/0"]

    def test_the_reference_is_asked_once_for_each_pair_set(
        self, stopped_and_continued: tuple[RunResult, list[str], str]
    ) -> None:
        result, asked, _ = stopped_and_continued
        # The training and the held-out pairs of two sets; of five trainings one has another seed, and sees other pairs.
        assert len(asked) == 5
        assert len(list((result.path / "reference").glob("reference-*.safetensors"))) == 5

    def test_every_training_tells_of_the_same_held_out_pairs(
        self, stopped_and_continued: tuple[RunResult, list[str], str]
    ) -> None:
        result, _, _ = stopped_and_continued
        rows = {
            file.parent.name: [json.loads(line) for line in file.read_text().splitlines()]
            for file in result.path.glob("train/*/held_out.jsonl")
        }
        assert rows.keys() == recipe(TINY).trainings.keys()
        names = {tuple(row["pair"] for row in found) for found in rows.values()}
        assert len(names) == 1
        low, high = rows["dpo.low.s1"], rows["dpo.high.s1"]
        assert all(one["edits"] < other["edits"] for one, other in zip(low, high, strict=True))
        summary = json.loads((result.path / "train/dpo.low.s1/summary.json").read_text())
        mean = sum(row["chosen"] for row in low) / len(low)
        assert summary["final"]["log_ratios/chosen"] == pytest.approx(mean)
