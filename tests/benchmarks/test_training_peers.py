"""The peers of the speed benchmark: each computes the loss that it stands beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from smaug_eval.trainers.tokenization import EncodedPair

pytest.importorskip("trl", reason="TRL, the peer, is not installed here")

from benchmarks import training


@pytest.mark.slow
@pytest.mark.parametrize("loss", training.LOSSES)
def test_both_take_the_same_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loss: str) -> None:
    """Of one pair: TRL averages dpo_nll's likelihood over a batch; ORPO's covers the prompt there, and not here."""
    config = GPTNeoXConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    monkeypatch.setattr(training, "_model_config", lambda vocabulary: config)
    assert isinstance(GPTNeoXForCausalLM(config), torch.nn.Module)
    ids = [np.arange(first, first + length, dtype=np.int32) for first, length in ((1, 9), (20, 5), (30, 7))]
    pairs = [EncodedPair(*ids)]
    losses = []
    for name in ("ours", "trl"):
        contestant = training.Contestant(name, pairs, 50, "cpu", tmp_path / name, loss)
        losses.append([contestant.step([0])[1] for _ in range(2)])
        contestant.close()
    (ours, before), (theirs, after) = losses[0], losses[1]
    if loss == "orpo":
        assert ours - before > 0
        assert theirs - after > 0
    else:
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)
