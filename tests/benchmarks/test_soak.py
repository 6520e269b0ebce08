"""The short form of benchmarks/soak.py, and that it would notice a leak."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import soak


@pytest.mark.slow
def test_memory_and_open_files_stay_within_bounds(tmp_path: Path) -> None:
    found = soak.measure(1600, tmp_path, batch=100)
    assert found["requests"] == 1600
    assert found["open_files"]["most_after"] == found["open_files"]["after_warm_up"]
    # So short a run says little of memory: allocators have not settled.
    assert found["bytes_per_request"]["low"] < 10 * soak.ANSWER_BYTES
    journal = b"".join(file.read_bytes() for file in tmp_path.glob("*.jsonl"))
    assert len(journal) == found["journal_bytes"]
    answers = [answer for line in journal.splitlines() for answer in json.loads(line).get("answers", {})]
    assert len(answers) == 1600 + 2 * soak.PROMPTS
    assert 40 < found["journal_bytes_per_request"] < 200


@pytest.mark.parametrize(("bytes_each", "files", "good"), [(3.0, 8, True), (40.0, 8, False), (3.0, 9, False)])
def test_what_grows_is_noticed(bytes_each: float, files: int, good: bool) -> None:
    x = np.arange(100.0) * 2000
    noise = np.random.default_rng(0).normal(0, 20_000, 100)
    slope, low, high = soak.slope(x, 5e8 + bytes_each * x + noise)
    assert low < bytes_each < high
    assert slope == pytest.approx(bytes_each, abs=0.5)
    found = {
        "bytes_per_request": {"high": high},
        "bytes_per_request_allowed": soak.FLAT_BYTES,
        "open_files": {"after_warm_up": 8, "most_after": files},
    }
    assert soak.passed(found) is good
