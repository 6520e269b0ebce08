"""The GPU measurement's part for vLLM, in small on vLLM's CPU build."""

from __future__ import annotations

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here; make test-vllm runs these")

from benchmarks import gpu

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


def test_scoring_by_vllm_in_small() -> None:
    found = gpu.vllm(gpu.SMALL)
    assert found["disagreements"] == 0
    assert found["max_abs_diff"] < 1e-3
    assert found["ratio"] > 0
