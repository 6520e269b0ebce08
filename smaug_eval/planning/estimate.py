"""Estimate a recipe on a machine: what each stage needs and takes, what does not fit, and what to change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.names import given_path
from smaug_eval.common.served.budget import Tokens
from smaug_eval.engines.served.settings import read_api_settings
from smaug_eval.leaderboard.registry import find_suite
from smaug_eval.models.adapter_files import ADAPTER_CONFIG
from smaug_eval.models.checkpoint import served_name
from smaug_eval.models.quantised import Quantisation, Use, refuse_kind
from smaug_eval.mt_bench.config import API, MtBenchConfig
from smaug_eval.planning.figures import PairFigures, pair_figures
from smaug_eval.planning.machines import BANDWIDTH_SHARE, COMPUTE_SHARE, RUNTIME_BYTES, USABLE, Machine
from smaug_eval.planning.memory import (
    MemorySetting,
    Sharing,
    serving_memory,
    sharing_of,
    stored_bytes,
    trained_weights,
    training_memory,
)
from smaug_eval.planning.shapes import ModelShape, model_shape
from smaug_eval.planning.work import (
    ANSWER_TOKENS,
    COUNTED_SUITES,
    DIALOGUES,
    QUESTION_TOKENS,
    TURNS,
    TextWork,
    forward_flops,
    pair_flops,
    pair_tokens,
    pairs_seen,
    steps_of,
    training_flops,
)
from smaug_eval.runs.lineage import START, trained_part
from smaug_eval.runs.recipe import BASE, Recipe
from smaug_eval.runs.recipe_entries import EvaluationConfig
from smaug_eval.trainers.config import LoraConfig, TrainingConfig
from smaug_eval.trainers.launch import process_number

SERVED_TOKENS = 4096
"""Tokens whose keys and values must fit beside the weights of a model that answers."""
WRITING_AT_A_TIME = 64
"""Answers that an engine writes at a time: our assumption."""
_HOUR = 3600.0


class StagePlan(BaseModel):
    """Hold what one stage takes."""

    name: str = Field(description="The stage, as a run names it.")
    tokens: float = Field(description="Tokens that go through the model.")
    tokens_unshared: float = Field(description="The same without prefix sharing.")
    gpus: int = Field(description="GPUs that compute at a time.")
    hours: float = Field(description="Hours.")
    hours_unshared: float = Field(description="Hours without prefix sharing.")
    share: float = Field(0.0, description="Share of the run's hours.")
    steps: int | None = Field(None, description="Optimiser steps of a training.")
    memory: dict[str, float] = Field(description="Bytes on the fullest GPU by purpose, with the longest texts.")
    memory_total: float = Field(description="The most of them at a time.")
    fits: bool = Field(description="Whether that is within what may be filled.")
    problems: list[str] = Field(description="Why the stage cannot run.")
    changes: list[str] = Field(description="Changes of which each alone makes it fit.")


class RequestPlan(BaseModel):
    """Hold the requests to a served model in dialogues."""

    name: str = Field(description="The stage, as a run names it.")
    calls: int = Field(description="Requests, without those that are repeated.")
    read: int = Field(description="Tokens that the model reads, about.")
    written: int = Field(description="The most tokens that it writes.")
    cost: float | None = Field(description="The most that they cost; none without prices.")


class MachinePlan(BaseModel):
    """Hold the plan of a recipe on one machine."""

    machine: str = Field(description="The GPUs.")
    usable: float = Field(description="Bytes of each that may be filled.")
    stages: list[StagePlan] = Field(description="In the order of the run.")
    hours: float = Field(description="Hours of all stages.")
    hours_unshared: float = Field(description="Hours without prefix sharing.")
    fits: bool = Field(description="Whether every stage fits.")


class RecipePlan(BaseModel):
    """Hold the plans of a recipe on some machines."""

    recipe: str = Field(description="The recipe's name.")
    model: str = Field(description="Its base model.")
    model_source: str = Field(description="Where the model's configuration is from.")
    parameters: int = Field(description="The base's weights.")
    stored: str | None = Field(None, description="How they are stored, where that is quantised.")
    trained: dict[str, int] = Field(description="Weights that each training changes.")
    pairs: dict[str, dict[str, Any]] = Field(description="Number, mean lengths and source of each pair set trained on.")
    assumptions: list[str] = Field(description="What the figures rest on.")
    machines: list[MachinePlan] = Field(description="One plan for each machine.")
    requests: list[RequestPlan] = Field([], description="Requests to served models in dialogues.")


def plan_recipe(
    recipe: Recipe, machines: Sequence[Machine], *, run: Path | None = None, utilisation: float = COMPUTE_SHARE
) -> RecipePlan:
    """Return what a recipe takes on each of some machines. Nothing is loaded but the model's configuration.

    Args:
        recipe: The recipe.
        machines: GPUs.
        run: The recipe's run directory, for pairs that are built already.
        utilisation: Share of the peak FLOP/s that is reached.

    Raises:
        SmaugError: the model's configuration or figures of the pairs cannot be had.
    """
    given = recipe.given_models
    shapes = {
        name: model_shape(model.path, model.revision) for name, model in given.items() if not served_name(model.path)
    }
    requests = list(_requests(recipe))
    if not shapes and requests:
        return RecipePlan(
            recipe=recipe.name,
            model=", ".join(model.path for model in given.values()),
            model_source="none: a server has it",
            parameters=0,
            trained={},
            pairs={},
            assumptions=list(_left_out(recipe)),
            machines=[],
            requests=requests,
        )
    if not shapes:
        raise SmaugError(
            f"{recipe.name}: every model is served, so that nothing is computed on a GPU of this run",
            fix="plan a recipe with weights of its own",
        )
    for name, each in shapes.items():
        if each.stored is not None:
            _check_stored(recipe, name, each.stored)
    first, shape = next(iter(shapes.items()))
    starts = {name: _start_shape(recipe, name, shape) for name in recipe.trainings}
    used = {str(training.pairs): None for training in recipe.trainings.values()}
    figures = {name: pair_figures(recipe, name, run) for name in used}
    return RecipePlan(
        recipe=recipe.name,
        model=", ".join(dict.fromkeys(each.name for each in shapes.values())),
        model_source=shape.note,
        parameters=shape.parameters,
        stored=None if shape.stored is None else shape.stored.name,
        trained={name: trained_weights(starts[name], training) for name, training in recipe.trainings.items()},
        pairs={name: vars(part) for name, part in figures.items()},
        assumptions=[*_assumptions(utilisation, shape), *_left_out(recipe), *_early_stops(recipe)],
        machines=[
            _Planner(recipe, shape, recipe.spec_of(first).dtype, figures, machine, utilisation, starts | shapes).plan()
            for machine in machines
        ],
        requests=requests,
    )


def _requests(recipe: Recipe) -> Iterator[RequestPlan]:
    """Requests to each served model in dialogues, one for each turn, with the question's mean length."""
    for name, dialogues in recipe.mt_bench.items():
        for model in recipe.models_of(dialogues):
            entry = dialogues.of(model)
            if entry.engine != API:
                continue
            first, turns = _dialogues_asked(entry)
            # A later turn is read behind those before it, whose answers may be as long as they can.
            read = sum((turn + 1) * QUESTION_TOKENS + turn * entry.max_new_tokens for turn in range(turns)) * first
            tokens = Tokens(read, first * turns * entry.max_new_tokens)
            prices = read_api_settings(entry.engine_args).budget().prices
            cost = None if prices is None else prices.of(tokens)
            told = {"calls": first * turns, "read": tokens.prompt, "written": tokens.completion, "cost": cost}
            yield RequestPlan(name=f"mt-bench/{model}/{name}", **told)


def _dialogues_asked(entry: MtBenchConfig) -> tuple[int, int]:
    """Questions and turns of each: as many as MT-Bench has, or as are asked for."""
    return min(DIALOGUES, entry.limit or DIALOGUES), min(TURNS, entry.turns or TURNS)


def _start_shape(recipe: Recipe, training: str, base: ModelShape) -> ModelShape:
    """The sizes of the model that a training starts from, which its result has, too."""
    return _shape_named(recipe, recipe.trainings[training].start, base)


def _shape_named(recipe: Recipe, value: str | None, base: ModelShape) -> ModelShape:
    """The sizes of what ``start`` or ``reference`` names; an adapter's are those of the base."""
    if value in (None, BASE):
        return base
    part = trained_part(value, recipe.trainings)
    if part is not None:
        return _start_shape(recipe, part.training, base)
    is_adapter = (given_path(str(value)) / ADAPTER_CONFIG).is_file()
    return base if is_adapter else model_shape(str(value), None)


def _check_stored(recipe: Recipe, model: str, stored: Quantisation) -> None:
    """Refuse what a run would refuse to do with quantised weights, and what their size is not known of.

    Raises:
        SmaugError: it is one of them.
    """
    name = recipe.spec_of(model).path
    for training in recipe.trainings.values() if model == BASE else ():
        refuse_kind(name, stored, Use.TRAINING if training.lora is None else Use.ADAPTER)
    if stored.bits is None:
        raise SmaugError(
            f"model {name!r} holds {stored.name} weights, whose size plan does not know",
            fix="plan the model that it was quantised from",
        )


def _early_stops(recipe: Recipe) -> list[str]:
    return [
        f"evaluations.{name} stops when it is decided: its hours are those of all documents, the most it can take"
        for name, evaluation in recipe.evaluations.items()
        if evaluation.stop is not None
    ]


def _assumptions(utilisation: float, shape: ModelShape) -> list[str]:
    stored = shape.stored
    how = (
        []
        if stored is None
        else [
            f"the base's matrices stay as they are stored, {stored.name}; what is trained from them is saved in "
            f"{shape.dtype}"
        ]
    )
    return [
        *how,
        f"compute reaches {utilisation:.0%} of the data sheet's dense bfloat16 FLOP/s, writing {BANDWIDTH_SHARE:.0%} "
        "of its memory bandwidth",
        f"of each GPU's memory {RUNTIME_BYTES / 1e9:g} GB go to the runtime, and {USABLE:.0%} of the rest can be "
        "filled",
        "memory is that of rows filled with the longest pairs that max_length allows; hours are those of mean pairs",
        "benchmarks: official numbers of documents, mean lengths of the first 12 of each in Pythia's tokens (of GPQA "
        f"and MuSR assumed ones); answers of MT-Bench have {ANSWER_TOKENS} tokens",
        "without time to load models, save checkpoints, search the pairs for test documents, or wait for a judge",
    ]


def _left_out(recipe: Recipe) -> Iterator[str]:
    """What the hours do not hold."""
    if others := [name for name, each in recipe.evaluations.items() if each.suite not in COUNTED_SUITES]:
        yield f"evaluations whose documents plan does not know take no time here: {', '.join(others)}"
    for name, each in recipe.evaluations.items():
        if each.thinking is not None or each.repeats > 1:
            yield f"evaluation {name}: thinking is not counted, and each repeat takes as long again"
    if served := [name for name, model in recipe.given_models.items() if served_name(model.path)]:
        yield f"served models are computed elsewhere and take no time here: {', '.join(served)}"


@dataclass(frozen=True)
class _Planner:
    recipe: Recipe
    shape: ModelShape
    wanted: str
    figures: Mapping[str, PairFigures]
    machine: Machine
    utilisation: float
    shapes: Mapping[str, ModelShape]

    @property
    def dtype(self) -> str:
        return self.shape.dtype if self.wanted == "auto" else self.wanted

    @property
    def flops(self) -> float:
        """FLOP/s of one GPU."""
        return self.machine.gpu.flops * self.utilisation

    def plan(self) -> MachinePlan:
        stages = list(self._stages())
        hours = sum(stage.hours for stage in stages)
        for stage in stages:
            stage.share = stage.hours / hours if hours else 0.0
        return MachinePlan(
            machine=self.machine.name,
            usable=self.machine.usable,
            stages=stages,
            hours=hours,
            hours_unshared=sum(stage.hours_unshared for stage in stages),
            fits=all(stage.fits for stage in stages),
        )

    def _stages(self) -> Iterator[StagePlan]:
        scored: set[tuple[Any, ...]] = set()
        for name, training in self.recipe.trainings.items():
            # Trainings held against one model on the same pairs, cut and computed alike, score the reference once.
            lora = training.lora.quantize if training.lora else None
            named = training.start if training.reference in (None, START) else training.reference
            rows = (training.pairs, training.entry.unpaired, training.max_length)
            key = (named or BASE, *rows, self.dtype, training.lora is None, lora)
            if key not in scored:
                reference = _shape_named(self.recipe, named, self.shape)
                yield replace(self, shape=reference)._reference(name, training)
            scored.add(key)
            of_start = replace(self, shape=self.shapes[name])
            trained = of_start._training(name, training)
            yield trained
            yield from of_start._checkpoints(name, training, trained.steps or 0)
        for model in self.recipe.model_names:
            if served_name(self.recipe.spec_of(model).path):
                continue
            shape = self.shapes.get(model, self.shape)
            yield from replace(self, shape=shape, wanted=self.recipe.spec_of(model).dtype)._measurements(model)

    def _measurements(self, model: str) -> Iterator[StagePlan]:
        """What one model is measured on; those that are there keep their weights as they are stored."""
        given = model in self.recipe.given_models
        for name, evaluation in self.recipe.evaluations.items():
            if model in self.recipe.models_of(evaluation):
                yield self._evaluation(f"eval/{model}/{name}", evaluation, given)
        for name, dialogues in self.recipe.mt_bench.items():
            if model in self.recipe.models_of(dialogues) and dialogues.of(model).engine != API:
                yield self._dialogues(f"mt-bench/{model}/{name}", dialogues, given)

    def _checkpoints(self, name: str, training: TrainingConfig, steps: int) -> Iterator[StagePlan]:
        """What the scores of a training's checkpoints take: of its start, those in between, and its end."""
        if training.evaluate is None:
            return
        number = 2 + max(0, steps - 1) // training.evaluate.every
        for evaluation in training.evaluate.evaluations:
            one = self._evaluation(f"curve/{name}/{evaluation}", self.recipe.evaluations[evaluation], False)
            for key in ("tokens", "tokens_unshared", "hours", "hours_unshared"):
                setattr(one, key, number * getattr(one, key))
            yield one

    def _setting(self, training: TrainingConfig) -> MemorySetting:
        sharing = sharing_of(training.launch)
        processes = 1 if training.launch is None else process_number(training.launch)
        longest = self._figures(training).longest(self._length(training), together=training.batching == "question")
        return MemorySetting(training, self.dtype, sharing, processes, self.machine.count, longest)

    def _figures(self, training: TrainingConfig) -> PairFigures:
        """What a training reads: pairs, or the completions that it makes of them."""
        figures = self.figures[str(training.pairs)]
        return figures.completions() if training.entry.unpaired else figures

    def _length(self, training: TrainingConfig) -> int:
        return min(training.max_length, self.shape.context or training.max_length)

    def _reference(self, name: str, training: TrainingConfig) -> StagePlan:
        figures, setting = self._figures(training), self._setting(training)
        # Where nothing trains, the pairs of a question always go together.
        pair, pairs = figures.within(self._length(training), together=True), figures.pairs + figures.held_out
        memory = training_memory(self.shape, setting)
        seconds = [
            pairs * pair_flops(self.shape, pair, share) / (self.flops * setting.processes)
            for share in (training.share_prefix, False)
        ]
        held = {"weights": memory.weights, "gathered": memory.gathered}
        return self._stage(
            f"reference/{name}",
            [pairs * pair_tokens(pair, share) for share in (training.share_prefix, False)],
            seconds,
            setting.processes,
            held,
            sum(held.values()),
        )

    def _training(self, name: str, training: TrainingConfig) -> StagePlan:
        figures, setting = self._figures(training), self._setting(training)
        length = self._length(training)
        pair = figures.within(length, together=training.batching == "question")
        held_out = figures.within(length, together=True)
        steps = steps_of(training, figures.pairs, setting.processes)
        trained = pairs_seen(training, figures.pairs, setting.processes)
        looks = 0 if not figures.held_out else 2 + steps // (training.eval_every or steps + 1)
        # KTO's divergence is that of a whole batch: where that has several parts, each is scored once more before.
        parted = setting.pairs_at_a_time < training.batch_size or setting.processes > 1
        twice = training.entry.unpaired and parted
        tokens, seconds = [], []
        for share in (training.share_prefix, False):
            each = training_flops(self.shape, training, pair, share, setting.pairs_at_a_time)
            each += twice * pair_flops(self.shape, pair, share)
            looked = looks * figures.held_out
            work = trained * each + looked * pair_flops(self.shape, held_out, share)
            seconds.append(work / (self.flops * setting.processes))
            tokens.append(trained * pair_tokens(pair, share) + looked * pair_tokens(held_out, share))
        memory = training_memory(self.shape, setting)
        parts = {key: getattr(memory, key) for key in ("weights", "gradients", "optimiser", "gathered", "activations")}
        stage = self._stage(f"train/{name}", tokens, seconds, setting.processes, parts, memory.total)
        stage.steps = steps
        if setting.processes > self.machine.count:
            stage.fits = False
            stage.problems.append(f"{setting.processes} processes, but {self.machine.count} GPUs")
            stage.changes.append(f"{setting.processes} GPUs")
            fewer = _with(setting, processes=self.machine.count)
            if training_memory(self.shape, fewer).total <= self.machine.usable:
                stage.changes.append(f"--set trainings.{name}.launch.processes={self.machine.count}")
        if memory.total > self.machine.usable:
            stage.changes += self._changes(name, setting)
        return stage

    def _changes(self, name: str, setting: MemorySetting) -> list[str]:
        """Changes of a training of which each alone makes it fit."""
        fitting = []
        for words, change in _CHANGES.items():
            if self.shape.stored is not None and change in (_qlora, _sharded):
                continue  # the base is quantised as it is, and cannot be sharded
            changed = change(setting)
            if changed is not None and training_memory(self.shape, changed).total <= self.machine.usable:
                fitting.append(words)
        for gpus in (2, 4, 8, 16, 32, 64):
            if gpus <= setting.gpus or not (setting.sharing.is_sharded or setting.sharing is Sharing.SINGLE):
                continue
            more = _with(setting, processes=gpus if setting.sharing.is_sharded else 1, gpus=gpus)
            if training_memory(self.shape, more).total <= self.machine.usable:
                fitting.append(f"{gpus} GPUs")
                break
        return fitting or [f"trainings.{name}: no single change is enough: combine LoRA, shorter rows and more GPUs"]

    def _evaluation(self, name: str, evaluation: EvaluationConfig, quantised: bool) -> StagePlan:
        works = _works(evaluation)
        gpus = _engine_gpus(evaluation.engine_args)
        tokens, seconds, written = [0.0, 0.0], [0.0, 0.0], 0.0
        for work in works:
            documents = _limited(work.documents, evaluation.limit)
            written += documents * work.written
            for index, length in enumerate((work.shared, work.whole)):
                flops = forward_flops(self.shape, length, work.shared, 0) + 2.0 * self.shape.head
                tokens[index] += documents * length
                seconds[index] += documents * flops / (self.flops * gpus)
        writing = self._writing_seconds(written, gpus, quantised)
        seconds = [taken + writing for taken in seconds]
        return self._serving(name, tokens, seconds, evaluation.engine_args, quantised)

    def _dialogues(self, name: str, dialogues: MtBenchConfig, quantised: bool) -> StagePlan:
        gpus, (questions, turns) = _engine_gpus(dialogues.engine_args), _dialogues_asked(dialogues)
        answers = questions * turns
        written = float(answers * ANSWER_TOKENS)
        read = float(answers * QUESTION_TOKENS * 2)
        seconds = forward_flops(self.shape, read + written, ANSWER_TOKENS, written) / (self.flops * gpus)
        seconds += self._writing_seconds(written, gpus, quantised)
        return self._serving(name, [read + written] * 2, [seconds] * 2, dialogues.engine_args, quantised)

    def _writing_seconds(self, tokens: float, gpus: int, quantised: bool) -> float:
        """To read all weights once for each token of ``WRITING_AT_A_TIME`` answers."""
        weights = stored_bytes(self.shape, self.dtype, quantised=quantised)
        return tokens / WRITING_AT_A_TIME * weights / (gpus * self.machine.gpu.bandwidth * BANDWIDTH_SHARE)

    def _serving(
        self,
        name: str,
        tokens: Sequence[float],
        seconds: Sequence[float],
        engine_args: Mapping[str, Any],
        quantised: bool,
    ) -> StagePlan:
        """What a model takes that answers; ``quantised``: with its weights as they are stored."""
        shards = int(engine_args.get("tensor_parallel_size", 1)) * int(engine_args.get("pipeline_parallel_size", 1))
        gpus = _engine_gpus(engine_args)
        memory = partial(serving_memory, self.shape, self.dtype, quantised=quantised)
        weights, total = memory(shards, 0), memory(shards, SERVED_TOKENS)
        parts = {"weights": weights, "keys and values": total - weights}
        stage = self._stage(name, tokens, seconds, gpus, parts, total)
        if gpus > self.machine.count:
            stage.fits = False
            stage.problems.append(f"the engine is set to use {gpus} GPUs, and there are {self.machine.count}")
        if total > self.machine.usable:
            for more in (2, 4, 8, 16):
                if memory(more, SERVED_TOKENS) <= self.machine.usable:
                    stage.changes.append(f"engine_args: {{tensor_parallel_size: {more}}}")
                    break
        return stage

    def _stage(
        self,
        name: str,
        tokens: Sequence[float],
        seconds: Sequence[float],
        gpus: int,
        parts: Mapping[str, float],
        total: float,
    ) -> StagePlan:
        fits = total <= self.machine.usable
        short = f"{total / 1e9:,.1f} GB a GPU, and {self.machine.usable / 1e9:,.1f} GB of it may be filled"
        return StagePlan(
            name=name,
            tokens=tokens[0],
            tokens_unshared=tokens[1],
            gpus=gpus,
            hours=seconds[0] / _HOUR,
            hours_unshared=seconds[1] / _HOUR,
            memory=dict(parts),
            memory_total=total,
            fits=fits,
            problems=[] if fits else [f"needs {short}"],
            changes=[],
        )


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


def _with(setting: MemorySetting, **changes: Any) -> MemorySetting:
    return MemorySetting(**{**vars(setting), **changes})


def _config(setting: MemorySetting, **changes: Any) -> MemorySetting:
    return _with(setting, config=setting.config.model_copy(update=changes))


def _checkpointing(setting: MemorySetting) -> MemorySetting | None:
    return None if setting.config.gradient_checkpointing else _config(setting, gradient_checkpointing=True)


def _one_pair(setting: MemorySetting) -> MemorySetting | None:
    return None if setting.config.batch_size == 1 else _config(setting, batch_size=1)


def _shorter(setting: MemorySetting) -> MemorySetting:
    pair = setting.longest
    half = type(pair)(*(max(1, part // 2) for part in vars(pair).values()))
    changed = _config(setting, row_tokens=max(1, setting.config.row_tokens // 2))
    return _with(changed, longest=half)


def _lora(setting: MemorySetting) -> MemorySetting | None:
    return _config(setting, lora=LoraConfig(), gradient_checkpointing=True) if setting.config.lora is None else None


def _qlora(setting: MemorySetting) -> MemorySetting | None:
    lora = setting.config.lora or LoraConfig()
    if lora.quantize == "nf4":
        return None
    changed = _config(setting, lora=lora.model_copy(update={"quantize": "nf4"}), gradient_checkpointing=True)
    return _with(changed, sharing=Sharing.COPIES, processes=setting.gpus)


def _sharded(setting: MemorySetting) -> MemorySetting | None:
    quantised = setting.config.lora is not None and setting.config.lora.quantize is not None
    if setting.sharing.is_sharded or setting.gpus == 1 or quantised:
        return None
    return _with(setting, sharing=Sharing.FSDP2, processes=setting.gpus)


_CHANGES: Mapping[str, Callable[[MemorySetting], MemorySetting | None]] = {
    "gradient_checkpointing: true": _checkpointing,
    "batch_size: 1 (raise gradient_accumulation to match)": _one_pair,
    "half the max_length and row_tokens": _shorter,
    "launch: accelerate/fsdp2.yaml (weights spread over all GPUs)": _sharded,
    "lora: {r: 16} with gradient_checkpointing": _lora,
    "lora: {quantize: nf4} with gradient_checkpointing, launch: accelerate/ddp.yaml": _qlora,
}
