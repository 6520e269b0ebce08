r"""Feed hostile files to every reader of this project, and see that each ends well or in our own error.

    python -m benchmarks.fuzz --inputs 200000 [--target NAME]... [--seed 0] [--out FILE.json]

Inputs are valid documents with parts replaced, removed, doubled or renamed, and with broken bytes (hypothesis draws
them, and shrinks what fails). An input fails that ends in anything but a result or a ``SmaugError``, or takes more than
a second of processor time. Failures are written as files to ``--reproducers``; there are any, the exit code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import logging
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import Flaky

from benchmarks.fuzz_inputs import FAMILY
from benchmarks.fuzz_targets import Target, chosen_targets
from smaug_eval.common.errors import SmaugError

BATCH = 5000
"""Inputs that hypothesis draws before it forgets what it drew."""
LONGEST_SECONDS = 1.0
HANG_SECONDS = 60.0
MOST_FAILURES = 5


class TooSlow(BaseException):
    """Report that an input took too long; no reader may catch this."""


@dataclass
class Findings:
    """Collect what became of one target's inputs.

    Attributes:
        inputs: How many there were.
        read: Those that ended in a result.
        refused: Those that ended in a SmaugError, by the place in the code that raised it.
        slowest: Most seconds of processor time of one input.
        seconds: All of it by the clock, drawing included.
        failures: What failed: the error's name, and the file that reproduces it.
    """

    inputs: int = 0
    read: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    seconds: float = 0.0
    failures: list[dict[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the findings as plain data."""
        return {
            "inputs": self.inputs,
            "read": self.read,
            "refused": sum(self.refused.values()),
            "refused_at": dict(self.refused.most_common()),
            "slowest_seconds": round(self.slowest, 4),
            "seconds": round(self.seconds, 1),
            "failures": self.failures,
        }


def fuzz(target: Target, name: str, inputs: int, *, seed: int, reproducers: Path) -> Findings:
    """Feed ``inputs`` inputs to a target.

    Args:
        target: The reader.
        name: Its name, for the reproducers'.
        inputs: How many.
        seed: Of what hypothesis draws.
        reproducers: Folder that receives the inputs that failed, shrunk.
    """
    findings = Findings()
    started = time.monotonic()
    batch = 0
    while findings.inputs < inputs and len(findings.failures) < MOST_FAILURES:
        wanted = min(BATCH, inputs - findings.inputs)
        failed = _batch(target, findings, wanted, seed * 1_000_003 + batch)
        if failed is not None:
            data, error, trace = failed
            reproducers.mkdir(parents=True, exist_ok=True)
            file = reproducers / f"{name}-{len(findings.failures) + 1}.bin"
            file.write_bytes(data)
            file.with_suffix(".txt").write_text(trace)
            findings.failures.append({"error": error, "file": file.name})
        batch += 1
    findings.seconds = time.monotonic() - started
    return findings


def _batch(target: Target, findings: Findings, inputs: int, seed: int) -> tuple[bytes, str, str] | None:
    """Some inputs; the last failing one, which is the smallest found, with its error."""
    failed: tuple[bytes, str, str] | None = None
    before = findings.inputs

    @seeded(seed)
    @settings(
        max_examples=-(-inputs // FAMILY),
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(target.inputs)
    def check(family: list[bytes]) -> None:
        nonlocal failed
        data = b""
        try:
            with _limited():
                for data in family:
                    _feed(target, data, findings)
        except TooSlow as error:
            failed = (data, f"TooSlow: {error}", traceback.format_exc())
            raise  # past hypothesis: to shrink what is slow takes too long
        except (Exception, SystemExit, GeneratorExit) as error:
            failed = (data, f"{type(error).__name__}: {error}"[:300], traceback.format_exc())
            raise AssertionError(type(error).__name__) from None

    with contextlib.suppress(AssertionError, Flaky, TooSlow):
        check()
    if findings.inputs == before:
        raise SmaugError("hypothesis draws no inputs", fix="look at the target's strategy")
    return failed


def _feed(target: Target, data: bytes, findings: Findings) -> None:
    findings.inputs += 1
    spent = _timed(target, data, findings)
    if spent > LONGEST_SECONDS:
        spent = _timed(target, data, Findings())  # the first time may have imported something
    findings.slowest = max(findings.slowest, spent)
    if spent > LONGEST_SECONDS:
        raise TooSlow(f"{spent:.2f} s")


def _timed(target: Target, data: bytes, findings: Findings) -> float:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        began = time.process_time()
        try:
            target.read(Path(folder), data)
            findings.read += 1
        except SmaugError as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            findings.refused[f"{Path(last.filename).name}:{last.name}"] += 1
        return time.process_time() - began


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Interrupt a family that does not end by itself, after some seconds of processor time."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TooSlow(f"more than {HANG_SECONDS} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, HANG_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def run(names: Sequence[str], inputs: int, *, seed: int, reproducers: Path) -> dict[str, Any]:
    """Fuzz some targets, or all, and sum up."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    targets = chosen_targets(names)
    total = sum(target.share for target in targets.values())
    found = {}
    try:
        for name, target in targets.items():
            share = max(1, round(inputs * target.share / total))
            found[name] = fuzz(target, name, share, seed=seed, reproducers=reproducers).as_dict()
            print(f"{name}: {found[name]['inputs']:,} inputs, {len(found[name]['failures'])} failures", file=sys.stderr)
    finally:
        logging.disable(logging.NOTSET)
    return {
        "command": f"python -m benchmarks.fuzz --inputs {inputs} --seed {seed}",
        "date": datetime.date.today().isoformat(),
        "inputs": sum(each["inputs"] for each in found.values()),
        "read": sum(each["read"] for each in found.values()),
        "refused": sum(each["refused"] for each in found.values()),
        "failures": sum(len(each["failures"]) for each in found.values()),
        "slowest_seconds": max(each["slowest_seconds"] for each in found.values()),
        "seconds": round(sum(each["seconds"] for each in found.values()), 1),
        "targets": found,
    }


def main() -> int:
    """Print what was found as JSON; 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=200_000, help="over all targets")
    parser.add_argument("--target", action="append", default=[], choices=list(chosen_targets(())), metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reproducers", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--out", type=Path, help="write the JSON to this file, too")
    arguments = parser.parse_args()
    if Path("/dev/shm").is_dir() and shutil.disk_usage("/dev/shm").free > 1 << 30:  # noqa: S108 - files in memory
        tempfile.tempdir = "/dev/shm"  # noqa: S108
    found = run(arguments.target, arguments.inputs, seed=arguments.seed, reproducers=arguments.reproducers)
    text = json.dumps(found, indent=2) + "\n"
    if arguments.out is not None:
        arguments.out.write_text(text)
    print(text, end="")
    return 1 if found["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
