"""Generation of ``smaug-torch``: what lm-eval's ``hf`` writes, and what transformers' own sampling rules out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.tiny_models import sharing_model, tiny_model
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.decoder import Decoder
from smaug_eval.engines.decoding import continue_alone
from smaug_eval.engines.generation import Generation, Sampling
from smaug_eval.engines.sampled import drawn_apart
from smaug_eval.engines.torch_engine import TorchEngine
from smaug_eval.leaderboard.protocol import build_documents
from smaug_eval.leaderboard.v1 import GSM8K, SUITE

STOPS = [":", "Question:", "Question"]
PROMPTS = [
    "Question: Anna has 3 apples and buys 4 more. How many are there?\nAnswer:",
    "Question: Ben had 9 plums. He ate 2. How many are left?\nAnswer:",
    "The",
    "Question: Which is the colour of snow?\nAnswer:",
    "Question: Ben had 9 plums. He ate 2. How many are left?\nAnswer: 9 - 2 =",
]


@pytest.fixture(scope="module")
def demo() -> tuple[Any, Any]:
    folder = embedded_path("demo-model")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def asked(prompts: list[str], **settings: Any) -> list[Instance]:
    settings = {"until": STOPS, "do_sample": False, "max_gen_toks": 24} | settings
    return [Instance("generate_until", {}, (prompt, dict(settings)), index) for index, prompt in enumerate(prompts)]


def engines(model: Any, tokenizer: Any, **settings: Any) -> tuple[TorchEngine, HFLM]:
    shared = {"pretrained": model, "tokenizer": tokenizer, "device": "cpu", "batch_size": 3} | settings
    return TorchEngine(**shared), HFLM(**shared)


def written(engine: HFLM, some: list[Instance]) -> list[str]:
    return list(engine.generate_until(some, disable_tqdm=True))


@pytest.mark.parametrize(
    "settings", [{}, {"until": ["."]}, {"until": []}, {"max_gen_toks": 1}, {"until": ["\n", " "], "max_gen_toks": 40}]
)
def test_texts_are_those_of_hf(demo: tuple[Any, Any], settings: dict[str, Any]) -> None:
    ours, theirs = engines(*demo)
    assert written(ours, asked(PROMPTS, **settings)) == written(theirs, asked(PROMPTS, **settings))


def test_long_prompts_are_cut_as_hf_cuts_them(demo: tuple[Any, Any]) -> None:
    ours, theirs = engines(*demo, max_length=40)
    prompts = [prompt * 4 for prompt in PROMPTS]
    assert written(ours, asked(prompts, max_gen_toks=12)) == written(theirs, asked(prompts, max_gen_toks=12))


def test_what_all_prompts_begin_with_is_read_once(demo: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = engines(*demo, batch_size=5)
    shots = "Question: Ann has 2 pens and finds 3. How many are there?\nAnswer: 5\n" * 6
    prompts = [shots + prompt for prompt in PROMPTS]
    seen: list[int] = []
    original = Decoder.start

    def recorded(decoder: Decoder, some: Any, shared: int = 0) -> Any:
        seen.append(shared)
        return original(decoder, some, shared)

    monkeypatch.setattr(Decoder, "start", recorded)
    for settings in ({"until": []}, {"until": ["."], "max_gen_toks": 80}):
        assert written(ours, asked(prompts, **settings)) == written(theirs, asked(prompts, **settings))
    ids = encoded(demo[1], prompts)
    assert seen[-2:] == [next(place for place in range(999) if len({each[place] for each in ids}) > 1)] * 2
    assert seen[-1] >= 64


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "mistral", "bloom", "qwen3", "mamba"])
def test_other_families_write_what_hf_writes(family: str, demo: tuple[Any, Any], monkeypatch: Any) -> None:
    tokenizer = demo[1]
    size: dict[str, Any] = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2}
    heads = size | {"num_attention_heads": 4, "intermediate_size": 64}
    config = {
        "gpt2": lambda: hf.GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4),
        "gpt_neox": lambda: hf.GPTNeoXConfig(**heads),
        "mistral": lambda: hf.MistralConfig(**heads, num_key_value_heads=2, sliding_window=8),
        "bloom": lambda: hf.BloomConfig(vocab_size=len(tokenizer), hidden_size=32, n_layer=2, n_head=4),
        "qwen3": lambda: hf.Qwen3Config(**heads, num_key_value_heads=2, head_dim=8),
        "mamba": lambda: hf.MambaConfig(**size, state_size=4),
    }[family]()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and "embed" not in name:
            weight.data.mul_(5)
    ours, theirs = engines(model, tokenizer, max_length=256)
    some = asked(PROMPTS, until=["and", "a"])
    assert written(ours, some) == written(theirs, some)


def test_settings_that_change_the_scores_are_left_to_transformers(demo: tuple[Any, Any]) -> None:
    model, tokenizer = demo
    ours, theirs = engines(model, tokenizer)
    before = model.generation_config
    model.generation_config = hf.GenerationConfig(**before.to_diff_dict() | {"repetition_penalty": 5.0})
    try:
        assert not ours.continues_greedily()
        penalised = written(ours, asked(PROMPTS))
        assert penalised == written(theirs, asked(PROMPTS))
    finally:
        model.generation_config = before
    assert penalised != written(ours, asked(PROMPTS))


def test_identical_prompts_are_continued_once(demo: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = engines(*demo)
    seen: list[int] = []
    original = ours.continue_prompts

    def counted(prompts: Any, samplings: Any, known: Any) -> Any:
        seen.append(len(prompts))
        return original(prompts, samplings, known)

    monkeypatch.setattr(ours, "continue_prompts", counted)
    texts = written(ours, asked([PROMPTS[0], PROMPTS[1], PROMPTS[0]]))
    assert seen == [2]
    assert texts[0] == texts[2]


def encoded(tokenizer: Any, prompts: list[str]) -> list[list[int]]:
    return [tokenizer(prompt)["input_ids"] for prompt in prompts]


def test_drawn_texts_depend_on_the_seed_alone(demo: tuple[Any, Any]) -> None:
    ours, _ = engines(*demo)
    prompts = encoded(demo[1], PROMPTS)
    hot = [Sampling(temperature=1.5, max_new_tokens=12, seed=seed) for seed in range(len(prompts))]
    together = ours.generate(prompts, hot)
    alone = [ours.generate([prompt], [each])[0] for prompt, each in zip(prompts, hot, strict=True)]
    assert together == alone
    other = [dataclasses.replace(each, seed=each.seed + 100) for each in hot]
    assert ours.generate(prompts, other) != together


def test_tokens_are_drawn_from_the_tempered_distribution(demo: tuple[Any, Any]) -> None:
    model, tokenizer = demo
    ours, _ = engines(model, tokenizer, batch_size=200)
    (prompt,) = encoded(tokenizer, ["Question: Anna has 3 apples and"])
    with torch.no_grad():
        expected = torch.softmax(model(torch.tensor([prompt])).logits[0, -1] / 2.0, dim=-1)
    draws = 2000
    found = ours.generate([prompt] * draws, [Sampling(2.0, 1, seed=seed) for seed in range(draws)])
    top = int(expected.argmax())
    share = sum(each.text == tokenizer.decode([top]) for each in found) / draws
    error = float((expected[top] * (1 - expected[top]) / draws) ** 0.5)
    assert abs(share - float(expected[top])) < 4 * error


def repeated(prompt: str, times: int, doc: int = 0, **settings: Any) -> list[Instance]:
    """A task's request as lm-eval lists it for ``repeats``: the same object several times."""
    told = {"until": STOPS, "do_sample": True, "temperature": 1.5, "max_gen_toks": 12, **settings}
    return [Instance("generate_until", {}, (prompt, told), 0, ("task", doc, times))] * times


def test_a_tasks_own_repeats_are_drawn_apart(demo: tuple[Any, Any], tmp_path: Path) -> None:
    """Each by a seed of its own: the same in another batch, in another process, and when half of them is recalled."""
    ours, _ = engines(*demo)
    some = [*repeated(PROMPTS[0], 3), *repeated(PROMPTS[1], 3, 1)]
    texts = written(ours, some)
    assert len(set(texts[:3])) == len(set(texts[3:])) == 3
    seeds = [request.args[1]["seed"] for request in drawn_apart(some)]
    assert len(set(seeds)) == 6
    assert [request.args[1]["seed"] for request in drawn_apart(drawn_apart(some))] == seeds  # once is enough
    hot = [Sampling(1.5, 12, (*STOPS, "<|endoftext|>"), seed=seed) for seed in seeds]
    ids = encoded(demo[1], [request.args[0] for request in some])
    drawn = ours.generate(ids, hot)
    assert texts == [each.text for each in drawn]
    assert written(ours, some[3:]) == texts[3:]
    assert written(ours, repeated(PROMPTS[0], 5))[:3] == texts[:3]
    assert len({*written(ours, repeated(PROMPTS[0], 3, seed=7)), *texts[:3]}) == 6
    journal = tmp_path / "journal"
    ours.keep_journal(journal)
    written(ours, some[:2])
    again, _ = engines(*demo)
    again.keep_journal(journal)
    asked_anew: list[int] = []
    original = again.continue_prompts

    def counted(prompts: Any, samplings: Any, known: Any) -> Any:
        asked_anew.append(len(prompts) - len(known))
        return original(prompts, samplings, known)

    again.continue_prompts = counted
    assert written(again, some) == texts
    assert asked_anew == [4]


def test_a_tasks_own_repeats_are_independent(demo: tuple[Any, Any]) -> None:
    """As often as the model says, the first token is its likeliest one, and two after one another are."""
    model, tokenizer = demo
    ours, _ = engines(model, tokenizer, batch_size=200)
    prompt, draws = "Question: Anna has 3 apples and", 2000
    (ids,) = encoded(tokenizer, [prompt])
    with torch.no_grad():
        expected = torch.softmax(model(torch.tensor([ids])).logits[0, -1] / 2.0, dim=-1)
    top = int(expected.argmax())
    share = float(expected[top])
    texts = written(ours, repeated(prompt, draws, until=[], temperature=2.0, max_gen_toks=1))
    hits = [text == tokenizer.decode([top]) for text in texts]
    both = [one and two for one, two in zip(hits[::2], hits[1::2], strict=True)]
    for found, right in ((hits, share), (both, share**2)):
        assert abs(sum(found) / len(found) - right) < 4 * (right * (1 - right) / len(found)) ** 0.5


def test_reasons_and_lengths(demo: tuple[Any, Any]) -> None:
    ours, _ = engines(*demo)
    (prompt,) = encoded(demo[1], [PROMPTS[0]])
    whole = ours.generate([prompt], [Sampling(max_new_tokens=10)])[0]
    assert (whole.tokens, whole.finish_reason) == (10, "length")
    ids = demo[1](whole.text, add_special_tokens=False)["input_ids"]
    cut = ours.generate([prompt], [Sampling(max_new_tokens=10, stop_token_ids=(ids[2],))])[0]
    assert cut == Generation(demo[1].decode(ids[: ids.index(ids[2])]), ids.index(ids[2]) + 1, "stop")
    word = whole.text.split()[2]
    stopped = ours.generate([prompt], [Sampling(max_new_tokens=10, stop=(word,))])[0]
    assert (stopped.text, stopped.finish_reason) == (whole.text.split(word)[0], "stop")


def test_a_prompt_near_the_end_of_the_context_writes_less(demo: tuple[Any, Any]) -> None:
    ours, _ = engines(*demo, max_length=32)
    prompt = encoded(demo[1], [PROMPTS[0] * 3])[0][:30]
    assert ours.generate([prompt], [Sampling(max_new_tokens=10)])[0].tokens == 2
    with pytest.raises(ValueError, match="prompt 0 has 32 tokens; the context holds 32"):
        ours.generate([prompt + prompt[:2]], [Sampling()])
    with pytest.raises(ValueError, match="prompt 0 has 0 tokens"):
        ours.generate([[]], [Sampling()])


def test_out_of_memory_goes_on_with_fewer_prompts(
    demo: tuple[Any, Any], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    ours, theirs = engines(*demo, batch_size=4)
    ours.keep_journal(tmp_path)
    rows: list[int] = []

    def limited(module: Any, inputs: tuple[Any, ...]) -> None:
        rows.append(inputs[0].shape[0])
        if rows[-1] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = ours.model.get_input_embeddings().register_forward_pre_hook(limited)
    try:
        found = written(ours, asked(PROMPTS))
    finally:
        hook.remove()
    assert "continuing with 1 prompts at a time" in caplog.text
    assert found == written(theirs, asked(PROMPTS))
    journal = ours.journal()
    assert journal is not None
    assert journal.setting("batch")[0] == 1  # whoever resumes begins with what there is room for
    ours.close_journal()


def test_generations_are_told_as_they_finish(demo: tuple[Any, Any]) -> None:
    ours, _ = engines(*demo)
    prompts = encoded(demo[1], PROMPTS)
    told: dict[int, Generation] = {}
    found = ours.generate(prompts, [Sampling(max_new_tokens=5)] * len(prompts), told.__setitem__)
    assert [told[index] for index in range(len(prompts))] == found


@pytest.mark.parametrize("kind", ["first is last", "index", "mlp"])
def test_layers_with_one_place_in_the_cache_are_continued_without_it(
    kind: str, demo: tuple[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """transformers' cache would hold both runs' keys behind each other: the logits are then 0.7 off."""
    tokenizer = demo[1]
    model: Any = sharing_model(kind, vocab_size=len(tokenizer))
    ours, _ = engines(model, tokenizer, max_length=256)
    prompts = encoded(tokenizer, PROMPTS)
    found = ours.generate(prompts, [Sampling(max_new_tokens=6 - index) for index in range(len(prompts))])
    assert ("without a cache" in caplog.text) is (kind != "mlp")
    for index, (prompt, generation) in enumerate(zip(prompts, found, strict=True)):
        new: list[int] = []
        while len(new) < 6 - index and not {model.config.eos_token_id, tokenizer.eos_token_id} & set(new):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([[*prompt, *new]]), use_cache=False).logits
            new.append(int(logits[0, -1].argmax()))
        assert generation.tokens == len(new)
        assert tokenizer.decode(new, skip_special_tokens=True).startswith(generation.text)
        assert generation.text or len(new) == 1


RECURRENT: dict[str, dict[str, Any]] = {
    "mamba": {},
    "mamba2": {},
    "lfm2": {},
    "falcon_h1": {},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "zamba2": {},
    "qwen3_next": {},
    "rwkv": {},
    "recurrent_gemma": {},
    "minimax": {},  # a cache of its own
    "xlnet": {},  # none that transformers shares out
    "xlstm": {},  # of these sizes, none that works
}


@pytest.mark.parametrize("family", RECURRENT)
def test_prompts_of_several_lengths_before_a_recurrent_state(
    family: str, demo: tuple[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """As transformers continues each by itself, reading it anew at each step; the model's own penalties are left out.

    A single token, as the last prompt is here, would have RecurrentGemma go on with the text before.
    """
    tokenizer = demo[1]
    model: Any = tiny_model(family, vocab_size=len(tokenizer), **RECURRENT[family])
    model.generation_config = hf.GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=0)
    prompts = encoded(tokenizer, PROMPTS[:3])
    assert [len(prompt) > 1 for prompt in prompts] == [True, True, False]
    assert len(prompts[0]) != len(prompts[1])
    expected = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        both = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, use_cache=False)
        expected.append(both[0, len(prompt) :].tolist())
    assert len({token for ids in expected for token in ids}) > 1
    model.generation_config.repetition_penalty = 1.5
    ours, _ = engines(model, tokenizer, max_length=256)
    found = ours.generate(prompts, [Sampling(max_new_tokens=8)] * 3)
    assert [each.text for each in found] == [tokenizer.decode(ids, skip_special_tokens=True) for ids in expected]
    assert [each.tokens for each in found] == [len(ids) for ids in expected]
    assert "one at a time" in caplog.text
    assert ("without a cache" in caplog.text) is (family == "xlstm")
    assert model.generation_config.repetition_penalty == 1.5


def test_draws_before_a_recurrent_state_resume_with_the_same_texts(demo: tuple[Any, Any]) -> None:
    tokenizer = demo[1]
    ours, _ = engines(tiny_model("mamba2", vocab_size=len(tokenizer)), tokenizer, max_length=256)
    prompts = encoded(tokenizer, PROMPTS[:3])
    hot = [Sampling(temperature=1.5, max_new_tokens=6, seed=seed) for seed in range(3)]
    whole = ours.generate(prompts, hot)
    assert whole != ours.generate(prompts, [dataclasses.replace(each, seed=each.seed + 9) for each in hot])
    told: dict[int, Generation] = {}

    def until_the_second(index: int, generation: Generation) -> None:
        told[index] = generation
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ours.generate(prompts, hot, until_the_second)
    (left,) = {0, 1, 2} - set(told)
    told[left] = ours.generate([prompts[left]], [hot[left]])[0]
    assert [told[index] for index in range(3)] == whole


def test_one_prompt_alone_is_drawn_and_stopped_as_in_a_batch(demo: tuple[Any, Any]) -> None:
    model, tokenizer = demo
    ours, _ = engines(model, tokenizer)
    prompts = encoded(tokenizer, PROMPTS)
    for settings in (
        {"max_new_tokens": 40, "stop": ("apples", ".")},
        {"max_new_tokens": 12, "temperature": 1.5, "seed": 3},
        {"max_new_tokens": 12, "temperature": 1.5, "seed": 4, "top_p": 0.7},
        {"max_new_tokens": 1},
    ):
        sampling = Sampling(**settings)
        alone = [continue_alone(model, tokenizer, prompt, sampling, max_length=256) for prompt in prompts]
        assert [each for each, _ in alone] == ours.generate(prompts, [sampling] * len(prompts))
        assert [tokens for _, tokens in alone] == [
            len(prompt) + each.tokens - 1 if len(prompt) > 1 else sum(range(1, 1 + each.tokens))
            for prompt, (each, _) in zip(prompts, alone, strict=True)
        ]
    whole = Sampling(max_new_tokens=3)
    cached, again = (
        continue_alone(model, tokenizer, prompts[0], whole, max_length=256, cached=cached) for cached in (True, False)
    )
    assert cached[0] == again[0]
    assert again[1] == sum(range(len(prompts[0]), len(prompts[0]) + cached[0].tokens))


def test_what_cannot_be_continued_is_refused_by_name(demo: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = demo[1]
    model: Any = tiny_model("mamba", vocab_size=len(tokenizer))
    ours, _ = engines(model, tokenizer, max_length=256)

    def broken(*_args: Any, **_options: Any) -> Any:
        raise NotImplementedError("no generation")

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "generate", broken)
        with pytest.raises(SmaugError, match=r"MambaForCausalLM \(NotImplementedError: no generation\)"):
            ours.generate([[5, 6]], [Sampling(max_new_tokens=2)])
    assert ours.generate([[5, 6]], [Sampling(max_new_tokens=2)])[0].tokens == 2
    ours.backend = "seq2seq"
    with pytest.raises(SmaugError, match="MambaForCausalLM has an encoder"):
        ours.generate([[5, 6]], [Sampling()])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stories260K", "bitstories-1M"])
def test_gsm8k_of_the_leaderboard(name: str, shared: Path) -> None:
    folder = shared / "models" / name
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours, theirs = engines(model, AutoTokenizer.from_pretrained(folder))
    documents = build_documents(GSM8K, *SUITE.rows(GSM8K, shared / "data"))[:6]
    some = asked([document["ctx"] for document in documents], max_gen_toks=256)
    assert written(ours, some) == written(theirs, some)
