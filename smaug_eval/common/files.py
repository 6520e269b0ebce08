"""Write files that are either whole or absent: atomic writes, files that grow by whole lines, stable JSON."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.redaction import redacted_values

SYNC_SECONDS = 1.0
"""A killed process loses nothing that was appended; a machine without power loses what this long has brought."""

_CHUNK = 1 << 20
_NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ESTALE)
# torch and safetensors write files of their own and report a full disk as text only.
_FULL_DISK = re.compile(
    "No space left on device|Disk quota exceeded|File too large|PytorchStreamWriter failed|unexpected pos"
)
_numbers = itertools.count()


def canonical_json(value: Any) -> str:
    """Return JSON whose text depends on the value alone: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_of_text(text: str) -> str:
    """Return the hexadecimal SHA-256 of the UTF-8 bytes of ``text``."""
    return hashlib.sha256(text.encode()).hexdigest()


def user_cache() -> Path:
    """Return the folder for what can be fetched again: ``smaug-eval`` in the user's cache (``XDG_CACHE_HOME``)."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "smaug-eval"


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, never sees half of it.

    Raises:
        SmaugError: the place cannot be written.
    """
    with open_atomically(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a new file for bytes; it takes the place of ``path`` on leaving.

    Raises:
        SmaugError: the place cannot be written.
    """
    temporary = path.with_name(f".{path.name[:150]}.{_host()}.{os.getpid()}.{next(_numbers)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


class GrowingFile:
    """Append whole lines to a file: a line that cannot be written completely leaves nothing behind.

    One process writes it. What is appended is with the operating system at once and on the disk every
    ``SYNC_SECONDS`` that something comes, and on closing.

    Args:
        path: Made if it is not there, like its folder.

    Raises:
        SmaugError: the place cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("ab", buffering=0)
        except OSError as error:
            raise unwritable(path, error) from error
        self._synced = time.monotonic()

    def append(self, line: bytes) -> None:
        """Add a line, its line feed included.

        Raises:
            SmaugError: it could not be written; the file is as it was.
        """
        number = self._stream.fileno()
        size = os.fstat(number).st_size
        left = memoryview(line)
        try:
            while left:
                left = left[self._stream.write(left) :]
            if time.monotonic() - self._synced > SYNC_SECONDS:
                self._sync()
        except BaseException as error:  # a full disk, or a signal in between
            if left:
                with contextlib.suppress(OSError):
                    os.ftruncate(number, size)
            if isinstance(error, OSError):
                raise unwritable(self._path, error) from error
            raise

    def close(self) -> None:
        """Sync the file to the disk and close it; nothing is pending that could be lost."""
        if not self._stream.closed:
            with contextlib.suppress(OSError):
                self._sync()
            self._stream.close()

    def _sync(self) -> None:
        os.fsync(self._stream.fileno())
        self._synced = time.monotonic()


def cut_torn_line(path: Path) -> int:
    """Remove a last line without its line feed, which was being written when the process ended.

    Returns:
        Bytes removed; 0 where the file is whole or not there.
    """
    if not path.is_file():
        return 0
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end:
            start = max(0, end - _CHUNK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            file.truncate(end)
    return size - end


def sync(path: Path) -> None:
    """Sync a file, or the names in a folder, to the disk; where the file system refuses that, nothing happens."""
    with contextlib.suppress(OSError):
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def sync_folder(folder: Path) -> None:
    """Sync everything in a folder to the disk with :func:`sync`, before it gets its final name."""
    for path in (*folder.rglob("*"), folder):
        sync(path)


def sweep(folder: Path) -> int:
    """Remove what atomic writes of processes of this machine that are gone left behind; returns how many files."""
    removed = 0
    pattern = re.compile(rf"\..+\.{re.escape(_host())}\.(\d+)\.\d+\.tmp")
    for file in folder.rglob(".*.tmp"):
        match = pattern.fullmatch(file.name)
        if match and not psutil.pid_exists(int(match[1])):
            with contextlib.suppress(OSError):
                file.unlink()
                removed += 1
    return removed


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON with :func:`write_text`; keys in it are masked."""
    write_text(path, json.dumps(redacted_values(value), indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read the JSON in a file.

    Raises:
        SmaugError: the file cannot be read or is not JSON; the message names the file and the line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SmaugError(f"{path} cannot be read: {error.strerror or error}") from error
    return parsed_json(path, content)


def parsed_json(path: Path, content: bytes, encoding: str = "utf-8") -> Any:
    """Return the JSON in ``content``; ``path`` is for the message.

    Raises:
        SmaugError: it is not UTF-8, or not JSON (naming the line).
    """
    try:
        return json.loads(content.decode(encoding))
    except UnicodeDecodeError as error:
        raise SmaugError(f"{path} is not UTF-8 text: {error}", fix="write the file again") from error
    except json.JSONDecodeError as error:
        raise SmaugError(f"{path}, line {error.lineno}: not JSON: {error.msg}", fix="write the file again") from error
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits, a nest of thousands of lists
        raise SmaugError(f"{path}: JSON that no program writes: {error}", fix="write the file again") from error


def unwritable(path: Path, error: OSError) -> SmaugError:
    """Return the error to show when ``path`` could not be written."""
    return SmaugError(
        f"cannot write {path}: {error.strerror or error}",
        fix="free the disk, correct the permissions, or choose another place (--runs-dir, --out)",
    )


def write_failure(error: BaseException | None) -> OSError | None:
    """Return the write error behind an error of any library, or None.

    A full disk, a quota, a limit or a missing permission is one.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
            return error
        if not isinstance(error, OSError) and (found := _FULL_DISK.search(str(error))):
            return OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({found[0]})")
        error = error.__cause__ or error.__context__
    return None


def _host() -> str:
    """This machine's name as a part of a file's."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname())[:32] or "host"
