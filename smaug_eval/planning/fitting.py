"""Choose how a model is trained and scored on some GPUs, so that it fits: batch, recomputation, LoRA, sharding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from smaug_eval.common.embedded import recipes_folder
from smaug_eval.common.errors import SmaugError
from smaug_eval.planning.figures import PairFigures, pair_figures
from smaug_eval.planning.machines import Machine
from smaug_eval.planning.memory import MemorySetting, serving_memory, sharing_of, training_memory
from smaug_eval.planning.serving_stages import SERVED_TOKENS
from smaug_eval.planning.shapes import ModelShape, model_shape
from smaug_eval.runs.recipe_file import parse_recipe
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.launch import process_number

PAIRS_OF_A_STEP = 32
"""Pairs of an optimiser step, as in the field's recipes."""
SHARDED = "accelerate/fsdp2.yaml"
"""What spreads weights over GPUs, below the folder of the committed recipes."""
HALF = "bfloat16"
_BATCHES = ((8, False), (8, True), (1, True))
"""Pairs per forward pass, and whether activations are computed again; each is traced, which takes seconds."""
_LOOKED_AT = 1000
_ASSUMED = PairFigures(10_000, 64, 256, 0, 256, 256, "assumed")


@dataclass
class Fit:
    """Hold how a model is trained and scored.

    Attributes:
        dtype: Precision.
        training: Keys of each training.
        engine: What runs evaluations.
        engine_args: Its further arguments.
        notes: What a reader of the recipe should know of the choice.
    """

    dtype: str
    training: dict[str, Any]
    engine: str = "auto"
    engine_args: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def fit_to_cpu() -> Fit:
    """Return settings for a machine without a GPU: small models, in float32."""
    return Fit("float32", {"batch_size": 8, "gradient_accumulation": 4}, engine="torch")


def fit_to_gpus(machine: Machine, model: str, pairs: Mapping[str, Any] | None, keys: Mapping[str, Any]) -> Fit:
    """Return the first settings that fit: all weights, sharded, LoRA, QLoRA, each with batches from large to small.

    Args:
        machine: The GPUs.
        model: Name of the base model as recipes have it.
        pairs: The pair set's keys; None where nothing is trained.
        keys: Further keys of the training: loss, max_length, ...
    """
    try:
        shape = model_shape(model)
    except SmaugError as error:
        return Fit(
            HALF,
            _keys(next(_ways(machine.count, lora_only=True)), machine.count),
            notes=[f"what fits was not computed: {error.message}; see `smaug-eval plan` when it can be read"],
        )
    fit = Fit(HALF, {})
    if pairs is not None:
        _fit_training(fit, machine, shape, _figures(model, pairs), keys)
    _fit_scoring(fit, machine, shape)
    return fit


def _figures(model: str, pairs: Mapping[str, Any]) -> PairFigures:
    """Proportions of the first pairs; of unknown ones an assumption."""
    looked_at = {**pairs, "limit": min(pairs.get("limit") or _LOOKED_AT, _LOOKED_AT)}
    try:
        recipe = parse_recipe({"name": "fit", "model": model, "pairs": {"pairs": looked_at}})
        return pair_figures(recipe, "pairs")
    except SmaugError:
        return _ASSUMED


def _fit_training(fit: Fit, machine: Machine, shape: ModelShape, figures: PairFigures, keys: Mapping[str, Any]) -> None:
    found: dict[str, Any] = {}
    for way in _ways(machine.count, lora_only=shape.stored is not None):
        found = _keys(way, machine.count)
        own = {**keys, **found}
        need = _memory(machine, shape, figures, own, with_activations=False)
        if need <= machine.usable and (need := _memory(machine, shape, figures, own)) <= machine.usable:
            fit.training = found
            fit.notes.append(f"{_named(found)}: {need / 1e9:,.1f} of {machine.usable / 1e9:,.1f} GB a GPU, estimated")
            return
    fit.training = found
    fit.notes.append(
        f"the training does not fit: it needs {need / 1e9:,.1f} GB a GPU and more, and {machine.usable / 1e9:,.1f} GB "
        "may be filled; shorten max_length or take more GPUs"
    )


def _memory(
    machine: Machine,
    shape: ModelShape,
    figures: PairFigures,
    keys: Mapping[str, Any],
    *,
    with_activations: bool = True,
) -> float:
    """Bytes on the fullest GPU."""
    launch = keys.get("launch")
    own = {**launch, "config": str(recipes_folder() / SHARDED)} if launch and "config" in launch else launch
    config = TrainingConfig.model_validate({**keys, "launch": own})
    processes = 1 if config.launch is None else process_number(config.launch)
    figures = figures.completions() if config.entry.unpaired else figures
    longest = figures.longest(min(config.max_length, shape.context or config.max_length))
    setting = MemorySetting(config, HALF, sharing_of(config.launch), processes, machine.count, longest)
    return training_memory(shape, setting, with_activations=with_activations).total


def _fit_scoring(fit: Fit, machine: Machine, shape: ModelShape) -> None:
    shards = 1
    while serving_memory(shape, HALF, shards, SERVED_TOKENS) > machine.usable and shards * 2 <= machine.count:
        shards *= 2
    if serving_memory(shape, HALF, shards, SERVED_TOKENS) > machine.usable:
        fit.notes.append(f"the model does not fit on {machine.name} to be scored")
    if shards > 1:
        fit.engine_args = {"tensor_parallel_size": shards}


@dataclass(frozen=True)
class _TrainingWay:
    lora: dict[str, Any] | None
    is_sharded: bool
    batch_size: int
    is_recomputed: bool


def _ways(gpus: int, *, lora_only: bool) -> Iterator[_TrainingWay]:
    """Ways to train, from what changes all weights to what needs least; a quantised base takes an adapter only."""
    sharded = (False, True) if gpus > 1 and not lora_only else (False,)
    kinds: list[tuple[dict[str, Any] | None, bool]] = [] if lora_only else [(None, each) for each in sharded]
    kinds += [({"r": 16, "alpha": 32}, each) for each in sharded]
    if not lora_only:
        kinds.append(({"r": 16, "alpha": 32, "quantize": "nf4"}, False))
    for lora, is_sharded in kinds:
        for batch_size, is_recomputed in _BATCHES:
            yield _TrainingWay(lora, is_sharded, batch_size, is_recomputed)


def _keys(way: _TrainingWay, gpus: int) -> dict[str, Any]:
    """Keys of a training."""
    launch = {"config": SHARDED, "processes": gpus} if way.is_sharded else {"processes": gpus}
    return {
        "batch_size": way.batch_size,
        "gradient_accumulation": max(1, PAIRS_OF_A_STEP // (way.batch_size * gpus)),
        **({"gradient_checkpointing": True} if way.is_recomputed else {}),
        **({"lora": way.lora} if way.lora else {}),
        **({"launch": launch} if gpus > 1 else {}),
    }


def _named(keys: Mapping[str, Any]) -> str:
    lora = keys.get("lora")
    what = "all weights" if lora is None else "QLoRA" if "quantize" in lora else "LoRA"
    return f"{what}, spread over the GPUs" if "config" in keys.get("launch", {}) else what
