"""Pairs of a question in one batch and one tree: their order, what is computed, and the numbers of plain passes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, TrainingArguments

from smaug_eval.common.errors import Interrupted, SmaugError
from smaug_eval.prefix.scorer import Way, scoring
from smaug_eval.trainers.base_model import no_dropout
from smaug_eval.trainers.checkpoints import TrainingResult
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.encoded_pair import EncodedPair
from smaug_eval.trainers.log_probs import PairLayout, pair_layout, pair_log_probs, pair_rows, scoring_batches
from smaug_eval.trainers.losses import PairScores, preference_loss
from smaug_eval.trainers.pair_store import PairStore
from smaug_eval.trainers.preference_config import PreferenceConfig
from smaug_eval.trainers.questions import QuestionSampler, question_members, question_order
from smaug_eval.trainers.reference import TokenLogProbs, score_pairs
from smaug_eval.trainers.tokenization import PairEncoder
from smaug_eval.trainers.trainer import Collator, PairTrainer, ScoredPairs
from smaug_eval.trainers.training_log import read_log

Run = Callable[..., TrainingResult]
CHOSEN = ("a wooden hammer", "a wooden ham")
WRONG = ("a wooden hamster", "a wooden hamlet", "the leaf", "coldness", "six")


def arc_rows(count: int, wrong: Sequence[int] = (3,), seed: int = 0) -> list[dict[str, str]]:
    """Questions with one right answer and, in turn, so many wrong ones each."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        prompt = f"Question: which of these is number {rng.randrange(10_000)}?\nAnswer:"
        chosen = f" {rng.choice(CHOSEN)} {number}"
        others = rng.sample(WRONG, wrong[number % len(wrong)])
        rows += [{"prompt": prompt, "chosen": chosen, "rejected": f" {other}"} for other in others]
    return rows


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, np.int32)


def pair_of(question: int, chosen: int, rejected: int) -> EncodedPair:
    return EncodedPair(ids(1, question), ids(chosen, 9), ids(rejected, 9))


def test_questions_are_found_by_prompt_and_their_pairs_stand_by_chosen_answer() -> None:
    pairs = [pair_of(5, 1, 2), pair_of(6, 1, 2), pair_of(5, 3, 2), pair_of(5, 1, 4), pair_of(7, 1, 2), pair_of(6, 1, 3)]
    assert [part.tolist() for part in question_members(pairs)] == [[0, 3, 2], [1, 5], [4]]


def order_of(sizes: Sequence[int], batch_size: int, seed: str = "s") -> tuple[list[list[int]], list[np.ndarray], int]:
    members = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    order, cut = question_order(members, batch_size, seed)
    assert sorted(order) == list(range(sum(sizes)))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)], members, cut


def times_split(batches: Sequence[Sequence[int]], members: Sequence[np.ndarray]) -> int:
    homes = {number: place for place, batch in enumerate(batches) for number in batch}
    return sum(len({homes[int(number)] for number in part}) > 1 for part in members)


@pytest.mark.parametrize(
    ("sizes", "batch_size", "split"),
    [
        ([3] * 8, 12, 0),
        ([3] * 4, 4, 2),  # 3+1, 2+2, 1+3: twelve pairs in three batches
        ([7, 1, 1, 2], 3, 1),  # a question larger than a batch
    ],
)
def test_batches_hold_whole_questions(sizes: list[int], batch_size: int, split: int) -> None:
    for seed in "abcde":
        batches, members, cut = order_of(sizes, batch_size, seed)
        assert all(len(batch) == batch_size for batch in batches[:-1])  # pairs of a step are as asked
        assert times_split(batches, members) == cut == split


def test_the_next_question_that_fits_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random.Random, "shuffle", lambda self, values: None)
    batches, _, cut = order_of([3, 3, 1, 2, 1, 2], 4)
    assert batches == [[0, 1, 2, 6], [3, 4, 5, 9], [7, 8, 10, 11]]
    assert cut == 0
    batches, _, cut = order_of([2, 3, 2, 3], 4)  # of the second question two pairs fill the second batch
    assert batches == [[0, 1, 5, 6], [2, 3, 4, 7], [8, 9]]
    assert cut == 1


def test_a_cut_question_continues_in_the_next_batch() -> None:
    batches, members, _ = order_of([3] * 12, 4)
    homes = {number: place for place, batch in enumerate(batches) for number in batch}
    for part in members:
        places = sorted({homes[int(number)] for number in part})
        assert places[-1] - places[0] == len(places) - 1 <= 1


def test_epochs_differ_and_every_process_draws_the_same() -> None:
    pairs = [pair_of(question, 1, rejected) for question in range(40) for rejected in (2, 3, 4)]
    one, other = (QuestionSampler(pairs, 6, 11) for _ in range(2))
    first = list(one)
    assert first == list(other) != list(range(120))
    assert list(QuestionSampler(pairs, 6, 12)) != first
    one.set_epoch(1)
    second = list(one)
    assert second != first
    other.set_epoch(1)
    assert list(other) == second
    assert len(one) == 120
    assert one.describe() == "batches of questions: 40 of up to 3 pairs, 40 of several"
    assert (
        QuestionSampler(pairs, 4, 11).describe().endswith("do not fit into a batch of 4 and continue in the next one")
    )


@pytest.fixture
def pairs(tokenizer: PreTrainedTokenizerFast) -> list[EncodedPair]:
    found = list(PairEncoder(tokenizer, 200).encode(arc_rows(4, (3, 1, 4, 2))).pairs)
    # Another chosen answer to the first question, and one that begins as another ends.
    return [*found, EncodedPair(found[0].prompt, found[0].rejected, found[1].rejected)]


def naive(model: Any, prompt: np.ndarray, completion: np.ndarray) -> Tensor:
    text = torch.from_numpy(np.concatenate([prompt, completion])).long()
    log_probs = torch.log_softmax(model(input_ids=text[None]).logits[0].double(), dim=-1)
    return torch.stack([log_probs[place - 1, text[place]] for place in range(len(prompt), len(text))])


def test_every_token_equals_an_unpadded_forward_pass(model: LlamaForCausalLM, pairs: list[EncodedPair]) -> None:
    with scoring(model) as scorer, torch.no_grad():
        layout = pair_layout(scorer, pairs)
        found = pair_log_probs(scorer, model, layout)
        for name in ("chosen", "rejected"):
            for pair, tokens in zip(pairs, getattr(found, name), strict=True):
                torch.testing.assert_close(
                    tokens.double(), naive(model, pair.prompt, getattr(pair, name)), atol=1e-5, rtol=0
                )
        reference = score_pairs(scorer, model, pairs, row_tokens=4096, autocast=None)
        for number, tokens in enumerate(found.chosen):
            np.testing.assert_allclose(reference.chosen[number], tokens.numpy(), atol=1e-5)


def distinct(pairs: Sequence[EncodedPair]) -> int:
    """Beginnings of texts that a further token follows: what any model must compute."""
    texts = [tuple(map(int, (*pair.prompt, *side))) for pair in pairs for side in (pair.chosen, pair.rejected)]
    return len({text[:size] for text in texts for size in range(1, len(text))})


def test_prompt_and_chosen_answer_are_computed_once(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    pairs = PairEncoder(tokenizer, 200).encode(arc_rows(1)).pairs
    assert len(pairs) == 3
    with scoring(model) as scorer:
        layout = pair_layout(scorer, pairs).input
        alone = sum(pair_layout(scorer, [pair]).input.computed for pair in pairs)
    prompt, chosen = len(pairs[0].prompt), len(pairs[0].chosen)
    separate = prompt + chosen - 1 + sum(len(pair.rejected) - 1 for pair in pairs)
    assert distinct(pairs) <= layout.computed <= separate  # wrong answers begin as the right one
    assert layout.computed < distinct(pairs) + 2 * 3  # single tokens are not worth sharing
    assert alone > 2.3 * layout.computed
    assert layout.input_ids[0, :prompt].tolist() == pairs[0].prompt.tolist()


def test_prompts_that_begin_alike_share_from_64_tokens_on(model: LlamaForCausalLM) -> None:
    for shared, computed in ((63, 2 * (63 + 2 + 1 + 1)), (64, 64 + 2 * (2 + 1 + 1))):
        shots = np.arange(1, shared + 1, dtype=np.int32)
        pairs = [EncodedPair(np.append(shots, ids(100 + n, 9)), ids(120, 9), ids(130, 9)) for n in range(2)]
        with scoring(model) as scorer:
            assert pair_layout(scorer, pairs).input.computed == computed
            assert pair_rows(scorer, pairs, 134) == [[0, 1]]
            assert pair_rows(scorer, pairs, 133) == ([[0], [1]] if shared == 63 else [[0, 1]])


def test_rows_are_cut_between_questions(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    pairs = PairEncoder(tokenizer, 200).encode(arc_rows(3)).pairs
    with scoring(model) as scorer:
        sizes = [pair_layout(scorer, pairs[start : start + 3]).input.computed for start in (0, 3, 6)]
        # The second question's first pair would still fit.
        assert pair_rows(scorer, pairs, max(sizes) + 40) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
        assert pair_rows(scorer, pairs, 10) == [[number] for number in range(9)]
        mixed = [pairs[number] for number in (0, 3, 6, 1, 4, 7, 2, 5, 8)]
        for batch in scoring_batches(scorer, mixed, max(sizes)):
            assert len({mixed[number].prompt.tobytes() for number in batch}) == 1
            assert len(batch) == 3


def test_stored_pairs_are_drawn_and_scored_alike(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    listed = PairEncoder(tokenizer, 200).encode(arc_rows(5, (3, 2))).pairs
    store = PairStore(tmp_path)
    for pair in listed:
        store.append(pair)
    stored = store.read()
    assert list(QuestionSampler(stored, 4, 3)) == list(QuestionSampler(listed, 4, 3))
    with scoring(model) as scorer:
        assert scoring_batches(scorer, stored, 150) == scoring_batches(scorer, listed, 150)


def plain_loss(policy: Any, config: TrainingConfig, pairs: Sequence[EncodedPair], reference: TokenLogProbs) -> Tensor:
    """The mean loss by plain padded passes: each completion a row, padded on the right."""
    sums = []
    for side in ("chosen", "rejected"):
        texts = [np.concatenate([pair.prompt, getattr(pair, side)]) for pair in pairs]
        width = max(map(len, texts))
        rows = torch.tensor([[*text.tolist(), *[0] * (width - len(text))] for text in texts])
        mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts])
        log_probs = torch.log_softmax(policy(input_ids=rows, attention_mask=mask).logits[:, :-1], dim=-1)
        tokens = log_probs.gather(2, rows[:, 1:, None])[:, :, 0]
        scored = [torch.arange(width - 1) >= len(pair.prompt) - 1 for pair in pairs]
        inside = torch.stack(scored) & mask[:, 1:].bool()
        sums.append((tokens * inside).double().sum(dim=1))
    lengths = [torch.tensor([len(getattr(pair, side)) for pair in pairs]) for side in ("chosen", "rejected")]
    known = [torch.from_numpy(side) for side in reference.sums]
    scores = PairScores(sums[0], sums[1], known[0], known[1], *lengths)
    weights = torch.tensor([pair.weight for pair in pairs])
    return (preference_loss(config.loss, config.weights, scores) * weights).mean()


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("loss", ["dpo", "dpop", "simpo", "dpo_nll"])
def test_losses_and_gradients_are_those_of_plain_padded_passes(
    model: LlamaForCausalLM, pairs: list[EncodedPair], tmp_path: Path, loss: str, lora: bool
) -> None:
    """A whole batch, rows of few tokens, and two accumulated batches, against the model's own forward pass."""
    config = TrainingConfig.model_validate({"loss": loss, "batching": "question"})
    policy: Any = model
    if lora:
        torch.manual_seed(2)
        policy = get_peft_model(model, PeftLoraConfig(r=4, target_modules=["q_proj", "v_proj", "up_proj"]))
    with no_dropout(model), scoring(model) as scorer:
        assert scorer.way is Way.PACKED
        assert any(span.ancestors for span in pair_layout(scorer, pairs).input.spans)  # more than prompts and answers
        reference = score_pairs(scorer, model, pairs, row_tokens=4096, autocast=None)
        with torch.no_grad():  # a policy that is no longer its reference
            torch.manual_seed(1)
            for weight in policy.parameters():
                if weight.requires_grad:
                    weight.add_(0.05 * torch.randn_like(weight))
        trained = [weight for weight in policy.parameters() if weight.requires_grad]

        def gradient() -> Tensor:
            return torch.cat([weight.grad.flatten() for weight in trained if weight.grad is not None])

        expected = plain_loss(policy, config, pairs, reference)
        expected.backward()
        expected_gradient = gradient().clone()
        arguments = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True, disable_tqdm=True, max_steps=4)
        scored = ScoredPairs(pairs, reference)
        trainer = PairTrainer(
            policy, arguments, config=config, scorer=scorer, train_pairs=scored, eval_pairs=None, autocast=None,
            callbacks=[],
        )  # fmt: skip
        trainer.current_gradient_accumulation_steps = 1
        order = [int(number) for part in question_members(pairs) for number in part]
        for batches, row_tokens in (([order], 4096), ([order], 150), ([order[:5], order[5:]], 4096)):
            policy.zero_grad()
            collator = Collator(scorer, row_tokens)
            losses = [
                trainer.training_step(policy, collator([scored[number] for number in batch]), len(pairs))
                for batch in batches
            ]
            assert float(torch.stack(losses).detach().sum()) == pytest.approx(float(expected.detach()), abs=1e-5)
            torch.testing.assert_close(gradient(), expected_gradient, atol=1e-5, rtol=1e-5)
    assert float(expected_gradient.abs().max()) > 1e-4


def test_a_training_draws_questions_and_resumes_mid_epoch(run: Run, tmp_path: Path, rows_file: Path) -> None:
    """Thirty pairs, two batches of six accumulated: three steps an epoch; stopped in the second."""
    settings: dict[str, Any] = {"batching": "question", "batch_size": 6, "gradient_accumulation": 2, "steps": 8}
    notes: list[str] = []
    run("whole", config=settings, train_file=rows_file, on_note=notes.append)
    assert "batches of questions: 10 of up to 3 pairs, 10 of several" in notes
    log = tmp_path / "parts" / "log.jsonl"
    with pytest.raises(Interrupted, match="after step 4"):
        run(
            "parts",
            config=settings,
            train_file=rows_file,
            should_stop=lambda: any(row["step"] >= 3 for row in read_log(log)),
        )
    run("parts", config=settings, train_file=rows_file)
    plain = [{k: v for k, v in row.items() if k != "seconds"} for row in read_log(tmp_path / "whole" / "log.jsonl")]
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in read_log(log)] == plain
    run("pairs", config=settings | {"batching": "pairs"}, train_file=rows_file)
    other = [row["loss"] for row in read_log(tmp_path / "pairs" / "log.jsonl") if row["split"] == "train"]
    assert other[2:] != [row["loss"] for row in plain if row["split"] == "train"][2:]


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    from tests.trainers.conftest import write_rows

    return write_rows(tmp_path / "questions.jsonl", arc_rows(10))


def test_a_short_training_scores_the_reference_of_the_questions_it_draws(
    run: Run, rows_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[PairLayout] = []
    from smaug_eval.trainers import reference

    def watched(scorer: Any, pairs: Sequence[EncodedPair]) -> PairLayout:
        scored.append(pair_layout(scorer, pairs))
        return scored[-1]

    monkeypatch.setattr(reference, "pair_layout", watched)
    config = {"batching": "question", "batch_size": 6, "steps": 2, "eval_every": None}
    run("short", config=config, train_file=rows_file, eval_file=None)  # a loss that is no number would stop it
    assert sum(len(layout.lengths) for layout in scored) == 2 * 12


def test_settings_that_order_pairs_otherwise_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batching: question is for losses of pairs, and kto sets"):
        TrainingConfig.model_validate({"loss": "kto", "batching": "question"})
    assert PreferenceConfig(str(tmp_path), batching="question", use_cpu=True).settings().batching == "question"
    with pytest.raises(SmaugError, match="orders pairs otherwise than"):
        PreferenceConfig(str(tmp_path), batching="question", train_sampling_strategy="sequential", use_cpu=True)
