"""Compute SHA-256 of files, and remember it for large ones so that a checkpoint is not read at every start.

A remembered digest holds for a file of the same path, device, inode, size and times of change, of which the last,
``ctime``, moves with every write whatever a program sets the others to. Bits that rot on the disk move none of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from smaug_eval.common.files import canonical_json, sha256_of_text, user_cache

LARGE = 64 << 20
"""Bytes from which a file's digest is remembered: below, reading it takes a moment."""
SETTLED_SECONDS = 2.0
"""How long a file has been left alone: within the resolution of its times a second write would not show."""
MOST_ROWS = 10_000
MOST_THREADS = 8

_CHUNK = 1 << 20
_TABLE = "CREATE TABLE IF NOT EXISTS digests (file TEXT PRIMARY KEY, sha256 TEXT NOT NULL, seen REAL NOT NULL)"


def sha256_of_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file.

    It is read in pieces; the hash of a large file that was not touched since is taken from :func:`store`.

    Raises:
        OSError: it cannot be read.
    """
    before = path.stat()
    if before.st_size < LARGE:
        return _read(path)
    name = _identity(path, before)
    if (known := _recall(name)) is not None:
        return known
    digest = _read(path)
    settled = time.time() - max(before.st_mtime, before.st_ctime) > SETTLED_SECONDS
    if settled and _identity(path, path.stat()) == name:
        _remember(name, digest)
    return digest


def sha256_of_each(paths: Iterable[Path]) -> dict[Path, str]:
    """Return the SHA-256 of several files, computed side by side: one core computes less than a fast disk reads."""
    files = list(paths)
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as threads:
        return dict(zip(files, threads.map(sha256_of_file, files), strict=True))


def sha256_of_files(paths: Iterable[Path], root: Path) -> str:
    """Return one hash over several files and their names relative to ``root``, whatever their order."""
    listing = {path.relative_to(root).as_posix(): digest for path, digest in sha256_of_each(paths).items()}
    return sha256_of_text(canonical_json(listing))


def store() -> Path:
    """Return the database of digests in the user's cache directory; it may be deleted at any time."""
    return user_cache() / "digests.sqlite"


def _read(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _identity(path: Path, found: os.stat_result) -> str:
    times = found.st_mtime_ns, found.st_ctime_ns
    return canonical_json([os.fsencode(path.resolve()).hex(), found.st_dev, found.st_ino, found.st_size, *times])


def _recall(name: str) -> str | None:
    with contextlib.suppress(sqlite3.Error, OSError), contextlib.closing(_opened()) as opened:
        row = opened.execute("SELECT sha256 FROM digests WHERE file = ?", (name,)).fetchone()
        return None if row is None else str(row[0])
    return None


def _remember(name: str, digest: str) -> None:
    """Keep a digest, and forget the oldest of too many; where nothing can be kept it is computed again."""
    with contextlib.suppress(sqlite3.Error, OSError), contextlib.closing(_opened()) as opened, opened:
        opened.execute("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", (name, digest, time.time()))
        opened.execute(
            "DELETE FROM digests WHERE file NOT IN (SELECT file FROM digests ORDER BY seen DESC LIMIT ?)", (MOST_ROWS,)
        )


def _opened() -> sqlite3.Connection:
    file = store()
    file.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(file, timeout=5)
    connection.execute(_TABLE)
    return connection
