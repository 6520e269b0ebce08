"""A short form of ``python -m benchmarks.fuzz``, and that it finds, shrinks and keeps what fails."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benchmarks.fuzz import fuzz, run
from benchmarks.fuzz_inputs import broken, byte_files, edited
from benchmarks.fuzz_targets import Target, targets
from smaug_eval.common.errors import SmaugError

QUICK = [name for name in targets() if name not in ("report", "archive", "recipe", "override", "others", "others_page")]


@pytest.mark.slow
def test_every_reader_ends_well_or_in_our_own_error(tmp_path: Path) -> None:
    found = run(QUICK, 3000, seed=11, reproducers=tmp_path)
    assert found["failures"] == 0, json.dumps(found, indent=1)
    assert found["inputs"] >= 3000
    assert found["read"] > 100
    assert found["refused"] > 1000
    assert set(found["targets"]) == set(QUICK)


@pytest.mark.slow
def test_the_slow_readers_too(tmp_path: Path) -> None:
    found = run(["archive", "recipe", "override", "others"], 250, seed=11, reproducers=tmp_path)
    assert found["failures"] == 0, json.dumps(found, indent=1)


def test_the_committed_result_is_of_all_targets_and_enough_inputs() -> None:
    file = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "fuzz.json"
    found = json.loads(file.read_text())
    assert set(found["targets"]) == set(targets())
    assert found["inputs"] >= 200_000
    assert found["failures"] == 0
    assert found["slowest_seconds"] < 1


def test_a_failure_is_shrunk_kept_and_counted(tmp_path: Path) -> None:
    def read(folder: Path, data: bytes) -> object:
        if b"}{" in data:
            raise KeyError("planted")
        if data.startswith(b"no"):
            raise SmaugError("refused")
        return None

    target = Target(byte_files((b"a valid file", b"no file")), read, 1.0)
    found = fuzz(target, "planted", 3000, seed=3, reproducers=tmp_path / "kept")
    assert found.failures
    assert "KeyError: 'planted'" in found.failures[0]["error"]
    kept = tmp_path / "kept" / found.failures[0]["file"]
    assert b"}{" in kept.read_bytes()
    assert "KeyError" in kept.with_suffix(".txt").read_text()
    assert found.read > 0
    assert found.refused["test_fuzz.py:read"] > 0


def test_what_takes_too_long_is_a_failure(tmp_path: Path) -> None:
    def read(folder: Path, data: bytes) -> None:
        if data == b"slow":
            until = time.process_time() + 1.1
            while time.process_time() < until:
                pass

    found = fuzz(Target(byte_files((b"slow",)), read, 1.0), "slow", 1, seed=1, reproducers=tmp_path)
    assert any("TooSlow" in failure["error"] for failure in found.failures)
    assert (tmp_path / "slow-1.bin").read_bytes() == b"slow"


def test_edits_do_what_they_say() -> None:
    document = {"a": [1, 2], "b": {"c": 3}}
    assert edited(document, []) == document
    assert edited(document, [("replace", 0, "x")]) == "x"
    assert edited(document, [("delete", 2, None)]) == {"a": [2], "b": {"c": 3}}
    assert edited(document, [("double", 3, None)]) == {"a": [1, 2, 2], "b": {"c": 3}}
    assert edited(document, [("rename", 5, "d")]) == {"a": [1, 2], "b": {"d": 3}}
    assert edited(document, [("wrap", 5, None)]) == {"a": [1, 2], "b": {"c": [3]}}
    assert document == {"a": [1, 2], "b": {"c": 3}}
    assert broken(b"abcd", [("truncate", 2, 0, b"")]) == b"ab"
    assert broken(b"abcd", [("insert", 4, 0, b"x")]) == b"abcdx"
    assert broken(b"abcd", [("flip", 0, 0, b"")]) == b"`bcd"
    assert broken(b"abcd", [("remove", 1, 2, b"")]) == b"ad"
    assert broken(b"abcd", [("repeat", 1, 1, b"")]) == b"abbcd"
