"""The journal of answers: whole chunks or nothing, whatever happens to the process or the file."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.journal import Journal

SCOPE = {"weights": "w", "versions": {"torch": "2"}}
CHUNKS = [{"a": [-1.5, True], "b": [-0.1, False]}, {"c": "text\nof two lines"}, {"d": [1e-17, False]}]


def filled(folder: Path) -> Path:
    journal = Journal(folder, SCOPE)
    for chunk in CHUNKS:
        journal.add(chunk)
    journal.close()
    return journal.file


def test_answers_are_found_again(tmp_path: Path) -> None:
    filled(tmp_path)
    journal = Journal(tmp_path, SCOPE)
    assert {key: journal[key] for chunk in CHUNKS for key in chunk} == {
        k: v for chunk in CHUNKS for k, v in chunk.items()
    }
    assert "e" not in journal
    assert len(journal) == 4
    journal.close()


def test_another_scope_sees_nothing(tmp_path: Path) -> None:
    filled(tmp_path)
    for other in ({**SCOPE, "weights": "v"}, {**SCOPE, "versions": {"torch": "3"}}, {}):
        journal = Journal(tmp_path, other)
        assert len(journal) == 0
        journal.close()


@given(cut=st.integers(0, 400), junk=st.binary(max_size=20))
def test_a_torn_file_gives_whole_chunks_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    file = filled(folder)
    whole = file.read_bytes()
    kept = whole[:cut]
    # What is left of a torn last line may be garbage, but a header that is whole is never another's.
    file.write_bytes(kept + (junk.replace(b"\n", b"") if kept and not kept.endswith(b"\n") else b""))
    complete = kept[: kept.rfind(b"\n") + 1].splitlines()
    expected = {key for line in complete[1:] for key in json.loads(line)["answers"]}
    journal = Journal(folder, SCOPE)
    assert {key for chunk in CHUNKS for key in chunk if key in journal} == expected
    journal.add({"new": 1})
    journal.close()
    again = Journal(folder, SCOPE)
    assert again["new"] == 1
    assert {key for chunk in CHUNKS for key in chunk if key in again} == expected
    again.close()


def test_a_torn_last_line_is_repaired_with_a_notice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = filled(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:-3])
    with caplog.at_level(logging.WARNING):
        Journal(tmp_path, SCOPE).close()
    assert "the last line is torn; what it held is computed again" in caplog.text
    assert file.read_bytes() == b"".join(whole.splitlines(keepends=True)[:-1])


@pytest.mark.parametrize("damage", [b"\0\0\0\0", b"[1, 2]", b'{"answers": 3}', b"[" * 100_000, b"\xff\xfe"])
def test_a_damaged_line_costs_its_chunk_only(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    file = filled(tmp_path)
    lines = file.read_bytes().splitlines()
    lines[2] = damage
    file.write_bytes(b"\n".join(lines) + b"\n")
    journal = Journal(tmp_path, SCOPE)
    assert f"{file}, line 3: damaged" in caplog.text
    assert ("a" in journal, "c" in journal, "d" in journal) == (True, False, True)
    journal.close()


def test_a_file_of_another_scope_is_refused(tmp_path: Path) -> None:
    file = filled(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0].replace(b'"w"', b'"v"') + lines[1])
    with pytest.raises(SmaugError, match=r"is not a journal of this model"):
        Journal(tmp_path, SCOPE)


def test_two_writers_have_files_of_their_own_and_read_both(tmp_path: Path) -> None:
    first, second = Journal(tmp_path, SCOPE), Journal(tmp_path, SCOPE)
    assert first.file != second.file
    first.add({"a": 1})
    second.add({"b": 2})
    first.close()
    second.close()
    third = Journal(tmp_path, SCOPE)
    assert (third["a"], third["b"]) == (1, 2)
    third.close()


def test_choices_made_while_working_are_remembered(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SCOPE)
    assert journal.setting("rows") is None
    journal.note("rows", [2048, 65536])
    journal.note("rows", [1024, 1024])
    journal.close()
    again = Journal(tmp_path, SCOPE)
    assert again.setting("rows") == [1024, 1024]
    again.close()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SmaugError, match="cannot write"):
        Journal(tmp_path / "file" / "journal", SCOPE)
