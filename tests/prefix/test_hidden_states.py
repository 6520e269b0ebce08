"""The hidden states behind each scored token: packed, padded and plain rows against one forward pass for each text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from smaug_eval.prefix.layout import PrefixGroup
from smaug_eval.prefix.scorer import NoHiddenStates, Scorer, Way, scoring

SIZE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": hf.LlamaConfig(**SIZE),
    "gemma2": hf.Gemma2Config(**SIZE, head_dim=8, sliding_window=8),
    "gpt2": hf.GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=128),
    "mamba": hf.MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, state_size=4),
}
RNG = np.random.default_rng(0)


def ids(count: int) -> Any:
    return RNG.integers(0, 97, count, dtype=np.int32)


GROUPS = [PrefixGroup(ids(12), (ids(5), ids(9)), 8), PrefixGroup(ids(4), (ids(1), ids(3)), 4)]


def given_to_the_head(model: PreTrainedModel, group: PrefixGroup, tail: int) -> Tensor:
    """What predicts the scored tokens of one text, seen from outside while the text alone goes through the model."""
    seen: list[Tensor] = []
    handle = model.get_output_embeddings().register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    text = np.concatenate([group.prefix, group.tails[tail]])
    with torch.no_grad():
        model(input_ids=torch.from_numpy(text).long()[None], use_cache=False)
    handle.remove()
    return seen[0][0, group.scored_from - 1 : len(text) - 1]


def per_text(scorer: Scorer, model: PreTrainedModel) -> list[Tensor]:
    layout = scorer.layout(GROUPS)
    with torch.no_grad():
        parts = list(layout.parts(scorer.hidden_states(model, layout)))
    if not layout.spans:
        return parts
    first, second = parts[:3], parts[3:]
    return [torch.cat([shared, tail]) for shared, *tails in (first, second) for tail in tails]


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("family", CONFIGS)
def test_hidden_states_are_what_the_head_is_given(family: str, share: bool) -> None:
    torch.manual_seed(0)
    arguments = {"attn_implementation": "eager"} if family == "gemma2" else {}  # only that knows soft caps
    model = AutoModelForCausalLM.from_config(CONFIGS[family], **arguments).eval()
    expected = [given_to_the_head(model, group, tail) for group in GROUPS for tail in (0, 1)]
    with scoring(model, share=share) as scorer:
        if family != "mamba":
            assert scorer.way is (Way.PACKED if share else Way.PADDED)
        found = per_text(scorer, model)
    assert len(found) == 4
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_plain_rows_show_what_the_model_returns() -> None:
    """Where only the model's own logits can be trusted, its own list of hidden states is used."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS["llama"]).eval()
    expected = [given_to_the_head(model, group, tail) for group in GROUPS for tail in (0, 1)]
    original = model.forward

    def odd(*args: Any, **kwargs: Any) -> Any:
        """Logits that no head applied to the hidden states would give."""
        output = original(*args, **kwargs)
        output.logits = 2 * output.logits
        return output

    model.forward = odd
    with scoring(model) as scorer:
        assert scorer.way is Way.PLAIN
        found = per_text(scorer, model)
        model_output = odd(input_ids=torch.tensor([[1, 2]]))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    assert model_output.hidden_states is None


def test_a_model_that_hides_its_states_is_refused() -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS["llama"]).eval()
    original = model.forward

    def secretive(*args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        output.logits, output.hidden_states = 2 * output.logits, None
        return output

    model.forward = secretive
    with scoring(model) as scorer, pytest.raises(NoHiddenStates, match="does not return its hidden states"):
        scorer.hidden_states(model, scorer.layout(GROUPS))
