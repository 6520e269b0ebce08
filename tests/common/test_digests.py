"""Digests of files, and which of them are remembered."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from smaug_eval.common import digests
from smaug_eval.common.digests import sha256_of_file, sha256_of_files

OLD = 1_000_000_000


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files read whole, every file of four bytes being a large one that is left alone from the start."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "LARGE", 4)
    monkeypatch.setattr(digests, "SETTLED_SECONDS", -1.0)
    found: list[str] = []
    read = digests._read

    def counted(path: Path) -> str:
        found.append(path.name)
        return read(path)

    monkeypatch.setattr(digests, "_read", counted)
    return found


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_hashes(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"abc")
    two.write_bytes(b"def")
    assert sha256_of_file(one) == hashlib.sha256(b"abc").hexdigest()
    whole = sha256_of_files([one, two], tmp_path)
    assert whole == sha256_of_files([two, one], tmp_path)
    two.rename(tmp_path / "three")
    assert whole != sha256_of_files([one, tmp_path / "three"], tmp_path)


def test_a_large_file_is_read_once(tmp_path: Path, reads: list[str]) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    large.write_bytes(b"abcd")
    small.write_bytes(b"abc")
    for _ in range(3):
        assert sha256_of_file(large) == sha256(b"abcd")
        assert sha256_of_file(small) == sha256(b"abc")
    assert reads == ["large", "small", "small", "small"]


def test_a_write_that_hides_its_time_is_seen(tmp_path: Path, reads: list[str]) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"abcd")
    os.utime(file, ns=(OLD, OLD))
    assert sha256_of_file(file) == sha256(b"abcd")
    file.write_bytes(b"abce")
    os.utime(file, ns=(OLD, OLD))
    assert sha256_of_file(file) == sha256(b"abce")
    other = tmp_path / "other"
    other.write_bytes(b"abcf")
    os.utime(other, ns=(OLD, OLD))
    other.replace(file)
    assert sha256_of_file(file) == sha256(b"abcf")
    assert reads == ["weights"] * 3


def test_a_file_just_written_is_read_again(tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "SETTLED_SECONDS", 60.0)
    file = tmp_path / "weights"
    file.write_bytes(b"abcd")
    assert sha256_of_file(file) == sha256_of_file(file) == sha256(b"abcd")
    assert reads == ["weights"] * 2


def test_a_file_that_is_written_while_it_is_read_is_not_remembered(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"abcd")
    read = digests._read

    def meanwhile(path: Path) -> str:
        found = read(path)
        path.write_bytes(b"abcde")
        return found

    monkeypatch.setattr(digests, "_read", meanwhile)
    assert sha256_of_file(file) == sha256(b"abcd")
    monkeypatch.setattr(digests, "_read", read)
    assert sha256_of_file(file) == sha256(b"abcde")


@pytest.mark.parametrize("obstacle", ["damaged", "folder", "no place"])
def test_where_nothing_can_be_kept_it_is_computed(tmp_path: Path, reads: list[str], obstacle: str) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"abcd")
    store = digests.store()
    if obstacle == "no place":
        store.parent.parent.write_text("a file")
    else:
        store.parent.mkdir(parents=True)
        store.mkdir() if obstacle == "folder" else store.write_bytes(b"no data base" * 100)
    assert sha256_of_file(file) == sha256_of_file(file) == sha256(b"abcd")
    assert reads == ["weights"] * 2


def test_names_that_are_no_text_and_links(tmp_path: Path, reads: list[str]) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/weights-\xff"))
    file.write_bytes(b"abcd")
    link = tmp_path / "link"
    link.symlink_to(file)
    assert sha256_of_file(file) == sha256_of_file(link) == sha256(b"abcd")
    assert len(reads) == 1


def test_only_so_many_are_kept(tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "MOST_ROWS", 2)
    files = [tmp_path / name for name in "abc"]
    for file in files:
        file.write_bytes(b"abcd")
        sha256_of_file(file)
    for file in reversed(files):
        sha256_of_file(file)
    assert reads == ["a", "b", "c", "a"]
