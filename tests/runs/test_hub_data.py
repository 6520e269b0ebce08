"""Evaluations on data of the Hub: what is scored is what was pinned, and that is what is recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import smaug_eval
from smaug_eval.common.hub import read_split
from smaug_eval.leaderboard import modern, v1
from smaug_eval.leaderboard.benchmarks import hellaswag
from smaug_eval.leaderboard.suite_data import data_fingerprints
from smaug_eval.runs.pipeline import RunResult
from tests.hub.contents import pushed
from tests.hub.fixtures import Commands, HubHere
from tests.hub.repositories import Content
from tests.hub.server import Hub

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("hub-runs")]

NAME = "Rowan/hellaswag"
PINNED = hellaswag.REVISION
LIMIT = 4


def hellaswag(labels: str) -> dict[str, Content]:
    """HellaSwag in small; the label of each validation row is a digit of ``labels``."""

    def row(n: int, label: str) -> dict[str, Any]:
        return {
            "activity_label": "Cooking",
            "ctx_a": f"A cook takes {n} eggs.",
            "ctx_b": "the cook",
            "endings": [f"breaks {n + k} of them." for k in range(4)],
            "label": label,
        }

    train = [row(n, str(n % 4)) for n in range(12)]
    validation = [row(100 + n, label) for n, label in enumerate(labels)]
    return pushed({"default": {"train": train, "validation": validation}})


def newest(hub: Hub) -> str:
    return hub._repositories["dataset", NAME].branches["main"]


def served(hub: Hub, *, pinned: str = "0123", main: str = "3210") -> None:
    """The set with the pinned commit, and other labels on ``main``."""
    hub.add_dataset(NAME, hellaswag(pinned), sha=PINNED)
    hub.commit(NAME, hellaswag(main))


def evaluated(runs: Path, suite: str) -> RunResult:
    return smaug_eval.evaluate(
        "embedded:demo-model", suite=suite, tasks=["hellaswag"], limit=LIMIT, name="r", runs=runs
    )


def labels(result: RunResult) -> list[str]:
    """The labels that the samples were scored with, in the order of the split."""
    (file,) = result.path.glob("eval/base/*/hellaswag/samples_*.jsonl")
    samples = [json.loads(line) for line in file.read_text().splitlines()]
    if "label" not in samples[0]["doc"]:  # the leaderboard's own documents, in its order
        samples.sort(key=lambda sample: int(sample["doc"]["doc"]))
        return [str(sample["doc"]["gold"]) for sample in samples]
    return [sample["doc"]["label"] for sample in samples]


def manifest(result: RunResult) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((result.path / "manifest.json").read_text())
    return found


def results(result: RunResult) -> dict[str, Any]:
    (file,) = result.path.glob("eval/base/*/hellaswag/results_*.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def recorded(result: RunResult) -> list[dict[str, str]]:
    """The commits that manifest, results and the stage's record name."""
    (record,) = result.path.glob("eval/base/*/hellaswag/stage.json")
    summary = json.loads(record.read_text())["summary"]
    return [found["data_revisions"] for found in (manifest(result), results(result), summary)]


def test_a_finished_evaluation_stays_done_whatever_was_read_since(hub_here: HubHere, tmp_path: Path) -> None:
    served(hub_here.hub)
    first = evaluated(tmp_path / "runs", "open_llm_v1")
    assert labels(first) == list("0123")
    assert recorded(first) == [{NAME: PINNED}] * 3
    assert list(read_split(NAME, "default", "validation")["label"]) == list("3210")
    hub_here.offline()
    again = evaluated(tmp_path / "runs", "open_llm_v1")
    assert again.did == ()
    assert not (again.path / "superseded").exists()
    anew = evaluated(tmp_path / "others", "open_llm_v1")
    assert labels(anew) == list("0123")
    assert results(anew)["results"] == results(first)["results"]


def test_lm_evals_own_task_is_scored_and_recorded_at_the_commit_of_main(hub_here: HubHere, tmp_path: Path) -> None:
    served(hub_here.hub)
    main = newest(hub_here.hub)
    result = evaluated(tmp_path, "lm_eval_0413")
    assert labels(result) == list("3210")
    assert recorded(result) == [{NAME: main}] * 3
    suite = modern.SUITE.pinned(["hellaswag"], None)
    (column,) = suite.select(["hellaswag"])
    (data,) = manifest(result)["data"].values()
    assert data == data_fingerprints(column, suite, None)
    assert data["hellaswag"] != data_fingerprints(v1.SUITE.columns[1], v1.SUITE, None)[v1.HELLASWAG.name]

    def states() -> dict[str, str]:
        recipe = manifest(result)["recipe"]
        return {stage.name: state.status for stage, state in smaug_eval.prepare(recipe, runs=tmp_path).states()}

    hub_here.hub.commit(NAME, {"notes.txt": "nothing that is read"})
    assert set(states().values()) == {"done"}
    hub_here.hub.commit(NAME, hellaswag("1111"))
    assert states() == {"eval/base/lm_eval_0413/hellaswag": "changed", "report": "changed"}
    hub_here.offline()
    hub_here.new_process()
    assert labels(evaluated(tmp_path, "lm_eval_0413")) == list("1111")


def test_what_lm_eval_scores_does_not_move_after_the_run_was_prepared(hub_here: HubHere, tmp_path: Path) -> None:
    served(hub_here.hub)
    main = newest(hub_here.hub)
    evaluation = {"suite": "lm_eval_0413", "tasks": ["hellaswag"], "limit": LIMIT}
    recipe = {"name": "r", "model": "embedded:demo-model", "evaluations": {"lm_eval_0413": evaluation}}
    prepared = smaug_eval.prepare(recipe, runs=tmp_path)
    hub_here.hub.commit(NAME, hellaswag("1111"))
    result = prepared.run()
    assert labels(result) == list("3210")
    assert recorded(result) == [{NAME: main}] * 3


def test_a_run_of_both_names_both_commits(hub_here: HubHere, tmp_path: Path) -> None:
    served(hub_here.hub)
    shared = {"tasks": ["hellaswag"], "limit": 1}
    evaluations = {"old": {"suite": "open_llm_v1", **shared}, "new": {"suite": "lm_eval_0413", **shared}}
    recipe = {"name": "r", "model": "embedded:demo-model", "evaluations": evaluations}
    result = smaug_eval.run(recipe, runs=tmp_path)
    assert manifest(result)["data_revisions"] == {NAME: f"{PINNED}, {newest(hub_here.hub)}"}


def test_from_the_command_line(hub: Hub, smaug_eval_command: Commands, tmp_path: Path) -> None:
    """As a user does it: evaluate online, let something else read the newest, go on offline."""
    run = smaug_eval_command
    served(hub)
    evaluate = ("eval", "embedded:demo-model", "--task", "hellaswag", "--limit", str(LIMIT), "--name", "r")
    run.done(*evaluate)
    (file,) = tmp_path.glob("runs/r/eval/base/*/hellaswag/results_*.json")
    before = file.read_text()
    assert json.loads(before)["data_revisions"] == {NAME: PINNED}
    assert "no column chosen" in run.refused("pairs", "stats", NAME)  # the newest is in the cache now
    hub.forget_requests()
    assert "done before" in run.done(*evaluate, HF_HUB_OFFLINE="1")
    assert file.read_text() == before
    nonsense = "deadbeef" * 5
    refused = run.refused("pairs", "stats", NAME, "--revision", nonsense, HF_HUB_OFFLINE="1")
    assert f"commit {nonsense} is not in the local Hub cache (which has" in refused
    assert PINNED in refused
    assert newest(hub) in refused
    assert hub.requests() == []
