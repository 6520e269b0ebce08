"""Compute the bytes on each GPU: of a training, and of a model that answers.

Weights, gradients and AdamW's two moments follow from :func:`smaug_eval.trainers.base_model.load_model` and
:func:`smaug_eval.trainers.train.train`: a full training keeps all of them in float32 whatever it computes in, LoRA
keeps the base in the model's type and the adapter in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from smaug_eval.planning.activations import PairLengths, Step, activations
from smaug_eval.planning.shapes import ModelShape, bytes_of
from smaug_eval.trainers.config import LaunchConfig, LoraConfig, TrainingConfig
from smaug_eval.trainers.launch import accelerate_settings

FULL = 4
"""Bytes of a weight, a gradient or a moment in float32."""
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in NF4 with doubly quantised scales: 4 bits, an 8-bit scale for 64, a float32 one for 64 x 256."""
INT8_BYTES = 1.0
SCALES = 2 / 128
"""Bytes for each quantised weight that go to scales: 16 bits for 128 weights, which most methods use."""
GATHERED_LAYERS = 2
"""Layers whose weights a GPU holds whole while sharded: the one that computes and the next one, on its way."""


class Sharing(str, Enum):
    """Describe how several GPUs share a training."""

    SINGLE = "one process"
    """One process; the layers of a model are spread over the GPUs, which work one after the other."""
    COPIES = "data parallel"
    """Every GPU holds the whole model and its own pairs."""
    FSDP2 = "FSDP2"
    """Weights, gradients and moments are spread over all GPUs."""
    ZERO3 = "ZeRO-3"
    """The same by DeepSpeed, with bfloat16 weights beside the float32 ones."""

    @property
    def is_sharded(self) -> bool:
        """Return whether each GPU holds a part of the weights only."""
        return self in (Sharing.FSDP2, Sharing.ZERO3)


@dataclass(frozen=True)
class Memory:
    """Hold the bytes on the fullest GPU.

    Attributes:
        weights: Weights, the adapter's and ZeRO-3's second copy included.
        gradients: Gradients, with data parallel also the buckets that they are exchanged in.
        optimiser: AdamW's two moments.
        gathered: Weights and gradients that are whole for a moment while sharded.
        activations: All else that a forward and backward pass holds, half-precision copies of weights included.
        at_a_time: Whether gradients are there while activations are: with several passes in a step.
    """

    weights: float
    gradients: float
    optimiser: float
    gathered: float
    activations: float
    at_a_time: bool = True

    @property
    def total(self) -> float:
        """Return the most at a time. In a single pass gradients take the place of activations as these are used up."""
        states = self.weights + self.optimiser + self.gathered
        both = (self.gradients, self.activations)
        return states + (sum(both) if self.at_a_time else max(both))


@dataclass(frozen=True)
class MemorySetting:
    """Describe a training on some GPUs.

    Attributes:
        config: The training.
        dtype: ``float32`` or ``bfloat16``.
        sharing: How the GPUs share it.
        processes: How many processes; 1 for one that spreads a model over ``gpus``.
        gpus: GPUs there are.
        longest: The longest pair.
        on_gpu: False for a CPU, whose packed rows go without FlexAttention.
    """

    config: TrainingConfig
    dtype: str
    sharing: Sharing
    processes: int
    gpus: int
    longest: PairLengths
    on_gpu: bool = True

    @property
    def trains_half(self) -> bool:
        """Return whether a full training computes in half precision."""
        return self.config.lora is None and self.dtype != "float32"

    @property
    def pairs_at_a_time(self) -> int:
        """Return the pairs of the longest kind in a forward pass.

        Sharded, all of a batch, else what ``row_tokens`` allows.
        """
        if self.sharing.is_sharded:
            return self.config.batch_size
        pair = self.longest
        tokens = pair.shared_tokens if self.config.share_prefix else pair.padded_tokens
        return max(1, min(self.config.batch_size, int(self.config.row_tokens / tokens)))

    def step(self) -> Step:
        """Return the forward and backward pass of the longest pairs."""
        config, lora = self.config, self.config.lora
        casts = self.trains_half and not self.sharing.is_sharded
        targets = None if lora is None else lora.target_modules
        return Step(
            pair=self.longest,
            pairs=self.pairs_at_a_time,
            share=config.share_prefix,
            flex=self.on_gpu,
            dtype="float32" if casts else self.dtype,
            autocast=self.dtype if casts else None,
            lora=None if lora is None or targets is None else (lora.r, _hashable(targets)),
            checkpointing=config.gradient_checkpointing,
        )


def sharing_of(launch: LaunchConfig | None) -> Sharing:
    """Return how the processes of a launch share the work.

    Raises:
        SmaugError: the configuration file is missing or is none of accelerate's.
    """
    if launch is None:
        return Sharing.SINGLE
    if launch.config is None:
        return Sharing.COPIES
    kind = accelerate_settings(Path(launch.config))["distributed_type"]
    return {"FSDP": Sharing.FSDP2, "DEEPSPEED": Sharing.ZERO3}.get(kind, Sharing.COPIES)


def trained_weights(shape: ModelShape, config: TrainingConfig) -> int:
    """Return the weights that a training changes."""
    lora = config.lora
    return shape.parameters if lora is None else shape.adapter_weights(lora.r, lora.target_modules)


def base_bytes(shape: ModelShape, lora: LoraConfig | None, dtype: str) -> float:
    """Return the bytes of the base's weights in a training."""
    if lora is None:
        return FULL * shape.parameters
    if (kind := quantised_kind(shape, lora)) is None:
        return bytes_of(dtype) * shape.parameters
    small = INT8_BYTES if kind == "int8" else NF4_BYTES
    # What is not quantised is put into float32.
    return small * shape.matrix_weights + FULL * (shape.parameters - shape.matrix_weights)


def quantised_kind(shape: ModelShape, lora: LoraConfig | None) -> str | None:
    """Return how bitsandbytes keeps the base of a LoRA training, as stored or as configured; None for plain."""
    if lora is None:
        return None
    return lora.quantize if shape.stored is None else shape.stored.kind


def stored_bytes(shape: ModelShape, dtype: str, *, quantised: bool) -> float:
    """Return the bytes of a model's weights that answers.

    Args:
        shape: The model.
        dtype: Type of the weights that are not quantised.
        quantised: Whether the matrices are as they are stored, rather than in ``dtype``.
    """
    if not quantised or shape.stored is None:
        return bytes_of(dtype) * shape.parameters
    small = (shape.stored.bits or 16) / 8 + SCALES
    return small * shape.matrix_weights + bytes_of(dtype) * (shape.parameters - shape.matrix_weights)


def training_memory(shape: ModelShape, setting: MemorySetting, *, with_activations: bool = True) -> Memory:
    """Return the bytes of a training on each GPU, with the longest pairs in every row.

    Args:
        shape: The base model.
        setting: The training and its GPUs.
        with_activations: False for what stays between steps alone, which takes no time to count.
    """
    config, sharing = setting.config, setting.sharing
    trained = trained_weights(shape, config)
    weights = base_bytes(shape, config.lora, setting.dtype) + (FULL * trained if config.lora else 0)
    gradients, optimiser = FULL * trained, 2 * FULL * trained
    if sharing is Sharing.ZERO3 and setting.trains_half:
        weights += bytes_of(setting.dtype) * trained
        gradients = bytes_of(setting.dtype) * trained
    if sharing is Sharing.COPIES and setting.processes > 1:
        gradients *= 2
    shards = setting.processes if sharing.is_sharded else setting.gpus if sharing is Sharing.SINGLE else 1
    held = activations(shape, setting.step()).peak + _dequantised(shape, config.lora) if with_activations else 0.0
    single_pass = config.gradient_accumulation == 1 and setting.pairs_at_a_time >= config.batch_size
    return Memory(
        weights=weights / shards,
        gradients=gradients / shards,
        optimiser=optimiser / shards,
        gathered=_gathered(shape, setting, trained) if sharing.is_sharded and setting.processes > 1 else 0.0,
        activations=held / (setting.gpus if sharing is Sharing.SINGLE else 1),
        at_a_time=not single_pass or sharing.is_sharded,
    )


def serving_memory(shape: ModelShape, dtype: str, gpus: int, tokens: int, *, quantised: bool = False) -> float:
    """Return the bytes on each GPU of a model that answers: its weights, and keys and values of ``tokens`` tokens.

    Args:
        shape: The model.
        dtype: Type of its weights.
        gpus: GPUs that share it (tensor parallel).
        tokens: Tokens whose keys and values are kept at a time.
        quantised: Whether the weights stay as they are stored.
    """
    return (stored_bytes(shape, dtype, quantised=quantised) + tokens * shape.key_value_bytes(dtype)) / gpus


def _gathered(shape: ModelShape, setting: MemorySetting, trained: int) -> float:
    """Bytes of what is whole on a GPU: two layers, embedding and head; of what is trained the gradients, too."""
    whole = GATHERED_LAYERS * shape.layer_parameters + shape.embeddings + shape.head
    gradients = whole if setting.config.lora is None else GATHERED_LAYERS * trained / shape.layers
    return bytes_of(setting.dtype) * (whole + gradients)


def _dequantised(shape: ModelShape, lora: LoraConfig | None) -> float:
    """Bytes of the largest weight matrix in half precision, where the base is quantised."""
    if quantised_kind(shape, lora) is None:
        return 0.0
    return 2.0 * max(inputs * outputs for inputs, outputs in shape.matrices.values())


def _hashable(targets: str | list[str]) -> str | tuple[str, ...]:
    return targets if isinstance(targets, str) else tuple(targets)
