"""Checkpoints that are scored during a training: which recipes may, what it gives, and which checkpoint is kept."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import smaug_eval
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import Interrupted, SmaugError
from smaug_eval.common.files import read_json
from smaug_eval.reports import build_report
from smaug_eval.results.curves import best_step, training_curves
from smaug_eval.results.sources import read_run
from smaug_eval.runs import checkpoint_jobs
from smaug_eval.runs.following import shared_document
from smaug_eval.runs.jobs import EvaluationJob
from smaug_eval.runs.recipe_file import parse_recipe
from smaug_eval.trainers.config import TrainingConfig

Recipe = dict[str, Any]
# Much too fast: the model forgets within a few steps.
TRAINING = {"loss": "dpo", "steps": 6, "batch_size": 4, "learning_rate": 2e-2, "warmup_steps": 0, "max_length": 384}
FOLLOWED = {"evaluate": {"every": 2, "evaluations": ["quick", "dev"]}, "keep": "best", "keep_metric": "dev/facts"}
LORA = {"r": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}
STEPS = [0, 2, 4, 6]


def recipe(**training: Any) -> Recipe:
    """Followed by a reported evaluation and one for development, which chooses."""
    asked = {"suite": "demo", "engine": "torch", "device": "cpu"}
    return {
        "name": "followed",
        "model": {"path": "embedded:demo-model", "dtype": "float32"},
        "pairs": {
            "made": {
                "source": "metamath",
                "path": "embedded:demo-arithmetic",
                "limit": 16,
                "holdout": 4,
                "shots": [0, 0],
            }
        },
        "trainings": {"x": {**TRAINING, "eval_every": None, **FOLLOWED, **training}},
        "evaluations": {
            "quick": {**asked, "tasks": ["endings"], "limit": 6},
            "dev": {**asked, "tasks": ["facts"], "limit": 24, "development": True},
        },
    }


def changed(*path: str, to: Any, **training: Any) -> Recipe:
    """The recipe with the value at a path changed; None removes it."""
    found = copy.deepcopy(recipe(**training))
    place: Any = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return found


REFUSED = {
    "an evaluation that there is not": (
        changed("trainings", "x", "evaluate", "evaluations", to=["quik", "dev"]),
        r"trainings.x.evaluate.evaluations: no evaluation 'quik'; did you mean 'quick'\?",
    ),
    "a reported one": (
        changed("trainings", "x", "keep_metric", to="quick/endings"),
        r"trainings.x.keep_metric = 'quick/endings': evaluations.quick is reported, and its scores would be too high",
    ),
    "one that scores no checkpoint": (
        changed("trainings", "x", "evaluate", "evaluations", to=["quick"]),
        "keep_metric = 'dev/facts': neither a column of the log nor an evaluation of evaluate",
    ),
    "an unknown metric": (changed("trainings", "x", "keep_metric", to="accuracy"), "keep_metric = 'accuracy'"),
    "a metric that chooses nothing": (changed("trainings", "x", "keep", to="last"), "set keep: best"),
    "patience": (recipe(patience=2, eval_every=2), "patience uses held-out pairs"),
    "no steps between": (changed("trainings", "x", "evaluate", to={"evaluations": ["dev"]}), "every"),
    "no evaluation": (changed("trainings", "x", "evaluate", to={"every": 2, "evaluations": []}), "evaluations"),
    "a development evaluation for nothing": (
        changed("trainings", "x", to={**TRAINING, "eval_every": None}),
        "evaluations.dev.development: it scores checkpoints alone, and no training names it",
    ),
    "models of a development evaluation": (
        changed("evaluations", "dev", "models", to=["base"]),
        "a development evaluation scores the trainings that name it",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_recipe_may_not_say(name: str) -> None:
    given, told = REFUSED[name]
    with pytest.raises(SmaugError, match=told):
        parse_recipe(given)


def test_what_would_be_chosen_by_reported_documents_is_refused(tmp_path: Path) -> None:
    """Before anything starts, also where the two evaluations have other names, suites or numbers of documents."""
    same = changed("evaluations", "quick", "tasks", to=["facts"])
    with pytest.raises(
        SmaugError, match=r"keep_metric: evaluations.dev \(demo_facts\) and the reported .*quick"
    ) as told:
        smaug_eval.prepare(same, runs=tmp_path)
    assert "documents of its own" in str(told.value.fix)
    assert not (tmp_path / "followed").exists()
    # Where the training has no reported scores, or nothing is chosen, there is nothing to refuse.
    same["evaluations"]["quick"]["models"] = ["base"]
    smaug_eval.prepare(same, runs=tmp_path)
    # A training that goes on from the chosen checkpoint has it in its weights.
    same["trainings"]["after"] = {**TRAINING, "eval_every": None, "start": "x"}
    same["evaluations"]["quick"]["models"] = ["base", "after"]
    with pytest.raises(SmaugError, match="score the same documents"):
        smaug_eval.prepare(same, runs=tmp_path)
    same = changed("evaluations", "quick", "tasks", to=["facts"], keep="last", keep_metric="loss")
    smaug_eval.prepare(same, runs=tmp_path)
    with pytest.raises(SmaugError, match=r"evaluations.dev has no task 'fact'; did you mean 'facts'\?"):
        smaug_eval.prepare(changed("trainings", "x", "keep_metric", to="dev/fact"), runs=tmp_path)


def test_documents_are_the_same_by_their_texts() -> None:
    one = {"a": [{"question": "What is the capital of Xanadu?", "n": 1}]}
    assert shared_document(one, {"b": [{"q": "What is  the capital of Xanadu?", "choices": ["Here", "There"]}]}) == (
        "a",
        "b",
    )
    assert shared_document(one, {"b": [{"q": "What is the capital of Zembla?"}]}) is None
    short = {"a": [{"q": "2 + 2", "answer": "4"}]}
    assert shared_document(short, {"b": [{"q": "2 + 2", "answer": "4"}]}) == ("a", "b")
    assert shared_document(short, {"b": [{"q": "2 + 3", "answer": "4"}]}) is None
    # A long text that many share, such as an instruction, does not make documents the same.
    told = {"instruction": "Answer the question below."}
    assert shared_document({"a": [told | {"q": "Who wrote this?"}]}, {"b": [told | {"q": "Who read that?"}]}) is None


def test_stages_and_keys(tmp_path: Path) -> None:
    """Which evaluations score checkpoints, or which of them chooses, does not make a training another one."""

    def keys(given: Recipe) -> dict[str, str]:
        return {stage.name: stage.key for stage in smaug_eval.prepare(given, runs=tmp_path).stages}

    own, plain = keys(recipe()), recipe(evaluate=None, keep="last", keep_metric="loss")
    del plain["evaluations"]["dev"]
    scores = ["curve/x/quick/endings", "curve/x/dev/facts", "best/x"]
    assert [name for name in own if name not in keys(plain)] == scores
    order = list(own)
    assert order.index("train/x") < order.index("curve/x/dev/facts") < order.index("best/x") < order.index("report")
    by_pairs = changed("trainings", "x", "evaluate", "evaluations", to=["dev"])
    mean = changed("trainings", "x", "keep_metric", to="dev")
    last = recipe(keep="last", keep_metric="loss")
    for other in (by_pairs, mean, last):
        assert keys(other)["train/x"] == own["train/x"]
    assert keys(mean)["best/x"] != own["best/x"]
    assert keys(mean)["eval/x/quick/endings"] != own["eval/x/quick/endings"]
    assert keys(last)["curve/x/dev/facts"] == own["curve/x/dev/facts"]
    assert keys(plain)["train/x"] != own["train/x"]  # no checkpoints are kept
    assert keys(recipe(evaluate={"every": 3, "evaluations": ["dev"]}))["train/x"] != own["train/x"]
    assert keys(plain)["eval/base/quick/endings"] == own["eval/base/quick/endings"]
    assert not any(name.startswith(("eval/base/dev", "eval/x/dev")) for name in own)


def test_checkpoints_that_are_scored_are_kept_beside_others() -> None:
    config = TrainingConfig.model_validate(
        {**TRAINING, "eval_every": 5, "keep": "all", "evaluate": {"every": 2, "evaluations": ["dev"]}}
    )
    assert [step for step in range(1, 11) if config.keeps_step(step)] == [2, 4, 5, 6, 8, 10]
    assert [step for step in range(1, 11) if config.scores_step(step)] == [2, 4, 6, 8, 10]
    assert not TrainingConfig.model_validate({**TRAINING, "eval_every": 5}).keeps_step(5)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of the recipe, which was stopped once while checkpoints were scored."""
    runs = tmp_path_factory.mktemp("runs")
    performed: list[Path] = []
    perform = EvaluationJob.perform

    def stopped(self: EvaluationJob, folder: Path, *arguments: Any) -> Any:
        if len(performed) == 2:
            raise KeyboardInterrupt
        performed.append(folder)
        return perform(self, folder, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EvaluationJob, "perform", stopped)
        with pytest.raises(Interrupted, match="stopped during evaluate the checkpoints of x on"):
            smaug_eval.run(recipe(), runs=runs)
    assert [folder.name for folder in performed] == ["step-0", "step-2"]
    done = {file: file.stat().st_mtime_ns for folder in performed for file in folder.iterdir()}
    result = smaug_eval.run(recipe(), runs=runs)
    assert "train/x" not in result.did  # it was finished
    assert {file: file.stat().st_mtime_ns for file in done} == done  # what was scored is not scored again
    return result.path


def scores(folder: Path) -> dict[str, Any]:
    """The metrics in the one results file of a folder."""
    (file,) = folder.glob("results_*.json")
    (found,) = read_json(file)["results"].values()
    return {key: value for key, value in found.items() if "," in key}


def samples(folder: Path) -> list[Any]:
    """What the model answered to each document."""
    (file,) = folder.glob("samples_*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return sorted([row["doc_id"], row["resps"]] for row in rows)


def values(run: Path, evaluation: str, task: str) -> dict[int, float]:
    """Of each checkpoint, the metric that stands for a task, in percent, from its results file."""
    folder = run / "curve" / "x" / evaluation / task
    return {step: 100 * scores(folder / f"step-{step}")["acc_norm,none"] for step in STEPS}


@pytest.mark.slow
def test_scores_are_those_of_the_checkpoints_themselves(followed: Path, tmp_path: Path) -> None:
    base = embedded_path("embedded:demo-model")
    folders = {0: base, **{step: followed / "train" / "x" / "checkpoints" / f"step-{step}" for step in (2, 4)}}
    folders[6] = followed / "train" / "x" / "checkpoint"
    assert sorted(path.name for path in (followed / "train/x/checkpoints").iterdir()) == ["step-2", "step-4"]
    asked = {**recipe()["evaluations"]["dev"], "development": False}
    models = {f"s{step}": {"path": str(path), "dtype": "float32"} for step, path in folders.items()}
    given = {"name": "direct", "models": models}
    direct = smaug_eval.run({**given, "evaluations": {"dev": asked}}, runs=tmp_path).path
    for step in STEPS:
        own = followed / "curve/x/dev/facts" / f"step-{step}"
        alone = direct / "eval" / f"s{step}" / "dev" / "facts"
        assert scores(own) == scores(alone)
        assert samples(own) == samples(alone)
    assert len(set(values(followed, "dev", "facts").values())) > 1  # else nothing is shown


@pytest.mark.slow
def test_the_best_on_development_documents_is_the_model(followed: Path) -> None:
    found = {step: value for step, value in values(followed, "dev", "facts").items() if step}
    best = max(found, key=lambda step: (found[step], -step))
    summary = read_json(followed / "best/x/summary.json")
    assert summary["step"] == best
    assert {int(step): value for step, value in summary["scores"].items()} == pytest.approx(
        values(followed, "dev", "facts")
    )
    kept = followed / "train/x" / ("checkpoint" if best == 6 else f"checkpoints/step-{best}")
    one, other = (load_file(folder / "model.safetensors") for folder in (followed / "best/x/checkpoint", kept))
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)
    assert (followed / "best/x/checkpoint/README.md").read_text().count("smaug-eval") >= 1
    # What is reported of the training is of that checkpoint.
    assert scores(followed / "eval/x/quick/endings") == scores(followed / "curve/x/quick/endings" / f"step-{best}")
    manifest = read_json(followed / "manifest.json")
    assert manifest["models"]["x"]["path"] == str(followed / "best/x/checkpoint")
    assert not (followed / "eval" / "x" / "dev").exists()
    assert smaug_eval.run(recipe(), runs=followed.parent).did == ()
    assert best_step(followed, "x", "dev", None)[0] == best
    with pytest.raises(SmaugError, match="has no score of 'fcts'; did you mean 'facts'"):
        best_step(followed, "x", "dev", "fcts")


@pytest.mark.slow
def test_the_report_draws_the_curve(followed: Path, tmp_path: Path) -> None:
    page = (followed / "report.html").read_text()
    assert len(re.findall(r'<svg [^>]*aria-labelledby="checkpoints-\d', page)) == 2
    assert "Scores of dev during the training x" in page
    step = read_json(followed / "best/x/summary.json")["step"]
    assert f"x is the checkpoint of step {step}, the best by dev/facts" in page
    numbers = json.loads(build_report([followed], tmp_path / "n.json", format_="json").read_text())
    (training,) = numbers["trainings"]
    curves = {(each["evaluation"], each["task"]): each for each in training["checkpoints"]}
    assert {key: each["development"] for key, each in curves.items()} == {
        ("quick", "endings"): False,
        ("dev", "facts"): True,
    }
    for (evaluation, task), each in curves.items():
        expected = values(followed, evaluation, task)
        assert {point["step"]: point["value"] for point in each["points"]} == pytest.approx(expected)
        for point in each["points"]:
            low, high = point["interval"]
            assert low <= point["value"] <= high
            apart = None if point["step"] == 0 else pytest.approx(point["value"] - expected[0])
            assert (point["difference"] or {"points": None})["points"] == apart
    assert training["chosen"]["step"] == step
    # A development evaluation stands in no table of scores.
    assert "facts" not in json.dumps(numbers["suites"]) + json.dumps(numbers["tasks"])
    text = build_report([followed], tmp_path / "n.md", format_="md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| dev/facts (development)"))
    shown = [float(cell.split()[0]) for cell in row.strip("| ").split(" | ")[1:]]
    assert shown == pytest.approx(list(values(followed, "dev", "facts").values()), abs=0.05)


@pytest.mark.slow
def test_adapters_are_scored_beside_what_they_were_trained_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And merged where an engine cannot; the chosen one is an adapter and a model."""
    given = recipe(lora=LORA, steps=4, evaluate={"every": 2, "evaluations": ["dev"]}, keep_metric="dev")
    given["evaluations"]["dev"]["limit"] = 8
    given["evaluations"]["quick"]["models"] = ["x"]
    given["trainings"]["after"] = {**TRAINING, "steps": 1, "eval_every": None, "start": "x"}
    monkeypatch.setattr("smaug_eval.results.curves.best_step", lambda *_: (2, {0: 0.0, 2: 1.0, 4: 0.5}))
    run = smaug_eval.run(given, runs=tmp_path).path
    adapter = run / "train/x/checkpoints/step-2"
    chosen = run / "best/x"
    assert read_json(chosen / "summary.json")["step"] == 2
    settings = read_json(chosen / "adapter" / "adapter_config.json")
    assert settings["base_model_name_or_path"] == "embedded:demo-model"
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (chosen / "adapter", adapter))
    assert all((one[name] == other[name]).all() for name in one)
    assert "| chosen by | dev |" in (chosen / "adapter" / "README.md").read_text()
    merged = load_file(chosen / "checkpoint" / "model.safetensors")
    base = load_file(embedded_path("embedded:demo-model") / "model.safetensors")
    moved = {name for name in merged if not (merged[name] == base[name]).all()}
    assert {name.rpartition(".layers.")[2].split(".", 1)[1] for name in moved} == {
        f"{part}.weight" for part in ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")
    }
    # A training that goes on from x goes on from the chosen checkpoint.
    after = read_json(run / "train/after/summary.json")
    assert after["model_sha256"] == read_json(chosen / "stage.json")["summary"]["model"]["sha256"]

    monkeypatch.setattr(checkpoint_jobs, "takes_adapter", lambda *_: False)
    beside = scores(run / "curve/x/dev/facts/step-2")
    again = smaug_eval.run({**given, "name": "merged"}, runs=tmp_path).path
    assert scores(again / "curve/x/dev/facts/step-2") == beside
    assert not list((again / "curve/x/dev/facts").glob(".merged*"))


def test_curves_of_a_run_without_them(tmp_path: Path) -> None:
    (tmp_path / "train/x").mkdir(parents=True)
    (tmp_path / "train/x/log.jsonl").write_text('{"split": "eval", "step": 0, "loss": 1.0}\n')
    (training,) = read_run(tmp_path).trainings
    assert training_curves(training) == []
    with pytest.raises(SmaugError, match="has no score of x"):
        best_step(tmp_path, "x", "dev", None)
