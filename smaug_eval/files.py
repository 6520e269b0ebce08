"""Files that are either whole or not there: atomic writes, hashes, and JSON with a stable form."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from smaug_eval.errors import SmaugError
from smaug_eval.redaction import redacted_values

_CHUNK = 1 << 20


def canonical_json(value: Any) -> str:
    """JSON whose text depends on the value alone: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_of_text(text: str) -> str:
    """Hexadecimal SHA-256 of the UTF-8 bytes of ``text``."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_files(paths: Iterable[Path], root: Path) -> str:
    """One hash over several files and their names relative to ``root``, whatever their order."""
    listing = {path.relative_to(root).as_posix(): sha256_of_file(path) for path in paths}
    return sha256_of_text(canonical_json(listing))


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, never sees half of it.

    Raises:
        SmaugError: the place cannot be written.
    """
    with open_atomically(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """A new file to write bytes to, for what is too much to hold; it takes the place of ``path`` on leaving.

    Raises:
        SmaugError: the place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_json(path: Path, value: Any) -> None:
    """:func:`write_text` for readable JSON; keys in it are masked."""
    write_text(path, json.dumps(redacted_values(value), indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON in a file.

    Raises:
        SmaugError: the file cannot be read or is not JSON; the message names the file and the line.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SmaugError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SmaugError(f"{path} is not UTF-8 text: {error}", fix="write the file again") from error
    except json.JSONDecodeError as error:
        raise SmaugError(f"{path}, line {error.lineno}: not JSON: {error.msg}", fix="write the file again") from error
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits, a nest of thousands of lists
        raise SmaugError(f"{path}: JSON that no program writes: {error}", fix="write the file again") from error


def unwritable(path: Path, error: OSError) -> SmaugError:
    """The error to show when ``path`` could not be written."""
    return SmaugError(
        f"cannot write {path}: {error.strerror or error}",
        fix="free the disk, mend the permissions, or choose another place (--runs-dir, --out)",
    )
