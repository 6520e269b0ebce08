"""Links and files of others in a run: what is read or written is guarded, and nothing else gets in the way."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smaug_eval import cli
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.interrupts import Interrupts
from smaug_eval.reports import build_report
from smaug_eval.results.layout import OTHERS, RECORD, TWIN, is_of_others, stage_files
from smaug_eval.runs.cluster.worker import sizes
from smaug_eval.runs.directory import RunDirectory, stage_key

Smaug = Callable[..., tuple[int, str]]
Opened = Callable[[Path], list[str]]
TRAINED = "train/dpo"
ANSWER = '{"question_id": 1, "model_id": "base", "choices": [{"index": 0, "turns": ["a", "b"]}]}\n'
_opened: list[str] = []
_hooks: list[bool] = []


@pytest.fixture
def smaug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Smaug:
    """The command line in this process; gives the exit code and what was printed."""

    def invoke(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["smaug-eval", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.run_command()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out + printed.err

    return invoke


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"{a} + {b} =", "chosen": f" {a + b}", "rejected": f" {a + b + 1}"}
        for a in range(1, 4)
        for b in (3, 4)
    ]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Which files below a folder this process opened since the test began."""
    if not _hooks:  # a hook stays for good
        sys.addaudithook(lambda event, given: _opened.append(str(given[0])) if event == "open" else None)
        _hooks.append(True)
    _opened.clear()
    yield lambda folder: [name for name in _opened if Path(name).resolve().is_relative_to(folder)]
    _opened.clear()


def train(model: str | Path, pairs: Path, *more: str | Path) -> list[str | Path]:
    small = ("steps=2", "batch_size=2", "max_length=128")
    settings = [part for setting in small for part in ("--set", setting)]
    return ["train", model, pairs, "--loss", "dpo", "--name", "x", *settings, "--set-pairs", "holdout=2", *more]


def record(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / TRAINED / RECORD).read_text())
    return found


# Files of others


@pytest.mark.slow
def test_a_run_that_logs_to_weights_and_biases_ends_is_repeated_and_goes_on(
    smaug: Smaug, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    for name, value in {"MODE": "offline", "SILENT": "true", "CACHE_DIR": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    run = tmp_path / "runs/x"
    command = train("embedded:demo-model", pairs, "--runs-dir", run.parent, "--set", "wandb_project=preferences")

    with monkeypatch.context() as patch:  # stopped after the first step, with W&B's links in place
        patch.setattr(Interrupts, "requested", lambda self: "step" in _text(run / TRAINED / "log.jsonl"))
        code, said = smaug(*command)
    assert code == 3, said
    code, said = smaug(*command)
    assert code == 0, said
    links = [file for file in (run / TRAINED / "wandb").rglob("*") if file.is_symlink()]
    out = [link for link in links if not link.resolve().is_relative_to(run)]
    assert out, "W&B no longer links to its own log: the test shows nothing"
    assert (run / "report.html").is_file()
    assert not [name for name in record(run)["outputs"] if name.split("/")[2] in OTHERS]
    assert record(run)["outputs"].keys() == record(run)["sha256"].keys()
    rows = map(json.loads, (run / TRAINED / "log.jsonl").read_text().splitlines())
    assert [row["step"] for row in rows if row["split"] == "train"] == [1, 2]

    finished = record(run)["finished"]
    for link in out:  # W&B's service writes on when the run has ended, and cleans up
        link.resolve().write_text("more")
    shutil.rmtree(run / TRAINED / "tensorboard")
    code, said = smaug(*command)
    assert (code, "everything was done before" in said) == (0, True), said
    code, said = smaug("report", run, "--out", tmp_path / "again.html")
    assert code == 0, said
    _leave_as_the_version_before(run)
    code, said = smaug(*command)
    assert code == 0, said
    assert (run / "report.html").is_file()
    assert record(run)["finished"] == finished
    assert not (run / "superseded").exists()


def _text(file: Path) -> str:
    return file.read_text() if file.is_file() else ""


def _leave_as_the_version_before(run: Path) -> None:
    """W&B's files in the record of the training, of which some changed since, and no report."""
    found = record(run)
    for file in (run / TRAINED / "wandb").rglob("*.log"):
        name = file.relative_to(run).as_posix()
        found["outputs"][name], found["sha256"][name] = 1, "0" * 64
    for name in (RECORD, TWIN):
        (run / TRAINED / name).write_text(json.dumps(found))
    shutil.rmtree(run / "report")
    (run / "report.html").unlink()


def test_what_others_write_into_a_training_is_in_no_record(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    key = stage_key({}, [])
    folder = run.begin(TRAINED, key, {})
    for name in ("checkpoint/model.safetensors", "log.jsonl", "wandb/run/a.log", "tensorboard/plugins/profile/b"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1")
    (tmp_path / "own.txt").write_text("1")
    (folder / "notes.txt").symlink_to(tmp_path / "own.txt")
    run.finish(TRAINED, seconds=1.0, summary={})
    assert sorted(run.record(TRAINED)["outputs"]) == [
        f"{TRAINED}/checkpoint/model.safetensors",
        f"{TRAINED}/log.jsonl",
    ]
    assert sizes(folder) == {"checkpoint/model.safetensors": 1, "log.jsonl": 1}  # what a worker tells the driver
    (folder / "log.jsonl").write_text("12")
    assert run.state(TRAINED, key, {}).status == "damaged"
    assert is_of_others(TRAINED, f"{TRAINED}/wandb/a")
    assert not is_of_others(TRAINED, f"{TRAINED}/checkpoint/wandb/a")


# Links of the user


@pytest.mark.slow
def test_links_to_another_disk_are_followed_and_repeating_does_nothing(
    smaug: Smaug, pairs: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    for name in ("runs", "weights", "adapter", "notes"):
        (disk / name).mkdir(parents=True)
    shutil.copytree(embedded_path("embedded:demo-model"), disk / "models/0f3c")
    (tmp_path / "my-model").symlink_to(disk / "models/0f3c")
    (tmp_path / "runs").symlink_to(disk / "runs")
    run = tmp_path / "runs/x"
    (run / TRAINED).mkdir(parents=True)
    (run / TRAINED / "checkpoint").symlink_to(disk / "weights")
    (run / TRAINED / "adapter").symlink_to(disk / "adapter")
    (run / "notes").symlink_to(disk / "notes")
    command = train(tmp_path / "my-model", pairs, "--runs-dir", tmp_path / "runs", "--set", "lora.r=2")

    code, said = smaug(*command)
    assert code == 0, said
    assert (run / TRAINED / "checkpoint").is_symlink()
    assert (disk / "weights/model.safetensors").is_file()
    assert (disk / "adapter/adapter_model.safetensors").is_file()
    assert not list(disk.rglob(".*partial*"))
    for name in ("checkpoint/model.safetensors", "adapter/adapter_model.safetensors"):
        assert f"{TRAINED}/{name}" in record(run)["sha256"]
    assert "my-model, SHA-256" in (disk / "weights/README.md").read_text()
    code, said = smaug(*command)
    assert (code, "everything was done before" in said) == (0, True), said

    shutil.move(disk / "weights", disk / "unmounted")
    code, said = smaug(*command)
    assert code == 2, said
    assert "checkpoint is a link to" in said
    assert "which is not there" in said
    shutil.move(disk / "unmounted", disk / "weights")
    (disk / "weights/model.safetensors").write_text("other")
    (disk / "weights/mine.txt").write_text("mine")
    code, said = smaug(*command)  # damaged: set aside with its link, and trained again beside it
    assert code == 0, said
    assert next((run / "superseded").glob("*/checkpoint")).is_symlink()
    assert (disk / "weights/mine.txt").read_text() == "mine"
    assert not (run / TRAINED / "checkpoint").is_symlink()


@pytest.mark.slow
def test_weights_are_not_written_over_files_of_the_user(smaug: Smaug, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/config.json").write_text("mine")
    folder = tmp_path / "runs/x" / TRAINED
    folder.mkdir(parents=True)
    (folder / "checkpoint").symlink_to(tmp_path / "thesis")
    code, said = smaug(*train("embedded:demo-model", pairs, "--runs-dir", tmp_path / "runs"))
    assert code == 2, said
    assert "which is not an empty folder" in said
    assert [file.name for file in (tmp_path / "thesis").iterdir()] == ["config.json"]
    assert not (folder / "log.jsonl").exists()  # said before the training


# What is read and written


def _run(write_run: Callable[[str], Any]) -> Path:
    run = write_run("study").manifest(models={"base": {}})
    run.training("dpo", {"train": [(1, 0.0, 0.0)], "eval": [(0, 0.0, 0.0)]}, {"loss": "dpo"})
    run.evaluation("base", {"arithmetic": 0.5}, samples=run.samples([0.0, 1.0], "acc"))
    folder: Path = run.path
    for name, content in {
        f"{TRAINED}/diagnostics.jsonl": '{"step": 1}\n',
        f"{TRAINED}/held_out.jsonl": "{}\n",
        f"{TRAINED}/{RECORD}": "{}",
        f"{TRAINED}/checkpoint/config.json": "{}",
        f"{TRAINED}/tensorboard/events": "",
        f"{TRAINED}/wandb/files/summary.json": "{}",
        "pairs/made/stats.json": "{}",
        "mt-bench/d/model_answer/base/base.jsonl": ANSWER,
        "mt-bench/d/model_judgment/base/j_single.jsonl": "",
        "journal/a.jsonl": "",
        "reference/a.safetensors": "",
        "superseded/mt-bench__d-0001/j_single.jsonl": "",
        "superseded/train__dpo-0001/wandb/debug.log": "",
        "run.log": "",
        ".lock": "",
        "notes.json": "{}",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


NOT_OURS = ("checkpoint", "tensorboard", "wandb", "train__dpo-0001", "notes.json")


def test_no_file_that_is_read_or_written_leads_out_by_a_link(
    write_run: Callable[[str], Any], tmp_path: Path, opened: Opened
) -> None:
    """Each file, and each folder, in turn: refused before anything outside is opened, or none of our business."""
    run = _run(write_run)
    outside = tmp_path / "outside"
    outside.mkdir()
    for path in sorted(run.rglob("*")):
        shutil.move(path, outside / "it")
        path.symlink_to(outside / "it")
        ours = not set(path.relative_to(run).parts) & set(NOT_OURS)
        _opened.clear()
        if ours:
            with pytest.raises(SmaugError, match="leads out of"):
                build_report([run], tmp_path / "report.html")
            with pytest.raises(SmaugError, match="leads out of"), RunDirectory(run).locked():
                pass
        else:
            with RunDirectory(run).locked():
                pass
            build_report([run], tmp_path / "report.html")
        assert opened(outside) == [], path
        path.unlink()
        shutil.move(outside / "it", path)


def test_answers_in_a_folder_of_their_own_are_not_written_through_a_link(tmp_path: Path) -> None:
    """Of mt-bench answer and judge, which leave FastChat's layout in the folder they are given."""
    for name in ("model_answer", "model_judgment"):
        folder = tmp_path / name
        (folder / name).mkdir(parents=True)
        (tmp_path / f"{name}.jsonl").write_text(ANSWER)
        (folder / name / "m.jsonl").symlink_to(tmp_path / f"{name}.jsonl")
        with pytest.raises(SmaugError, match="leads out of"), RunDirectory(folder).locked():
            pass
        with pytest.raises(SmaugError, match="leads out of"):
            build_report([folder], tmp_path / "report.html")


def test_a_detour_through_the_run_leads_nowhere_else(tmp_path: Path, write_run: Callable[[str], Any]) -> None:
    """A link within the run to a place that is not looked at, from where a second one leads out."""
    run = _run(write_run)
    (tmp_path / "secret.jsonl").write_text('{"split": "train", "step": 1}\n')
    (run / "notes").mkdir()
    (run / "notes/log.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (run / "train/other").symlink_to(run / "notes")
    with pytest.raises(SmaugError, match="leads out of"):
        build_report([run], tmp_path / "report.html")
    (run / "train/other").unlink()
    (run / "eval/again").symlink_to(run / "eval")  # a circle is walked once
    build_report([run], tmp_path / "report.html")


def test_results_of_others_are_read_past_their_links(write_run: Callable[[str], Any], tmp_path: Path) -> None:
    """A folder of lm-eval's with W&B's links beside the results; the results themselves may not lead out."""
    made = write_run("made")
    made.evaluation("base", {"arithmetic": 0.5}, samples=made.samples([1.0], "acc"))
    folder = tmp_path / "lm-eval"
    shutil.copytree(made.path / "eval/base/main/arithmetic", folder)
    (tmp_path / "elsewhere.log").write_text("")
    (folder / "wandb/logs").mkdir(parents=True)
    (folder / "wandb/logs/debug.log").symlink_to(tmp_path / "elsewhere.log")
    (folder / "wandb/media.json").symlink_to(tmp_path / "elsewhere.log")
    (folder / "cache").symlink_to(tmp_path)
    build_report([folder], tmp_path / "report.html")
    (samples,) = folder.glob("samples_*.jsonl")
    shutil.move(samples, tmp_path / "samples.jsonl")
    samples.symlink_to(tmp_path / "samples.jsonl")
    with pytest.raises(SmaugError, match="leads out of"):
        build_report([folder], tmp_path / "report.html")


def test_a_training_s_folder_is_read_past_the_links_of_others(write_run: Callable[[str], Any], tmp_path: Path) -> None:
    run = _run(write_run)
    (tmp_path / "x.log").write_text("")
    (run / TRAINED / "wandb/debug.log").symlink_to(tmp_path / "x.log")
    build_report([run / TRAINED], tmp_path / "report.html")
    shutil.move(run / TRAINED / "summary.json", tmp_path / "summary.json")
    (run / TRAINED / "summary.json").symlink_to(tmp_path / "summary.json")
    with pytest.raises(SmaugError, match="leads out of"):
        build_report([run / TRAINED], tmp_path / "report.html")


def test_files_of_a_stage_are_found_behind_a_linked_folder_of_weights(tmp_path: Path) -> None:
    (tmp_path / "disk/deep").mkdir(parents=True)
    (tmp_path / "disk/deep/w").write_text("")
    stage = tmp_path / "stage"
    stage.mkdir()
    (stage / "checkpoint").symlink_to(tmp_path / "disk")
    (stage / "data").symlink_to(tmp_path / "disk")
    assert stage_files(stage) == [stage / "checkpoint/deep/w"]
