"""Estimate a recipe on machines: its stages in the order of a run, their hours, and what the figures rest on.

What a plan holds is in :mod:`~smaug_eval.planning.plans`; the stages of trainings and those in which models answer are
estimated in :mod:`~smaug_eval.planning.training_stages` and :mod:`~smaug_eval.planning.serving_stages`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.names import given_path
from smaug_eval.models.adapter_files import ADAPTER_CONFIG
from smaug_eval.models.checkpoint import served_name
from smaug_eval.models.quantised import Quantisation, Use, refuse_kind
from smaug_eval.mt_bench.config import API
from smaug_eval.planning.figures import PairFigures, pair_figures
from smaug_eval.planning.machines import BANDWIDTH_SHARE, COMPUTE_SHARE, RUNTIME_BYTES, USABLE, Machine
from smaug_eval.planning.memory import trained_weights
from smaug_eval.planning.placement import Placement
from smaug_eval.planning.plans import MachinePlan, RecipePlan, RequestPlan, StagePlan
from smaug_eval.planning.serving_stages import dialogues_plan, evaluation_plan, request_plan
from smaug_eval.planning.shapes import ModelShape, model_shape
from smaug_eval.planning.training_stages import TrainingEstimate
from smaug_eval.planning.work import ANSWER_TOKENS, COUNTED_SUITES
from smaug_eval.runs.lineage import START, trained_part
from smaug_eval.runs.recipe import BASE, Recipe
from smaug_eval.trainers.config import TrainingConfig


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
            _Planner(
                recipe, figures, starts | shapes, Placement(shape, recipe.spec_of(first).dtype, machine, utilisation)
            ).plan()
            for machine in machines
        ],
        requests=requests,
    )


def _requests(recipe: Recipe) -> Iterator[RequestPlan]:
    """The requests to each served model in dialogues."""
    for name, dialogues in recipe.mt_bench.items():
        for model in recipe.models_of(dialogues):
            entry = dialogues.of(model)
            if entry.engine == API:
                yield request_plan(f"mt-bench/{model}/{name}", entry)


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
    """Estimates a recipe on one machine.

    Attributes:
        recipe: The recipe.
        figures: Of each pair set trained on.
        shapes: Of the models that are there, by name, and of those that trainings start from, by the training's.
        base: The base model.
    """

    recipe: Recipe
    figures: Mapping[str, PairFigures]
    shapes: Mapping[str, ModelShape]
    base: Placement

    def plan(self) -> MachinePlan:
        stages = list(self._stages())
        hours = sum(stage.hours for stage in stages)
        for stage in stages:
            stage.share = stage.hours / hours if hours else 0.0
        return MachinePlan(
            machine=self.base.machine.name,
            usable=self.base.machine.usable,
            stages=stages,
            hours=hours,
            hours_unshared=sum(stage.hours_unshared for stage in stages),
            fits=all(stage.fits for stage in stages),
        )

    def _stages(self) -> Iterator[StagePlan]:
        scored: set[tuple[Any, ...]] = set()
        for name, training in self.recipe.trainings.items():
            estimate = TrainingEstimate(name, training, self.figures[str(training.pairs)])
            # Trainings held against one model on the same pairs, cut and computed alike, score the reference once.
            lora = training.lora.quantize if training.lora else None
            named = training.start if training.reference in (None, START) else training.reference
            rows = (training.pairs, training.entry.unpaired, training.max_length)
            key = (named or BASE, *rows, self.base.dtype, training.lora is None, lora)
            if key not in scored:
                reference = _shape_named(self.recipe, named, self.base.shape)
                yield estimate.reference(replace(self.base, shape=reference))
            scored.add(key)
            of_start = replace(self.base, shape=self.shapes[name])
            trained = estimate.training(of_start)
            yield trained
            yield from self._checkpoints(name, training, of_start, trained.steps or 0)
        for model in self.recipe.model_names:
            spec = self.recipe.spec_of(model)
            if served_name(spec.path):
                continue
            shape = self.shapes.get(model, self.base.shape)
            yield from self._measurements(model, replace(self.base, shape=shape, wanted=spec.dtype))

    def _measurements(self, model: str, placed: Placement) -> Iterator[StagePlan]:
        """What one model is measured on; those that are there keep their weights as they are stored."""
        given = model in self.recipe.given_models
        for name, evaluation in self.recipe.evaluations.items():
            if model in self.recipe.models_of(evaluation):
                yield evaluation_plan(f"eval/{model}/{name}", evaluation, placed, quantised=given)
        for name, dialogues in self.recipe.mt_bench.items():
            if model in self.recipe.models_of(dialogues) and dialogues.of(model).engine != API:
                yield dialogues_plan(f"mt-bench/{model}/{name}", dialogues, placed, quantised=given)

    def _checkpoints(self, name: str, training: TrainingConfig, start: Placement, steps: int) -> Iterator[StagePlan]:
        """What the scores of a training's checkpoints take: of its start, those in between, and its end."""
        if training.evaluate is None:
            return
        number = 2 + max(0, steps - 1) // training.evaluate.every
        for name_of in training.evaluate.evaluations:
            evaluation = self.recipe.evaluations[name_of]
            one = evaluation_plan(f"curve/{name}/{name_of}", evaluation, start, quantised=False)
            for key in ("tokens", "tokens_unshared", "hours", "hours_unshared"):
                setattr(one, key, number * getattr(one, key))
            yield one
