"""The measurement of the two generated columns of the second leaderboard, in small."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import scoring
from smaug_eval.common.embedded import embedded_path
from smaug_eval.leaderboard.registry import find_suite
from tests.leaderboard.v2_mirror import write_mirror


def test_generated_columns_in_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = write_mirror(tmp_path)
    (first, _) = scoring.instances("math", 2, mirror, suite=find_suite("open_llm_v2"))
    context, settings = first.args
    assert context.endswith("Problem:\nFind 0.\n\nSolution:")
    assert settings == {"until": ["Problem:"], "max_gen_toks": 1024, "do_sample": False}
    monkeypatch.setitem(scoring.SHAPES, "8x256", (2, 32, 2))
    options = {"--data-root": mirror, "--tokenizer": embedded_path("demo-model"), "--docs": 2, "--rounds": 1}
    told = [str(each) for option in options.items() for each in option]
    told += ["--suite", "v2", "--tasks", "ifeval", "math", "--new-tokens", "5", "--batch-sizes", "1", "2"]
    monkeypatch.setattr(sys, "argv", ["scoring", *told])
    scoring.main()
    found = json.loads(capsys.readouterr().out)
    assert list(found["ratios"]) == ["ifeval", "math"]
    assert min(found["ratios"].values()) > 0
    assert "peak_share" not in found  # what is counted of log-likelihoods only
    assert found["differing_texts"] == 0
    assert [each["requests"] for each in found["tasks"].values()] == [2, 2]
    assert found["settings"]["new_tokens"] == 5
