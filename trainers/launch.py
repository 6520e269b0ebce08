"""Launch a training in several processes: write their arguments, start, follow and stop them.

The caller writes ``launch/spec.json`` into the training's folder and starts ``python -m smaug_eval.trainers`` on it
under ``accelerate launch`` or torchrun. The main process reports its progress and its end in files beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from smaug_eval import _version
from smaug_eval.common.errors import EXIT_INTERRUPTED, Interrupted, SmaugError
from smaug_eval.common.files import read_json, write_json, write_text
from smaug_eval.common.redaction import mask_file
from smaug_eval.common.safe_yaml import parse_yaml
from smaug_eval.trainers.config import LaunchConfig
from smaug_eval.trainers.layout import LAUNCH_LOCK, SUMMARY_FILE
from smaug_eval.trainers.spec import TrainingSpec

SPEC_FILE, STOP_FILE, PROGRESS_FILE, NOTES_FILE, OUTCOME_FILE, OUTPUT_FILE = (
    "spec.json",
    "stop",
    "progress.json",
    "notes.jsonl",
    "outcome.json",
    "output.log",
)
CALLER = "SMAUG_EVAL_CALLER"
"""Environment variable with the caller's process id; without it, the processes stop after the same step."""
WORLD_SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK")
"""Variables that launchers set for processes: torchrun and accelerate, Open MPI, MPICH and Intel MPI, MVAPICH2."""
POLL_SECONDS = 0.5
# torchrun gives its processes 30 s after a signal.
GRACE_SECONDS = 45.0
LINES_SHOWN = 15


def refuse_foreign_launch() -> None:
    """Refuse to work as one of several processes of somebody else's launcher, which would all do the same.

    Raises:
        SmaugError: the environment says that there are several.
    """
    for name in WORLD_SIZES:
        size = os.environ.get(name, "")
        if size.isdecimal() and int(size) > 1:
            rank = next((f", {each}={os.environ[each]}" for each in RANKS if each in os.environ), "")
            raise SmaugError(
                f"this command was started as one of {size} processes ({name}={size}{rank}), by torchrun, accelerate "
                "launch, mpirun or a cluster; it starts what it needs itself",
                fix=f"start it plainly, once: a training takes launch.processes={size}, or launch= with a file of "
                "accelerate; an evaluation takes engine_args.data_parallel_size, or --ray. Where the variable is set "
                f"for other reasons: env -u {name}",
            )


def process_number(launch: LaunchConfig) -> int:
    """Return the processes that a launch starts, over all machines.

    Raises:
        SmaugError: the configuration file is missing or is none of accelerate's.
    """
    settings = {} if launch.config is None else accelerate_settings(Path(launch.config))
    return launch.processes or int(settings.get("num_processes", 1))


def train_in_processes(
    spec: TrainingSpec,
    launch: LaunchConfig,
    *,
    should_stop: Callable[[], bool],
    on_progress: Callable[[int, int, dict[str, Any]], None],
    on_note: Callable[[str], None] = lambda note: None,
    on_warning: Callable[[str], None] = lambda warning: None,
) -> dict[str, Any]:
    """Start the processes of a training and wait for their end.

    Args:
        spec: What to train.
        launch: In how many processes, and how they share the work.
        should_stop: Asked twice a second; once true, the processes stop after the same step, with a checkpoint.
        on_progress: As ``on_progress`` of :func:`smaug_eval.trainers.train.train`, like what follows.
        on_note: Receives what the main process has to say.
        on_warning: Receives what it warns of.

    Returns:
        What ``summary.json`` holds.

    Raises:
        Interrupted: stopped on request; the same call resumes.
        SmaugError: the training failed; the message is its own, or the last lines it printed.
    """
    folder = spec.folder
    _wait_for_earlier(spec, should_stop)
    shutil.rmtree(folder, ignore_errors=True)
    # Settled settings are valid settings; the launch itself is not theirs to read.
    settings = spec.config.model_dump(mode="json", by_alias=True, exclude={"launch"})
    asked = {"config": settings, "processes_asked": process_number(launch)}
    write_json(folder / SPEC_FILE, {**spec.model_dump(mode="json"), **asked})
    with (folder / OUTPUT_FILE).open("wb") as output:
        child = subprocess.Popen(  # noqa: S603 - our own module under the running interpreter
            _command(launch, folder / SPEC_FILE),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Away from the terminal's signals: the processes stop together, when they get the signal.
            start_new_session=True,
            env=_environment(),
        )
        try:
            _follow(child, folder, should_stop, on_progress, _Notes(folder / NOTES_FILE, on_note, on_warning))
        finally:
            _end(child)
            mask_file(folder / OUTPUT_FILE)
    if child.returncode != 0:
        raise _failure(spec, folder)
    return dict(read_json(spec.out_dir / SUMMARY_FILE))


def accelerate_settings(path: Path) -> dict[str, Any]:
    """Return what a configuration file of accelerate holds.

    Raises:
        SmaugError: the file is missing or is none of accelerate's.
    """
    try:
        settings, _ = parse_yaml(path.read_text(encoding="utf-8"), f"launch configuration {path}")
    except OSError as error:
        raise SmaugError(
            f"launch configuration {path}: {error.strerror or error}",
            fix="give a file made by `accelerate config`, or one of recipes/accelerate",
        ) from error
    except UnicodeDecodeError as error:
        raise SmaugError(f"launch configuration {path} is not UTF-8 text", fix="save it as UTF-8") from error
    if not isinstance(settings, dict) or "distributed_type" not in settings:
        raise SmaugError(
            f"launch configuration {path} has no distributed_type",
            fix="give a file made by `accelerate config`, or one of recipes/accelerate",
        )
    return settings


def _command(launch: LaunchConfig, spec: Path) -> Sequence[str]:
    if launch.config is None:
        group = ["torch.distributed.run", "--standalone", f"--nproc-per-node={launch.processes}"]
    else:
        processes = [] if launch.processes is None else ["--num_processes", str(launch.processes)]
        group = ["accelerate.commands.launch", "--config_file", launch.config, *processes]
    return [sys.executable, "-m", *group, "-m", "smaug_eval.trainers", str(spec)]


def _environment() -> dict[str, str]:
    """This process's environment, with its import path: it may not be the installed one."""
    path = [str(Path(_version.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), CALLER: str(os.getpid())}


def _wait_for_earlier(spec: TrainingSpec, should_stop: Callable[[], bool]) -> None:
    """Let the processes of an earlier call, which was killed, save their checkpoint and end.

    Raises:
        Interrupted: stopped on request meanwhile.
    """
    spec.out_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(spec.out_dir / LAUNCH_LOCK)
    while True:
        try:
            lock.acquire(timeout=POLL_SECONDS)
        except Timeout:
            if should_stop():
                raise Interrupted(f"training {spec.name} stopped while processes of an earlier call end") from None
            write_text(spec.folder / STOP_FILE, "")
        else:
            lock.release()
            return


def _follow(
    child: subprocess.Popen[bytes],
    folder: Path,
    should_stop: Callable[[], bool],
    on_progress: Callable[[int, int, dict[str, Any]], None],
    notes: _Notes,
) -> None:
    last = None
    while child.poll() is None:
        notes.pass_on()
        if should_stop():
            write_text(folder / STOP_FILE, "")
        if (folder / PROGRESS_FILE).is_file() and (now := read_json(folder / PROGRESS_FILE)) != last:
            last = now
            on_progress(now["done"], now["total"], now["row"])
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(POLL_SECONDS)
    notes.pass_on()


class _Notes:
    """Passes on what the main process leaves for its caller to say."""

    def __init__(self, file: Path, on_note: Callable[[str], None], on_warning: Callable[[str], None]) -> None:
        self._file, self._on_note, self._on_warning = file, on_note, on_warning
        self._read = 0

    def pass_on(self) -> None:
        """Say what is new; a line that is being written waits."""
        if not self._file.is_file():
            return
        with self._file.open("rb") as lines:
            lines.seek(self._read)
            new, _, _ = lines.read().rpartition(b"\n")
        self._read += len(new) + bool(new)
        for line in new.splitlines():
            note = json.loads(line)
            (self._on_warning if note["warning"] else self._on_note)(note["text"])


def _end(child: subprocess.Popen[bytes]) -> None:
    """End what still runs: politely, so that the launcher ends its processes, then for good."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            return
        os.killpg(child.pid, number)
        deadline = time.monotonic() + GRACE_SECONDS
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def _failure(spec: TrainingSpec, folder: Path) -> SmaugError:
    outcome = read_json(folder / OUTCOME_FILE) if (folder / OUTCOME_FILE).is_file() else None
    if outcome is not None:
        kind = Interrupted if outcome["exit_code"] == EXIT_INTERRUPTED else SmaugError
        return kind(outcome["message"], fix=outcome["fix"])
    lines = (folder / OUTPUT_FILE).read_text(encoding="utf-8", errors="replace").splitlines()[-LINES_SHOWN:]
    return SmaugError(
        "\n  ".join([f"the processes of training {spec.name} failed; the last they printed:", *lines]),
        fix=f"see {folder / OUTPUT_FILE}; the same command resumes from the last checkpoint",
    )
