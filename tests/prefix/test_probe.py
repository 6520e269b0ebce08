"""How models are asked, against their own forward pass over each text alone, far beyond every length they name."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.masking_utils import create_causal_mask, create_chunked_causal_mask
from transformers.models.llama import modeling_llama

from benchmarks.tiny_models import VOCABULARY, tiny_model
from smaug_eval.common.errors import SmaugError
from smaug_eval.prefix import probe
from smaug_eval.prefix.attention import honour_soft_caps
from smaug_eval.prefix.layout import PrefixGroup
from smaug_eval.prefix.probe import Probe
from smaug_eval.prefix.scorer import Scorer, Way, scoring

ROPE: dict[str, Any] = {"rope_type": "longrope", "rope_theta": 10000.0}
FACTORS = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}


def long_rope(tokens: int) -> dict[str, Any]:
    lengths = {"original_max_position_embeddings": tokens}
    return lengths | {"rope_parameters": ROPE | FACTORS | lengths}


def groups(longest: int, seed: int = 0) -> list[PrefixGroup]:
    rng = np.random.default_rng(seed)

    def ids(count: int) -> np.ndarray:
        return rng.integers(0, VOCABULARY, count, dtype=np.int32)

    half = longest // 2
    return [
        PrefixGroup(ids(half), (ids(longest - half), ids(half // 2)), half // 2),
        PrefixGroup(ids(3), (ids(2), ids(0)), 1),
    ]


def plain(model: PreTrainedModel, asked: list[PrefixGroup]) -> list[Tensor]:
    """Log-probabilities of each text's scored tokens, from the logits of one forward pass for each text."""
    found = []
    for group in asked:
        for tail in group.tails:
            ids = torch.from_numpy(np.concatenate([group.prefix, tail])).long()[None]
            with torch.no_grad():
                log_probs = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0].float(), dim=-1)
            found.append(log_probs[:-1].gather(1, ids[0, 1:, None]).squeeze(1)[group.scored_from - 1 :])
    return found


def asked_by(scorer: Scorer, model: PreTrainedModel, asked: list[PrefixGroup]) -> list[Tensor]:
    layout = scorer.layout(asked)
    with torch.no_grad():
        parts = iter(layout.parts(scorer.log_probs(model, layout)))
    if not layout.spans:
        return list(parts)
    found = []
    for group in asked:
        shared = next(parts)
        found += [torch.cat([shared, next(parts)]) for _ in group.tails]
    return found


def assert_own_numbers(model: PreTrainedModel, *longest: int, share: bool = True, seeds: int = 3) -> Scorer:
    """Ask a model in the way that was found, and compare with its own passes before."""
    drawn = [groups(tokens, seed) for tokens in longest for seed in range(seeds)]
    expected = [plain(model, each) for each in drawn]
    with scoring(model, share=share) as scorer:
        found = [asked_by(scorer, model, each) for each in drawn]
    for ours, own in zip(found, expected, strict=True):
        for one, other in zip(ours, own, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    return scorer


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize(
    "family",
    ["deepseek_v32", "glm_moe_dsa", "axk2", pytest.param("doge", marks=pytest.mark.slow)],
)
def test_models_whose_numbers_depend_on_the_row_get_rows_of_their_own(family: str, share: bool) -> None:
    """Sparse attention chooses other keys in longer rows: up to 2.9 nats off in packed rows, 2 in padded ones."""
    scorer = assert_own_numbers(tiny_model(family), 100, share=share)
    assert scorer.way is Way.SINGLE
    assert scorer.reason is not None
    assert "padded rows" in scorer.reason
    assert scorer.describe().startswith("one text at a time: ")


@pytest.mark.parametrize("family", ["hy_v4", pytest.param("deepseek_v4", marks=pytest.mark.slow)])
def test_where_padding_seldom_matters_texts_beyond_the_top_k_are_asked_alone(family: str) -> None:
    """A trial on a few texts cannot show it: in 1 of 80 tokens of these models, two keys have the same score."""
    scorer = assert_own_numbers(tiny_model(family), 8, 100)
    assert not scorer.takes(9)
    if scorer.way is not Way.SINGLE:  # the few texts did show it
        assert (scorer.way, scorer.limit) == (Way.PADDED, 8)
        assert scorer.describe().endswith("; one text at a time beyond 8 tokens (index_topk)")


@pytest.mark.parametrize(
    ("family", "settings", "way", "limit"),
    [
        ("mistral", {"sliding_window": 300}, Way.PACKED, None),
        ("gemma3_text", {"sliding_window": 300}, Way.PACKED, None),
        ("starcoder2", {"sliding_window": 300}, Way.PACKED, None),
        ("phi3", long_rope(300), Way.PACKED, 300),
        ("deepseek_v32", {"index_topk": 300}, Way.PADDED, 300),
        ("gpt_neo", {"window_size": 300}, Way.PADDED, 300),
        ("llama4_text", {"attention_chunk_size": 300}, Way.PLAIN, None),
    ],
)
def test_lengths_that_no_trial_reaches(family: str, settings: dict[str, Any], way: Way, limit: int | None) -> None:
    model = tiny_model(family, **settings)
    scorer = assert_own_numbers(model, 100, 360, seeds=1)
    assert (scorer.way, scorer.limit) == (way, limit)
    assert scorer.takes(300)
    assert scorer.takes(301) is (limit is None)


def test_a_chunked_mask_that_packed_rows_do_not_honour_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like Llama 4's, in a family whose attention is otherwise taken."""

    def chunked(config: Any, **arguments: Any) -> Any:
        return create_chunked_causal_mask(config=config, **arguments)

    monkeypatch.setattr(modeling_llama, "create_causal_mask", chunked)
    scorer = assert_own_numbers(tiny_model("llama", attention_chunk_size=16), 100)
    assert scorer.way is Way.PADDED
    model = tiny_model("llama", attention_chunk_size=300)
    scorer = assert_own_numbers(model, 100, 360, seeds=1)
    assert (scorer.way, scorer.limit, scorer.because) == (Way.PACKED, 300, "attention_chunk_size")


def test_a_long_text_makes_only_its_own_layout_one_of_single_texts() -> None:
    model = tiny_model("phi3", **long_rope(300))
    with scoring(model) as scorer:
        within, beyond = scorer.layout(groups(300)), scorer.layout(groups(301))
    assert within.spans
    assert not within.row_lengths
    assert not beyond.spans
    assert beyond.row_lengths == (301, 150 + 75, 5, 3)
    assert beyond.computed == 301 + 225 + 5 + 3


def test_a_text_that_fills_the_context_is_read_without_its_last_token() -> None:
    """lm-eval gives texts of one token more than a model has places, the last of which is only predicted."""
    model = tiny_model("doge", keep_window_size=8, max_position_embeddings=64)
    (group,) = [PrefixGroup(np.arange(60, dtype=np.int32), (np.arange(5, dtype=np.int32),), 30)]
    lengths: list[int] = []
    hook = model.model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    with scoring(model) as scorer, torch.no_grad():
        lengths.clear()
        assert len(scorer.log_probs(model, scorer.layout([group]))) == 35
    hook.remove()
    assert lengths == [64]


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm", "xlnet", "cpmant", "roformer", "prophetnet"])
def test_models_that_look_ahead_are_refused(family: str) -> None:
    with pytest.raises(SmaugError, match="is not causal: a later token changes") as raised, scoring(tiny_model(family)):
        pytest.fail("an encoder was taken")
    assert raised.value.fix is not None
    assert "causal language model" in raised.value.fix


def test_an_encoder_with_fresh_weights_is_refused_too() -> None:
    """Its attention is so even that a later token changes little."""
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = AutoModelForCausalLM.from_config(hf.BertConfig(vocab_size=97, **small)).eval()
    with pytest.raises(SmaugError, match="is not causal"), scoring(model):
        pytest.fail("an encoder was taken")


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta-xl"])
def test_an_encoder_that_is_a_decoder_is_taken(family: str) -> None:
    assert_own_numbers(tiny_model(family, is_decoder=True), 100)


def test_a_model_whose_evaluation_is_random_is_refused() -> None:
    with pytest.raises(SmaugError, match="each time that it reads the same text"), scoring(tiny_model("reformer")):
        pytest.fail("a random model was taken")


def test_a_model_that_changes_with_what_it_reads_is_refused() -> None:
    """BigBird gives up its sparse attention for good with the first short text."""
    model = tiny_model("big_bird", is_decoder=True)
    with pytest.raises(SmaugError, match="changes its attention_type to original_full") as raised, scoring(model):
        pytest.fail("it was taken")
    assert raised.value.fix == "write attention_type: original_full into config.json"
    assert_own_numbers(tiny_model("big_bird", is_decoder=True, attention_type="original_full"), 100)


def test_a_model_that_needs_more_than_tokens_is_refused() -> None:
    model = tiny_model("llama")
    original = model.forward

    def needy(*args: Any, pixel_values: Tensor | None = None, **kwargs: Any) -> Any:
        if pixel_values is None:
            raise ValueError("no pixel_values were given")
        return original(*args, **kwargs)

    model.forward = needy
    with (
        pytest.raises(SmaugError, match="cannot say how likely a text is: ValueError: no pixel_values"),
        scoring(model),
    ):
        pytest.fail("it was taken")
    assert model.forward is needy


def test_a_model_whose_numbers_are_none_is_refused() -> None:
    model = tiny_model("llama")
    model.model.norm.weight.data.fill_(float("nan"))
    with pytest.raises(SmaugError, match="are not numbers"), scoring(model):
        pytest.fail("it was taken")


def test_memory_that_does_not_suffice_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    model = tiny_model("llama")
    monkeypatch.setattr(model.model, "forward", full)
    with pytest.raises(torch.OutOfMemoryError), scoring(model):
        pytest.fail("a verdict was given")


@pytest.mark.skipif(not hf.Gemma2ForCausalLM._supports_sdpa, reason="this transformers refuses what leaves a cap out")
def test_what_is_expected_is_the_attention_that_the_model_was_loaded_with() -> None:
    """transformers' sdpa leaves out Gemma 2's soft cap, our attention does not, and both ways are consistent."""
    as_loaded = tiny_model("gemma2", attention="sdpa", attn_logit_softcapping=0.05)
    scorer = assert_own_numbers(as_loaded, 100)
    assert scorer.way is Way.PADDED
    assert as_loaded.config._attn_implementation == "sdpa"
    honour_soft_caps(as_loaded)
    assert as_loaded.config._attn_implementation == "eager"
    assert assert_own_numbers(as_loaded, 100).way is Way.PACKED
    llama = tiny_model("llama")
    honour_soft_caps(llama)
    assert llama.config._attn_implementation == "sdpa"


def test_every_part_of_a_model_gets_its_own_attention_back() -> None:
    model = tiny_model("gemma3")
    model.config.vision_config._attn_implementation_internal = "eager"
    model.config.text_config._attn_implementation_internal = "sdpa"
    with scoring(model) as scorer:
        assert scorer.way is Way.PACKED
        assert model.config.text_config._attn_implementation == "smaug_prefix"
    assert model.config.vision_config._attn_implementation == "eager"
    assert model.config.text_config._attn_implementation == "sdpa"


def computed_by_trial(model: PreTrainedModel) -> list[int]:
    """Tokens of each pass that finding the way takes."""
    sizes: list[int] = []
    hook = model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    with scoring(model) as scorer:
        assert scorer.way is Way.PACKED
    hook.remove()
    return sizes


def test_a_trial_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the window: a few texts alone and two packed rows, and the same with the window made shorter.

    The second row is asked for the ends of its texts only.
    """
    monkeypatch.setattr(probe, "CHEAP_PRODUCT", 1.0)  # as if the models were large
    alone, early, packed = [24, 24, 4], [24], [15 + 2 * 8 + 2 + 1]
    assert computed_by_trial(tiny_model("llama")) == [*alone, *early, *packed, *packed]
    window = {"sliding_window": 4096, "max_position_embeddings": 32768}
    assert computed_by_trial(tiny_model("mistral", **window)) == [*alone, *early, *packed, *alone, *packed, *packed]
    assert sum(computed_by_trial(tiny_model("phi3", **long_rope(4096), max_position_embeddings=131072))) < 400


def test_where_tokens_cost_nothing_texts_are_longer_than_lengths_without_a_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def chunked(config: Any, **arguments: Any) -> Any:
        config = copy.copy(config)
        config.attention_chunk_size = 64
        return create_chunked_causal_mask(config=config, **arguments)

    monkeypatch.setattr(modeling_llama, "create_causal_mask", chunked)
    assert assert_own_numbers(tiny_model("llama"), 100, 360).way is Way.PADDED


@pytest.mark.parametrize("first", [6, 60, 200])
def test_a_prefix_model_is_refused(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose first tokens see each other, whatever comes later."""

    def prefix(config: Any, **arguments: Any) -> Any:
        mask = create_causal_mask(config=config, allow_is_causal_skip=False, **arguments).clone()
        mask[..., :first, :first] = True
        return mask

    monkeypatch.setattr(modeling_llama, "create_causal_mask", prefix)
    with pytest.raises(SmaugError, match="is not causal"), scoring(tiny_model("llama")):
        pytest.fail("it was taken")


@pytest.mark.parametrize("block", [2, 4, 5, 8, 16, 32])
def test_a_model_that_sees_whole_blocks_is_refused(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As diffusion models that write block by block."""

    def blocks(config: Any, **arguments: Any) -> Any:
        mask = create_causal_mask(config=config, allow_is_causal_skip=False, **arguments)
        places = torch.arange(mask.shape[-1]) // block
        return mask | (places[:, None] == places[None, :])

    monkeypatch.setattr(modeling_llama, "create_causal_mask", blocks)
    with pytest.raises(SmaugError, match="is not causal"), scoring(tiny_model("llama")):
        pytest.fail("it was taken")


def test_a_bidirectional_llama_is_refused() -> None:
    """LLaDA's and Dream's kind, as transformers makes it of any decoder."""
    with pytest.raises(SmaugError, match="is not causal"), scoring(tiny_model("llama", is_causal=False)):
        pytest.fail("it was taken")


def test_a_causality_check_alone() -> None:
    probe.check_causal(tiny_model("llama"))
    with pytest.raises(SmaugError, match="is not causal"):
        probe.check_causal(tiny_model("bert"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_is_allowed_for(dtype: torch.dtype) -> None:
    model = tiny_model("mistral", sliding_window=300).to(dtype)
    with scoring(model) as scorer:
        assert (scorer.way, scorer.limit) == (Way.PACKED, None)


def test_trials_leave_the_mode_alone_and_the_state_of_the_generator() -> None:
    model = tiny_model("phi3", **long_rope(300)).train()
    state = torch.get_rng_state()
    with scoring(model):
        assert model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_verdicts_of_a_probe() -> None:
    model = tiny_model("llama")
    found = Probe(model, model.forward)

    def wrong(asked: Any) -> Any:
        layout = Scorer(Way.SINGLE).layout(asked)
        return layout, torch.zeros(len(layout.targets))

    def failing(asked: Any) -> Any:
        raise IndexError("index 5 is out of range")

    reasons = [found.examine(ask, "odd").reason for ask in (wrong, failing)]
    assert reasons[0] is not None
    assert reasons[0].startswith("LlamaForCausalLM gives other log-probabilities in odd rows (by ")
    assert reasons[1] == "LlamaForCausalLM refuses odd rows (IndexError: index 5 is out of range)"
