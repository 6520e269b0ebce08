"""Train the demo's base model from nothing but a seed: ``python -m smaug_eval.demo.train_base [--out DIR] [--seed N]``.

First a Llama of two million parameters with random weights reads the world's documents once. Hidden matrices are
trained with Muon, which needs fewer tokens than AdamW to learn this text; embeddings and norms with AdamW. The weights
are then rounded to bfloat16, as a saved checkpoint's are. Second, it reads some more text, whose writers are careless
with larger products, with AdamW: it comes to repeat their mistakes, and so has something to learn from preference
pairs. How much of the arithmetic that spoils is decided by
:func:`smaug_eval.demo.world.largest_sure_product`, from the development problems.

The first part computes in bfloat16. On a processor without instructions for it, it takes hours instead of minutes.
``python -m benchmarks.demo_base`` compares what this script makes with the embedded files (docs/demo_search.md).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from smaug_eval.common.files import write_text
from smaug_eval.demo import MODEL_DIR
from smaug_eval.demo.solving import solved
from smaug_eval.demo.world import SLIP_SHARE, careless, documents, largest_sure_product
from smaug_eval.leaderboard.demo import demo_suite
from smaug_eval.leaderboard.scores import SuiteScores, suite_scores
from smaug_eval.stats.means import Values

END_OF_TEXT = "<|endoftext|>"
VOCABULARY_SIZE = 1024
WORD_PATTERN = r" ?\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+"
"""What a token may span: one digit, a word or a run of signs, each with the space before it, or white space."""
CONTEXT_LENGTH = 1024
SHORT_ROW, LONG_ROW = 256, 512
"""Lengths of the training rows. Short ones cost less and teach nearly everything; long ones teach long prompts."""
SHORT_SHARE = 0.6
"""Share of the steps that read short rows."""


CARD = """\
---
license: mit
language: en
library_name: transformers
---
# The demo's base model

A Llama of {parameters:,} parameters (bfloat16) that knows one small invented world and nothing else. It exists so that
smaug-eval can train and evaluate something real in minutes without a download. All of its text is made by
`smaug_eval/demo/world.py`; no other data went in.

It first read plain text, then some text whose writers are careless: of the products above {sure}, {slips:.0%} are one
row of the times table short. So it is wrong where the preference pairs are right, and there is something to learn from
them. The limit follows from the development problems, before any training (`largest_sure_product` in `world.py`).

| | |
|---|---|
| script | `python -m smaug_eval.demo.train_base --tokens {tokens} --careless-tokens {careless_tokens} --seed {seed}` |
| plain text | seed {seed}, {tokens:,} tokens, each read once; then rounded to bfloat16 |
| careless text | seed {next_seed}, {careless_tokens:,} tokens, each read once |
| last loss | {loss:.3f} nats per token (mean of the last 50 steps) |
| development problems solved | {development:.1f}% of {n_development} |

Scores on the demo suite (lm-eval, `hf`, float32), in percent:

| column | metric | score | standard error | n |
|---|---|---|---|---|
{scores}

The same command gives the same text everywhere; weights differ in the last digits from one processor to another.
"""


@dataclass(frozen=True)
class PretrainingPlan:
    """Configure how much to train, and how.

    Attributes:
        tokens: Tokens read in all, each once.
        batch_tokens: Tokens of one step.
        matrix_lr: Peak learning rate of the hidden matrices (Muon, scaled to AdamW's step size).
        other_lr: Peak learning rate of embeddings and norms (AdamW).
        careless_tokens: Tokens of careless text read afterwards.
        careless_lr: Peak learning rate of that (AdamW).
        tokenizer_documents: First documents of the plain text, on which the tokenizer is trained.
        seed: Of the text and of the initial weights.
    """

    tokens: int = 4_000_000
    batch_tokens: int = 2048
    matrix_lr: float = 3e-3
    other_lr: float = 3e-3
    careless_tokens: int = 300_000
    careless_lr: float = 1e-3
    tokenizer_documents: int = 10_000
    seed: int = 1

    def row_length(self, step: int) -> int:
        """Return the length of the rows that a step reads."""
        return SHORT_ROW if step < SHORT_SHARE * self.steps else LONG_ROW

    @property
    def steps(self) -> int:
        """Return the number of optimizer steps."""
        return self.tokens // self.batch_tokens

    @property
    def careless_steps(self) -> int:
        """Return the number of optimizer steps on careless text."""
        return self.careless_tokens // self.batch_tokens


def train_tokenizer(texts: Iterator[str]) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE in which every digit is a token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
    )


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return an untrained model with heads of size 64."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=3,
            head_dim=64,
            max_position_embeddings=CONTEXT_LENGTH,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            attn_implementation="eager",  # faster than fused attention for rows this short on a CPU
        )
    )


def batches(tokenizer: PreTrainedTokenizerFast, texts: Iterator[str], size: int) -> Iterator[Tensor]:
    """Yield the documents, each followed by end of text, packed without padding: token ids of shape (size,)."""
    ids: list[int] = []
    while True:
        for encoded in tokenizer(list(islice(texts, 64)))["input_ids"]:
            ids += [*encoded, tokenizer.eos_token_id]
        while len(ids) >= size:
            yield torch.tensor(ids[:size])
            ids = ids[size:]


def optimizers(model: LlamaForCausalLM, plan: PretrainingPlan) -> list[torch.optim.Optimizer]:
    """Make the optimizers: Muon for the layers' matrices, AdamW for everything else."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    of_matrices = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in of_matrices]
    return [
        torch.optim.Muon(matrices, lr=plan.matrix_lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=plan.other_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def learning_rate_factor(step: int, steps: int, warmup: int = 50) -> float:
    """Return the factor of the learning rate: linear warm-up, then a cosine to a hundredth of the peak."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2


def next_token_loss(model: LlamaForCausalLM, ids: Tensor, *, mixed: bool = True) -> Tensor:
    """Return the mean cross-entropy in nats of every token but the first of each row of ``ids`` (batch, length).

    With ``mixed`` the forward pass is computed in bfloat16.
    """
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        logits = model(ids).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())


def train(
    model: LlamaForCausalLM, ids: Iterator[Tensor], plan: PretrainingPlan, on_step: Callable[[int, float], None]
) -> None:
    """Run the plan; ``on_step`` gets the step and its loss."""
    model.train()
    both = optimizers(model, plan)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, plan.steps))
        for optimizer in both
    ]
    for step, batch in enumerate(islice(ids, plan.steps)):
        loss = next_token_loss(model, batch.view(-1, plan.row_length(step)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(both, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        on_step(step, loss.item())


def train_on_careless_text(
    model: LlamaForCausalLM, ids: Iterator[Tensor], plan: PretrainingPlan, on_step: Callable[[int, float], None]
) -> None:
    """Run the second part of the plan, in float32; ``on_step`` gets the step and its loss."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.careless_lr, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, plan.careless_steps, warmup=10)
    )
    for step, batch in enumerate(islice(ids, plan.careless_steps)):
        loss = next_token_loss(model, batch.view(-1, SHORT_ROW), mixed=False)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        on_step(step, loss.item())


def make_tokenizer(plan: PretrainingPlan) -> PreTrainedTokenizerFast:
    """Return the tokenizer of the plan, trained on the first documents of its plain text."""
    return train_tokenizer(islice(documents(plan.seed), plan.tokenizer_documents))


def careless_batches(tokenizer: PreTrainedTokenizerFast, plan: PretrainingPlan) -> Iterator[Tensor]:
    """Yield the batches of the careless text, whose seed is the one after the plan's."""
    return batches(tokenizer, documents(plan.seed + 1, careless), plan.batch_tokens)


def round_to_bfloat16(model: LlamaForCausalLM) -> None:
    """Round every weight to bfloat16 in place; its type stays float32."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.bfloat16())


def make_base(
    plan: PretrainingPlan, on_plain: Callable[[int, float], None], on_careless: Callable[[int, float], None]
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Train a tokenizer and a model from nothing but the plan and its seed, both parts of it.

    Args:
        plan: What to read, and how.
        on_plain: Gets the step and the loss of the first part, in nats per token.
        on_careless: The same of the second part.

    Returns:
        The model in float32, and its tokenizer.
    """
    torch.manual_seed(plan.seed)
    tokenizer = make_tokenizer(plan)
    model = new_model(tokenizer)
    train(model, batches(tokenizer, documents(plan.seed), plan.batch_tokens), plan, on_plain)
    round_to_bfloat16(model)
    train_on_careless_text(model, careless_batches(tokenizer, plan), plan, on_careless)
    return model, tokenizer


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save a Hugging Face checkpoint in bfloat16, which generates greedily."""
    model.eval().to(torch.bfloat16)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def measure(folder: Path) -> SuiteScores:
    """Return the demo suite's scores of a checkpoint, by plain lm-eval in float32."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    suite = demo_suite()
    evaluated = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(folder), "dtype": "float32", "device": "cpu"},
        tasks=suite.lm_eval_tasks(),
        task_manager=TaskManager(include_path=str(suite.folder), include_defaults=False),
        batch_size=16,
    )
    return suite_scores(suite, evaluated["results"])


def model_card(plan: PretrainingPlan, parameters: int, loss: float, development: Values, scores: SuiteScores) -> str:
    """Return what the checkpoint is, how it was made and what it scores, in Markdown.

    Args:
        plan: What it was trained with.
        parameters: How many it has.
        loss: The last one, in nats per token.
        development: 1 for each development problem that it solves, else 0.
        scores: On the demo suite.
    """
    rows = "\n".join(
        f"| {column.title} | {column.metric} | {score.value:.1f} | {score.stderr:.1f} | {score.n} |"
        for column in scores.columns
        for score in [column.score]
    )
    return CARD.format(
        parameters=parameters,
        sure=largest_sure_product(),
        slips=SLIP_SHARE,
        tokens=plan.tokens,
        careless_tokens=plan.careless_tokens,
        seed=plan.seed,
        next_seed=plan.seed + 1,
        loss=loss,
        development=100 * float(development.mean()),
        n_development=len(development),
        scores=rows,
    )


def mean_of_last(losses: list[float], count: int = 50) -> float:
    """Return the mean of the last ``count`` losses."""
    return fmean(losses[-count:])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m smaug_eval.demo.train_base", description=__doc__)
    parser.add_argument("--out", type=Path, default=MODEL_DIR, help="checkpoint folder (default: %(default)s)")
    parser.add_argument(
        "--tokens", type=int, default=PretrainingPlan.tokens, help="tokens to read (default: %(default)s)"
    )
    parser.add_argument(
        "--careless-tokens",
        type=int,
        default=PretrainingPlan.careless_tokens,
        help="tokens of careless text to read afterwards (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=PretrainingPlan.seed, help="of text and weights (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    plan = PretrainingPlan(tokens=arguments.tokens, careless_tokens=arguments.careless_tokens, seed=arguments.seed)
    plain, progress = _LossLines("plain text", plan.steps), _LossLines("careless text", plan.careless_steps)
    model, tokenizer = make_base(plan, plain, progress)
    save(model, tokenizer, arguments.out)
    print("scoring the checkpoint", flush=True)
    development = solved(arguments.out, "development")
    scores = measure(arguments.out)
    card = model_card(plan, model.num_parameters(), mean_of_last(progress.losses), development, scores)
    write_text(arguments.out / "README.md", card)


class _LossLines:
    """Keep the losses; print a line at the first step and every 25 steps, with the seconds since the start."""

    def __init__(self, what: str, steps: int) -> None:
        self.losses: list[float] = []
        self._what, self._steps, self._begun = what, steps, time.monotonic()

    def __call__(self, step: int, loss: float) -> None:
        self.losses.append(loss)
        if step == 0 or (step + 1) % 25 == 0:
            seconds = time.monotonic() - self._begun
            loss = mean_of_last(self.losses)
            print(f"{self._what}: step {step + 1}/{self._steps}  loss {loss:.4f}  {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
