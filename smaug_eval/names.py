"""Names that become paths, and folders from elsewhere: neither leads out of where it belongs."""

from __future__ import annotations

import os
import re
from pathlib import Path

from smaug_eval.errors import SmaugError

UNREADABLE = (
    *(".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar"),
    *(".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy", ".npz"),
)
"""Ends of the names of archives and of files that can hold pickled objects; neither is ever opened."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.I)
_NOT_IN_FILE_NAMES = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
_LONGEST = 200
_WEIGHTS = "checkpoint"
_READ = (".json", ".jsonl")


def is_plain_name(name: str) -> bool:
    """Whether a name can be a folder's on every system: up to 64 ASCII letters, digits, ``.``, ``_`` and ``-``."""
    return bool(_NAME.fullmatch(name)) and not _DEVICE.fullmatch(name)


def is_file_name(name: str) -> bool:
    """Whether a name means one file of a folder and nothing outside of it, as the Hub's names of splits do."""
    return (
        0 < len(name) <= _LONGEST
        and name.strip(". ") != ""
        and not _NOT_IN_FILE_NAMES.search(name)
        and name == name.encode("utf-8", "ignore").decode("utf-8")
    )


def path_within(root: Path, *names: str, what: str) -> Path:
    """``root`` with names joined to it, each of which may hold ``/`` only between file names.

    Raises:
        SmaugError: a part is no file name (``..``, an absolute path, a NUL, ...); the message says ``what`` it is.
    """
    parts = [part for name in names for part in name.split("/")]
    for part in parts:
        if not is_file_name(part):
            raise SmaugError(f"{what}: {'/'.join(names)!r} is not a name that stays in {root}", fix="correct the name")
    return root.joinpath(*parts)


def given_path(text: str) -> Path:
    """A path as a user writes it, with ``~`` for a home directory where there is such a user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def is_there(path: Path) -> bool:
    """Whether something is at a path; a text that cannot be a path (too long, a NUL in it) has nothing."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def unreadable_kind(path: str) -> str | None:
    """What an archive's or a pickle's name ends in; None for every other file."""
    return next((end for end in UNREADABLE if path.lower().endswith(end)), None)


def refuse_unreadable(path: str, what: str) -> None:
    """Refuse an archive or a pickle by its name.

    Raises:
        SmaugError: it is one.
    """
    if end := unreadable_kind(path):
        raise SmaugError(
            f"{what} {path}: {end} files are archives or can run code, and are not opened",
            fix="unpack or convert it where you trust it, to JSON Lines, parquet or safetensors",
        )


def refuse_links_out(folder: Path) -> None:
    """Refuse a folder from elsewhere that would have this program read or write other files than its own.

    Looked at are links to folders and to files of results (``.json``, ``.jsonl``, ``.log``); a checkpoint may lie on
    another disk.

    Raises:
        SmaugError: a link leads out of the folder; the message names it.
    """
    root = folder.resolve()
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != _WEIGHTS]
        for name in (*folders, *(file for file in files if file.endswith((*_READ, ".log")))):
            path = Path(place) / name
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise SmaugError(
                    f"{path} is a link that leads out of {folder}",
                    fix="put what it points to in its place, or remove it",
                )
