"""``python -m trainers SPEC.json``: one process of a training, under ``accelerate launch``, torchrun or on its own.

SPEC.json holds a :class:`trainers.launch.TrainingSpec`. SIGTERM or SIGINT to any process, or a file ``launch/stop`` in
the training's folder, stop all of them after the same step, with a checkpoint to go on from. Exit codes: 0 done, 2 bad
input, 3 stopped.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from smaug_eval.console import Reporter, make_console
from smaug_eval.errors import EXIT_BAD_INPUT, EXIT_DONE, SmaugError
from smaug_eval.files import write_json
from smaug_eval.redaction import hide_keys_in_tracebacks
from trainers.launch import CALLER, LOCK_FILE, OUTCOME_FILE, PROGRESS_FILE, STOP_FILE, TrainingSpec, read_spec

# An error that every process runs into is told by the main one, and ends the others while they wait.
OTHERS_WAIT_SECONDS = 10.0
PROGRESS_SECONDS = 0.5


class StopSignals:
    """Notes SIGTERM and SIGINT, however often they come: launchers repeat those of a terminal or a scheduler."""

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
            raise SmaugError("one argument is needed", fix="python -m trainers SPEC.json")
        spec = read_spec(Path(arguments[0]))
        if is_main:
            # Held until the process ends.
            lock = FileLock(spec.out_dir / LOCK_FILE)
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

    from trainers.processes import weights_are_sharded
    from trainers.train import train

    signals = StopSignals()
    # The recipe decides the precision. Sharded, bfloat16 is also what the processes exchange.
    half = spec.dtype == "bfloat16" and weights_are_sharded()
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if half else "no"
    # Every process finds out by itself how the model is asked, so every one needs the weights.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    stop, caller = spec.folder / STOP_FILE, os.environ.get(CALLER)

    def should_stop() -> bool:
        told = stop.exists() or (caller is not None and not psutil.pid_exists(int(caller)))
        return signals.received or (is_main and told)

    with Reporter(make_console(), quiet=not is_main) as reporter, reporter.stage(f"train {spec.name}"):
        notes: dict[str, Any] = {"on_note": reporter.say, "on_warning": reporter.warn} if is_main else {}
        train(
            **spec.arguments(),
            should_stop=should_stop,
            on_progress=_progress(spec, reporter) if is_main else None,
            **notes,
        )
    if distributed.is_initialized():
        distributed.destroy_process_group()


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
