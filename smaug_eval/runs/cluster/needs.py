"""Compute what a job needs of a machine: GPUs, cores, memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.registry import ENGINES
from smaug_eval.runs.checkpoint_jobs import CheckpointsJob
from smaug_eval.runs.deciding import DecisionJob
from smaug_eval.runs.jobs import AnswersJob, EvaluationJob, Job, TrainingJob
from smaug_eval.trainers.launch import accelerate_settings, process_number

GIB = 1 << 30
WEIGHTS_AND_CACHE = 1.3
"""GPU memory of a model that answers, in multiples of its weights."""
IN_RAM = 2.0
"""Memory of one that answers without a GPU; its file is read through the same memory."""
TRAINED_IN_RAM = 6.0
"""Of one that is trained: weights, gradients, two moments, and the reference."""


@dataclass(frozen=True)
class Need:
    """Hold resources in Ray's names and units.

    Attributes:
        cpus: Cores.
        gpus: GPUs, all of one machine.
        memory: Bytes of the machine's own memory.
    """

    cpus: float
    gpus: int
    memory: int

    def times_in(self, resources: Mapping[str, float]) -> int:
        """Return how many of these a machine has room for."""
        asked = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory}
        return min(int(resources.get(name, 0.0) // amount) for name, amount in asked.items() if amount)

    def __str__(self) -> str:
        cores = f"{self.cpus:g} CPU cores, {self.memory / GIB:.1f} GiB"
        return f"{self.gpus} GPUs, {cores}" if self.gpus else cores


@dataclass(frozen=True)
class Machines:
    """Describe the cluster's machines.

    Attributes:
        cpus: Cores of the largest.
        gpus: GPUs of the one with the most.
        gpu_bytes: Memory of the smallest GPU; 0 where none is known.
        threads: Torch's in the driver, which workers use, too.
    """

    cpus: float
    gpus: int
    gpu_bytes: int
    threads: int


def need_of(stage: str, job: Job, machines: Machines, weights: int) -> Need:
    """Return what a job needs.

    Args:
        stage: Its stage, for messages.
        job: The job.
        machines: Those of the cluster.
        weights: Bytes of the largest model's weights.

    Raises:
        SmaugError: a training over several machines, which Ray cannot start.
    """
    gpus = gpus_of(stage, job, machines, weights)
    if gpus:
        return Need(cpus=min(float(gpus), machines.cpus), gpus=gpus, memory=0)
    training = isinstance(job, TrainingJob)
    processes = _processes(job) if isinstance(job, TrainingJob) else 1
    factor = TRAINED_IN_RAM * processes if training else IN_RAM
    # Fewer cores than threads make it slower, but leave the numbers as they are.
    return Need(min(float(machines.threads * processes), machines.cpus), 0, int(factor * weights) + GIB // 2)


def gpus_of(stage: str, job: Job, machines: Machines, weights: int) -> int:
    """Return how many GPUs of one machine a job needs; arguments as of :func:`need_of`."""
    job = job.evaluation if isinstance(job, CheckpointsJob) else job
    if isinstance(job, TrainingJob):
        if job.launch is not None and job.launch.config is not None:
            several = int(accelerate_settings(Path(job.launch.config)).get("num_machines", 1))
            if several > 1:
                raise SmaugError(
                    f"{stage}: its launch configuration is for {several} machines, which --ray does not start",
                    fix="use one machine's GPUs, or run this training without --ray first; the run resumes from there",
                )
        return _processes(job) if machines.gpus else 0
    if not machines.gpus:
        return 0
    if isinstance(job, EvaluationJob | DecisionJob):
        engine, arguments, device = job.engine.engine, job.engine.engine_args, job.engine.device
    elif isinstance(job, AnswersJob):
        engine, arguments, device = job.config.engine, job.config.engine_args, job.config.device
    else:
        raise TypeError(f"{stage}: no such job: {type(job).__name__}")
    if device == "cpu" or (engine in ENGINES and ENGINES[engine].is_served):
        return 0
    if arguments.get("parallelize") and engine in ("torch", "hf"):
        return max(1, math.ceil(WEIGHTS_AND_CACHE * weights / machines.gpu_bytes)) if machines.gpu_bytes else 1
    sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    return math.prod(int(arguments.get(size, 1)) for size in sizes)


def weights_bytes(jobs: list[Job]) -> int:
    """Return the bytes of the largest model's weights that are there; a trained model is as large as its base."""
    folders = set()
    for job in jobs:
        if isinstance(job, CheckpointsJob):
            folders.add(job.start)
        elif isinstance(job, TrainingJob):
            folders.add(job.spec.model_path)
        elif isinstance(job, EvaluationJob | DecisionJob):
            folders.add(job.engine.checkpoint)
        elif isinstance(job, AnswersJob):
            folders.add(job.checkpoint if isinstance(job.checkpoint, Path) else job.checkpoint.path)
    return max((sum(file.stat().st_size for file in folder.glob("*.safetensors")) for folder in folders), default=0)


def _processes(job: TrainingJob) -> int:
    return 1 if job.launch is None else process_number(job.launch)
