"""Training in several processes: what they are told, starting them, following and stopping them.

The caller writes ``launch/spec.json`` into the training's folder and starts ``python -m trainers`` on it under
``accelerate launch`` or torchrun. The main process tells its progress and its end in files beside it.
"""

from __future__ import annotations

import contextlib
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
from pydantic import BaseModel, ConfigDict, ValidationError

from smaug_eval.errors import EXIT_INTERRUPTED, Interrupted, SmaugError
from smaug_eval.files import read_json, write_json, write_text
from smaug_eval.redaction import mask_file
from smaug_eval.safe_yaml import parse_yaml
from trainers.config import LaunchConfig, TrainingConfig

FOLDER = "launch"
SPEC_FILE, STOP_FILE, PROGRESS_FILE, OUTCOME_FILE, OUTPUT_FILE = (
    "spec.json",
    "stop",
    "progress.json",
    "outcome.json",
    "output.log",
)
LOCK_FILE = ".launch.lock"
"""Beside the folder, held by the main process: the processes of a caller that was killed may still be at work."""
CALLER = "SMAUG_EVAL_CALLER"
"""Environment variable with the caller's process id; without it, the processes stop after the same step."""
POLL_SECONDS = 0.5
# torchrun gives its processes 30 s after a signal.
GRACE_SECONDS = 45.0
LINES_SHOWN = 15


class TrainingSpec(BaseModel):
    """The arguments of :func:`trainers.train.train` as a JSON file; paths are relative to the current directory.

    Attributes:
        config: The training's settings, under the names recipes use.
        name: As in :func:`trainers.train.train`, like all that follows.
        model_path: Folder of the base model.
        dtype: ``float32`` or ``bfloat16``.
        train_file: Pairs.
        eval_file: Held-out pairs, or None.
        out_dir: Receives the results.
        seed: Seed.
        model_sha256: Digest of the base model's weights.
        base: Name of the base model, or None.
        reference_dir: Where the reference's log-probabilities are kept, or None.
        trust_remote_code: Whether Python code that came with the base model may run.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    config: TrainingConfig
    name: str
    model_path: Path
    dtype: str
    train_file: Path
    eval_file: Path | None = None
    out_dir: Path
    seed: int
    model_sha256: str
    base: str | None = None
    reference_dir: Path | None = None
    trust_remote_code: bool = False

    @property
    def folder(self) -> Path:
        """Where caller and processes exchange files."""
        return self.out_dir / FOLDER

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of :func:`trainers.train.train`."""
        return {name: getattr(self, name) for name in type(self).model_fields}


def read_spec(path: Path) -> TrainingSpec:
    """Read a specification.

    Raises:
        SmaugError: the file is missing, is not JSON, or has a wrong, missing or unknown key.
    """
    try:
        return TrainingSpec.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise SmaugError(
            f"{path}: {key}: {first['msg']}", fix="see trainers.launch.TrainingSpec for its keys"
        ) from error


def process_number(launch: LaunchConfig) -> int:
    """Processes that a launch starts, over all machines.

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
) -> dict[str, Any]:
    """Start the processes of a training and wait for their end.

    Args:
        spec: What to train.
        launch: In how many processes, and how they share the work.
        should_stop: Asked twice a second; once true, the processes stop after the same step, with a checkpoint.
        on_progress: As ``on_progress`` of :func:`trainers.train.train`.

    Returns:
        What ``summary.json`` holds.

    Raises:
        Interrupted: stopped on request; the same call goes on.
        SmaugError: the training failed; the message is its own, or the last lines it printed.
    """
    folder = spec.folder
    _wait_for_earlier(spec, should_stop)
    shutil.rmtree(folder, ignore_errors=True)
    # Settled settings are valid settings; the launch itself is not theirs to read.
    settings = spec.config.model_dump(mode="json", by_alias=True, exclude={"launch"})
    write_json(folder / SPEC_FILE, {**spec.model_dump(mode="json"), "config": settings})
    with (folder / OUTPUT_FILE).open("wb") as output:
        child = subprocess.Popen(  # noqa: S603 - our own module under the running interpreter
            _command(launch, folder / SPEC_FILE),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Away from the terminal's signals: the processes stop together, when they are told.
            start_new_session=True,
            env=_environment(),
        )
        try:
            _follow(child, folder, should_stop, on_progress)
        finally:
            _end(child)
            mask_file(folder / OUTPUT_FILE)
    if child.returncode != 0:
        raise _failure(spec, folder)
    return dict(read_json(spec.out_dir / "summary.json"))


def accelerate_settings(path: Path) -> dict[str, Any]:
    """What a configuration file of accelerate holds.

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
    return [sys.executable, "-m", *group, "-m", "trainers", str(spec)]


def _environment() -> dict[str, str]:
    """This process's environment, with its import path: it may not be the installed one."""
    path = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), CALLER: str(os.getpid())}


def _wait_for_earlier(spec: TrainingSpec, should_stop: Callable[[], bool]) -> None:
    """Let the processes of an earlier call, which was killed, save their checkpoint and end.

    Raises:
        Interrupted: stopped on request meanwhile.
    """
    spec.out_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(spec.out_dir / LOCK_FILE)
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
) -> None:
    last = None
    while child.poll() is None:
        if should_stop():
            write_text(folder / STOP_FILE, "")
        if (folder / PROGRESS_FILE).is_file() and (now := read_json(folder / PROGRESS_FILE)) != last:
            last = now
            on_progress(now["done"], now["total"], now["row"])
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(POLL_SECONDS)


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
        fix=f"see {folder / OUTPUT_FILE}; the same command goes on from the last checkpoint",
    )
