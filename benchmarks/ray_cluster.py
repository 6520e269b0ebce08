"""Compare a run on a Ray cluster, with workers, a node and the driver killed, with one in one process.

    python -m benchmarks.ray_cluster [--limit 16] [--steps 6]

The nodes are Ray's own, each with its raylet and its worker processes, all on this machine. Every run must end with
the same results, files of numbers byte by byte, as the run in one process: the exit code says whether it did.

answers: requests in the journal; computed_twice: of them those that stand in it more than once. kills: SIGKILL, each
sent when a share of the answers has come; after that of the driver the run is started again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from tenacity import Retrying, stop_after_attempt

import smaug_eval
from smaug_eval.common.digests import sha256_of_file
from smaug_eval.runs.cluster.options import ClusterOptions
from smaug_eval.runs.cluster.ray_library import ray

STORE_BYTES = 80 << 20
TIMES = ("date", "start_time", "end_time", "total_evaluation_time_seconds")
PERIOD = 0.02
STARTS = 3
"""Attempts to start a node, for which Ray allows 30 s: too little where many processes share few cores."""


def recipe(*, limit: int, steps: int, dialogues: bool = True) -> dict[str, Any]:
    """Return a run of every kind of stage on the embedded model."""
    training = {"steps": steps, "batch_size": 4, "learning_rate": 1e-4, "eval_every": steps // 2, "max_length": 384}
    pairs = {"source": "metamath", "path": "embedded:demo-arithmetic", "limit": 24, "holdout": 4, "shots": [0, 1]}
    tasks = {"suite": "demo", "tasks": ["arithmetic", "facts"], "limit": limit, "engine": "torch", "batch_size": 4}
    asked = {
        "questions": "demo",
        "chat_template": "plain",
        "max_new_tokens": 8,
        "engine": "torch",
        "judge": "demo",
        "models": ["base"],
    }
    return {
        "name": "run",
        "model": {"path": "embedded:demo-model", "dtype": "float32"},
        "pairs": {"made": pairs},
        "trainings": {"dpop": {"loss": "dpop", "save_every": 2, **training}},
        "evaluations": {"demo": tasks},
        "mt_bench": {"dialogues": asked} if dialogues else {},
    }


@contextlib.contextmanager
def local_cluster(nodes: int, cpus: int = 1) -> Iterator[Any]:
    """Start a Ray cluster on this machine, its first node the head, as ``ray.cluster_utils`` does."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own, 15, is for workers beside something better
    room = {"num_cpus": cpus, "object_store_memory": STORE_BYTES}
    cluster = Cluster()
    try:
        for number in range(nodes):
            for attempt in Retrying(stop=stop_after_attempt(STARTS), reraise=True):
                with attempt:
                    cluster.add_node(**room, **({} if number else {"include_dashboard": False}))
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def worker_processes() -> list[psutil.Process]:
    """Return the processes that do a run's work on the nodes of a local cluster."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "_RayWorker" in " ".join(process.cmdline()):
                found.append(process)
    return found


def journal_lines(run: Path) -> list[dict[str, Any]]:
    """Return every line of the journal, torn ones left out."""
    lines = []
    for file in sorted((run / "journal").glob("*.jsonl")):
        for line in file.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
    return lines


def answers_of(run: Path) -> tuple[dict[str, Any], int]:
    """Return the journal's answers by scope and key, and how many were written more than once."""
    answers: dict[str, Any] = {}
    written: Counter[str] = Counter()
    for file in sorted((run / "journal").glob("*.jsonl")):
        for line in file.read_bytes().splitlines():
            for key, answer in json.loads(line).get("answers", {}).items():
                name = f"{file.name.partition('.')[0]}/{key}"
                answers[name] = answer
                written[name] += 1
    return answers, sum(times > 1 for times in written.values())


def results_of(run: Path) -> dict[str, Any]:
    """Return all that two equal runs must have in common.

    Weights, logs, lm-eval's files, dialogues, judgments, answers.

    Of a stage's tokens it depends on the course how many were computed and how many recalled.
    """
    found: dict[str, Any] = {"journal": answers_of(run)[0]}
    for file in sorted(run.glob("train/*/checkpoint/*")):
        found[_name(file, run)] = sha256_of_file(file)
    for file in sorted(run.glob("train/*/*.jsonl")):
        rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
        found[_name(file, run)] = [{key: row[key] for key in row if "second" not in key} for row in rows]
    for file in sorted(run.glob("eval/*/*/*/samples_*.jsonl")):
        found[_name(file, run)] = hashlib.sha256(_without_paths(file, run).encode()).hexdigest()
    for file in sorted(run.glob("eval/*/*/*/results_*.json")):
        result = json.loads(_without_paths(file, run))
        found[_name(file, run)] = {key: value for key, value in result.items() if key not in TIMES}
    for file in sorted(run.glob("mt-bench/**/*.jsonl")):
        rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
        found[_name(file, run)] = [{key: row[key] for key in row if key not in ("tstamp", "answer_id")} for row in rows]
    for file in sorted(run.glob("eval/*/*/*/stage.json")):
        summary = json.loads(file.read_text(encoding="utf-8"))["summary"]
        found[_name(file, run)] = {key: value for key, value in summary.items() if key != "tokens"}
    return found


def _name(file: Path, run: Path) -> str:
    return re.sub(r"_\d{4}-\d\d-\d\dT[\d.-]+(?=\.json)", "", file.relative_to(run).as_posix())


def _without_paths(file: Path, run: Path) -> str:
    text = file.read_text(encoding="utf-8").replace(str(run), "RUN")
    return text.replace(re.sub(r"[\"<>:/\\|?*\[\]]+", "__", str(run)), "RUN")


@dataclass
class Kills:
    """Kill something once so many answers are in a run's journal.

    Attributes:
        run: The run directory.
        at: Numbers of answers.
        kill: Kills, and says what; None where there is nothing to kill yet, as between two stages.
        done: What was killed.
    """

    run: Path
    at: Sequence[int]
    kill: Callable[[], str | None]
    done: list[str] = field(default_factory=list)

    def __enter__(self) -> Kills:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        for number in self.at:
            while self._answers() < number or not (killed := self.kill()):
                if self._over.wait(PERIOD):
                    return
            self.done.append(killed)

    def _answers(self) -> int:
        return sum(len(line.get("answers", ())) for line in journal_lines(self.run))


def kill_worker() -> str | None:
    """Kill one of the processes that do a run's work on a local cluster."""
    for process in worker_processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
            return "worker"
    return None


def kill_driver(runs: Path, what: Mapping[str, Any], address: str, at: int) -> list[str]:
    """Start a run from the command line, on the cluster that ``--ray auto`` finds, and kill it after some answers."""
    file = runs / "recipe.json"  # which YAML is too
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(what))
    command = [sys.executable, "-m", "smaug_eval", "run", str(file), "--runs-dir", str(runs), "--ray", "auto"]
    process = subprocess.Popen(  # noqa: S603 - our own program
        command,
        env={**os.environ, "RAY_ADDRESS": address},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def kill() -> str:
        process.kill()
        return "driver"

    with Kills(runs / what["name"], [at], kill) as killing:
        process.wait()
    return killing.done


def run_on(
    runs: Path, what: Mapping[str, Any], nodes: int, shares: int, kills: Sequence[float], *, victim: str, answers: int
) -> dict[str, Any]:
    """Return one run on a cluster of its own; see the module's description for what is returned."""
    at = [round(share * answers) for share in kills]
    with local_cluster(nodes) as cluster:
        last = list(cluster.worker_nodes)[-1]

        def kill_node() -> str:
            cluster.remove_node(last, allow_graceful=False)
            return "node"

        started = time.monotonic()
        done = kill_driver(runs, what, cluster.address, at.pop(0)) if victim == "driver" else []
        with Kills(runs / what["name"], at, kill_node if victim == "node" else kill_worker) as killing:
            smaug_eval.run(what, runs=runs, cluster=ClusterOptions(cluster.address, shares))
        seconds = time.monotonic() - started
    return {"nodes": nodes, "shares": shares, "kills": [*done, *killing.done], "seconds": round(seconds, 1)}


def main() -> int:
    """Run the recipe alone and on several clusters, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=16, help="documents of each task")
    parser.add_argument("--steps", type=int, default=6, help="of the training")
    options = parser.parse_args()
    what = recipe(limit=options.limit, steps=options.steps)
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        started = time.monotonic()
        alone = smaug_eval.run(what, runs=runs / "alone").path
        seconds = time.monotonic() - started
        expected = results_of(alone)
        count = len(expected["journal"])
        courses = [
            {"nodes": 3, "shares": 5, "kills": (), "victim": ""},
            {"nodes": 2, "shares": 4, "kills": (0.05, 0.3, 0.6), "victim": "worker"},
            {"nodes": 2, "shares": 4, "kills": (0.2,), "victim": "node"},
            {"nodes": 2, "shares": 4, "kills": (0.3,), "victim": "driver"},
        ]
        found = []
        for number, course in enumerate(courses):
            place = runs / str(number)
            measured = run_on(place, what, answers=count, **course)  # type: ignore[arg-type]
            results = results_of(place / what["name"])
            differing = sorted(name for name in {**expected, **results} if expected.get(name) != results.get(name))
            twice = answers_of(place / what["name"])[1]
            found.append({**measured, "computed_twice": twice, "equal": not differing, "differing": differing})
            print(json.dumps(found[-1]), file=sys.stderr)
    report = {
        "command": " ".join(["python -m benchmarks.ray_cluster", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": {"cores": psutil.cpu_count(), "platform": platform.system(), "ray": ray.__version__},
        "answers": count,
        "compared": len(expected),
        "one_process": {"seconds": round(seconds, 1)},
        "clusters": found,
    }
    print(json.dumps(report, indent=2))
    return 0 if all(each["equal"] for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
