"""Read the Hub's cache on this machine, as all its clients lay it out: blobs by digest, and links to them by commit."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from smaug_eval.common.digests import sha256_of_file
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.hub_errors import Kind

log = logging.getLogger(__name__)

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[0-9A-Za-z_.-]{1,128}")


@dataclass(frozen=True)
class HubFile:
    """Describe a file of a commit, as the Hub lists it.

    Attributes:
        path: Within the repository.
        size: Bytes.
        digest: What the cache names it by: the SHA-256 of a large file, else git's name of the blob.
        xet: Its name in Xet's storage; None where it is kept elsewhere.
    """

    path: str
    size: int
    digest: str
    xet: str | None = None

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any]) -> HubFile:
        """Read an entry of the Hub's listing.

        Raises:
            SmaugError: it names a file outside of the repository, or one without a digest.
        """
        path, lfs = str(entry["path"]), entry.get("lfs") or {}
        refuse_outside(path)
        digest = str((lfs.get("oid") or lfs.get("sha256")) if lfs else entry.get("oid"))
        if not _NAME.fullmatch(digest) or digest.startswith("."):
            raise SmaugError(f"the Hub lists {path!r} without a digest", fix="check HF_ENDPOINT: this is no Hub")
        xet = entry.get("xetHash")
        return cls(path, int(entry.get("size") or 0), digest, str(xet) if xet else None)


def is_commit(revision: str | None) -> bool:
    """Check whether a revision is a commit's full id, which never means anything else."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def cache_folder() -> Path:
    """Return the cache of repositories: ``HF_HUB_CACHE``, else ``hub`` in ``HF_HOME``."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def storage(kind: Kind, hub_id: str) -> Path:
    """Return the folder in which the cache has a repository."""
    return cache_folder() / "--".join([f"{kind}s", *hub_id.split("/")])


def snapshot_folder(kind: Kind, hub_id: str, commit: str) -> Path:
    """Return the folder in which the cache has the files of a commit."""
    return storage(kind, hub_id) / "snapshots" / commit


def commit_of(folder: Path) -> str | None:
    """Return the commit whose files a folder of the cache holds; None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" and is_commit(folder.name) else None


def cached_commits(kind: Kind, hub_id: str) -> list[str]:
    """List the commits of a repository of which something is in the cache."""
    folder = storage(kind, hub_id) / "snapshots"
    return sorted(path.name for path in folder.glob("*") if is_commit(path.name))


def cached_reference(kind: Kind, hub_id: str, revision: str | None) -> str | None:
    """Return the commit that a branch or tag meant when the Hub last answered; None where that is not known."""
    path = storage(kind, hub_id) / "refs" / (revision or "main")
    try:
        commit = path.read_text().strip()
    except (OSError, ValueError):
        return None
    return commit or None


def keep_reference(kind: Kind, hub_id: str, revision: str | None, commit: str) -> None:
    """Keep what a branch or tag means; a cache that cannot be written goes without."""
    path = storage(kind, hub_id) / "refs" / (revision or "main")
    if cached_reference(kind, hub_id, revision) == commit or ".." in path.parts:
        return
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_text(commit)
        unfinished.replace(path)


def cached_listing(kind: Kind, hub_id: str, commit: str) -> list[HubFile] | None:
    """Return the files of a commit as the Hub listed them; None where the cache has no such list.

    Raises:
        SmaugError: the list names a file outside of the repository.
    """
    from huggingface_hub._tree_cache import read_tree_cache

    tree = read_tree_cache(str(storage(kind, hub_id)), commit)
    if tree is None:
        return None
    for path in tree:
        refuse_outside(path)
    return [
        HubFile(path, entry.lfs_size or entry.size, entry.lfs_sha256 or entry.blob_id, entry.xet_hash)
        for path, entry in tree.items()
    ]


def keep_listing(kind: Kind, hub_id: str, commit: str, entries: Iterable[Mapping[str, Any]]) -> None:
    """Keep the Hub's listing of a commit, as ``huggingface_hub`` does; a cache that cannot be written goes without."""
    from huggingface_hub._tree_cache import TreeCacheEntry, write_tree_cache

    tree = {}
    for entry in entries:
        lfs = entry.get("lfs") or {}
        tree[str(entry["path"])] = TreeCacheEntry(
            size=int(entry.get("size") or 0),
            blob_id=str(entry.get("oid")),
            lfs_sha256=lfs.get("oid") or lfs.get("sha256"),
            lfs_size=lfs.get("size"),
            xet_hash=entry.get("xetHash"),
        )
    library = logging.getLogger("huggingface_hub._tree_cache")
    level = library.level
    library.setLevel(logging.ERROR)
    try:
        write_tree_cache(str(storage(kind, hub_id)), commit, tree)
    finally:
        library.setLevel(level)


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Check whether one of some patterns, as the shell writes them, matches a path."""
    return any(fnmatch(path, pattern) for pattern in patterns)


def matching_files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Find the files of a folder, at any depth, that match one of some patterns."""
    return [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and matches(file.relative_to(folder).as_posix(), patterns)
    ]


def is_intact(file: Path) -> bool:
    """Check whether a cached file has the content that its name in the cache stands for.

    A cache without links (on Windows) does not have these names.
    """
    return has_digest(file, file.resolve().name if file.is_symlink() else "")


def has_digest(file: Path, digest: str) -> bool:
    """Check whether a file has the content that a digest stands for; a name that is no digest is not checked.

    Large files are named by their SHA-256, others by git's name of the blob; some mirrors of the Hub use a plain SHA-1.
    """
    if _SHA256.fullmatch(digest):
        return sha256_of_file(file) == digest
    if not _COMMIT.fullmatch(digest):
        return True
    content = file.read_bytes()
    blob = b"blob %d\0" % len(content) + content
    return digest in {hashlib.sha1(each, usedforsecurity=False).hexdigest() for each in (blob, content)}


def forget(file: Path) -> None:
    """Take a damaged file out of the cache.

    Raises:
        SmaugError: the cache cannot be written.
    """
    blob = file.resolve()
    try:
        file.unlink()
        blob.unlink(missing_ok=True)
    except OSError as error:
        raise SmaugError(f"{blob} is damaged, and cannot be removed: {error}", fix="remove it") from error


def link(blob: Path, place: Path) -> None:
    """Let a commit's file be a blob: by a link or, where the file system has none, by the file itself."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        try:
            place.symlink_to(os.path.relpath(blob.parent.resolve() / blob.name, place.parent.resolve()))
        except FileExistsError:
            raise
        except OSError:
            shutil.copyfile(blob, place)


def refuse_outside(name: str) -> None:
    """Refuse a path that would lead out of its repository.

    Raises:
        SmaugError: it would.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise SmaugError(f"the Hub lists a file {name!r}, which is outside of the data set", fix="do not use it")
