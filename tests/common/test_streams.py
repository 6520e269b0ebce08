"""Standard streams that are closed, full, or of another encoding than UTF-8."""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smaug_eval.common.streams import fit_standard_streams

PAIRS = [{"prompt": "1 + 1 =", "chosen": " 2", "rejected": " 3"}]
SMAUG = [sys.executable, "-m", "smaug_eval"]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    file = tmp_path / "päirs\N{GRINNING FACE}.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return file


def printed(*arguments: str | Path, encoding: str) -> str:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    result = subprocess.run([*SMAUG, *arguments], capture_output=True, check=False, env=environment, timeout=300)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_json_stays_json_where_the_encoding_lacks_characters(pairs: Path, encoding: str) -> None:
    assert json.loads(printed("pairs", "stats", pairs, "--json", encoding=encoding))["path"] == str(pairs)


def test_tables_are_printed_where_the_encoding_lacks_characters(pairs: Path) -> None:
    table = printed("pairs", "stats", pairs, encoding="ascii")
    assert r"p\u00e4irs\ud83d\ude00.jsonl" in table.replace("\n", "")
    assert table.count(r"\u2588") > 0  # the bars


def test_signs_of_numbers_are_no_digits_where_the_encoding_lacks_them() -> None:
    fit_standard_streams()
    text = "\N{MINUS SIGN}2.4 \N{PLUS-MINUS SIGN} 0.5 \N{FULL BLOCK}\N{GRINNING FACE}"
    assert text.encode("ascii", "smaug-json-escapes") == rb"-2.4 +/- 0.5 \u2588\ud83d\ude00"
    assert text.encode("latin-1", "smaug-json-escapes").startswith(b"-2.4 \xb1 0.5 ")


def test_bytes_of_a_path_that_are_no_text_are_printed() -> None:
    fit_standard_streams()
    handler = codecs.lookup_error("smaug-json-escapes")
    assert handler(UnicodeEncodeError("utf-8", "a\udce9b", 1, 2, "surrogate")) == (r"\udce9", 2)


@pytest.mark.parametrize("arguments", [["leaderboard"], ["leaderboard", "--json"]])
def test_a_full_disk_under_standard_output_is_said(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [*SMAUG, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=300
        )
    assert result.returncode == 2
    assert result.stderr.splitlines()[0] == "error: cannot print the result: No space left on device"
    assert len(result.stderr.splitlines()) == 2


def test_a_reader_who_left_ends_it_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [*SMAUG, "leaderboard", "--json"]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=300)
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.slow
def test_a_process_without_streams_does_its_work(pairs: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"model: embedded:demo-model\npairs: {{made: {{source: rows, path: {pairs.name!r}, holdout: 0}}}}\n"
    )
    command = ["bash", "-c", '"$@" <&- >&- 2>&-', "bash", *SMAUG, "run", "mine.yaml", "--runs-dir", "runs"]
    assert subprocess.run(command, cwd=tmp_path, check=False, timeout=300).returncode == 0
    assert json.loads((tmp_path / "runs/mine/pairs/made/train.jsonl").read_text()) == PAIRS[0]
    assert (tmp_path / "runs/mine/report.html").is_file()
