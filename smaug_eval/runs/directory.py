"""Keep what a run leaves behind: its folder, its manifest, and a record for every finished stage."""

from __future__ import annotations

import datetime
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from smaug_eval.common.digests import sha256_of_each
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import (
    canonical_json,
    read_json,
    sha256_of_text,
    sweep,
    sync_folder,
    unwritable,
    write_json,
)
from smaug_eval.common.names import refuse_links_out
from smaug_eval.results.layout import (
    HOLDER,
    LOCK,
    LOG,
    MANIFEST,
    RECORD,
    SUPERSEDED,
    TRAININGS,
    TWIN,
    WEIGHTS,
    is_of_others,
    own_paths,
    stage_files,
)


@dataclass(frozen=True)
class StageState:
    """List the states of a stage.

    Attributes:
        status: ``done``, ``started`` (unfinished, same inputs), ``changed`` (finished or started with other inputs),
            ``damaged`` (finished, but files are missing) or ``new``.
        reason: Why it is not done, as text; empty for done and new.
    """

    status: str
    reason: str = ""


class RunDirectory:
    """Keep one run's folder under the runs directory.

    Args:
        path: The folder; made on first writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_file: tuple[int, int] | None = None

    @property
    def log_file(self) -> Path:
        """Return where the libraries' own output goes."""
        return self.path / LOG

    def folder(self, stage: str) -> Path:
        """Return the folder of a stage's record and outputs."""
        return self.path / stage

    @contextmanager
    def locked(self, notice: Callable[[str], None] = lambda text: None) -> Iterator[None]:
        """Hold the run against a second process writing to it.

        The lock is the operating system's and ends with the process; who holds it stands in a file beside it, which
        stays behind where the process was killed.

        Args:
            notice: Receives a line where the last run did not end cleanly.

        Raises:
            SmaugError: another process holds it, the folder cannot be written, a link in it leads out of it, or the
                disk that weights are linked to is not there.
        """
        lock_file, holder = self.path / LOCK, self.path / HOLDER
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            refuse_links_out(self.path, own_paths(self.path))
            _refuse_links_to_nothing(self.path)
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
                notice(f"the last run{_who(_read_or_none(holder))} did not end cleanly; resuming from what it left")
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
        if self._lock_file is not None and _identity(self.path / LOCK) != self._lock_file:
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
        if lacking := _lacking(record):
            return StageState("started", lacking)
        if (need := self._made_anew(record)) is not None:
            return StageState("changed", f"{need} was done again since, with another result")
        outputs = {name: size for name, size in record["outputs"].items() if not is_of_others(stage, name)}
        wrong = [name for name, size in outputs.items() if _size(self.path / name) != size]
        if thorough and not wrong:
            digests = {self.path / name: each for name, each in record.get("sha256", {}).items() if name in outputs}
            found = sha256_of_each(digests)
            wrong = [file.relative_to(self.path).as_posix() for file in digests if found[file] != digests[file]]
        if wrong:
            return StageState("damaged", f"missing or altered: {', '.join(wrong[:3])}")
        return StageState("done")

    def record(self, stage: str) -> dict[str, Any]:
        """Return what is recorded of a stage: ``{}`` if nothing, or nothing that can be read."""
        found = (_read_or_none(self.folder(stage) / name) for name in (RECORD, TWIN))
        return next((record for record in found if record is not None and _is_record(record)), {})

    def manifest(self) -> dict[str, Any]:
        """Return the manifest; ``{}`` where there is none that can be read."""
        return _read_or_none(self.path / MANIFEST) or {}

    def created(self) -> datetime.datetime:
        """Return when the run was started, in UTC, by its manifest, or now."""
        try:
            return datetime.datetime.fromisoformat(str(self.manifest()["created"]))
        except (KeyError, ValueError):
            return datetime.datetime.fromisoformat(now())

    def begin(self, stage: str, key: str, inputs: Mapping[str, Any]) -> Path:
        """Prepare a stage's folder: unfinished work on the same inputs stays, other and damaged results move away."""
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
        left = (*stage_files(folder), *(self.path / output for output in outputs))
        files = {file.relative_to(self.path).as_posix(): file for file in left}
        sync_folder(folder)
        record = self.record(stage)
        record |= {"status": "done", "finished": now(), "seconds": round(seconds, 3), "summary": dict(summary)}
        record["made_from"] = {need: digest for need in needs if (digest := self._result(need)) is not None}
        record["outputs"] = {name: file.stat().st_size for name, file in files.items()}
        digests = sha256_of_each(files.values())
        record["sha256"] = {name: digests[file] for name, file in files.items()}
        self._write_record(stage, record)

    def superseded(self, stage: str) -> list[Path]:
        """Return where results of a stage on other inputs were moved to, the newest last by number."""
        name = re.compile(rf"{re.escape(_flat(stage))}-((\d{{4}})-)?\d{{8}}T\d+")
        found = {path: name.fullmatch(path.name) for path in (self.path / SUPERSEDED).glob("*")}
        return sorted(
            (path for path, match in found.items() if match), key=lambda path: (_number(found[path]), path.name)
        )

    def _result(self, stage: str) -> str | None:
        """The digest of what a stage made, its model's or its own; None where it is not done, or has none."""
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
    """Return the identity of a stage's result: a hash over its inputs and those of the stages before it."""
    return sha256_of_text(canonical_json({"inputs": inputs, "needs": sorted(needed_keys)}))


def now() -> str:
    """Return the present moment in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


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


def _lacking(record: Mapping[str, Any]) -> str:
    """What a stage lacks that was recorded as done although judgments were missing, and nobody had accepted that."""
    summary = record.get("summary")
    missing = summary.get("missing") if isinstance(summary, Mapping) else None
    if not isinstance(summary, Mapping) or not isinstance(missing, int) or "allow_missing" in summary:
        return ""
    return f"{missing:,} judgments are missing" if missing else ""


def _is_record(found: Mapping[str, Any]) -> bool:
    """Whether all is there that a record must hold."""
    known = isinstance(found.get("key"), str) and isinstance(found.get("status"), str)
    return known and (found["status"] != "done" or isinstance(found.get("outputs"), dict))


def _who(holder: Mapping[str, Any] | None) -> str:
    """The process of a holder's file, as text with a blank before them."""
    if holder is None:
        return ""
    return f" (process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')})"


def _refuse_links_to_nothing(run: Path) -> None:
    """Refuse weights that were linked to a disk which is not mounted: they must not be taken for lost, and made again.

    Raises:
        SmaugError: such a link leads nowhere.
    """
    for link in (training / name for training in sorted((run / TRAININGS).glob("*")) for name in WEIGHTS):
        if link.is_symlink() and not link.exists():
            raise SmaugError(
                f"{link} is a link to {link.readlink()}, which is not there",
                fix="mount its disk, make the folder, or remove the link to train again",
            )


def _identity(file: Path) -> tuple[int, int] | None:
    """What distinguishes a file from another one of its name."""
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
