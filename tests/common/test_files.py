"""Files are whole or not there, and hashes depend on content and names alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import canonical_json, read_json, write_json, write_text


def test_written_json_reads_back_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "value.json"
    write_json(target, {"ü": [1, None]})
    assert read_json(target) == {"ü": [1, None]}
    assert [file.name for file in target.parent.iterdir()] == ["value.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "value.txt"
    write_text(target, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(target, "\ud800")
    assert target.read_text() == "old"


def test_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SmaugError, match=r"cannot write .*file/value.json"):
        write_text(tmp_path / "file" / "value.json", "x")


def test_broken_json_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "broken.json"
    file.write_text('{"a": 1,\n"b": }\n')
    with pytest.raises(SmaugError, match=r"broken.json, line 2: not JSON"):
        read_json(file)
    file.write_bytes(b"\xff\xfe{}")
    with pytest.raises(SmaugError, match="not UTF-8"):
        read_json(file)


def test_canonical_json_ignores_the_order_of_keys() -> None:
    assert canonical_json({"b": 1, "a": {"d": 2, "c": 3}}) == '{"a":{"c":3,"d":2},"b":1}'
