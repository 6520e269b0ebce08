"""``smaug-torch`` beside lm-eval's ``hf``: the same answers to the leaderboard's requests."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from accelerate import dispatch_model
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.scoring import instances
from benchmarks.tiny_models import tiny_model
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.build import build_engine
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.engines.torch_engine import TorchEngine, tensors_sha256
from smaug_eval.engines.watch import Watch

TOLERANCE = 1e-4
TASKS = ["arc", "hellaswag", "mmlu", "truthfulqa", "winogrande"]
SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 2048,
}
GROUPED = SIZE | {"num_key_value_heads": 2}
FAMILIES = {
    "llama": lambda size: hf.LlamaConfig(**GROUPED, vocab_size=size),
    "mistral": lambda size: hf.MistralConfig(**GROUPED, vocab_size=size, sliding_window=64),
    "qwen2": lambda size: hf.Qwen2Config(**GROUPED, vocab_size=size),
    "qwen3": lambda size: hf.Qwen3Config(**GROUPED, vocab_size=size, head_dim=8),
    "gpt2": lambda size: hf.GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=2048),
    "gpt_neox": lambda size: hf.GPTNeoXConfig(**SIZE, vocab_size=size),
}
CONTEXTS = ["The sun rises in the", "The sun rises in the east. It sets in the ", "", "Two and two"]
CONTINUATIONS = [" east", " west", " morning of every day", "is", " east"]


def pairs() -> list[tuple[str, str]]:
    return [(context, continuation) for context in CONTEXTS for continuation in CONTINUATIONS]


def asked(some: list[tuple[str, str]]) -> list[Instance]:
    return [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(some)]


def slice_of(task: str, shared: Path, documents: int) -> list[tuple[str, str]]:
    """The requests of a column's first documents; of MMLU of two subjects, which share no shots."""
    return [request.args for request in instances(task, documents, shared / "data", subjects=2)]


def loaded(folder: Path) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def both(model: Any, tokenizer: Any, **arguments: Any) -> tuple[TorchEngine, HFLM]:
    settings = {"pretrained": model, "tokenizer": tokenizer, "device": "cpu", "batch_size": 4}
    row_tokens = arguments.pop("row_tokens", None)
    return TorchEngine(**settings, **arguments, row_tokens=row_tokens), HFLM(**settings, **arguments)


def assert_equal(ours: TorchEngine, theirs: HFLM, some: list[tuple[str, str]]) -> None:
    found = ours.loglikelihood(asked(some), disable_tqdm=True)
    expected = theirs.loglikelihood(asked(some), disable_tqdm=True)
    assert len(found) == len(expected) == len(some)
    assert max(abs(one[0] - other[0]) for one, other in zip(found, expected, strict=True)) <= TOLERANCE
    assert [one[1] for one in found] == [other[1] for other in expected]


def random_model(family: str, vocabulary: int) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[family](vocabulary)).eval()
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and "head" not in name and "embed" not in name:
            weight.data.mul_(4)  # attention far from uniform
    return model


@pytest.fixture(scope="module")
def demo() -> tuple[Any, Any]:
    folder = embedded_path("demo-model")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(
        folder
    )


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["stories260K", "bitstories-1M"])
def test_leaderboard_requests_get_the_answers_of_hf(name: str, task: str, shared: Path) -> None:
    folder = shared / "models" / name
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    ours, theirs = both(model, tokenizer, max_length=2048)
    # With this tokenizer prompts of ARC and HellaSwag are truncated, each answer's elsewhere: they share nothing.
    assert_equal(ours, theirs, slice_of(task, shared, 3))
    assert ours.work is not None
    assert ours.work.computed <= 1.1 * ours.work.unique


@pytest.mark.slow
@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("task", ["mmlu", "truthfulqa"])
def test_every_family_gets_the_answers_of_hf(family: str, task: str, shared: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared / "models/pythia_tokenizer")
    ours, theirs = both(random_model(family, len(tokenizer)), tokenizer)
    assert_equal(ours, theirs, slice_of(task, shared, 2))
    assert ours.way is not None
    assert ours.way.startswith("prefix-shared rows")
    assert ours.work is not None
    assert ours.work.saved > 0.4


@pytest.mark.parametrize("settings", [{}, {"row_tokens": 8}, {"max_length": 12}, {"add_bos_token": True}])
def test_boundaries_truncation_and_repetitions_are_those_of_hf(demo: tuple[Any, Any], settings: dict[str, Any]) -> None:
    ours, theirs = both(*demo, **settings)
    assert_equal(ours, theirs, pairs())


def test_repeated_requests_are_computed_once(demo: tuple[Any, Any]) -> None:
    ours, _ = both(*demo)
    some = pairs()[:4]
    once = ours.loglikelihood(asked(some), disable_tqdm=True)
    work = ours.work
    assert ours.loglikelihood(asked(some * 3), disable_tqdm=True) == once * 3
    assert work is not None
    assert ours.work is not None
    assert (ours.work.computed, ours.work.unique) == (work.computed, work.unique)
    assert ours.work.requested == 3 * work.requested


def test_rolling_log_likelihoods_are_those_of_hf(demo: tuple[Any, Any]) -> None:
    ours, theirs = both(*demo, max_length=16)
    some = [Instance("loglikelihood_rolling", {}, (context * 3,), 0) for context in CONTEXTS if context]
    found, expected = (engine.loglikelihood_rolling(some, disable_tqdm=True) for engine in (ours, theirs))
    assert found == pytest.approx(expected, abs=1e-3)


def test_out_of_memory_goes_on_with_shorter_rows(
    demo: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = both(*demo)
    ours.loglikelihood(asked(pairs()[:1]), disable_tqdm=True)  # finds out how the model is asked, with longer rows
    rows: list[int] = []
    embeddings = ours.model.get_input_embeddings()

    def limited(module: Any, inputs: tuple[Any, ...]) -> None:
        rows.append(inputs[0].shape[1])
        if rows[-1] > 40:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("smaug_eval.engines.torch_engine.LEAST_TOKENS", 4)
    hook = embeddings.register_forward_pre_hook(limited)
    some = [(context, f"{continuation} {number}") for context, continuation in pairs() if context for number in "1234"]
    try:
        found = ours.loglikelihood(asked(some), disable_tqdm=True)
    finally:
        hook.remove()
    assert max(rows) > 40 >= rows[-1]
    assert "out of memory; continuing with rows of at most" in caplog.text
    expected = theirs.loglikelihood(asked(some), disable_tqdm=True)
    assert [one[0] for one in found] == pytest.approx([other[0] for other in expected], abs=TOLERANCE)


def test_models_that_cannot_share_are_scored_in_padded_rows(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = AutoTokenizer.from_pretrained(embedded_path("demo-model"))
    torch.manual_seed(0)
    config = hf.BloomConfig(vocab_size=len(tokenizer), hidden_size=32, n_layer=2, n_head=4)
    ours, theirs = both(AutoModelForCausalLM.from_config(config).eval(), tokenizer, max_length=64)
    with caplog.at_level(logging.WARNING):
        assert_equal(ours, theirs, pairs())
    assert "padded rows, one for each text: BloomForCausalLM" in caplog.text


def test_a_model_spread_over_devices_gets_the_same_answers(demo: tuple[Any, Any], tmp_path: Path) -> None:
    folder = embedded_path("demo-model")
    whole, tokenizer = demo
    spread = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    places = dict.fromkeys([name for name, _ in spread.model.named_children()], "cpu")
    del places["layers"]
    layers = {f"model.layers.{index}": "disk" if index else "cpu" for index in range(len(spread.model.layers))}
    device_map = {f"model.{name}": place for name, place in places.items()} | layers | {"lm_head": "cpu"}
    spread = dispatch_model(spread, device_map=device_map, main_device="cpu", offload_dir=str(tmp_path / "weights"))
    assert any(weight.is_meta for weight in spread.parameters())
    ours, theirs = both(spread, tokenizer)[0], both(whole, tokenizer)[1]
    assert_equal(ours, theirs, pairs())
    assert ours.way is not None
    assert ours.way.startswith("prefix-shared rows")
    assert tensors_sha256(spread.model) == tensors_sha256(whole.model)


def test_which_layers_share_weights_decides_the_hash() -> None:
    """The distinct layers of ABA and ABB are the same; what they compute is not."""
    one, other = (tiny_model("llama", num_hidden_layers=3) for _ in range(2))
    assert tensors_sha256(one) == tensors_sha256(other)
    one.model.layers[2], other.model.layers[2] = one.model.layers[0], other.model.layers[1]
    assert tensors_sha256(one) != tensors_sha256(other)


@pytest.mark.parametrize("row_tokens", [0, -3, "many"])
def test_rows_of_no_length_are_refused_before_a_model_is_loaded(row_tokens: Any) -> None:
    with pytest.raises(SmaugError, match=r"engine torch cannot load .*(row_tokens must be at least 1|invalid literal)"):
        build_engine(
            EngineSpec(
                "torch",
                embedded_path("demo-model"),
                dtype="float32",
                batch_size=2,
                device="cpu",
                engine_args={"row_tokens": row_tokens},
            )
        )


def test_lm_eval_knows_the_model_by_name() -> None:
    assert get_model("smaug-torch") is TorchEngine


def test_the_engine_is_watched_as_hf_is() -> None:
    lm = build_engine(
        EngineSpec(
            "torch",
            embedded_path("demo-model"),
            dtype="float32",
            batch_size=2,
            device="cpu",
            engine_args={"max_length": 12, "row_tokens": 16},
        )
    )
    assert isinstance(lm, TorchEngine)
    watch = Watch(lm)
    seen: list[tuple[int, int]] = []
    watch.start(lambda done, total, what: seen.append((done, total)))
    some = pairs()
    lm.loglikelihood(asked(some), disable_tqdm=True)
    assert seen == [(done, len(some)) for done in range(1, len(some) + 1)]
    whole = [len(lm.tok_encode(context + continuation)) for context, continuation in some if context]
    assert watch.truncated == sum(length > 13 for length in whole) > 0


def saved(model: Any, folder: Path) -> Path:
    """A checkpoint with the demo model's tokenizer."""
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(embedded_path("demo-model")).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("engine", ["torch", "hf"])
def test_an_encoder_is_refused_before_anything_is_computed(engine: str, tmp_path: Path) -> None:
    """lm-eval takes it for a causal model, and its logits of a text's own tokens for a prediction."""
    folder = saved(tiny_model("bert", vocab_size=512), tmp_path / "bert")
    with pytest.raises(SmaugError, match=r"is an encoder \(masked language model\)"):
        build_engine(EngineSpec(engine, folder, dtype="float32", batch_size=2, device="cpu", engine_args={}))


def test_texts_beyond_a_limit_get_the_answers_of_hf_one_at_a_time() -> None:
    """Phi-3's RoPE has other frequencies for a whole batch of hf once one text of it is longer than that."""
    tokenizer = AutoTokenizer.from_pretrained(embedded_path("demo-model"))
    lengths = {"original_max_position_embeddings": 300}
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    rope = {"rope_type": "longrope", "rope_theta": 10000.0} | lengths | factors
    model = tiny_model("phi3", vocab_size=len(tokenizer), rope_parameters=rope, **lengths)
    ours, _ = both(model, tokenizer, row_tokens=700)
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=1)
    story = "The sun rises in the east and sets in the west. " * 40
    some = [*pairs()[:6], *((story[:size], " east") for size in (200, 500, 900, 1400))]
    sizes = sorted(len(theirs.tok_encode(context + continuation)) for context, continuation in some)
    assert sizes[3] < 100
    assert sizes[-1] > 320
    assert_equal(ours, theirs, some)
    assert ours.way is not None
    assert ours.way.endswith("one text at a time beyond 300 tokens (original_max_position_embeddings)")


def test_the_soft_cap_of_gemma_2_is_kept(tmp_path: Path) -> None:
    """transformers before 5.21 loads it with an attention that leaves the cap out."""
    size = len(AutoTokenizer.from_pretrained(embedded_path("demo-model")))
    model = tiny_model("gemma2", vocab_size=size, attention="eager", attn_logit_softcapping=0.05)
    folder = saved(model, tmp_path / "gemma2")
    assert AutoModelForCausalLM.from_pretrained(folder).config._attn_implementation in ("sdpa", "eager")
    lm = build_engine(EngineSpec("torch", folder, dtype="float32", batch_size=2, device="cpu", engine_args={}))
    assert isinstance(lm, TorchEngine)
    assert_equal(lm, HFLM(pretrained=model, tokenizer=lm.tokenizer, device="cpu", batch_size=1), pairs())
    assert lm.way is not None
    assert lm.way.startswith("prefix-shared rows")
