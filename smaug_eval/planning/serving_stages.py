"""Estimate the stages in which a model answers on a machine: evaluations, and dialogues."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from smaug_eval.common.served.budget import Tokens
from smaug_eval.engines.served.settings import read_api_settings
from smaug_eval.leaderboard.registry import find_suite
from smaug_eval.mt_bench.config import MtBenchConfig
from smaug_eval.planning.machines import BANDWIDTH_SHARE
from smaug_eval.planning.memory import serving_memory, stored_bytes
from smaug_eval.planning.placement import Placement
from smaug_eval.planning.plans import RequestPlan, StagePlan
from smaug_eval.planning.work import (
    ANSWER_TOKENS,
    COUNTED_SUITES,
    DIALOGUES,
    QUESTION_TOKENS,
    TURNS,
    TextWork,
    forward_flops,
)
from smaug_eval.runs.recipe_entries import EvaluationConfig

SERVED_TOKENS = 4096
"""Tokens whose keys and values must fit beside the weights of a model that answers."""
WRITING_AT_A_TIME = 64
"""Answers that an engine writes at a time: our assumption."""


def evaluation_plan(name: str, evaluation: EvaluationConfig, placed: Placement, *, quantised: bool) -> StagePlan:
    """Return what an evaluation of a model takes; no time where the suite's documents are not known here.

    Args:
        name: The stage's.
        evaluation: Its keys.
        placed: The model.
        quantised: Whether its weights stay as they are stored.
    """
    works = _works(evaluation)
    gpus = _engine_gpus(evaluation.engine_args)
    tokens, seconds, written = [0.0, 0.0], [0.0, 0.0], 0.0
    for work in works:
        documents = _limited(work.documents, evaluation.limit)
        written += documents * work.written
        for index, length in enumerate((work.shared, work.whole)):
            flops = forward_flops(placed.shape, length, work.shared, 0) + 2.0 * placed.shape.head
            tokens[index] += documents * length
            seconds[index] += documents * flops / (placed.flops * gpus)
    writing = _writing_seconds(written, gpus, placed, quantised=quantised)
    seconds = [taken + writing for taken in seconds]
    return _serving(name, tokens, seconds, evaluation.engine_args, placed, quantised=quantised)


def dialogues_plan(name: str, dialogues: MtBenchConfig, placed: Placement, *, quantised: bool) -> StagePlan:
    """Return what a model's answers to a question set take; arguments as of :func:`evaluation_plan`."""
    gpus, (questions, turns) = _engine_gpus(dialogues.engine_args), dialogues_asked(dialogues)
    answers = questions * turns
    written = float(answers * ANSWER_TOKENS)
    read = float(answers * QUESTION_TOKENS * 2)
    seconds = forward_flops(placed.shape, read + written, ANSWER_TOKENS, written) / (placed.flops * gpus)
    seconds += _writing_seconds(written, gpus, placed, quantised=quantised)
    return _serving(name, [read + written] * 2, [seconds] * 2, dialogues.engine_args, placed, quantised=quantised)


def dialogues_asked(dialogues: MtBenchConfig) -> tuple[int, int]:
    """Return how many questions are asked and turns of each: as many as MT-Bench has, or as are asked for."""
    return min(DIALOGUES, dialogues.limit or DIALOGUES), min(TURNS, dialogues.turns or TURNS)


def request_plan(name: str, dialogues: MtBenchConfig) -> RequestPlan:
    """Return the requests to a served model: one for each turn, with the questions' mean length."""
    questions, turns = dialogues_asked(dialogues)
    # A later turn is read behind those before it, whose answers may be as long as they can.
    read = sum((turn + 1) * QUESTION_TOKENS + turn * dialogues.max_new_tokens for turn in range(turns)) * questions
    tokens = Tokens(read, questions * turns * dialogues.max_new_tokens)
    prices = read_api_settings(dialogues.engine_args).budget().prices
    cost = None if prices is None else prices.of(tokens)
    return RequestPlan(name=name, calls=questions * turns, read=tokens.prompt, written=tokens.completion, cost=cost)


def _serving(
    name: str,
    tokens: Sequence[float],
    seconds: Sequence[float],
    engine_args: Mapping[str, Any],
    placed: Placement,
    *,
    quantised: bool,
) -> StagePlan:
    """What a model takes that answers; ``quantised``: with its weights as they are stored."""
    machine = placed.machine
    shards = int(engine_args.get("tensor_parallel_size", 1)) * int(engine_args.get("pipeline_parallel_size", 1))
    gpus = _engine_gpus(engine_args)
    memory = partial(serving_memory, placed.shape, placed.dtype, quantised=quantised)
    weights, total = memory(shards, 0), memory(shards, SERVED_TOKENS)
    parts = {"weights": weights, "keys and values": total - weights}
    stage = placed.stage(name, tokens, seconds, gpus, parts, total)
    if gpus > machine.count:
        stage.fits = False
        stage.problems.append(f"the engine is set to use {gpus} GPUs, and there are {machine.count}")
    if total > machine.usable:
        for more in (2, 4, 8, 16):
            if memory(more, SERVED_TOKENS) <= machine.usable:
                stage.changes.append(f"engine_args: {{tensor_parallel_size: {more}}}")
                break
    return stage


def _writing_seconds(tokens: float, gpus: int, placed: Placement, *, quantised: bool) -> float:
    """To read all weights once for each token of ``WRITING_AT_A_TIME`` answers."""
    weights = stored_bytes(placed.shape, placed.dtype, quantised=quantised)
    return tokens / WRITING_AT_A_TIME * weights / (gpus * placed.machine.gpu.bandwidth * BANDWIDTH_SHARE)


def _limited(documents: int, limit: float | None) -> int:
    """The first documents, or the share of them, rounded up."""
    if limit is None:
        return documents
    return math.ceil(documents * limit) if limit < 1 else min(documents, int(limit))


def _works(evaluation: EvaluationConfig) -> list[TextWork]:
    """The leaderboard's columns of an evaluation; none of suites whose documents are not known here."""
    counted = COUNTED_SUITES.get(evaluation.suite)
    if counted is None:
        return []
    columns = find_suite(evaluation.suite).select(evaluation.tasks or None)
    return [counted[column.title] for column in columns]


def _engine_gpus(engine_args: Mapping[str, Any]) -> int:
    sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    product = 1
    for size in sizes:
        product *= int(engine_args.get(size, 1))
    return product
