"""``smaug-vllm`` beside lm-eval's ``vllm`` and plain forward passes, with real vLLM (``make test-vllm``)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaConfig, PretrainedConfig

pytest.importorskip("vllm", reason="vLLM is not installed here; make test-vllm runs these")

from vllm.logprobs import FlatLogprobs

from benchmarks.scoring import instances
from benchmarks.vllm_scoring import is_cut, lm_evals_own
from smaug_eval.common.embedded import embedded_path
from smaug_eval.engines.build import build_engine
from smaug_eval.engines.generation import Generation, Sampling
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.engines.shared import Request
from smaug_eval.engines.torch_engine import TorchEngine
from smaug_eval.engines.trie import Text, sort_key
from smaug_eval.engines.vllm_engine import VLLM, VllmEngine
from smaug_eval.engines.vllm_plan import Prompt, told_by
from smaug_eval.engines.watch import Watch

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

TOLERANCE = 1e-4
CONTEXT = 640
TASKS = ["arc", "hellaswag", "mmlu", "truthfulqa", "winogrande"]
CONTEXTS = ["The sun rises in the", "The sun rises in the east. It sets in the ", "", "Two and two", "The sun " * 40]
CONTINUATIONS = [" east", " west", " morning of every day", "is", " east", " morning of every week", "", " E", " W"]
EMPTY = "The answer"


def pairs() -> list[tuple[str, str]]:
    return [(context, continuation or EMPTY) for context in CONTEXTS for continuation in CONTINUATIONS]


def asked(some: Sequence[tuple[str, str]]) -> list[Instance]:
    return [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(some)]


def slice_of(task: str, shared: Path, documents: int) -> list[tuple[str, str]]:
    """The requests of a column's first documents; of MMLU of two subjects, which share no shots."""
    return [request.args for request in instances(task, documents, shared / "data", subjects=2)]


def write_model(folder: Path, config: PretrainedConfig) -> Path:
    """A random model whose attention is far from uniform, and the demo's tokenizer."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            weight.data.mul_(8 if "head" in name else 1 if "embed" in name or name.endswith("e.weight") else 4)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(embedded_path("demo-model")).save_pretrained(folder)
    return folder


def vocabulary() -> int:
    return len(AutoTokenizer.from_pretrained(embedded_path("demo-model")))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = LlamaConfig(
        vocab_size=vocabulary(),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,  # vLLM wants heads of at least 32
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
    )
    return write_model(tmp_path_factory.mktemp("llama"), config)


def loaded(folder: Path, **engine_args: Any) -> VllmEngine:
    # A shared machine may not have the share of its memory that vLLM would take.
    sizes = {"kv_cache_memory_bytes": 2**28, "max_num_batched_tokens": 1024}
    lm = build_engine(
        EngineSpec("vllm", folder, dtype="float32", batch_size=4, device=None, engine_args={**sizes, **engine_args})
    )
    assert isinstance(lm, VllmEngine)
    return lm


@pytest.fixture(scope="module")
def ours(checkpoint: Path) -> Iterator[VllmEngine]:
    engine = loaded(checkpoint)
    yield engine
    engine.model.llm_engine.engine_core.shutdown()


@pytest.fixture(scope="module")
def theirs(ours: VllmEngine) -> VLLM:
    return lm_evals_own(ours)


@pytest.fixture(scope="module")
def plain(checkpoint: Path) -> TorchEngine:
    return TorchEngine(str(checkpoint), dtype="float32", device="cpu", batch_size=4, add_bos_token=False)


def assert_equal(found: list[tuple[float, bool]], expected: list[tuple[float, bool]]) -> None:
    assert len(found) == len(expected)
    assert [one[0] for one in found] == pytest.approx([other[0] for other in expected], abs=TOLERANCE)
    assert [one[1] for one in found] == [other[1] for other in expected]


@pytest.mark.parametrize("task", TASKS)
def test_leaderboard_requests_get_the_answers_of_lm_eval(
    task: str, shared: Path, ours: VllmEngine, theirs: VLLM, plain: TorchEngine
) -> None:
    some = slice_of(task, shared, 2)
    found = ours.loglikelihood(asked(some), disable_tqdm=True)
    assert_equal(found, plain.loglikelihood(asked(some), disable_tqdm=True))
    cut = [is_cut(theirs, pair) for pair in some]
    assert any(cut) == (task in ("arc", "hellaswag", "mmlu"))
    same = [pair for pair, is_shorter in zip(some, cut, strict=True) if not is_shorter]
    if same:
        expected = theirs.loglikelihood(asked(same), disable_tqdm=True)
        assert_equal([answer for answer, is_shorter in zip(found, cut, strict=True) if not is_shorter], expected)


def test_boundaries_repetitions_and_empty_contexts_are_those_of_lm_eval(
    ours: VllmEngine, theirs: VLLM, plain: TorchEngine
) -> None:
    some = pairs()
    for _ in range(2):  # the second time all of it has been computed before
        found = ours.loglikelihood(asked(some), disable_tqdm=True)
        assert_equal(found, theirs.loglikelihood(asked(some), disable_tqdm=True))
        assert_equal(found, plain.loglikelihood(asked(some), disable_tqdm=True))
    assert ours.work is not None
    assert ours.work.saved > 0.5


def test_rolling_log_likelihoods_are_those_of_lm_eval(ours: VllmEngine, theirs: VLLM) -> None:
    some = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in ("The sun rises. " * 200, "Two and two")]
    assert len(ours.tok_encode(some[0].args[0])) > ours.max_length
    found, expected = (engine.loglikelihood_rolling(some, disable_tqdm=True) for engine in (ours, theirs))
    assert found == pytest.approx(expected, abs=1e-3)


def test_copies_of_a_model_are_asked_as_lm_eval_does(ours: VllmEngine, theirs: VLLM) -> None:
    copies = VllmEngine.__new__(VllmEngine)
    # What distributes prompts to copies is lm-eval's; one model stands for them.
    copies.__dict__.update(vars(ours), data_parallel_size=2, _model_generate=ours._model_generate)
    some = pairs()[:12]
    assert copies.loglikelihood(asked(some)) == theirs.loglikelihood(asked(some))
    prompts, samplings = [[5, 6, 7], [8, 9]], [Sampling(max_new_tokens=4)] * 2
    assert copies.generate(prompts, samplings) == ours.generate(prompts, samplings)


def test_the_likeliest_tokens_are_known_as_such(ours: VllmEngine) -> None:
    tokenizer = ours.tokenizer
    context = tokenizer.encode("The sun rises in the east, and")
    written = ours.generate([context], [Sampling(max_new_tokens=5)])[0]
    likeliest = tokenizer.encode(written.text)
    if len(likeliest) != 5 or tokenizer.eos_token_id in likeliest:
        pytest.skip("what this model writes is not what its tokenizer would cut")
    other = [*likeliest[:4], (likeliest[4] + 1) % len(tokenizer)]
    found = ours._loglikelihood_tokens([(None, context, likeliest), (None, context, other)], disable_tqdm=True)
    assert [greedy for _, greedy in found] == [True, False]


@st.composite
def branching(draw: st.DrawFn) -> list[Text]:
    """Texts that go on from beginnings of others, the ends of the cache's blocks among the places."""
    whole: list[list[int]] = [draw(st.lists(st.integers(5, 60), min_size=70, max_size=100))]
    for _ in range(draw(st.integers(2, 10))):
        parent = draw(st.sampled_from(whole))
        borders = [place for place in [31, 32, 33, 64, 96] if place <= len(parent)] or [len(parent)]
        end = draw(st.sampled_from(borders) | st.integers(1, len(parent)))
        whole.append(parent[:end] + draw(st.lists(st.integers(5, 8), min_size=1, max_size=40)))
    texts = {sort_key(np.array(ids, np.int32)): np.array(ids, np.int32) for ids in whole}
    return [Text(ids, draw(st.integers(1, len(ids) - 1))) for _, ids in sorted(texts.items())]


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(texts=branching())
def test_every_token_gets_the_answer_of_a_plain_pass(ours: VllmEngine, plain: TorchEngine, texts: list[Text]) -> None:
    for _ in range(2):
        found = [answer for chunk in ours.score_texts(texts, ()) for answer in chunk]
        assert [index for index, _, _ in found] == list(range(len(texts)))
        for (_, log_probs, greedy), text in zip(found, texts, strict=True):
            with torch.inference_mode():
                logits = plain.model(torch.from_numpy(text.ids[None, :-1].astype(np.int64))).logits[0, -text.scored :]
            targets = torch.from_numpy(text.ids[-text.scored :].astype(np.int64))
            expected = logits.log_softmax(-1)
            own = expected.gather(1, targets[:, None])[:, 0]
            assert np.abs(log_probs - own.numpy()).max() <= TOLERANCE
            assert greedy.tolist() == (own >= expected.amax(-1)).tolist()


def test_texts_that_are_known_are_not_asked(ours: VllmEngine) -> None:
    texts = [Text(np.array([5, 6, 7, last], np.int32), 2) for last in range(10, 14)]
    found = [index for chunk in ours.score_texts(texts, {0, 2}) for index, _, _ in chunk]
    assert found == [1, 3]


def test_a_prompt_never_fills_more_than_the_model_reads(ours: VllmEngine, theirs: VLLM, plain: TorchEngine) -> None:
    assert ours.max_length == plain.max_length == CONTEXT
    ids = [5 + number % 50 for number in range(2 * CONTEXT)]
    some: list[Request] = [
        (None, ids[:size], [9] * more) for size, more in [(CONTEXT, 1), (CONTEXT, 3), (2 * CONTEXT, 2)]
    ]
    assert_equal(
        ours._loglikelihood_tokens(some, disable_tqdm=True), plain._loglikelihood_tokens(some, disable_tqdm=True)
    )


def test_continuations_are_those_of_lm_eval(ours: VllmEngine, theirs: VLLM) -> None:
    shots = "Question: Anna has 3 apples and buys 4 more. How many are there?\nAnswer: 3 + 4 = 7\n\n"
    arguments = {"until": ["\n\n", "Question:"], "do_sample": False, "max_gen_toks": 24}
    some = [
        Instance("generate_until", {"doc": index}, (f"{shots}Question: Ben has {index} pears.\nAnswer:", arguments), 0)
        for index in range(6)
    ]
    assert ours.generate_until(some, disable_tqdm=True) == theirs.generate_until(some, disable_tqdm=True)


def test_what_ends_a_continuation_is_no_part_of_it(ours: VllmEngine) -> None:
    prompt = ours.tokenizer.encode("The sun rises in the east, and")
    (whole,) = ours.generate([prompt], [Sampling(max_new_tokens=12)])
    assert (whole.tokens, whole.finish_reason) == (12, "length")
    stop = whole.text[4:7]
    seen: list[int] = []
    room = CONTEXT - len(prompt) - 5
    filled = [*prompt, *[7] * room]
    found = ours.generate(
        [prompt, filled, prompt],
        [Sampling(max_new_tokens=12, stop=(stop,)), Sampling(max_new_tokens=12), Sampling(max_new_tokens=12)],
        lambda index, _: seen.append(index),
    )
    assert found[0].text == whole.text[: whole.text.index(stop)]
    assert found[0].finish_reason == "stop"
    assert found[0].tokens < 12
    assert (found[1].tokens, found[1].finish_reason) == (5, "length")
    assert found[2] == whole
    assert sorted(seen) == [0, 1, 2]


def test_drawn_continuations_depend_on_their_seed_alone(ours: VllmEngine) -> None:
    prompt = ours.tokenizer.encode("Once upon a time")

    def drawn(*seeds: int) -> list[Generation]:
        return ours.generate(
            [prompt] * len(seeds), [Sampling(temperature=1.0, max_new_tokens=16, seed=seed) for seed in seeds]
        )

    one, two, again = drawn(1, 2, 1)
    assert one == again == drawn(1)[0]
    assert one != two


@pytest.mark.parametrize("length", [0, CONTEXT])
def test_prompts_that_leave_no_room_are_refused(ours: VllmEngine, length: int) -> None:
    with pytest.raises(ValueError, match=f"prompt 0 has {length} tokens"):
        ours.generate([[7] * length], [Sampling()])


def test_the_engine_goes_on_after_an_interruption(ours: VllmEngine, theirs: VLLM) -> None:
    some = [(f"{context} {number}", continuation) for number in range(40) for context, continuation in pairs()[:6]]
    texts = [Text(np.array([5, 6, number, 7, 8, 9], np.int32), 3) for number in range(10, 300)]
    for _ in ours.score_texts(texts, ()):
        break  # the rest is called off when the generator is closed
    found = ours.loglikelihood(asked(some), disable_tqdm=True)
    assert_equal(found, theirs.loglikelihood(asked(some), disable_tqdm=True))


def test_answers_are_kept_in_a_journal_and_found_there(ours: VllmEngine, tmp_path: Path) -> None:
    some = pairs()
    expected = ours.loglikelihood(asked(some), disable_tqdm=True)
    ours.keep_journal(tmp_path)
    try:
        assert ours.loglikelihood(asked(some), disable_tqdm=True) == expected
        assert ours.loglikelihood(asked(some), disable_tqdm=True) == expected
    finally:
        ours.keep_journal(None)
    assert ours.work is not None
    assert (ours.work.recalled, ours.work.computed) == (len(some), 0)


def test_the_engine_is_watched_as_others_are(ours: VllmEngine) -> None:
    watch = Watch(ours)
    seen: list[tuple[int, int]] = []
    watch.start(lambda done, total, what: seen.append((done, total)))
    some = [(" word" * CONTEXT, " east"), *pairs()]
    try:
        ours.loglikelihood(asked(some), disable_tqdm=True)
    finally:
        for name in ("_loglikelihood_tokens", "generate_until"):
            del ours.__dict__[name]  # what the watch put there
    assert seen == [(done, len(some)) for done in range(1, len(some) + 1)]
    assert watch.truncated == 1


@pytest.mark.parametrize("only_computed", [False, True], ids=["memory before them", "computed rows only"])
def test_rows_of_cached_tokens_are_not_believed(only_computed: bool) -> None:
    ids, cached = [3, 4, 5, 6, 7, 8], 3
    rows = FlatLogprobs()
    rows.append(None)
    for place in range(1 + cached if only_computed else 1, 6):
        # A row may hold the token by chance.
        log_prob = -float(place) if place > cached else 1e20
        rows.append_fast([ids[place], 99], [log_prob, -4.0], iter([1, 1]), [None, None])
    behind = SimpleNamespace(token_ids=[9], logprobs=[{9: SimpleNamespace(logprob=-1.0)}])
    output: Any = SimpleNamespace(
        outputs=[behind], prompt_token_ids=ids, prompt_logprobs=rows, num_cached_tokens=cached
    )
    told = told_by(Prompt(0, 6, 2, ()), output)
    assert told == [(4, 7, -4.0, True), (5, 8, -5.0, False)]


def test_a_learned_position_for_each_token_is_no_obstacle(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=vocabulary(), n_embd=128, n_layer=2, n_head=2, n_positions=48)
    folder = write_model(tmp_path, config)
    engine = loaded(folder)
    plain = TorchEngine(str(folder), dtype="float32", device="cpu", batch_size=4, add_bos_token=False)
    some: list[Request] = [
        (None, [5 + number % 40 for number in range(size)], [9, 10, 11]) for size in (20, 45, 46, 47, 90)
    ]
    try:
        assert engine.max_length == plain.max_length == 48
        found = engine._loglikelihood_tokens(some, disable_tqdm=True)
    finally:
        engine.model.llm_engine.engine_core.shutdown()
    assert_equal(found, plain._loglikelihood_tokens(some, disable_tqdm=True))


def test_lm_eval_knows_the_model_by_name() -> None:
    assert get_model("smaug-vllm") is VllmEngine
    listed = subprocess.run(
        [sys.executable, "-c", "import smaug_eval.engines.__main__, sys; print('vllm' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout.strip() == "False"


def test_two_names_for_one_length_are_refused(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="give one of them"):
        VllmEngine(str(checkpoint), max_length=8, max_model_len=8)
