"""Check names that become paths, and folders from elsewhere: neither may lead out of where it belongs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from smaug_eval.common.errors import SmaugError

UNREADABLE = (
    *(".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar"),
    *(".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy", ".npz"),
)
"""Ends of the names of archives and of files that can hold pickled objects; neither is ever opened."""

PLAIN_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""What :func:`is_plain_name` takes, but for the names of devices."""

_NAME = re.compile(PLAIN_NAME)
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.I)
_NOT_IN_FILE_NAMES = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
_LONGEST = 200
_REPOSITORY = re.compile(r"(?:models|datasets|spaces)--.+")
_AT = re.compile(r"(?P<name>[^/@\s~.][^/@\s]*/[^/@\s]+)@(?P<revision>\S+)")
_EVERYWHERE = ("checkpoint", "adapter", "train")
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def is_plain_name(name: str) -> bool:
    """Check whether a name can be a folder's name on every system.

    Such a name has up to 64 ASCII letters, digits, ``.``, ``_`` and ``-``.
    """
    return bool(_NAME.fullmatch(name)) and not _DEVICE.fullmatch(name)


def is_file_name(name: str) -> bool:
    """Check whether a name means one file of a folder and nothing outside of it, like the Hub's names of splits."""
    return (
        0 < len(name) <= _LONGEST
        and name.strip(". ") != ""
        and not _NOT_IN_FILE_NAMES.search(name)
        and name == name.encode("utf-8", "ignore").decode("utf-8")
    )


def path_within(root: Path, *names: str, what: str) -> Path:
    """Return ``root`` with names joined to it, each of which may hold ``/`` only between file names.

    Raises:
        SmaugError: a part is no file name (``..``, an absolute path, a NUL, ...); the message says ``what`` it is.
    """
    parts = [part for name in names for part in name.split("/")]
    for part in parts:
        if not is_file_name(part):
            raise SmaugError(f"{what}: {'/'.join(names)!r} is not a name that stays in {root}", fix="correct the name")
    return root.joinpath(*parts)


def given_path(text: str) -> Path:
    """Return a path as a user writes it, with ``~`` for a home directory where there is such a user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def is_there(path: Path) -> bool:
    """Check whether something is at a path; a text that cannot be a path (too long, a NUL in it) has nothing."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def unreadable_kind(path: str) -> str | None:
    """Return what an archive's or a pickle's name ends in; None for every other file."""
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


def refuse_links_out(root: Path, paths: Iterable[Path]) -> None:
    """Refuse paths in a folder from elsewhere that would have this program read or write other files than its own.

    A snapshot in huggingface_hub's cache may link to the files of its own ``blobs/``, which is how that cache keeps
    them.

    Args:
        root: The folder; it may be a link itself.
        paths: What is read or written in it. They are looked at one after the other, so that a generator which walks
            the folder is never led out of it.

    Raises:
        SmaugError: a path leads out of the folder by a link; the message names it.
    """
    leads_out = link_check(root)
    for path in paths:
        if leads_out(path):
            raise SmaugError(
                f"{path} is a link that leads out of {root}",
                fix="put what it points to in its place, or remove it. To keep a run on another disk, link the whole "
                "run directory, or checkpoint/ and adapter/ of its trainings; of a Hub repository, give the folder "
                "that huggingface_hub downloaded to (local_dir) or its snapshot in the cache",
            )


def link_check(root: Path) -> Callable[[Path], bool]:
    """Return a function that says whether a path in ``root`` leads out of it by a link.

    The files of a snapshot in huggingface_hub's cache, which are links to its ``blobs/``, do not.
    """
    home = os.path.realpath(root)
    blobs = _blobs_of(Path(home))

    def leads_out(path: Path) -> bool:
        target = os.path.realpath(path)
        if os.path.commonpath((home, target)) == home:
            return False
        return blobs is None or Path(target).parent != blobs or not _BLOB.fullmatch(Path(target).name)

    return leads_out


def _blobs_of(root: Path) -> Path | None:
    """Where huggingface_hub keeps the files of a snapshot, ``<repository>/snapshots/<commit>/...``; None for every
    other folder."""
    for folder in (root, *root.parents):
        if folder.parent.name == "snapshots" and _REPOSITORY.fullmatch(folder.parent.parent.name):
            return folder.parent.parent / "blobs"
    return None


def with_revision(name: str, revision: str | None = None) -> tuple[str, str | None]:
    """Split ``organisation/name@revision`` into a model's name and its revision; leave other names as they are.

    Args:
        name: As the user gave it.
        revision: Given apart from it.

    Raises:
        SmaugError: the two name different revisions.
    """
    found = _AT.fullmatch(name)
    if found is None or is_there(given_path(name)):
        return name, revision
    if revision not in (None, found["revision"]):
        raise SmaugError(f"{name} names one revision, and {revision!r} is given, too", fix="give one of them")
    return found["name"], found["revision"]


def distinct_names(paths: Sequence[str]) -> list[str]:
    """Return short names of models that tell them apart, fit to be folders' names.

    A name is the last part of a path or Hub id, without folders that are called the same everywhere (``checkpoint``);
    where two end alike, with as many parts before it as they need.

    Args:
        paths: Folders or Hub ids, each once.
    """
    parts = [_parts_of_name(path) for path in paths]
    lengths = [1] * len(parts)
    while True:
        names = ["-".join(own[-length:]) for own, length in zip(parts, lengths, strict=True)]
        alike = [place for place, name in enumerate(names) if names.count(name) > 1]
        longer = [place for place in alike if lengths[place] < len(parts[place])]
        if not longer:
            break
        for place in longer:
            lengths[place] += 1
    numbered = [f"{name}-{place + 1}" if names.count(name) > 1 else name for place, name in enumerate(names)]
    return [name[-64:].lstrip("._-") for name in numbered]


def _parts_of_name(path: str) -> list[str]:
    text = path.removeprefix("embedded:").replace("@", "-")
    parts = [re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-.") for part in text.split("/")]
    known = [part for part in parts if part and part not in _EVERYWHERE]
    return known or ["model"]
