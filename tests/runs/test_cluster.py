"""Runs on a real Ray cluster of two nodes on this machine, and the parts of it that need no cluster."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

pytest.importorskip("ray")

import smaug_eval
from benchmarks.ray_cluster import Kills, kill_worker, local_cluster, recipe, results_of
from smaug_eval.common.errors import Interrupted, SmaugError
from smaug_eval.engines.decoding_rules import Decoding, SamplingRule, ThinkingRule
from smaug_eval.engines.journal import Journal, RelayedJournal
from smaug_eval.engines.pool import EnginePool
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.engines.shares import Credit, Share
from smaug_eval.engines.torch_engine import TorchEngine
from smaug_eval.leaderboard.lm_eval.settings import TaskSettings
from smaug_eval.models.checkpoint import Checkpoint, locate
from smaug_eval.mt_bench.config import MtBenchConfig
from smaug_eval.runs.checkpoint_jobs import CheckpointsJob
from smaug_eval.runs.cluster import ray_library
from smaug_eval.runs.cluster.needs import Machines, Need, gpus_of, need_of
from smaug_eval.runs.cluster.options import ClusterOptions
from smaug_eval.runs.cluster.probe import SENT, Facts, WorkerSetting, look_around, misfit, settle_in, versions
from smaug_eval.runs.cluster.ray_library import RayChoices, last_line
from smaug_eval.runs.jobs import AnswersJob, EvaluationJob, TrainingJob, Workplace
from smaug_eval.runs.pipeline import RunResult
from smaug_eval.trainers.config import LaunchConfig, TrainingConfig
from smaug_eval.trainers.spec import TrainingSpec
from tests.leaderboard import v2_mirror
from tests.lm_eval_folder import write_mirror, write_tasks

on_ray = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT = 12
GIB = 1 << 30


class Silent:
    def say(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def update(self, done: int, total: int, note: str = "") -> None: ...


class Kept:
    """A relay that keeps what it is sent, and agrees through Ray's actor, without Ray."""

    def __init__(self, choices: RayChoices) -> None:
        self.choices, self.scopes, self.answers = choices, [], {}

    def opened(self, scope: Any) -> None:
        self.scopes.append(scope)

    def answered(self, answers: Any) -> None:
        assert not self.answers.keys() & answers.keys()
        self.answers.update(answers)

    def settle(self, scope: str, name: str, value: Any, *, anew: bool) -> Any:
        return self.choices.settle(scope, name, value, anew)


def evaluation(folder: Path, task: str, **changed: Any) -> EvaluationJob:
    """An evaluation on the CPU; ``changed`` are settings of its engine."""
    engine = {"dtype": "float32", "batch_size": 4, "device": "cpu", "engine": "torch"}
    spec = EngineSpec(checkpoint=locate("embedded:demo-model").path, **{**engine, **changed})
    return EvaluationJob("demo", f"demo_{task}", LIMIT, None, spec, folder / "journal")


def training(launch: LaunchConfig | None, model: Path = Path("model")) -> TrainingJob:
    spec = TrainingSpec(
        config=TrainingConfig(loss="dpo", pairs="made", steps=1),
        name="dpo",
        model_path=model,
        dtype="float32",
        train_file=Path("train.jsonl"),
        out_dir=Path("out"),
        seed=1,
        model_sha256="0",
    )
    return TrainingJob(spec, launch)


@pytest.fixture(scope="module")
def pool() -> Iterator[EnginePool]:
    kept = EnginePool()
    yield kept
    kept.close()


def place(pool: EnginePool, relay: Any = None) -> Workplace:
    return Workplace(pool, Silent(), lambda: False, relay)


def journal_answers(folder: Path) -> dict[str, Any]:
    found = {}
    for file in folder.glob("*.jsonl"):
        for line in file.read_text().splitlines():
            found.update(json.loads(line).get("answers", {}))
    return found


DRAWN = Decoding(ThinkingRule("4", 10), SamplingRule(1.5, 0.99), repeats=3)
"""An end of reasoning that some answers hold."""


@pytest.fixture(scope="module")
def folder_of_tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks of every kind, in one group, and their data."""
    folder = tmp_path_factory.mktemp("tasks")
    write_mirror(folder / "data", {"train": 9, "test": 6})
    kinds = ["own_rolling", "own_generation", "own_last_word"]
    write_tasks(folder / "tasks", own_group={"task": kinds, "aggregate_metric_list": None})
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("task", ["facts", "arithmetic", "sampled", "own_group"])
def test_shares_answer_each_request_once_and_as_one_process_does(
    task: str, tmp_path: Path, pool: EnginePool, folder_of_tasks: Path
) -> None:
    """Log-likelihoods, generations, repeated ones of a model that thinks, and rolling ones beside other kinds."""

    def job(folder: Path) -> EvaluationJob:
        if task != "own_group":
            made = evaluation(folder, "arithmetic" if task == "sampled" else task)
            return replace(made, decoding=DRAWN) if task == "sampled" else made
        made = evaluation(folder, "x", add_bos_token=None, engine_args={"row_tokens": 64})
        settings = TaskSettings(include_path=folder_of_tasks / "tasks")
        data = folder_of_tasks / "data"
        return replace(made, suite="lm_eval", task=task, data_root=data, settings=settings, limit=None)

    alone = job(tmp_path / "alone")
    expected = alone.perform(tmp_path / "alone" / "files", place(pool))
    divided = job(tmp_path / "divided")
    assert divided.divisible
    choices, brought, scopes, busy = RayChoices(), {}, [], 0
    for number in reversed(range(3)):
        relay = Kept(choices)
        divided.perform_share(Share(number, 3), place(pool, relay))
        busy += bool(relay.answers)
        assert not brought.keys() & relay.answers.keys()
        brought |= json.loads(json.dumps(relay.answers))
        scopes += relay.scopes
    assert busy > 1
    assert brought == journal_answers(alone.journal)
    assert not divided.journal.exists()  # a worker writes none
    with_scope = Journal(divided.journal, scopes[0])
    with_scope.add(brought)
    with_scope.close()
    relay = Kept(choices)
    summary = divided.perform(tmp_path / "divided" / "files", place(pool, relay), Credit(frozenset(brought)))
    assert not relay.answers
    if "requested" in expected["tokens"]:
        assert summary["tokens"]["requested"] == expected["tokens"]["requested"]
        assert summary["tokens"]["unique"] == expected["tokens"]["unique"]
    assert {key: summary[key] for key in summary if key != "tokens"} == {
        key: expected[key] for key in expected if key != "tokens"
    }
    ours, theirs = (sorted((tmp_path / name / "files").glob("samples_*")) for name in ("divided", "alone"))
    assert [file.read_bytes() for file in ours] == [file.read_bytes() for file in theirs]
    assert len(ours) == (3 if task == "own_group" else 1)
    if task == "sampled":
        assert 0 < expected["thinking"]["thought"] < expected["thinking"]["answers"] == 3 * LIMIT


def test_a_relayed_journal_knows_what_is_written_and_sends_what_is_new(tmp_path: Path) -> None:
    scope = {"weights": "a"}
    kept = Journal(tmp_path, scope)
    kept.add({"one": 1})
    kept.note("batch", [4, 0])
    relay = Kept(RayChoices())
    read = RelayedJournal(tmp_path, scope, relay)
    assert "one" in read
    assert read["one"] == 1
    assert read.setting("batch") == [4, 0]
    read.add({"two": 2})
    assert relay.answers == {"two": 2}
    assert read["two"] == 2
    assert relay.scopes == [scope]
    kept.close()
    assert journal_answers(tmp_path) == {"one": 1}
    assert "one" not in RelayedJournal(tmp_path, {"weights": "b"}, relay)


def test_workers_keep_to_the_first_choice_until_one_must_choose_anew(tmp_path: Path) -> None:
    choices = RayChoices()
    first, second = (RelayedJournal(tmp_path, {}, Kept(choices)) for _ in range(2))
    first.note("row_limits", [512, 900])
    second.note("row_limits", [512, 800])
    assert second.setting("row_limits") == [512, 900]
    second.note("row_limits", [450, 450])  # out of memory
    assert second.setting("row_limits") == [450, 450]
    third = RelayedJournal(tmp_path, {}, Kept(choices))
    third.note("row_limits", [512, 700])
    assert third.setting("row_limits") == [450, 450]


def test_needs_are_gpus_where_there_are_any_else_cores_and_memory(tmp_path: Path) -> None:
    with_gpus = Machines(cpus=64, gpus=8, gpu_bytes=80 * GIB, threads=32)
    without = Machines(cpus=4, gpus=0, gpu_bytes=0, threads=6)
    vllm = evaluation(tmp_path, "facts", engine="vllm", engine_args={"tensor_parallel_size": 4}, device=None)
    whole = evaluation(tmp_path, "facts", engine_args={"parallelize": True}, device=None)
    assert need_of("eval", vllm, with_gpus, 144 * GIB) == Need(cpus=4, gpus=4, memory=0)
    assert gpus_of("eval", whole, with_gpus, 144 * GIB) == 3  # 1.3 * 144 GiB do not fit into two
    assert gpus_of("eval", evaluation(tmp_path, "facts", device="cpu"), with_gpus, GIB) == 0
    assert gpus_of("train", training(LaunchConfig(processes=8)), with_gpus, GIB) == 8
    assert gpus_of("eval", evaluation(tmp_path, "facts", engine="api", device=None), with_gpus, GIB) == 0
    served = Checkpoint("api:x", Path("api:x"), None, "ab")
    talk = MtBenchConfig(engine="api", engine_args={"base_url": "http://127.0.0.1:1/v1"})
    assert gpus_of("talk", AnswersJob(talk, 1, "auto", "theirs", served, False), with_gpus, GIB) == 0
    checkpoints = CheckpointsJob(whole, tmp_path / "train", 2, tmp_path / "base", None, "float32")
    assert gpus_of("curve", checkpoints, with_gpus, 144 * GIB) == 3  # as the evaluation that it repeats
    alone = need_of("eval", evaluation(tmp_path, "facts"), without, 3 * GIB)
    assert (alone.cpus, alone.gpus, alone.memory / GIB) == (4, 0, 6.5)  # six threads on four cores: slower, not other
    assert need_of("train", training(None), without, GIB).memory / GIB == 6.5
    assert alone.times_in({"CPU": 9, "memory": 100 * GIB}) == 2
    assert alone.times_in({"CPU": 9, "memory": 6 * GIB}) == 0


def test_a_training_over_several_machines_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "two.yaml"
    config.write_text("distributed_type: FSDP\nnum_machines: 2\nnum_processes: 16\n")
    machines = Machines(cpus=8, gpus=8, gpu_bytes=GIB, threads=1)
    with pytest.raises(SmaugError, match="train/dpo: its launch configuration is for 2 machines"):
        need_of("train/dpo", training(LaunchConfig(config=str(config))), machines, GIB)


def test_a_machine_says_whether_it_sees_the_run(tmp_path: Path) -> None:
    (tmp_path / "probe").write_text("word")
    setting = WorkerSetting(str(tmp_path), {}, Path("probe"), "word", tmp_path / "stop", 1)
    here = Path.cwd()
    try:
        settle_in(setting)
        assert look_around(setting, gpus=False).sees_run  # by a path relative to the driver's directory
    finally:
        os.chdir(here)
    other = WorkerSetting(str(tmp_path), {}, tmp_path / "probe", "another", tmp_path / "stop", 1)
    assert not look_around(other, gpus=False).sees_run


def test_machines_with_other_software_or_files_are_named() -> None:
    setting = WorkerSetting(".", {}, Path("/shared/runs/demo/.cluster/probe"), "word", Path("stop"), 1)
    assert misfit(Facts("node", versions(), sees_run=True), setting) is None
    unseen = misfit(Facts("node", versions(), sees_run=False), setting)
    assert unseen is not None
    assert unseen.startswith("it does not see /shared/runs/demo ")
    other = misfit(Facts("node", {**versions(), "torch": "1.0", "tokenizers": "0"}, sees_run=True), setting)
    ours = versions()
    assert other == (f"it has other software: torch 1.0, here {ours['torch']}; tokenizers 0, here {ours['tokenizers']}")


def test_no_key_is_sent_to_the_workers() -> None:
    assert not [name for name in SENT if "TOKEN" in name or "KEY" in name]


def test_the_gist_of_rays_errors_is_one_line() -> None:
    assert last_line(ValueError("The actor died.\n\tclass_name: W")) == "The actor died."
    assert last_line(ValueError("Traceback (most recent call last):\n  x\nKeyError: 'a'")) == "KeyError: 'a'"


def test_chunks_of_an_engine_are_shared_out_whole() -> None:
    shares = [Share(number, 3) for number in range(3)]
    chunks = [[0, 1], [2], [3, 4, 5], [6], [7]]
    engine = TorchEngine.__new__(TorchEngine)
    left = []
    for engine.share in shares:
        left.append(engine._left_to_others(lambda: chunks))
    mine = [set(range(8)) - each for each in left]
    assert mine == [{0, 1, 6}, {2, 7}, {3, 4, 5}]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with local_cluster(2) as made:
        yield made


@dataclass
class Course:
    """A run on two nodes, in shares of another number than workers, of which one is killed.

    Attributes:
        path: The run directory.
        killed: What was.
        stopped: The error of a first attempt, which a signal stopped as soon as the training had begun.
        result: Of the second attempt.
    """

    path: Path
    killed: list[str]
    stopped: Interrupted
    result: RunResult


@pytest.fixture(scope="module")
def divided(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Course:
    runs = tmp_path_factory.mktemp("divided")
    options = ClusterOptions(cluster.address, 3)
    with pytest.raises(Interrupted) as stopped, term_once_there(runs / "run" / "train" / "dpop" / "log.jsonl"):
        smaug_eval.run(recipe(limit=LIMIT, steps=4), runs=runs, cluster=options, command="the same")
    with Kills(runs / "run", [60], kill_worker) as killing:
        result = smaug_eval.run(recipe(limit=LIMIT, steps=4), runs=runs, cluster=options)
    return Course(result.path, killing.done, stopped.value, result)


@contextlib.contextmanager
def term_once_there(file: Path) -> Iterator[None]:
    """Send this process SIGTERM as soon as a file is there."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            if file.exists():
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class TestOnRay:
    pytestmark = on_ray

    def test_a_comparison_that_stops_is_decided_as_in_one_process(self, cluster: Any, tmp_path: Path) -> None:
        """Its rounds are divided among the workers; the answers of both models go to their journals."""
        other = shutil.copytree(locate("embedded:demo-model").path, tmp_path / "other")
        weights = {name: value * 0.9 for name, value in load_file(other / "model.safetensors").items()}
        save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
        evaluation = {"suite": "demo", "tasks": ["facts"], "engine": "torch", "device": "cpu", "stop": "decided"}
        content = {
            "name": "stop",
            "model": "embedded:demo-model",
            "models": {"other": str(other)},
            "evaluations": {"demo": {**evaluation, "within": 30}},
        }
        found = []
        answers = []
        for runs, where in ((tmp_path / "ray", ClusterOptions(cluster.address, 2)), (tmp_path / "here", None)):
            run = smaug_eval.run(content, runs=runs, cluster=where).path
            found.append(json.loads((run / "decided/demo/decisions.json").read_text()))
            assert len(list((run / "journal").glob("*.jsonl"))) == 2
            answers.append(journal_answers(run / "journal"))
        assert found[0] == found[1]
        assert answers[0].keys() == answers[1].keys()
        logs = [file.name for file in (tmp_path / "ray/stop/logs").glob("decided/demo.*.log")]
        assert sorted(logs) == [f"demo.{number}-of-4.log" for number in range(1, 5)]  # two models in two shares

    def test_tasks_of_ones_own_are_divided_and_scored_as_in_one_process(
        self, cluster: Any, folder_of_tasks: Path, tmp_path: Path
    ) -> None:
        """A group of rolling log-likelihoods, others and generations; answers of a model that thinks, drawn twice."""
        evaluation = {"suite": "lm_eval", "include_path": str(folder_of_tasks / "tasks"), "engine": "torch"}
        drawn = {"sampling": {"temperature": 1.5}, "repeats": 2, "thinking": {"end": "a", "max_tokens": 8}}
        content = {
            "name": "own",
            "data_root": str(folder_of_tasks / "data"),
            "models": {"demo": "embedded:demo-model"},
            "evaluations": {
                "mine": {**evaluation, "tasks": ["own_group"], "device": "cpu"},
                "drawn": {**evaluation, "tasks": ["own_generation"], "device": "cpu", "batch_size": 4, **drawn},
            },
        }
        there = smaug_eval.run(content, runs=tmp_path / "ray", cluster=ClusterOptions(cluster.address, 2)).path
        here = smaug_eval.run(content, runs=tmp_path / "here").path
        assert results_of(there) == results_of(here)
        stages = {"eval/demo/mine/own_group", "eval/demo/drawn/own_generation"}
        assert {key.rpartition("/")[0] for key in results_of(here)} >= stages
        for stage in stages:
            assert len(list((there / "logs").glob(f"{stage}.*-of-2.log"))) == 2

    def test_the_second_leaderboard_is_that_of_one_process(self, cluster: Any, tmp_path: Path) -> None:
        """All six columns, each in two shares; of a model with room for IFEval's and MATH's answers."""
        model = shutil.copytree(locate("embedded:demo-model").path, tmp_path / "model")
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
        v2_mirror.write_mirror(tmp_path / "data")
        asked = {"suite": "open_llm_v2", "limit": 1, "engine": "torch", "device": "cpu", "batch_size": 4}
        content = {
            "name": "v2",
            "data_root": str(tmp_path / "data"),
            "models": {"demo": str(model)},
            "evaluations": {"v2": asked},
        }
        there = smaug_eval.run(content, runs=tmp_path / "ray", cluster=ClusterOptions(cluster.address, 2)).path
        here = smaug_eval.run(content, runs=tmp_path / "here").path
        assert results_of(there) == results_of(here)
        assert len(list((there / "logs").glob("eval/demo/v2/*.2-of-2.log"))) == 6
        scores = [smaug_eval.scores(path) for path in (there, here)]
        assert scores[0].equals(scores[1])
        assert "average of six" in set(scores[0]["column"])

    def test_results_are_those_of_one_process_though_stopped_once_and_a_worker_killed(
        self, divided: Course, tmp_path: Path
    ) -> None:
        assert "stopped with" in divided.stopped.message
        assert divided.stopped.fix == "continue with: the same"
        assert divided.killed == ["worker"]
        assert divided.result.did[-1] == "report"
        alone = smaug_eval.run(recipe(limit=LIMIT, steps=4), runs=tmp_path).path
        ours, theirs = results_of(divided.path), results_of(alone)
        for name in ours.keys() | theirs.keys():
            assert ours.get(name) == theirs.get(name), name
        assert len(ours["journal"]) > 40
        again = smaug_eval.run(recipe(limit=LIMIT, steps=4), runs=divided.path.parent)  # goes on without a cluster
        assert again.did == ()

    def test_workers_leave_logs_and_no_journal_of_their_own(self, divided: Course) -> None:
        path = divided.path
        logs = {file.relative_to(path / "logs").as_posix() for file in (path / "logs").rglob("*.log")}
        assert {"train/dpop.log", "eval/base/demo/facts.1-of-3.log", "eval/base/demo/facts.log"} <= logs
        assert not [file for file in (path / "journal").glob("*.jsonl") if file.name.count(".") > 1]
        assert list((path / ".cluster").iterdir()) == []

    def test_what_fails_three_times_is_reported_and_the_rest_done(self, cluster: Any, divided: Course) -> None:
        path = divided.path
        what = recipe(limit=LIMIT, steps=4)
        broken = {"suite": "demo", "tasks": ["facts"], "limit": 2, "engine": "torch", "models": ["base"]}
        what["evaluations"]["broken"] = {**broken, "engine_args": {"attn_implementation": "nonsense"}}
        what["evaluations"]["sound"] = {**broken, "tasks": ["pronouns"]}
        with pytest.raises(SmaugError) as error:
            smaug_eval.run(what, runs=path.parent, cluster=ClusterOptions(cluster.address, 2))
        assert "1 of 12 stages failed" in error.value.message
        assert "eval/base/broken/facts" in error.value.message
        assert "failed 3 times: model '" in error.value.message
        assert "cannot be loaded: Specified `attn_implementation" in error.value.message
        assert "not begun, as they need them: report" in error.value.message
        states = {stage.name: state.status for stage, state in smaug_eval.prepare(what, runs=path.parent).states()}
        assert states.pop("eval/base/broken/facts") == "started"
        assert states.pop("report") in ("changed", "new")
        assert set(states.values()) == {"done"}

    def test_a_cluster_without_room_is_refused_before_anything_runs(self, cluster: Any, tmp_path: Path) -> None:
        what = recipe(limit=LIMIT, steps=4)
        what["trainings"]["dpop"]["launch"] = {"processes": 1 << 20}
        with pytest.raises(SmaugError, match=r"train/dpop needs .* and no machine of the cluster has them"):
            smaug_eval.run(what, runs=tmp_path, cluster=cluster.address)
        assert not (tmp_path / "run" / "pairs").exists()


STUBS = {
    "scontrol": 'echo "$@" >>"$NOTES"; if [ "$1" = show ]; then printf "one\\ntwo\\n"; fi',
    "getent": "echo 10.0.0.1 STREAM one",
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
    "ray": 'echo "ray $*" >>"$NOTES"; trap "exit 0" TERM; while true; do /bin/sleep 0.05; done',
    "python": "echo 2",
    "sleep": "exec /bin/sleep 0.1",
    "smaug-eval": 'echo "smaug-eval $*" >>"$NOTES"; trap "stop=1" TERM; '
    'while [ -z "$stop" ]; do /bin/sleep 0.05; done; /bin/sleep 0.3; exit 3',
}
"""What stands for Slurm, Ray and the run: one that needs some time for its checkpoint, and says it was interrupted."""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGUSR1, 0), (signal.SIGTERM, 3)])
def test_the_slurm_script_stops_the_run_and_queues_it_again_where_time_was_short(
    number: int, status: int, tmp_path: Path
) -> None:
    for name, text in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    notes = tmp_path / "notes"
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "NOTES": str(notes),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_NODELIST": "[one,two]",
    }
    script = REPOSITORY / "recipes" / "slurm" / "smaug-eval.sbatch"
    job = subprocess.Popen(["bash", str(script), "demo", "--quiet"], env=environment)
    deadline = time.monotonic() + 300
    while "smaug-eval run" not in (notes.read_text() if notes.exists() else "") and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(number)
    assert job.wait(60) == status
    said = notes.read_text().splitlines()
    assert "smaug-eval run demo --quiet --ray 10.0.0.1:6379" in said
    assert any(line.startswith("ray start --head --node-ip-address=10.0.0.1") for line in said)
    assert any(line.startswith("ray start --address=10.0.0.1:6379") for line in said)
    assert ("requeue 7" in said) == (number == signal.SIGUSR1)
    assert not list(tmp_path.glob(".smaug-eval-ray-*"))  # the token is gone


def test_an_unreachable_cluster_is_said_to_be_one(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(SmaugError, match="cannot be started from afar"):
        smaug_eval.run(recipe(limit=1, steps=2), runs=tmp_path, cluster="ray://10.0.0.1:10001")
    assert time.monotonic() - started < 30


def test_an_address_where_nobody_listens_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_library, "KNOCK_SECONDS", 0.2)
    monkeypatch.setattr(ray_library.ray, "init", None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    for options, variable in ((ClusterOptions(address), ""), (ClusterOptions(), address)):
        monkeypatch.setenv("RAY_ADDRESS", variable)
        refused = pytest.raises(SmaugError, match=f"--ray {address}: no cluster can be reached: .*refused")
        with refused, ray_library.joined(options):
            pass


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_checkpoints_are_scored_beside_their_training(cluster: Any, tmp_path: Path, pool: EnginePool) -> None:
    """On the other node, while the training goes on; the scores are those of one process afterwards."""
    given = recipe(limit=LIMIT, steps=40, dialogues=False)
    dev = {"suite": "demo", "tasks": ["facts"], "limit": LIMIT, "engine": "torch", "device": "cpu", "development": True}
    given["evaluations"] = {"dev": dev}
    followed = {"evaluate": {"every": 20, "evaluations": ["dev"]}, "keep": "best", "keep_metric": "dev"}
    given["trainings"]["dpop"] |= {**followed, "eval_every": None, "learning_rate": 1e-2}
    result = smaug_eval.run(given, runs=tmp_path / "runs", cluster=ClusterOptions(cluster.address))
    order = ["pairs/made", "leaks/made", "train/dpop", "curve/dpop/dev/facts", "best/dpop", "report"]
    assert list(result.did) == order
    scored = result.path / "curve/dpop/dev/facts"
    assert sorted(folder.name for folder in scored.glob("step-*")) == ["step-0", "step-20", "step-40"]
    finished = (result.path / "train/dpop/finished.json").stat().st_mtime_ns
    assert (scored / "step-0/evaluated.json").stat().st_mtime_ns < finished
    assert (result.path / "logs" / "curve/dpop/dev/facts.step-0.log").is_file()
    (job,) = (each.work for each in smaug_eval.prepare(given, runs=tmp_path / "runs").stages if each.name == order[3])
    assert isinstance(job, CheckpointsJob)
    alone = replace(job, evaluation=replace(job.evaluation, journal=tmp_path / "journal"))
    alone.perform(tmp_path / "alone", place(pool))
    for step in ("step-0", "step-20", "step-40"):
        ours, theirs = (next((folder / step).glob("samples_*")) for folder in (scored, tmp_path / "alone"))
        assert ours.read_bytes() == theirs.read_bytes()
    assert smaug_eval.run(given, runs=tmp_path / "runs").did == ()
