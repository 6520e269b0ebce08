"""The parts of the GPU's measurement, in small on the CPU, and what becomes of one that fails."""

from __future__ import annotations

import pytest

from benchmarks import gpu


@pytest.mark.slow
def test_training_in_small() -> None:
    found = gpu.training(gpu.SMALL)
    assert list(found) == ["metamath", "arc"]
    for form in found.values():
        assert set(form["trainers"]) == {"ours", "sdpa", "dense", "trl"}
        assert all(each["pairs_per_second"] > 0 for each in form["trainers"].values())
        assert form["ratios"]["ours"] == 1
        # The same loss from the same weights, whoever computes it.
        assert max(form["largest_loss_difference"].values()) < 1e-4
        assert form["compute"]["assumed_by_plan"] == 0.4


@pytest.mark.slow
def test_scoring_and_writing_in_small() -> None:
    scored = gpu.scoring(gpu.SMALL)
    assert scored["difference"] == {"mean": 0.0, "largest": 0.0, "disagreements": 0}
    exact = gpu.exactness(gpu.SMALL)
    assert exact["float32"]["largest"] == 0
    assert 0 < exact["bfloat16"]["mean"] < 0.5
    written = gpu.generation(gpu.SMALL)
    assert written["equal_texts"] == written["prompts"] == 2


@pytest.mark.slow
@pytest.mark.xdist_group("launch")
def test_two_processes_in_small() -> None:
    found = gpu.processes(gpu.SMALL)
    assert list(found["runs"]) == ["one", "ddp"]
    assert found["losses_compared"] >= 4
    assert found["largest_loss_difference"]["ddp"] < 1e-6


def test_what_this_machine_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(gpu.torch.cuda, "device_count", lambda: 1)
    found = gpu.run_parts(["vllm", "processes"], gpu.SMALL)
    assert found["parts"] == {}
    assert found["untried"] == {"vllm": "vLLM is not installed", "processes": "1 GPUs, and two processes need two"}
    assert gpu.run_parts(["scoring"], gpu.SMALL, 5)["untried"] == {"scoring": "no time was left"}


@pytest.mark.slow
def test_a_part_that_fails_or_takes_too_long_says_so() -> None:
    assert gpu._in_a_process("scoring", gpu.SMALL, 0.2) == {"failed": "it took longer than 0 s"}
    if not gpu.torch.cuda.is_available():
        assert "there is no GPU here" in gpu._in_a_process("scoring", gpu.LARGE, 300)["failed"]
