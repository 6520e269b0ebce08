"""Find the results files below a path, whatever their names, and say of each file that is not read why."""

from __future__ import annotations

import json
import logging
import mmap
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.names import link_check
from smaug_eval.common.text import some_names
from smaug_eval.results import foreign
from smaug_eval.results.json_files import LARGEST, content_of, is_utf16, mapping, parsed, read_value
from smaug_eval.results.layout import OTHERS
from smaug_eval.results.sample_files import Inside, Samples

log = logging.getLogger(__name__)

RESULTS_PATTERN = "results_*.json"

_ENDS = (".json", ".json.gz", ".jsonl", ".jsonl.gz")
_NAMED = ("results", "samples_")
_BESIDE = ("config", "versions", "config_general")
_KEY = b'"results"'
_STAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}(?:\.\d+)?")
_LOOKED_INTO = 1 << 26
"""Bytes up to which a file is parsed to say what it is."""
_SCORE_ENDS = (".csv", ".tsv", ".md", ".xlsx", ".parquet")
_SCORE_NAME = re.compile(r"(?:results?|scores?|summary|eval|leaderboard)", re.I)
"""Tables that are named, although other files of their kind lie everywhere."""
_SKIPPED_FOLDERS = {"checkpoint", "__pycache__", "node_modules", *OTHERS}


class Unread(NamedTuple):
    """Name a file that was found and not read, and why.

    Attributes:
        path: The file.
        reason: Says why.
        error: What reading it ended in; None for a file of another kind.
    """

    path: Path
    reason: str
    error: SmaugError | None = None

    @property
    def is_failure(self) -> bool:
        """Return whether it should have been read: it is damaged, or named like lm-eval's results and none."""
        return self.error is not None or self.path.match(RESULTS_PATTERN)


class Unreadable(SmaugError):
    """Say that nothing of what was found could be read, or, where that was required, not all of it."""

    exit_code = 1


def refuse_failures(unread: Iterable[Unread], done: str) -> None:
    """Refuse files that should have been read and were not; for ``--strict``.

    Args:
        unread: What was not read.
        done: Says what is done nevertheless.

    Raises:
        Unreadable: a file is damaged, or named like lm-eval's results and none.
    """
    names = [str(each.path) for each in unread if each.is_failure]
    if names:
        raise Unreadable(
            f"{done} without what cannot be read: {', '.join(names)}", fix="correct these files or remove them"
        )


def warn_of_failures(unread: Iterable[Unread]) -> None:
    """Log a warning for files that should have been read and were not, while the rest is used.

    Args:
        unread: What was not read.
    """
    for note in notes_of((each for each in unread if each.is_failure), None):
        log.warning("%s", note)


def failed(path: Path, error: SmaugError) -> Unread:
    """Describe a file that reading ended in an error for; its name is not said twice."""
    return Unread(path, error.message.removeprefix(str(path)).lstrip(":, ") or error.message, error)


@dataclass
class Listing:
    """List the JSON files below a path.

    Attributes:
        files: Those that may hold results.
        lines: Those that may hold samples, by folder.
        unread: Those that are neither.
    """

    files: list[Path] = field(default_factory=list)
    lines: dict[Path, list[Path]] = field(default_factory=lambda: defaultdict(list))
    unread: list[Unread] = field(default_factory=list)


def list_files(root: Path) -> Listing:
    """List the JSON files below a folder, or a file and its neighbours' samples; nothing is opened.

    Hidden folders and checkpoints are left out, and files that are links out of the folder are not read.
    """
    found = Listing()
    if root.is_file():
        found.files = [root]
        _sort_in(found, (each for each in sorted(root.parent.iterdir()) if each != root and each.is_file()), alone=True)
        return found
    leads_out = link_check(root)
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED_FOLDERS)
        paths = [Path(place) / name for name in sorted(names)]
        outside = {path for path in paths if path.name.endswith(_ENDS) and leads_out(path)}
        found.unread += [Unread(path, "a link that leads out of the folder") for path in sorted(outside)]
        _sort_in(found, (path for path in paths if path not in outside))
    return found


def json_files(root: Path) -> Iterator[Path]:
    """Yield the files below a folder that bear lm-eval's names; links to folders are not followed."""
    for place, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _SKIPPED_FOLDERS]
        yield from (Path(place) / name for name in names if name.endswith(_ENDS) and name.startswith(_NAMED))


def results_in(path: Path) -> dict[str, Any] | Unread:
    """Return the results in a file, or why it is not one.

    Results are an object with ``results`` and one of ``config``, ``versions`` and ``config_general``, whatever the
    file's name; of a ``results_*.json`` the name is enough.

    Raises:
        SmaugError: the file is damaged or not JSON.
    """
    if path.suffix == ".eval" or path.suffix.lower() in foreign.TABLE_ENDS:
        return Unread(path, foreign.kind_of(path))
    try:
        if path.suffix != ".gz" and not _mentions_results(path):
            return _other(path, _glimpse(path))
        value = parsed(path, content_of(path))
    except OSError as error:
        raise SmaugError(f"{path} cannot be read: {error.strerror or error}") from error
    if not isinstance(value, dict):
        return _other(path, value)
    entries = value.get("results")
    if not isinstance(entries, dict) or not (path.match(RESULTS_PATTERN) or any(key in value for key in _BESIDE)):
        return _other(path, value)
    if "eval" in value and "status" in value:
        return Unread(path, foreign.INSPECT)
    return value if entries else Unread(path, foreign.NO_TASKS)


def _other(path: Path, value: object) -> Unread:
    """Describe a file of another kind than results; lm-eval's own names promise results.

    Raises:
        SmaugError: a file of lm-eval's name holds no object.
    """
    kind = foreign.kind_of(path, value)
    if kind != foreign.UNKNOWN or not path.match(RESULTS_PATTERN):
        return Unread(path, kind)
    if not isinstance(value, dict):
        raise SmaugError(f"{path}: expected a JSON object, found {type(value).__name__}", fix="leave the file out")
    return Unread(path, foreign.NO_SCORES)


def samples_of(path: Path, document: Mapping[str, Any], beside: Sequence[Path], *, is_only: bool) -> dict[str, Samples]:
    """Map each task to its samples, of the same evaluation as a results file.

    Args:
        path: The results file.
        document: What it holds.
        beside: Files of its folder that may hold samples.
        is_only: Whether no other results file lies in the folder, so that samples without a date are its own.
    """
    by_name = {file.name: file for file in beside}
    logged = mapping(document.get("samples"))
    arguments = mapping(document.get("config")).get("model_args")
    prefix = re.sub("/|=", "__", arguments) if isinstance(arguments, str) else None
    found: dict[str, Samples] = {}
    for task in mapping(document.get("results")):
        names = [f"samples_{task}_{stamp}" for stamp in _stamps(path)]
        names += [f"{prefix}_{task}"] if prefix else []
        names += [f"samples_{task}"] if is_only else []
        files = (by_name.get(f"{name}{end}") for name in names for end in (".jsonl", ".json", ".jsonl.gz", ".json.gz"))
        own = next((file for file in files if file is not None), None)
        if own is None and isinstance(logged.get(task), list):
            found[task] = Inside(path, task)
        elif own is None and is_only and (alone := [file for file in beside if _is_of(file, task)]):
            found.update({task: alone[0]} if len(alone) == 1 else {})
        elif own is not None:
            found[task] = own
    return found


def notes_of(unread: Iterable[Unread], root: Path | None) -> list[str]:
    """Say what was found and not read, one sentence for each reason.

    Args:
        unread: What was not read.
        root: The folder below which files are named; None for whole paths.
    """
    by_reason: dict[str, list[str]] = defaultdict(list)
    for each in unread:
        by_reason[each.reason].append(str(each.path) if root is None else _relative(each.path, root))
    return [f"not read: {some_names(names)}: {reason}" for reason, names in by_reason.items()]


def refusal_of(unread: Sequence[Unread], root: Path) -> Unreadable:
    """Return the error for the case that nothing that was found could be read."""
    if len(unread) == 1 and unread[0].error is not None:
        return Unreadable(unread[0].error.message, fix=unread[0].error.fix)
    kinds = list(dict.fromkeys(each.reason for each in unread))
    known = next((kind for kind in kinds if kind in foreign.FIXES), kinds[0])
    fix = foreign.FIXES.get(known, foreign.GENERAL_FIX if known == foreign.UNKNOWN else foreign.KNOWN_FIX)
    if len(unread) == 1:
        return Unreadable(f"{unread[0].path}: {known}", fix=fix)
    return Unreadable(f"{root} holds no results that can be read: {'; '.join(notes_of(unread, root))}", fix=fix)


def _sort_in(found: Listing, paths: Iterable[Path], *, alone: bool = False) -> None:
    for path in paths:
        if path.suffix == ".eval" and not alone:
            found.unread.append(Unread(path, foreign.INSPECT))
        elif path.suffix.lower() in _SCORE_ENDS and not alone and _SCORE_NAME.match(path.name):
            found.unread.append(Unread(path, foreign.TABLE))
        elif not path.name.endswith(_ENDS):
            continue
        elif path.name.startswith("samples_") or ".jsonl" in path.suffixes or path.name.endswith(".jsonl"):
            found.lines[path.parent].append(path)
        elif not alone:
            found.files.append(path)


def _mentions_results(path: Path) -> bool:
    """Return whether the key stands anywhere in a file: a fast look that spares parsing large files of other kinds."""
    size = path.stat().st_size
    if size > LARGEST:
        raise SmaugError(f"{path} holds more than {LARGEST:,} bytes", fix="give results without samples")
    if not size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(_KEY) >= 0 or is_utf16(content[:2])


def _glimpse(path: Path) -> object:
    """Describe what a file without results holds, as far as that is worth a look; damaged JSON is an error."""
    return read_value(path) if path.stat().st_size <= _LOOKED_INTO else None


def first_line(path: Path) -> object:
    """Return the first object of JSON Lines, or of a list; None where there is none."""
    try:
        if path.suffix == ".gz":
            line = content_of(path).partition(b"\n")[0]
        else:
            with path.open("rb") as file:
                line = file.readline(_LOOKED_INTO)
        value = json.loads(line.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError, SmaugError):
        return None
    return value[0] if isinstance(value, list) and value else value


def _stamps(path: Path) -> Iterator[str]:
    """Yield what names of samples hold of the results file's: its date, or whatever stands there."""
    stem = path.name.removesuffix(".gz").removesuffix(".json")
    yield stem.removeprefix("results_")
    if match := _STAMP.search(stem):
        yield match[0]


def _is_of(file: Path, task: str) -> bool:
    """Return whether a file is named ``<model's arguments>_<task>.jsonl``, as lm-eval 0.4.0 to 0.4.2 name samples."""
    return file.name.endswith((f"_{task}.jsonl", f"_{task}.jsonl.gz")) and not file.name.startswith("samples_")


def _relative(path: Path, root: Path) -> str:
    try:
        return str(path.relative_to(root)) if path != root else path.name
    except ValueError:
        return path.name
