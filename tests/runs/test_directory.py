"""Stage records: what counts as done, what a change does, and what stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.results.layout import SUPERSEDED
from smaug_eval.runs.directory import RunDirectory, stage_key

INPUTS = {"training": {"beta": 0.3, "loss": "dpo"}, "base": "abc"}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


def finish(run: RunDirectory, stage: str, inputs: dict[str, object]) -> str:
    key = stage_key(inputs, [])
    folder = run.begin(stage, key, inputs)
    (folder / "weights").write_text("12345")
    run.finish(stage, seconds=1.0, summary={"n": 1})
    return key


def test_a_stage_goes_from_new_over_started_to_done(run: RunDirectory) -> None:
    key = stage_key(INPUTS, [])
    assert run.state("train/dpo", key, INPUTS).status == "new"
    run.begin("train/dpo", key, INPUTS)
    assert run.state("train/dpo", key, INPUTS).status == "started"
    finish(run, "train/dpo", INPUTS)
    assert run.state("train/dpo", key, INPUTS).status == "done"
    assert run.record("train/dpo")["summary"] == {"n": 1}


def test_a_changed_input_is_named_and_the_old_result_kept(run: RunDirectory) -> None:
    finish(run, "train/dpo", INPUTS)
    changed = {"training": {"beta": 0.1, "loss": "dpo"}, "base": "abc"}
    key = stage_key(changed, [])
    state = run.state("train/dpo", key, changed)
    assert (state.status, state.reason) == ("changed", "training.beta 0.3 -> 0.1")
    folder = run.begin("train/dpo", key, changed)
    assert not (folder / "weights").exists()
    (kept,) = (run.path / SUPERSEDED).glob("train__dpo-*/weights")
    assert kept.read_text() == "12345"


def test_a_change_upstream_is_seen(run: RunDirectory) -> None:
    finish(run, "train/dpo", INPUTS)
    key = stage_key(INPUTS, ["another key of a stage before"])
    state = run.state("train/dpo", key, INPUTS)
    assert (state.status, state.reason) == ("changed", "a stage before it changed")


def test_what_was_made_from_other_weights_or_answers_is_done_again(run: RunDirectory) -> None:
    def train(weights: str) -> None:
        (run.folder("train/dpo") / "weights").unlink(missing_ok=True)
        key = stage_key(INPUTS, [])
        (run.begin("train/dpo", key, INPUTS) / "weights").write_text(weights)
        run.finish("train/dpo", seconds=1.0, summary={"model": {"sha256": f"digest of {weights}"}})

    def make(stage: str, need: str, result: str) -> None:
        (run.begin(stage, stage, {}) / "result").write_text(result)
        run.finish(stage, seconds=1.0, summary={"result": result}, needs=[need])

    def states() -> list[str]:
        return [run.state(name, name, {}).status for name in ("answers", "judgments")]

    train("first")
    make("answers", "train/dpo", "yes")
    make("judgments", "answers", "8")
    assert states() == ["done", "done"]
    train("first")
    assert states() == ["done", "done"]
    train("other")
    assert run.state("answers", "answers", {}).reason == "train/dpo was done again since, with another result"
    make("answers", "train/dpo", "yes")  # other weights, the same answers
    assert states() == ["done", "done"]
    train("third")
    make("answers", "train/dpo", "no")
    assert states() == ["done", "changed"]
    make("judgments", "answers", "3")
    assert states() == ["done", "done"]
    assert [path.name[:8] for path in run.superseded("answers")] == ["answers-", "answers-"]


def test_a_file_where_results_are_kept_is_named(run: RunDirectory) -> None:
    finish(run, "train/dpo", INPUTS)
    (run.path / SUPERSEDED).write_text("in the way")
    with pytest.raises(SmaugError, match=r"cannot write .*superseded/train__dpo-0001-.*: File exists"):
        run.begin("train/dpo", "another key", {})


def test_unfinished_work_on_the_same_inputs_stays(run: RunDirectory) -> None:
    key = stage_key(INPUTS, [])
    (run.begin("train/dpo", key, INPUTS) / "resume").write_text("step 10")
    assert (run.begin("train/dpo", key, INPUTS) / "resume").read_text() == "step 10"


@pytest.mark.parametrize("damage", ["remove", "truncate"])
def test_damaged_outputs_are_noticed(run: RunDirectory, damage: str) -> None:
    key = finish(run, "train/dpo", INPUTS)
    weights = run.folder("train/dpo") / "weights"
    weights.unlink() if damage == "remove" else weights.write_text("12")
    state = run.state("train/dpo", key, INPUTS)
    assert (state.status, state.reason) == ("damaged", "missing or altered: train/dpo/weights")


def test_keys_depend_on_inputs_and_needs_but_not_on_order() -> None:
    assert stage_key({"a": 1, "b": 2}, ["x", "y"]) == stage_key({"b": 2, "a": 1}, ["y", "x"])
    assert len({stage_key({"a": 1}, []), stage_key({"a": 2}, []), stage_key({"a": 1}, ["x"])}) == 3


def test_two_writers_are_refused(run: RunDirectory) -> None:
    with run.locked(), pytest.raises(SmaugError, match="in use by another"), RunDirectory(run.path).locked():
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = RunDirectory(tmp_path / "file" / "run")
    with pytest.raises(SmaugError, match="cannot write"), run.locked():
        pass
