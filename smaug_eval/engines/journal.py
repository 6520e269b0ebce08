"""Record a model's answers on disk: an append-only file that survives being killed at any moment.

One line for every finished chunk of work, with a checksum. A file belongs to one *scope*: the model's weights, its
tokenizer and every setting that changes numbers; another scope has another file, so that no model ever sees another's
answers.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import GrowingFile, canonical_json, cut_torn_line, sha256_of_text, unwritable
from smaug_eval.common.redaction import redacted_values

VERSION = 1
CHECKSUM = "crc32"
"""Of the rest of a line: a flipped bit in a number would else be a wrong result."""

log = logging.getLogger(__name__)


class Journal:
    """Keep answers by key, in memory and on disk.

    Attributes:
        file: What this process appends to.
    """

    def __init__(self, folder: Path, scope: Mapping[str, Any]) -> None:
        """Read what is there for a scope, and get ready to append.

        Several processes may share a folder: each appends to a file of its own and reads all of them once.

        Args:
            folder: Made if need be.
            scope: All that decides an answer, but for the request; plain data.

        Raises:
            SmaugError: the folder cannot be written, or a file in it is no journal of this scope.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            name = self._recall(folder, scope)
            self.file, self._lock = _own_file(folder, name)
            self._stream = self._open()
        except OSError as error:
            raise unwritable(folder, error) from error

    def __contains__(self, key: str) -> bool:
        return key in self._answers

    def __getitem__(self, key: str) -> Any:
        return self._answers[key]

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, answers: Mapping[str, Any]) -> None:
        """Keep the answers of a finished chunk: all of them or, if the process dies now, none."""
        if answers:
            self._append({"answers": dict(answers)})
            self._answers.update(answers)

    def setting(self, name: str) -> Any:
        """Return what was last noted under ``name``; None if nothing was."""
        return self._settings.get(name)

    def note(self, name: str, value: Any) -> None:
        """Record a choice made while working, so that a resumed process makes the same one."""
        if self._settings.get(name) != value:
            self._append({"settings": {name: value}})
            self._settings[name] = value

    def close(self) -> None:
        """Write everything to the disk and let go of the file."""
        self._stream.close()
        self._lock.release()

    def _recall(self, folder: Path, scope: Mapping[str, Any]) -> str:
        """Read what is there for a scope; gives what the names of its files begin with."""
        self._answers: dict[str, Any] = {}
        self._settings: dict[str, Any] = {}
        self._scope = {"journal": VERSION, "scope": json.loads(canonical_json(redacted_values(scope)))}
        name = sha256_of_text(canonical_json(self._scope))[:16]
        for file in sorted(folder.glob(f"{name}*.jsonl")):
            self._read(file)
        return name

    def _append(self, line: Mapping[str, Any]) -> None:
        summed = {**line, CHECKSUM: zlib.crc32(canonical_json(line).encode())}
        self._stream.append(canonical_json(summed).encode() + b"\n")

    def _open(self) -> GrowingFile:
        """The file to append to, with a header if it is new and without a torn last line."""
        if cut_torn_line(self.file):
            log.warning("%s: the last line is torn; what it held is computed again", self.file)
        stream = GrowingFile(self.file)
        if not self.file.stat().st_size:
            stream.append(canonical_json(self._scope).encode() + b"\n")
        return stream

    def _read(self, file: Path) -> None:
        for found in self._lines(file):
            self._answers.update(found.get("answers", {}))
            self._settings.update(found.get("settings", {}))

    def _lines(self, file: Path) -> Iterator[dict[str, Any]]:
        """Yield what the whole lines of a file hold, but for its first."""
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break  # torn, or just being written
                found = _parsed(line)
                if number == 1 and found == self._scope:
                    continue
                if number == 1 and found is not None:
                    raise SmaugError(f"{file} is not a journal of this model and these settings", fix="move it away")
                if found is None:
                    log.warning("%s, line %d: damaged; what it held is computed again", file, number)
                    continue
                yield found


class StreamedJournal(Journal):
    """Keep answers on disk alone: what was there before is read when it is asked for, once."""

    def stored(self) -> Iterator[tuple[str, Any]]:
        """Yield the answers that were there when this was opened, each with its key."""
        for file in self._before:
            for found in self._lines(file):
                yield from found.get("answers", {}).items()

    def add(self, answers: Mapping[str, Any]) -> None:
        """Write the answers of a finished chunk: all of them or, if the process dies now, none."""
        if answers:
            self._append({"answers": dict(answers)})

    def _recall(self, folder: Path, scope: Mapping[str, Any]) -> str:
        self._before: list[Path] = []
        return super()._recall(folder, scope)

    def _read(self, file: Path) -> None:
        self._before.append(file)


class Relay(Protocol):
    """Receive what a process sends that does not write the journal itself."""

    def opened(self, scope: Mapping[str, Any]) -> None:
        """Receive the scope, before anything else."""
        ...

    def answered(self, answers: Mapping[str, Any]) -> None:
        """Receive a finished chunk's answers by their keys."""
        ...

    def settle(self, scope: str, name: str, value: Any, *, anew: bool) -> Any:
        """Receive a choice; return the one that holds: the first that any process made, or this one if ``anew``."""
        ...


class RelayedJournal(Journal):
    """Use a journal that another process keeps: read it once, and send what is new there."""

    def __init__(self, folder: Path, scope: Mapping[str, Any], relay: Relay) -> None:
        """Read what is there for a scope.

        Args:
            folder: Of the journal; need not be there.
            scope: As of :class:`Journal`.
            relay: The way to the process that keeps it.
        """
        self._relay = relay
        self._name = self._recall(folder, scope)
        self.file = folder / f"{self._name}.jsonl"
        relay.opened(scope)

    def add(self, answers: Mapping[str, Any]) -> None:
        """Send the answers of a finished chunk."""
        if answers:
            self._relay.answered(dict(answers))
            self._answers.update(answers)

    def note(self, name: str, value: Any) -> None:
        """Send a choice, and keep the one that holds for all processes in :meth:`setting`."""
        if self._settings.get(name) != value:
            self._settings[name] = self._relay.settle(self._name, name, value, anew=name in self._settings)

    def close(self) -> None:
        """Do nothing: no file is open."""


def versions(*distributions: str) -> dict[str, str]:
    """Return the installed versions of the packages whose update may change a number."""
    found = {}
    for name in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _own_file(folder: Path, name: str) -> tuple[Path, FileLock]:
    """A file of this scope that no other process appends to."""
    number = 1
    while True:
        file = folder / (f"{name}.jsonl" if number == 1 else f"{name}.{number}.jsonl")
        lock = FileLock(file.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            number += 1
        else:
            return file, lock


def _parsed(line: bytes) -> dict[str, Any] | None:
    """What a line holds; None where it is damaged. A line without a checksum, as the first is, is taken as it is."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    checksum = found.pop(CHECKSUM, None)
    if checksum is not None and checksum != zlib.crc32(canonical_json(found).encode()):
        return None
    return found if all(isinstance(found.get(part, {}), dict) for part in ("answers", "settings")) else None
