"""Faults that are really brought about: a clear message, and the same command goes on.

docs/reliability.md lists them with the names of these tests.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import itertools
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file, save_file

import smaug_eval
from smaug_eval.common import console
from smaug_eval.common.console import Reporter, SteadyStream, captured_output
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import Interrupted, SmaugError
from smaug_eval.common.files import GrowingFile, cut_torn_line, sweep, write_failure, write_json, write_text
from smaug_eval.engines.journal import Journal
from smaug_eval.models.checkpoint import locate
from smaug_eval.mt_bench.answers import Turn
from smaug_eval.mt_bench.files.lines import JsonLine, mend
from smaug_eval.mt_bench.files.records import RecordWriter
from smaug_eval.results.layout import HOLDER, MANIFEST, RECORD, SUPERSEDED, TWIN
from smaug_eval.runs import directory as rundir
from smaug_eval.runs.directory import RunDirectory, stage_key
from smaug_eval.trainers.checkpoints import TrainingResult, finished_result, mark_finished, newest_checkpoint, seal
from smaug_eval.trainers.reference import TokenLogProbs, load_reference, save_reference
from smaug_eval.trainers.training_log import read_log

TRAINING = {"loss": "dpo", "steps": 3, "save_every": 1, "batch_size": 2, "learning_rate": 1e-4, "row_tokens": 256}
PAIRS = {"source": "metamath", "path": "embedded:demo-arithmetic", "limit": 6, "holdout": 0, "shots": [0, 1]}
MODEL = {"path": "embedded:demo-model", "dtype": "float32"}
EVALUATION = {"suite": "demo", "tasks": ["facts"], "limit": 2, "engine": "torch"}
SCORED: dict[str, Any] = {"name": "faulty", "model": MODEL, "evaluations": {"demo": EVALUATION}}
TRAINED: dict[str, Any] = {
    "name": "faulty",
    "model": MODEL,
    "pairs": {"made": PAIRS},
    "trainings": {"dpo": {**TRAINING, "gradient_cosine_pairs": 0}},
}
INPUTS = {"training": {"beta": 0.3}}
SCOPE = {"weights": "w"}


class Eventful(Reporter):
    """A reporter that keeps what is said, and does something once at the first progress within a stage."""

    def __init__(self, stage: str = "", act: Callable[[], object] = lambda: None, *, at_start: bool = False) -> None:
        super().__init__(Console(file=SteadyStream(os.open(os.devnull, os.O_WRONLY))), quiet=True)  # type: ignore[arg-type]
        self.warnings: list[str] = []
        self._stage, self._act, self._at_start, self._inside = stage, act, at_start, False

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[None]:
        self._inside = bool(self._stage) and self._stage in title
        with super().stage(title):
            if self._at_start:
                self._once()
            yield

    def update(self, done: int, total: int, note: str = "") -> None:
        super().update(done, total, note)
        self._once()

    def _once(self) -> None:
        if self._inside:
            self._inside = False
            self._stage = ""
            self._act()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A file system of its own; called again it gets other options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = False

    def mount(options: str) -> Path:
        nonlocal mounted
        what = ["-o", f"{'remount,' if mounted else ''}{options}"]
        command = ["mount", "-t", "tmpfs", *what, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a file system needs root")
        mounted = True
        return folder

    yield mount
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Limit the size of files, so that a write in the middle of a line fails as on a full disk.

    Not beyond a ``with``: pytest itself may write to a file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def finished(run: RunDirectory, stage: str) -> str:
    key = stage_key(INPUTS, [])
    (run.begin(stage, key, INPUTS) / "weights").write_text("12345")
    run.finish(stage, seconds=1.0, summary={})
    return key


# Full disk


def test_a_line_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    growing = GrowingFile(file)
    growing.append(b"one\n")
    with file_limit(9), pytest.raises(SmaugError, match=r"cannot write .*lines"):
        growing.append(b"a second one\n")  # of which five bytes would fit
    assert file.read_bytes() == b"one\n"
    growing.append(b"two\n")
    growing.close()
    growing.close()
    assert file.read_bytes() == b"one\ntwo\n"


def test_a_journal_on_a_full_disk_keeps_what_it_has(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SCOPE)
    journal.add({"a": 1})
    with file_limit(journal.file.stat().st_size + 10), pytest.raises(SmaugError, match="cannot write"):
        journal.add({"b": 2})
    journal.close()
    again = Journal(tmp_path, SCOPE)
    assert ("a" in again, "b" in again) == (True, False)
    again.add({"b": 2})
    again.close()


def test_answers_of_a_full_disk_are_refused_one_by_one(tmp_path: Path) -> None:
    file = tmp_path / "model.turns"
    turns = [Turn(number, 1, "text", 3, "stop", 7) for number in (1, 2)]
    with file_limit(100), RecordWriter(file) as writer:
        writer.append(turns[0])
        with pytest.raises(SmaugError, match=r"cannot write .*model.turns"):
            writer.append(turns[1])
    assert [json.loads(line)["question_id"] for line in file.read_text().splitlines()] == [1]


def test_a_failed_atomic_write_keeps_the_file_and_leaves_no_other(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    with file_limit(2), pytest.raises(SmaugError, match=r"cannot write .*file: File too large"):
        write_text(tmp_path / "file", "new text")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("file", "old")]


@pytest.mark.slow
def test_a_training_on_a_full_disk_goes_on_once_there_is_room(small_disk: Callable[[str], Path]) -> None:
    runs = small_disk("size=12m")  # the weights fit, the optimiser's state does not
    with pytest.raises(SmaugError, match=r"cannot write .*No space left on device") as stopped:
        smaug_eval.run(TRAINED, runs=runs)
    assert "free the disk" in str(stopped.value)
    small_disk("size=200m")
    result = smaug_eval.run(TRAINED, runs=runs)
    assert result.did == ("train/dpo", "report")
    steps = [row["step"] for row in read_log(result.path / "train/dpo/log.jsonl")]
    assert steps == [1, 2, 3]
    assert not list(result.path.rglob(".*.tmp"))


def test_a_full_disk_is_recognised_in_the_words_of_libraries() -> None:
    assert write_failure(RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")) is not None
    assert write_failure(ValueError("No space left on device (os error 28)")) is not None
    assert write_failure(RuntimeError("out of memory")) is None
    wrapped = RuntimeError("could not save")
    wrapped.__cause__ = OSError(30, "Read-only file system")
    assert write_failure(wrapped) is wrapped.__cause__


# Read-only and vanished directories


def test_a_read_only_directory_is_named(small_disk: Callable[[str], Path]) -> None:
    runs = small_disk("size=4m")
    small_disk("ro,size=4m")
    with pytest.raises(SmaugError, match=r"cannot write .*faulty: Read-only file system"):
        smaug_eval.run(SCORED, runs=runs)


@pytest.mark.slow
def test_a_vanished_directory_stops_the_run_and_is_gone_on_with_when_back(tmp_path: Path) -> None:
    run, away = tmp_path / "faulty", tmp_path / "away"
    with pytest.raises(SmaugError, match=r"faulty is gone: removed, moved, or no longer mounted"):
        smaug_eval.run(SCORED, runs=tmp_path, reporter=Eventful("Facts", lambda: run.rename(away)))
    assert not (run / MANIFEST).exists()
    shutil.rmtree(run, ignore_errors=True)
    away.rename(run)
    again = Eventful()
    result = smaug_eval.run(SCORED, runs=tmp_path, reporter=again)
    assert list(result.did) == ["eval/base/demo/facts", "report"]
    assert "did not end cleanly" in again.warnings[0]
    (results,) = (run / "eval/base/demo/facts").glob("results_*.json")
    assert json.loads(results.read_text())["n-samples"]["demo_facts"]["effective"] == 2


# Damaged weights


@pytest.mark.parametrize("damage", ["truncated", "empty", "header"])
def test_damaged_base_weights_are_refused_by_name(tmp_path: Path, damage: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(embedded_path("embedded:demo-model"), model)
    weights = model / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes({"truncated": whole[:-5], "empty": b"", "header": b"\xff" * 64 + whole[64:]}[damage])
    with pytest.raises(SmaugError, match=r"model.safetensors is truncated or damaged"):
        smaug_eval.prepare({**SCORED, "model": {"path": str(model)}}, runs=tmp_path)
    weights.write_bytes(whole)
    assert locate(str(model)).sha256 == locate("embedded:demo-model").sha256


@pytest.mark.slow
def test_a_damaged_checkpoint_is_trained_again_and_nothing_else(tmp_path: Path) -> None:
    first = smaug_eval.run(TRAINED, runs=tmp_path)
    weights = first.path / "train/dpo/checkpoint/model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])  # one bit; the size stays
    reporter = Eventful()
    again = smaug_eval.run(TRAINED, runs=tmp_path, reporter=reporter)
    assert again.did == ("train/dpo",)
    (warning,) = reporter.warnings
    assert "missing or altered: train/dpo/checkpoint/model.safetensors; it is done again" in warning
    assert weights.read_bytes() == whole


def test_a_damaged_checkpoint_to_resume_from_gives_way_to_the_one_before(tmp_path: Path) -> None:
    for step in (2, 4):
        checkpoint = tmp_path / f"checkpoint-{step}"
        checkpoint.mkdir()
        (checkpoint / "optimizer.pt").write_bytes(b"state")
        (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        seal(checkpoint)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    (tmp_path / "checkpoint-4" / "optimizer.pt").write_bytes(b"stat")
    assert newest_checkpoint(tmp_path, remove_incomplete=True) == tmp_path / "checkpoint-2"
    assert not (tmp_path / "checkpoint-4").exists()


def test_a_finished_training_is_known_again_while_its_files_are_what_they_were(tmp_path: Path) -> None:
    """Between the end of a training and the record of its stage lies the hashing of the weights: minutes."""
    figures = {field.name: 0 for field in fields(TrainingResult)} | {"weights": {"lambda": 50.0}, "warnings": ["one"]}
    result = TrainingResult(**figures)  # type: ignore[arg-type]
    write_json(tmp_path / "summary.json", result.summary())
    write_text(tmp_path / "checkpoint" / "model.safetensors", "weights")
    assert finished_result(tmp_path, "identity") is None
    mark_finished(tmp_path, "identity")
    assert finished_result(tmp_path, "identity") == result
    assert finished_result(tmp_path, "of other settings") is None
    write_text(tmp_path / "checkpoint" / "model.safetensors", "weighta")
    assert finished_result(tmp_path, "identity") is None


@pytest.mark.slow
def test_a_training_killed_before_its_stage_is_recorded_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(self: RunDirectory, stage: str, **about: object) -> None:
        if stage == "train/dpo":
            raise Killed
        finish(self, stage, **about)

    finish: Any = RunDirectory.finish
    monkeypatch.setattr(RunDirectory, "finish", die)
    with pytest.raises(Killed):
        smaug_eval.run(TRAINED, runs=tmp_path)
    monkeypatch.undo()
    log = tmp_path / "faulty/train/dpo/log.jsonl"
    before = log.stat().st_mtime_ns, log.read_bytes()
    assert not (tmp_path / "faulty/train/dpo/resume").exists()
    assert smaug_eval.run(TRAINED, runs=tmp_path).did == ("train/dpo", "report")
    assert (log.stat().st_mtime_ns, log.read_bytes()) == before


def test_damaged_scores_of_the_reference_are_computed_again(tmp_path: Path) -> None:
    file = tmp_path / "reference-x.safetensors"
    one = (np.array([-1.5, -2.0], np.float32),)
    save_reference(TokenLogProbs(one, one), file)
    loaded = load_reference(file)
    assert loaded is not None
    assert loaded.chosen[0].tolist() == [-1.5, -2.0]
    tensors = load_file(file)
    tensors["chosen"][0] = -1.25
    whole = file.read_bytes()
    file.write_bytes(whole.replace(np.float32(-1.5).tobytes(), np.float32(-1.25).tobytes()))
    assert file.read_bytes() != whole
    assert load_reference(file) is None
    save_file(tensors, file)  # whole, but not ours: it has no digest
    assert load_reference(file) is None


# Damaged input


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.jsonl.gz", "pairs.parquet"])
def test_half_a_pair_file_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    import pandas as pd

    rows = [{"prompt": f"{number} + 1 =", "chosen": " two", "rejected": " three"} for number in range(200)]
    file = tmp_path / name
    if name.endswith(".parquet"):
        pd.DataFrame(rows).to_parquet(file)
    else:
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    smaug_eval.build_pairs(file, tmp_path / "whole", source="rows")
    half = file.read_bytes()
    file.write_bytes(half[: len(half) // 2])
    said = {"pairs.jsonl": r"jsonl, line 1\d\d: not valid JSON", "pairs.jsonl.gz": r"gz is damaged after line \d+"}
    with pytest.raises(SmaugError, match=said.get(name, "parquet cannot be read as parquet")):
        smaug_eval.build_pairs(file, tmp_path / "out", source="rows")
    assert not (tmp_path / "out" / "train.jsonl").exists()


# The clock


def test_moved_results_are_in_order_whatever_the_clock_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Backwards(datetime.datetime):
        hours = itertools.count()

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime(2030, 1, 1, tzinfo=tz) - datetime.timedelta(hours=next(cls.hours))

    monkeypatch.setattr(rundir.datetime, "datetime", Backwards)
    run = RunDirectory(tmp_path)
    for beta in range(4):
        inputs = {"beta": beta}
        (run.begin("train/dpo", stage_key(inputs, []), inputs) / "beta").write_text(str(beta))
    finished(run, "train/dpo-b")
    run.begin("train/dpo-b", "other", {})
    assert [(folder / "beta").read_text() for folder in run.superseded("train/dpo")] == ["0", "1", "2"]
    assert len(run.superseded("train/dpo-b")) == 1


@pytest.mark.slow
def test_a_clock_that_jumps_changes_no_duration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps, true = itertools.cycle([0.0, -86400.0, 86400.0]), time.time
    monkeypatch.setattr(time, "time", lambda: true() + next(jumps))
    started = time.monotonic()
    result = smaug_eval.run(SCORED, runs=tmp_path)
    elapsed = time.monotonic() - started
    for stage in result.did:
        record = RunDirectory(result.path).record(stage)
        assert 0 <= record["seconds"] <= elapsed
    assert smaug_eval.run(SCORED, runs=tmp_path).did == ()


# Signals


EVERYTHING: dict[str, Any] = {
    **TRAINED,
    "evaluations": {"demo": {**EVALUATION, "models": ["base"]}},
    "mt_bench": {
        "talk": {
            "questions": "demo",
            "chat_template": "plain",
            "max_new_tokens": 4,
            "engine": "torch",
            "models": ["base"],
            "judge": {"demo": True, "concurrency": 1},
        }
    },
}


@pytest.mark.slow
def test_sigterm_in_every_stage_is_gone_on_from_and_a_closed_terminal_stops_nothing(tmp_path: Path) -> None:
    def send(*numbers: signal.Signals) -> Callable[[], None]:
        return lambda: [os.kill(os.getpid(), number) for number in numbers] and None

    run = tmp_path / "faulty"
    for kind in ("pairs made", "train dpo", "Facts", "answers", "judges", "report"):
        # The terminal closes during the evaluation, which then is stopped like the others.
        signals = (signal.SIGHUP, signal.SIGTERM) if kind == "Facts" else (signal.SIGTERM,)
        reporter = Eventful(kind, send(*signals), at_start=kind in ("pairs made", "report"))
        with pytest.raises(Interrupted) as stopped:
            smaug_eval.run(EVERYTHING, runs=tmp_path, reporter=reporter, command="smaug-eval run it.yaml")
        assert stopped.value.exit_code == 3
        assert stopped.value.fix == "continue with: smaug-eval run it.yaml"
        assert not (run / HOLDER).exists()
        assert not any("cleanly" in warning for warning in reporter.warnings)
        if kind == "train dpo":
            assert "while scoring the reference" in stopped.value.message
            assert list((run / "reference").glob("*.unfinished/*.jsonl"))
        if kind == "Facts":
            assert sum(len(file.read_text().splitlines()) - 1 for file in (run / "journal").glob("*.jsonl")) > 0
        if kind == "answers":
            assert (run / "mt-bench/talk/model_answer/base/base.turns").read_text().count("\n") >= 1
    assert smaug_eval.run(EVERYTHING, runs=tmp_path).did == ("report",)
    assert "the terminal is closed; the run continues" in (run / "run.log").read_text()
    assert not list((run / "reference").glob("*.unfinished"))


@pytest.mark.slow
def test_sigterm_in_a_training_leaves_a_checkpoint_and_stops_even_where_it_comes_at_the_end(tmp_path: Path) -> None:
    class Stepwise(Eventful):
        """Acts at a row of the training log, not while the reference is scored."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self._step = step

        def update(self, done: int, total: int, note: str = "") -> None:
            if "loss" in note and done == self._step:
                os.kill(os.getpid(), signal.SIGTERM)

    resume = tmp_path / "faulty/train/dpo/resume"
    with pytest.raises(Interrupted, match="stopped after step 2"):
        smaug_eval.run(TRAINED, runs=tmp_path, reporter=Stepwise(1))
    assert newest_checkpoint(resume) == resume / "checkpoint-2"
    with pytest.raises(Interrupted, match="stopped after train dpo"):  # the last step: the stage is finished first
        smaug_eval.run(TRAINED, runs=tmp_path, reporter=Stepwise(3))
    assert smaug_eval.run(TRAINED, runs=tmp_path).did == ("report",)


def test_a_closed_pipe_or_terminal_hides_lines_and_stops_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    reporter = Reporter(Console(file=SteadyStream(writer)))  # type: ignore[arg-type]
    with reporter, reporter.stage("stage"):
        reporter.say("nobody reads this")
        reporter.warn("nor this")
    os.close(writer)
    reporter.say("nor this, with the descriptor gone")


def test_progress_is_in_the_log_even_when_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "PLAIN_LINE_SECONDS", 0.0)
    with captured_output(tmp_path / "run.log"):
        reporter = Eventful()
        with reporter.stage("evaluate base"):
            reporter.update(3, 8, "20 tokens/s")
    assert "evaluate base: 3/8, about 0 s left, 20 tokens/s" in (tmp_path / "run.log").read_text()


# The lock


def test_who_holds_a_run_is_said_and_a_killed_holder_gives_way(tmp_path: Path) -> None:
    hold = (
        "import sys, time; from pathlib import Path; from smaug_eval.runs.directory import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).locked():\n    print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        run, notices = RunDirectory(tmp_path), list[str]()
        with pytest.raises(SmaugError, match=rf"in use by another.*process {holder.pid} on .*, since 20"), run.locked():
            pass
    finally:
        holder.kill()
        holder.communicate()
    with run.locked(notices.append):
        assert json.loads((tmp_path / HOLDER).read_text())["pid"] == os.getpid()
    assert f"the last run (process {holder.pid} on " in notices[0]
    with run.locked(notices.append):
        pass
    assert len(notices) == 1


def test_leftovers_of_dead_processes_are_swept(tmp_path: Path) -> None:
    write = "import os, sys; from pathlib import Path; from smaug_eval.common.files import open_atomically\n"
    write += "with open_atomically(Path(sys.argv[1])) as file:\n    file.write(b'half'); file.flush(); os._exit(9)"
    subprocess.run([sys.executable, "-c", write, str(tmp_path / "deep" / "file")], check=False)
    (left,) = (tmp_path / "deep").iterdir()
    alive = left.with_name(left.name.replace(f".{left.name.split('.')[-3]}.", f".{os.getpid()}."))
    alive.touch()
    with RunDirectory(tmp_path).locked():
        assert not left.exists()
    assert alive.exists()
    assert sweep(tmp_path) == 0


# Damaged records


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"status": "done"}', b"\0" * 300, b"\xff\xfe"])
def test_a_damaged_record_costs_nothing_and_two_cost_their_stage(tmp_path: Path, damage: bytes) -> None:
    run = RunDirectory(tmp_path)
    key = finished(run, "train/dpo")
    folder = run.folder("train/dpo")
    (folder / RECORD).write_bytes(damage)
    assert run.state("train/dpo", key, INPUTS).status == "done"
    (folder / TWIN).write_bytes(damage)
    state = run.state("train/dpo", key, INPUTS)
    assert (state.status, state.reason) == ("damaged", "train/dpo/stage.json cannot be read")
    assert list(run.begin("train/dpo", key, INPUTS).glob("weights")) == []
    (kept,) = (tmp_path / SUPERSEDED).glob("train__dpo-0001-*/weights")
    assert kept.read_text() == "12345"
    assert run.state("train/dpo", key, INPUTS).status == "started"


def test_an_altered_file_of_the_same_size_is_noticed(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    key = finished(run, "train/dpo")
    (run.folder("train/dpo") / "weights").write_bytes(b"\0" * 5)  # as a machine without power may leave it
    assert run.state("train/dpo", key, INPUTS).status == "done"
    assert run.state("train/dpo", key, INPUTS, thorough=True).reason == "missing or altered: train/dpo/weights"


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"\0" * 50])
def test_a_damaged_manifest_is_written_anew(tmp_path: Path, damage: bytes) -> None:
    run = RunDirectory(tmp_path)
    write_json(tmp_path / MANIFEST, {"created": "then"})
    assert run.manifest() == {"created": "then"}
    (tmp_path / MANIFEST).write_bytes(damage)
    assert run.manifest() == {}


def test_a_flipped_bit_in_an_answer_costs_its_chunk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(tmp_path, SCOPE)
    journal.add({"a": [-1.25, True]})
    journal.add({"b": [-2.5, False]})
    journal.close()
    journal.file.write_bytes(journal.file.read_bytes().replace(b"-1.25", b"-1.75"))
    again = Journal(tmp_path, SCOPE)
    assert ("a" in again, again["b"]) == (False, [-2.5, False])
    assert "line 2: damaged; what it held is computed again" in caplog.text
    again.close()


def test_a_damaged_head_of_a_journal_costs_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SCOPE)
    journal.add({"a": 1})
    journal.close()
    lines = journal.file.read_bytes().splitlines(keepends=True)
    journal.file.write_bytes(b"\0" * 20 + b"\n" + lines[1])  # the file's name tells the scope, too
    again = Journal(tmp_path, SCOPE)
    assert again["a"] == 1
    again.close()


def test_a_damaged_row_of_a_training_log_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = tmp_path / "log.jsonl"
    rows = [json.dumps({"split": "train", "step": step}).encode() for step in (1, 2, 3)]
    log.write_bytes(b"\n".join([rows[0], b"\0\0\xff", rows[2], b'{"split": "tr']))
    assert [row["step"] for row in read_log(log)] == [1, 3]
    assert f"{log}, line 2: damaged" in caplog.text
    log.write_bytes(b"")
    assert read_log(log) == []


def test_damaged_lines_of_our_own_records_are_taken_out_and_kept_aside(tmp_path: Path) -> None:
    file, notices = tmp_path / "judge_single.jsonl", list[str]()

    def read(line: JsonLine) -> None:
        if "c" in line.content:
            line.text("d")

    mend(file, notices.append, read)
    file.write_bytes(b'{"a": 1}\nhalf a li\n\n[2]\n{"b": 2}\n{"c": 3}\n{"torn')
    before = file.read_bytes()
    mend(file, notices.append, read)
    assert file.read_bytes() == b'{"a": 1}\n\n{"b": 2}\n{"torn'
    (kept,) = tmp_path.glob("*.superseded-*")
    assert kept.read_bytes() == before
    assert "line 2, 4, 6 damaged; what was there is done again" in notices[0]
    mend(file, notices.append, read)
    assert len(notices) == 1


@pytest.mark.parametrize(
    ("content", "left"),
    [(b"", b""), (b"a\n", b"a\n"), (b"a\nb", b"a\n"), (b"torn", b""), (b"a\n" + b"x" * (3 << 20), b"a\n")],
)
def test_a_torn_tail_is_cut_off(tmp_path: Path, content: bytes, left: bytes) -> None:
    file = tmp_path / "lines"
    file.write_bytes(content)
    assert cut_torn_line(file) == len(content) - len(left)
    assert file.read_bytes() == left


# The log


def test_the_log_rotates_with_what_compiled_code_and_children_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LOG_BYTES", 2_000)
    log = tmp_path / "run.log"
    with captured_output(log):
        for number in range(100):
            os.write(1, b"%03d from compiled code %s\n" % (number, b"." * 100))
            logging.getLogger("library").warning("%03d logged", number)
        os.write(2, b"the end\n")
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["run.log", "run.log.1", "run.log.2", "run.log.3"]
    assert max(file.stat().st_size for file in tmp_path.iterdir()) < 2_400
    assert log.read_text().endswith("the end\n")
    text = "".join((tmp_path / name).read_text() for name in [*reversed(names[1:]), names[0]])
    kept = [int(line[:3]) for line in text.splitlines() if "compiled code" in line]
    assert kept == list(range(kept[0], 100))  # the newest, none missing


# Processes that outlive their caller


@pytest.mark.slow
def test_processes_of_a_killed_caller_stop_with_a_checkpoint(tmp_path: Path) -> None:
    from smaug_eval.trainers.config import TrainingConfig
    from smaug_eval.trainers.launch import CALLER
    from smaug_eval.trainers.spec import TrainingSpec

    rows = [{"prompt": f"{n} + 1 =", "chosen": f" {n + 1}", "rejected": f" {n}"} for n in range(8)]
    write_text(tmp_path / "train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    base = locate("embedded:demo-model")
    config: Mapping[str, Any] = {**TRAINING, "steps": 50, "gradient_cosine_pairs": 0}
    spec = TrainingSpec(
        config=TrainingConfig.model_validate(config),
        name="orphan",
        model_path=base.path,
        dtype="float32",
        train_file=tmp_path / "train.jsonl",
        out_dir=tmp_path / "out",
        seed=1,
        model_sha256=base.sha256,
    )
    write_json(spec.folder / "spec.json", spec.model_dump(mode="json", by_alias=True))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    command = [sys.executable, "-m", "smaug_eval.trainers", str(spec.folder / "spec.json")]
    ended = subprocess.run(
        command, env={**os.environ, CALLER: str(gone.pid)}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 3, ended.stderr
    assert "stopped while scoring the reference" in ended.stderr
