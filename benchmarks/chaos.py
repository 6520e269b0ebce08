"""Kill a pipeline with SIGKILL again and again, and check that it ends as if nothing had happened.

    python -m benchmarks.chaos --kills 100 --seed 0 --out benchmarks/results/chaos.json

The pipeline trains with DPO and DPO-Positive, evaluates, answers the demo's dialogues, has them judged by the demo's
judge, and writes the report, all on the embedded model. It runs undisturbed once. Then it runs in courses: in each, a
process group is killed at moments drawn uniformly over the undisturbed run's time, restarted on the same directory
after each, and left alone at last. A moment is found again by what the undisturbed run had done by then.

To spend no time on imports, one process imports everything once and forks a child for every attempt (a fork server);
the files, the processes and the signals are real. Exit code 1 where anything differs or too much was lost.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAME = "chaos"
SAVE_EVERY = 3
JUDGES = 2
LOST_AT_MOST = {"chunk": 1, "step": SAVE_EVERY, "turn": 1, "request": JUDGES}
"""Of each kind of work, how much may be done again after one kill."""
POLL_SECONDS = 0.005
PATIENCE_SECONDS = 900.0
TIMES = {
    *("date", "created", "updated", "started", "finished", "seconds", "start_time", "end_time", "tstamp", "answer_id"),
    *("total_evaluation_time_seconds", "pretty_env_info", "command", "generated", "bytes", "costs"),
}
"""Keys that hold times, or what is drawn again in every run."""
NOT_COMPARED = ("stage.json", ".stage.json", "finished.json")
"""They hold times, or digests of files with times; what they are about is compared itself."""


def recipe(scale: int) -> dict[str, Any]:
    """Return the pipeline; more of everything with a larger ``scale``."""
    training = {
        "steps": 4 * scale,
        "batch_size": 4,
        "learning_rate": 1e-4,
        "max_length": 384,
        "save_every": SAVE_EVERY,
        "eval_every": 4,
        "log_every": 1,
        "gradient_cosine_pairs": 2,
    }
    arithmetic = {"source": "metamath", "path": "embedded:demo-arithmetic", "shots": [0, 1]}
    return {
        "name": NAME,
        "model": {"path": "embedded:demo-model", "dtype": "float32"},
        "pairs": {"made": {**arithmetic, "limit": 16 * scale, "holdout": 8}},
        "trainings": {"dpo": {"loss": "dpo", **training}, "dpop": {"loss": "dpop", **training}},
        "evaluations": {
            "demo": {
                "suite": "demo",
                "limit": 4 * scale,
                "engine": "torch",
                "batch_size": 8,
                "tasks": ["arithmetic", "facts", "truth"],
            }
        },
        "mt_bench": {
            "dialogues": {
                "questions": "demo",
                "chat_template": "plain",
                "max_new_tokens": 16,
                "engine": "torch",
                "judge": {"demo": True, "concurrency": JUDGES},
            }
        },
    }


@dataclass(frozen=True)
class Event:
    """Record a unit of work that is started; of a turn, that it is written.

    Attributes:
        kind: ``begin``, ``stage``, ``chunk``, ``step``, ``turn`` or ``request``.
        name: What distinguishes it from others of its kind.
        seconds: Since its attempt began.
    """

    kind: str
    name: str
    seconds: float


@dataclass
class Attempt:
    """Describe one process on the run directory.

    Attributes:
        events: What it did.
        killed: Whether it was.
        stage: In which it was.
    """

    events: list[Event] = field(default_factory=list)
    killed: bool = False
    stage: str = ""


class Tally:
    """Record what attempts do, in a file outside the run directory, before the work itself is done or safe."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read, self._stage = 0, ""
        file.touch()

    def events(self) -> Iterator[Event]:
        """Yield what came since the last call."""
        with self._file.open("rb") as lines:
            lines.seek(self._read)
            new = lines.read()
        whole = new.rfind(b"\n") + 1
        self._read += whole
        for line in new[:whole].splitlines():
            kind, name, seconds = json.loads(line)
            if kind in ("begin", "stage"):
                self._stage = name
            else:  # two models may have given the same answer, which a judge judges twice
                name = f"{self._stage}|{name}"
            yield Event(kind, name, seconds)

    def record(self) -> None:
        """Make this process record its work; called in a child, whose modules are its own."""
        from smaug_eval.engines.torch_engine import TorchEngine
        from smaug_eval.mt_bench.answers import Turn
        from smaug_eval.mt_bench.files.records import RecordWriter
        from smaug_eval.mt_bench.judge.client import JudgeClient
        from smaug_eval.runs.directory import RunDirectory
        from smaug_eval.trainers.reference_scoring import ReferenceScoring
        from smaug_eval.trainers.schedule import Schedule

        number = os.open(self._file, os.O_WRONLY | os.O_APPEND)
        started = time.monotonic()

        def tell(kind: str, *name: object) -> None:
            text = "|".join(map(str, name))
            os.write(number, json.dumps([kind, text, time.monotonic() - started]).encode() + b"\n")

        def before(owner: type, method: str, told: Any) -> None:
            original = getattr(owner, method)

            def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
                told(self, *args)
                return original(self, *args, **kwargs)

            setattr(owner, method, wrapped)

        before(RunDirectory, "begin", lambda self, stage, *rest: tell("stage", stage))
        before(
            TorchEngine,
            "_score_row",
            lambda self, scorer, texts, row: tell(
                "chunk",
                _digest([Path(self.model.name_or_path).parts[-2:], [texts[index].ids.tolist() for index in row]]),
            ),
        )
        before(
            ReferenceScoring,
            "between_batches",
            lambda self, done, total: tell("chunk", "reference", total, done),
        )
        before(
            Schedule,
            "on_step_begin",
            lambda self, args, state, *rest: tell("step", Path(args.output_dir).parent.name, state.global_step),
        )
        before(
            RecordWriter,
            "append",
            lambda self, record: (
                tell("turn", _digest([record.question_id, record.turn, record.seed, record.text]))
                if isinstance(record, Turn)
                else None
            ),
        )
        before(JudgeClient, "ask", lambda self, *request: tell("request", _digest(request)))
        tell("begin")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Moment:
    """Describe when to kill.

    Attributes:
        event: Place of the event, in the undisturbed run, that must have been seen.
        delay: Seconds after it.
    """

    event: int
    delay: float


class Course:
    """Describe one run directory, and the attempts on it.

    Args:
        work: Folder for everything.
        name: Of the course.
        scale: As of :func:`recipe`.
    """

    def __init__(self, work: Path, name: str, scale: int) -> None:
        self.runs = work / name
        self.runs.mkdir(parents=True)
        self.attempts: list[Attempt] = []
        self._scale = scale
        self._tally = Tally(work / f"{name}.tally")
        self._output = work / f"{name}.out"

    @property
    def run(self) -> Path:
        """Return the run directory."""
        return self.runs / NAME

    def undisturbed(self) -> Attempt:
        """Run to the end."""
        return self._attempt(None, {})

    def killed_at(self, moment: Moment, places: Mapping[tuple[str, str], int]) -> Attempt:
        """Run until a moment comes, or to the end where it does not come any more."""
        return self._attempt(moment, places)

    def _attempt(self, moment: Moment | None, places: Mapping[tuple[str, str], int]) -> Attempt:
        attempt = Attempt()
        seen = max((places.get((e.kind, e.name), -1) for a in self.attempts for e in a.events), default=-1)
        self.attempts.append(attempt)
        child = self._start()
        due: float | None = None
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if time.monotonic() > deadline:
                os.killpg(child, signal.SIGKILL)
                raise TimeoutError(f"an attempt hangs; see {self._output}")
            for event in self._tally.events():
                attempt.events.append(event)
                seen = max(seen, places.get((event.kind, event.name), -1))
            working = any(event.kind not in ("begin", "stage") for event in attempt.events) or len(self.attempts) == 1
            if moment is not None and due is None and attempt.events and working and seen >= moment.event:
                due = time.monotonic() + moment.delay
            if due is not None and time.monotonic() >= due:
                os.killpg(child, signal.SIGKILL)
                break
            time.sleep(POLL_SECONDS)
        _, status = os.waitpid(child, 0)
        attempt.events.extend(self._tally.events())
        attempt.killed = os.WIFSIGNALED(status)
        attempt.stage = next((event.name for event in reversed(attempt.events) if event.kind == "stage"), "")
        if not attempt.killed and os.WEXITSTATUS(status) != 0:
            raise RuntimeError(f"an attempt failed; see {self._output}")
        return attempt

    def _start(self) -> int:
        """Fork a child that runs the pipeline; returns its id, which is also that of its process group."""
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            os.setsid()
            output = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            for number in (1, 2):
                os.dup2(output, number)
            self._tally.record()
            import smaug_eval

            smaug_eval.run(recipe(self._scale), runs=self.runs)
            code = 0
        except BaseException:  # report it, and leave without what the parent has registered for its own end
            traceback.print_exc()
        finally:
            os._exit(code)


def moments(calm: Attempt, kills: int, draw: random.Random) -> list[Moment]:
    """Draw moments uniformly over the time of an undisturbed run, in order."""
    times = sorted(draw.uniform(calm.events[0].seconds, calm.events[-1].seconds) for _ in range(kills))
    found = []
    for moment in times:
        place = max(place for place, event in enumerate(calm.events) if event.seconds <= moment)
        found.append(Moment(place, moment - calm.events[place].seconds))
    return found


def lost(calm: Attempt, attempts: Sequence[Attempt]) -> dict[str, list[int]]:
    """Return how much work of each kind was repeated beyond what a calm run repeats."""
    due = Counter((event.kind, event.name) for event in calm.events)
    again: dict[str, list[int]] = {kind: [] for kind in LOST_AT_MOST}
    for attempt in attempts:
        repeated: Counter[str] = Counter()
        for event in attempt.events:
            due[event.kind, event.name] -= 1
            repeated[event.kind] += due[event.kind, event.name] < 0
        for kind, counts in again.items():
            counts.append(repeated[kind])
    return again


def contents(run: Path) -> dict[str, Any]:
    """Return everything in a run that must not depend on its course, by name."""
    from smaug_eval import api
    from smaug_eval.common.digests import sha256_of_file
    from smaug_eval.common.files import read_json

    found: dict[str, Any] = {}
    for file in sorted(path for part in ("pairs", "train", "eval", "mt-bench") for path in (run / part).rglob("*")):
        name = file.relative_to(run).as_posix()
        if "/tensorboard/" in name or file.name in NOT_COMPARED or not file.is_file():
            continue
        if file.name.startswith(("results_", "samples_")):
            name = name.rpartition("_2")[0]  # lm-eval's file names end in the time
        if file.suffix == ".safetensors":
            found[name] = sha256_of_file(file)
        elif file.suffix == ".jsonl":
            found[name] = [_timeless(json.loads(line), run) for line in file.read_text(encoding="utf-8").splitlines()]
        elif file.suffix == ".json":
            found[name] = _timeless(read_json(file), run)
        else:
            found[name] = sha256_of_file(file)
    with tempfile.TemporaryDirectory() as folder:
        report = api.report([run], Path(folder) / "report.json", format_="json")
        found["report --format json"] = _timeless(read_json(Path(report)), run)
    return found


def _timeless(value: Any, run: Path) -> Any:
    """A value without times, and without the place of its run."""
    if isinstance(value, dict):
        return {key: _timeless(part, run) for key, part in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [_timeless(part, run) for part in value]
    if isinstance(value, str):
        return value.replace(str(run), "RUN").replace(str(run).replace("/", "__"), "RUN")  # lm-eval's name of a model
    return value


def differences(calm: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the names of what is not the same."""
    return sorted(name for name in {*calm, *other} if calm.get(name) != other.get(name))


def measure(kills: int, *, courses: int, seed: int, scale: int, work: Path) -> dict[str, Any]:
    """Run the pipeline calmly, then killed, and compare.

    Args:
        kills: How often to kill in all.
        courses: Into how many runs of the whole pipeline the kills are divided.
        seed: Of the moments.
        scale: As of :func:`recipe`.
        work: Folder for everything.

    Raises:
        RuntimeError: an attempt failed by itself.
        TimeoutError: one hangs.
    """
    import_everything()
    draw = random.Random(seed)
    started = time.monotonic()
    first = Course(work, "undisturbed", scale)
    calm = first.undisturbed()
    places = {(event.kind, event.name): place for place, event in enumerate(calm.events)}
    expected = contents(first.run)
    landed: list[str] = []
    again: dict[str, list[int]] = {kind: [] for kind in LOST_AT_MOST}
    different: list[str] = []
    done = 0
    while len(landed) < kills:
        done += 1
        course = Course(work, f"killed-{done}", scale)
        for moment in moments(calm, min(kills - len(landed), -(-kills // courses)), draw):
            attempt = course.killed_at(moment, places)
            if not attempt.killed:
                break
            landed.append(attempt.stage)
            print(f"{len(landed)}/{kills}: killed in {attempt.stage or 'the start'}", file=sys.stderr, flush=True)
        if course.attempts[-1].killed:
            course.undisturbed()
        different += [f"course {done}: {name}" for name in differences(expected, contents(course.run))]
        for kind, counts in lost(calm, course.attempts).items():
            again[kind] += counts[1:]
    work_done = Counter(event.kind for event in calm.events)
    return {
        "kills": len(landed),
        "courses": done,
        "seed": seed,
        "seconds": {"undisturbed": round(calm.events[-1].seconds, 1), "all": round(time.monotonic() - started, 1)},
        "kills_by_stage": dict(sorted(Counter(stage.partition("/")[0] or "start" for stage in landed).items())),
        "compared": {"items": len(expected), "different": different},
        "lost": {
            kind: {
                "in_an_undisturbed_run": work_done[kind],
                "done_again": sum(counts),
                "most_after_a_kill": max(counts, default=0),
                "allowed_after_a_kill": LOST_AT_MOST[kind],
            }
            for kind, counts in again.items()
        },
    }


def passed(found: Mapping[str, Any]) -> bool:
    """Return whether nothing differs and no kill cost more than it may."""
    within = all(each["most_after_a_kill"] <= each["allowed_after_a_kill"] for each in found["lost"].values())
    return within and not found["compared"]["different"]


def import_everything() -> None:
    """Import what a run needs, so that a forked child imports nothing; start no thread, compute nothing."""
    import torch

    modules = (
        "lm_eval.tasks",
        "lm_eval.loggers",
        "reports",
        "smaug_eval.engines.torch_engine",
        "smaug_eval.runs.pipeline",
    )
    for name in (*modules, "smaug_eval.mt_bench.judge", "smaug_eval.trainers.pairs.build", "smaug_eval.trainers.train"):
        importlib.import_module(name)
    torch.set_num_threads(1)


def main() -> None:
    """Print the measurement as JSON; exit code 1 where it does not pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--courses", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--work", type=Path, help="new folder for the runs, which stay; a temporary one if left out")
    parser.add_argument("--out", type=Path, help="write the JSON to this file, too")
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(
            arguments.kills,
            courses=arguments.courses,
            seed=arguments.seed,
            scale=arguments.scale,
            work=arguments.work or Path(temporary),
        )
    from smaug_eval.common.files import write_json
    from smaug_eval.runs.directory import now
    from smaug_eval.runs.environment import git_commit

    command = f"python -m benchmarks.chaos --kills {arguments.kills} --courses {arguments.courses}"
    command += f" --seed {arguments.seed} --scale {arguments.scale}"
    found = {"command": command, "date": now()[:10], "git_commit": git_commit(), "passed": passed(found), **found}
    print(json.dumps(found, indent=2))
    if arguments.out is not None:
        write_json(arguments.out, found)
    sys.exit(0 if found["passed"] else 1)


if __name__ == "__main__":
    main()
