"""Measure how torch's threads wait for each other: optimiser steps per second on quiet and on busy cores.

    python -m benchmarks.threads --busy 2 --seconds 5 --repeats 3

The same small network is trained in a process of its own under each policy in turn, several times over: alone, and
beside ``--busy`` processes that compute all the time. A policy is what the environment says before torch is loaded:
``spinning`` is the library's own default, ``passive`` is what smaug-eval sets, ``bounded`` spins for a while first, and
``one thread`` has nobody to wait for. Printed are medians, and ratios to ``one thread`` of the same round.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from statistics import median

POLICIES: dict[str, dict[str, str]] = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "spinning": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "bounded": {"GOMP_SPINCOUNT": "10000"},
}
STEPS = """
import sys, time, torch
torch.manual_seed(0)
model = torch.nn.Sequential(*(torch.nn.Linear(128, 128) for _ in range(6)))
optimizer, inputs = torch.optim.AdamW(model.parameters()), torch.randn(64, 128)
def step():
    optimizer.zero_grad(); model(inputs).square().mean().backward(); optimizer.step()
step()
done, start = 0, time.perf_counter()
while time.perf_counter() - start < float(sys.argv[1]):
    step(); done += 1
print(done / (time.perf_counter() - start))
"""
BUSY = "while True: pass"


def steps_per_second(policy: str, seconds: float, threads: int) -> float:
    """Train in a process of its own for some seconds."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment = {**kept, "OMP_NUM_THREADS": str(threads), **POLICIES[policy]}
    command = [sys.executable, "-c", STEPS, str(seconds)]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)  # noqa: S603 - our own


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep some processes computing meanwhile."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]  # noqa: S603 - our own
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threads", description=__doc__)
    parser.add_argument("--busy", type=int, default=2, help="processes that compute beside it (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each training (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of torch (default: the cores)")
    arguments = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = {}
    for name, processes in (("quiet", 0), ("busy", arguments.busy)):
        with busy(processes):
            for _ in range(arguments.repeats):
                for policy in POLICIES:
                    rate = steps_per_second(policy, arguments.seconds, arguments.threads)
                    found.setdefault(name, {}).setdefault(policy, []).append(rate)
    print(
        json.dumps(
            {
                "threads": arguments.threads,
                "busy processes": arguments.busy,
                "seconds": arguments.seconds,
                "repeats": arguments.repeats,
                "load before": os.getloadavg()[0],
                "steps per second": {
                    name: {policy: round(median(rates), 1) for policy, rates in rows.items()}
                    for name, rows in found.items()
                },
                "ratio to one thread": {
                    name: {
                        policy: round(median(a / b for a, b in zip(rates, rows["one thread"], strict=True)), 2)
                        for policy, rates in rows.items()
                    }
                    for name, rows in found.items()
                },
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
