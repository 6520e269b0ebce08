"""Models whose last layer shares modules with others: the numbers of plain passes, wherever something is scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.tiny_models import SHARING, VOCABULARY, sharing_model, tiny_model
from smaug_eval.prefix.last_layer import RunsTwice
from smaug_eval.prefix.layout import PrefixGroup
from smaug_eval.prefix.scorer import Way, scoring


def drawn(seed: int = 0) -> list[PrefixGroup]:
    rng = np.random.default_rng(seed)

    def ids(count: int) -> np.ndarray:
        return rng.integers(3, VOCABULARY, count, dtype=np.int32)

    return [PrefixGroup(ids(20), (ids(3), ids(4)), 20), PrefixGroup(ids(9), (ids(1), ids(6)), 9)]


def plain(model: Any, groups: list[PrefixGroup]) -> Tensor:
    """Log-probabilities of the tails, from the logits of one forward pass for each text."""
    found = []
    for group in groups:
        for tail in group.tails:
            ids = torch.from_numpy(np.concatenate([group.prefix, tail])).long()[None]
            log_probs = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0].float(), dim=-1)
            found.append(log_probs[:-1].gather(1, ids[0, 1:, None]).squeeze(1)[len(group.prefix) - 1 :])
    return torch.cat(found)


@pytest.mark.parametrize("kind", SHARING)
def test_a_layer_that_runs_twice_is_computed_whole(kind: str) -> None:
    """Up to 0.7 nats off where what runs again lacks the positions that it left out the first time."""
    model = sharing_model(kind)
    with scoring(model) as scorer:
        assert scorer.way is Way.PACKED
        assert scorer.narrow is (kind == "index")  # its modules run once each
        for seed in range(3):
            layout = scorer.layout(drawn(seed))
            with torch.no_grad():
                expected = plain(model, drawn(seed))
                torch.testing.assert_close(scorer.log_probs(model, layout), expected, atol=1e-5, rtol=0)
                found, greedy = scorer.answers(model, layout)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
            assert not greedy.all()


@pytest.mark.parametrize("kind", ["last twice", "loop"])
def test_gradients_of_a_layer_that_runs_twice_are_those_of_plain_passes(kind: str) -> None:
    model = sharing_model(kind)
    with scoring(model) as scorer:
        scorer.log_probs(model, scorer.layout(drawn())).sum().backward()
    packed = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    plain(model, drawn()).sum().backward()
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            scale = float(weight.grad.abs().max())
            torch.testing.assert_close(packed[name], weight.grad, atol=1e-4 * max(scale, 1e-3), rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_seen_in_every_precision(dtype: torch.dtype) -> None:
    with scoring(sharing_model("first is last").to(dtype)) as scorer:
        assert (scorer.way, scorer.narrow) == (Way.PACKED, False)
    with scoring(tiny_model("llama").to(dtype)) as scorer:
        assert (scorer.way, scorer.narrow) == (Way.PACKED, True)


def test_positions_that_something_behind_the_last_layer_reads_are_computed() -> None:
    """Behind the layers of this model stands one more, which the list of layers does not name."""
    model: Any = tiny_model("llama", num_hidden_layers=3)
    given: dict[str, Any] = {}

    def remember(module: nn.Module, args: Any, own: dict[str, Any]) -> None:
        given.clear()
        given.update(own)

    model.model.layers[-1].register_forward_pre_hook(remember, with_kwargs=True)

    class Behind(nn.Module):
        def __init__(self, layer: nn.Module, norm: nn.Module) -> None:
            super().__init__()
            self.layer, self.norm = layer, norm

        def forward(self, hidden: Tensor) -> Tensor:
            found: Tensor = self.norm(self.layer(hidden, **given))
            return found

    one_more: Any = tiny_model("llama").model.layers[0]
    one_more.self_attn.config = model.config
    model.model.norm = Behind(one_more, model.model.norm)
    with torch.no_grad(), scoring(model) as scorer:
        assert (scorer.way, scorer.narrow) == (Way.PACKED, False)
        layout = scorer.layout(drawn())
        torch.testing.assert_close(scorer.log_probs(model, layout), plain(model, drawn()), atol=1e-5, rtol=0)


def test_a_layer_that_runs_twice_after_all_gives_no_number() -> None:
    """A model that was tried as usual and changes later is refused, rather than given wrong numbers."""
    model: Any = tiny_model("llama")
    with torch.no_grad(), scoring(model) as scorer:
        assert scorer.narrow
        model.model.layers[0] = model.model.layers[-1]
        with pytest.raises(RunsTwice, match="of the last layer runs more than once"):
            scorer.log_probs(model, scorer.layout(drawn()))
