"""Reading several texts side by side: the cache that grows in place, and what prompts begin with, read once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.cache_utils import DynamicLayer

from benchmarks.tiny_models import tiny_model
from smaug_eval.engines.decoder import ROOM, Decoder, RoomyLayer, shared_beginning, sharing_limit
from smaug_eval.engines.decoding import can_continue

HEAD = [(7 * place) % 90 + 3 for place in range(40)]
PROMPTS = [[*HEAD, 5, 6, 7], [*HEAD, 8], [*HEAD, *([9] * 50)]]


def test_keys_and_values_are_added_in_place() -> None:
    torch.manual_seed(0)
    ours, theirs = RoomyLayer(), DynamicLayer()
    places = []
    for tokens in (5, 1, ROOM - 1, 1, 3):
        new = torch.randn(4, 2, tokens, 8), torch.randn(4, 2, tokens, 8)
        places.append(ours.update(*new)[0].data_ptr())
        for found, expected in zip((ours.keys, ours.values), theirs.update(*new), strict=True):
            assert torch.equal(found, expected)
    assert places[0] == places[1] == places[2] != places[3] == places[4]  # 5 tokens and room for 64: full after 69
    for layer in (ours, theirs):
        layer.batch_select_indices(torch.tensor([0, 3]))
        layer.crop(-2)
    new = torch.randn(2, 2, 1, 8), torch.randn(2, 2, 1, 8)
    for found, expected in zip(ours.update(*new), theirs.update(*new), strict=True):
        assert torch.equal(found, expected)


def test_what_is_shared_worked_out_by_hand() -> None:
    long = list(range(300))
    assert shared_beginning([[*long, 1], [*long, 2, 3]], 302) == 300
    assert shared_beginning([[*long, 1], [*long, 2, 3]], 301) == 0  # the longest prompt is beyond the limit
    assert shared_beginning([[*long, 1], long, [*long, 2]], 400) == 299  # one token of each is left to read
    assert shared_beginning([long] * 3, 400) == 299
    assert shared_beginning([[*long[:128], 1], [*long[:128], 2], [*long[:128], 3]], 400) == 128
    assert shared_beginning([[*long[:127], 500], [*long[:127], 600], [*long[:127], 700]], 800) == 0  # saves 254 of 256
    assert shared_beginning([long], 400) == 0
    assert shared_beginning([long, [1, *long]], 400) == 0


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "opt", "mixtral"])
def test_a_shared_beginning_is_read_once(family: str) -> None:
    """A row that is 49 tokens shorter than the longest reads the whole beginning of 40 again, and 9 of padding."""
    model: Any = tiny_model(family).eval()
    assert sharing_limit(model) >= 90
    once, each = Decoder(model), Decoder(model)
    found, expected = once.start(PROMPTS, shared=len(HEAD)), each.start(PROMPTS)
    assert (once.computed, each.computed) == (40 + 3 * 50, 3 * 90)
    for token in (11, 12, 13):
        assert float((found - expected).abs().max()) < 1e-4
        if token == 12:
            once.keep([1, 2])
            each.keep([1, 2])
        rows = 3 if token == 11 else 2
        found, expected = once.step([token] * rows), each.step([token] * rows)
    assert float((found - expected).abs().max()) < 1e-4


def test_nothing_is_shared_where_that_changes_what_a_model_says() -> None:
    assert sharing_limit(tiny_model("mistral")) == 0  # its cache forgets what is behind the window
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    assert sharing_limit(tiny_model("llama", rope_parameters=dynamic, max_position_embeddings=64)) == 64
    model: Any = tiny_model("llama")
    layer = model.model.layers[0].mlp

    def of_this_pass(_module: Any, _inputs: Any, output: Any) -> Any:
        return output - output.mean(dim=1, keepdim=True)

    layer.register_forward_hook(of_this_pass)
    assert sharing_limit(model) == 0


def test_a_cache_whose_layers_cannot_lose_rows_is_left_to_transformers() -> None:
    assert not can_continue(tiny_model("lfm2"))
    assert not can_continue(tiny_model("reformer"))  # its forward takes no cache, and would ignore one
    assert can_continue(tiny_model("llama"))
