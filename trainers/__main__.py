"""Run one process of a training: ``python -m smaug_eval.trainers SPEC.json``.

It runs under ``accelerate launch``, torchrun or on its own.

SPEC.json holds a :class:`smaug_eval.trainers.spec.TrainingSpec`. SIGTERM or SIGINT to any process, or a file
``launch/stop`` in the training's folder, stop all of them after the same step, with a checkpoint to resume from. Exit
codes: 0 done, 2 bad input, 3 stopped.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from smaug_eval.common.console import Reporter, make_console
from smaug_eval.common.errors import EXIT_BAD_INPUT, EXIT_DONE, SmaugError
from smaug_eval.common.files import GrowingFile, write_json
from smaug_eval.common.redaction import hide_keys_in_tracebacks, redacted
from smaug_eval.trainers.launch import (
    CALLER,
    NOTES_FILE,
    OUTCOME_FILE,
    PROGRESS_FILE,
    STOP_FILE,
)
from smaug_eval.trainers.layout import LAUNCH_LOCK
from smaug_eval.trainers.spec import TrainingSpec, read_spec

# An error that every process runs into is reported by the main one, and ends the others while they wait.
OTHERS_WAIT_SECONDS = 10.0
PROGRESS_SECONDS = 0.5


class StopSignals:
    """Record SIGTERM and SIGINT, however often they come: launchers repeat those of a terminal or a scheduler."""

    def __init__(self) -> None:
        self.received = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, *_: object) -> None:
        self.received = True


def main(arguments: list[str]) -> int:
    """Run the training; returns the exit code."""
    hide_keys_in_tracebacks()
    is_main = int(os.environ.get("RANK", "0")) == 0
    spec: TrainingSpec | None = None
    try:
        if len(arguments) != 1:
            raise SmaugError("one argument is needed", fix="python -m smaug_eval.trainers SPEC.json")
        spec = read_spec(Path(arguments[0]))
        if is_main:
            # Held until the process ends.
            lock = FileLock(spec.out_dir / LAUNCH_LOCK)
            lock.acquire()
            for name in (STOP_FILE, OUTCOME_FILE):
                (spec.folder / name).unlink(missing_ok=True)
        _train(spec, is_main)
    except SmaugError as error:
        if not is_main:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(OTHERS_WAIT_SECONDS)
        print(f"error: {error}" if error.exit_code == EXIT_BAD_INPUT else error, file=sys.stderr, flush=True)
        if spec is not None:
            outcome = {"exit_code": error.exit_code, "message": error.message, "fix": error.fix}
            write_json(spec.folder / OUTCOME_FILE, outcome)
        return error.exit_code
    return EXIT_DONE


def _train(spec: TrainingSpec, is_main: bool) -> None:
    from torch import distributed

    from smaug_eval.trainers.processes import weights_are_sharded
    from smaug_eval.trainers.train import train

    signals = StopSignals()
    # The recipe decides the precision. Sharded, bfloat16 is also what the processes exchange.
    half = spec.dtype == "bfloat16" and weights_are_sharded()
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if half else "no"
    # Every process finds out by itself how texts are batched, so every one needs the weights.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    stop, caller = spec.folder / STOP_FILE, os.environ.get(CALLER)

    def should_stop() -> bool:
        told = stop.exists() or (caller is not None and not psutil.pid_exists(int(caller)))
        return signals.received or (is_main and told)

    with Reporter(make_console(), quiet=not is_main) as reporter, reporter.stage(f"train {spec.name}"):
        notes: dict[str, Any] = {}
        if is_main:
            notes["on_note"] = _noted(spec, reporter.say, warning=False)
            notes["on_warning"] = _noted(spec, reporter.warn, warning=True)
        train(
            spec,
            should_stop=should_stop,
            on_progress=_progress(spec, reporter) if is_main else None,
            **notes,
        )
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _noted(spec: TrainingSpec, tell: Callable[[str], None], *, warning: bool) -> Callable[[str], None]:
    """Says something here, and leaves it in a file for the caller to say."""

    def say(text: str) -> None:
        tell(text)
        file = GrowingFile(spec.folder / NOTES_FILE)
        file.append(json.dumps({"warning": warning, "text": redacted(text)}).encode() + b"\n")
        file.close()

    return say


def _progress(spec: TrainingSpec, reporter: Reporter) -> Callable[[int, int, dict[str, Any]], None]:
    """Shows progress here, and leaves it in a file for the caller now and then."""
    written = 0.0

    def show(done: int, total: int, row: dict[str, Any]) -> None:
        nonlocal written
        reporter.update(done, total, f"loss {row['loss']:.4f}" if row else "scoring the reference")
        if time.monotonic() - written > PROGRESS_SECONDS:
            written = time.monotonic()
            write_json(spec.folder / PROGRESS_FILE, {"done": done, "total": total, "row": row})

    return show


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
