"""Check that a checkpoint is the model that was trained, and measure what rounding its weights lost.

An adapter is merged in float32, where the sum must give the log-probabilities of base and adapter side by side. Then
the weights are rounded to the type of the checkpoint: steps smaller than half the distance between two numbers of that
type are lost, whatever was trained. Log-probabilities are computed in float32 from the rounded weights, so that what
differs is the rounding of weights alone, not that of activations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from smaug_eval.common.errors import SmaugError
from smaug_eval.models.adapters import attach, merge
from smaug_eval.prefix.scorer import scoring
from smaug_eval.trainers.reference import TokenLogProbs, score_pairs
from smaug_eval.trainers.tokenization import EncodedPair

PAIRS = 32
WORK = 5e13
"""Pairs that are compared at most, and their tokens times the weights of the model: a minute's work of a CPU."""
LEAST_TOKENS, MOST_TOKENS = 1024, 8192
ROW_TOKENS = 2048
TOLERANCE = {torch.float32: 5e-3, torch.float64: 5e-3}
TOLERANCE_HALF = 0.15
"""Largest difference of a token's log-probability, in nats, that arithmetic explains."""
MUCH = 0.1
"""Share of the trained margin from which on a loss is said to be much."""
NOISE = 1e-4
"""Change of a completion's log-probability, in nats, that is that of arithmetic in float32."""
NOTHING = 2e-3
"""Change of a completion's log-probability, in nats, below which a full training did nothing worth a warning."""
SPARE = 1.25
"""Bytes that must be free for each byte of weights that is added or moved."""


@dataclass(frozen=True)
class Fidelity:
    """Measure what is left in a checkpoint of the training; the margin is the mean of ``rho_w - rho_l``.

    Attributes:
        pairs: How many pairs.
        dtype: Type of the checkpoint's weights.
        margin: Under the trained model, in nats.
        saved_margin: Under the checkpoint, in nats.
        moved: Root mean square of the log-ratios that training gave the completions, in nats.
        off: The same of the difference that rounding made to them, in nats.
    """

    pairs: int
    dtype: str
    margin: float
    saved_margin: float
    moved: float
    off: float

    @property
    def lost(self) -> float:
        """Return the share of the trained margin that the checkpoint lacks; below 0 where it has more."""
        return 1.0 - self.saved_margin / self.margin if self.margin else 0.0

    @property
    def is_much(self) -> bool:
        """Return whether rounding changed the model by much of what training did, beyond the noise of arithmetic."""
        margin_changed = abs(self.lost) > MUCH and abs(self.margin) > MUCH * self.moved
        changed = margin_changed or self.off > MUCH * self.moved
        return changed and self.off > NOISE and self.dtype != "float32"

    def as_dict(self) -> dict[str, Any]:
        """Return the values for ``summary.json``."""
        return {**asdict(self), "lost": self.lost, "text": self.describe()}

    def describe(self) -> str:
        """Describe one sentence for the user."""
        change = f"took {self.lost:.0%}" if self.lost >= 0 else f"added {-self.lost:.0%}"
        return (
            f"rounding the weights to {self.dtype} {change} of the trained margin: {self.margin:+.3g} nats as trained, "
            f"{self.saved_margin:+.3g} in the checkpoint (mean over {self.pairs} pairs)"
        )

    def describe_change(self) -> str:
        """Describe one sentence about an adapter whose training is not known."""
        return (
            f"the adapter moves log-probabilities by {self.moved:.3g} nats; rounding its merge to {self.dtype} moves "
            f"them by {self.off:.3g} (root mean squares over {2 * self.pairs} built-in completions)"
        )


def chosen_pairs(pairs: Sequence[EncodedPair], parameters: int) -> list[EncodedPair]:
    """Return the first pairs, few enough to score them on a CPU with a model of so many weights."""
    most = min(MOST_TOKENS, max(LEAST_TOKENS, int(WORK / max(1, parameters))))
    found: list[EncodedPair] = []
    tokens = 0
    for pair in pairs[:PAIRS]:
        tokens += 2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected)
        if found and tokens > most:
            break
        found.append(pair)
    return found


@dataclass(frozen=True)
class Compared:
    """Hold the log-probabilities of some pairs before the weights are rounded.

    Attributes:
        pairs: The pairs.
        before: Of the model before training.
        trained: Of the trained model.
    """

    pairs: Sequence[EncodedPair]
    before: TokenLogProbs
    trained: TokenLogProbs


@dataclass
class Trained:
    """Hold a model whose weights are to be rounded and saved.

    Attributes:
        model: In the arithmetic of the comparison; :meth:`round` gives the weights their types.
        dtypes: Types of the weights in the checkpoint, by name; those that are not there stay.
        compared: Its scores of some pairs; None where that is not looked at.
    """

    model: Any
    dtypes: Mapping[str, torch.dtype] = field(default_factory=dict)
    compared: Compared | None = None

    def round(self) -> None:
        """Round the weights to the types of the checkpoint."""
        for name, tensor in _weights(self.model):
            tensor.data = tensor.data.to(self.dtypes.get(name, tensor.dtype))


def merge_exactly(base: PreTrainedModel, adapter: Path, pairs: Sequence[EncodedPair], dtype: torch.dtype) -> Trained:
    """Merge an adapter into its base, and make sure that the sum is base and adapter.

    Args:
        base: The base, which is changed.
        adapter: Folder of the adapter.
        pairs: Pairs to compare.
        dtype: Type of the checkpoint's weights.

    Raises:
        SmaugError: the adapter does not fit, or the merged model gives other log-probabilities than base and adapter.
    """
    dtypes = {name: tensor.dtype for name, tensor in base.state_dict().items()}
    if torch.float32 in dtypes.values() and not any(map(_is_half, base.state_dict().values())):
        dtypes = dict.fromkeys(dtypes, dtype)  # all in float32, as a base that was dequantised
    arithmetic = _widen(base)
    model = attach(base, adapter)
    inner: Any = model.get_base_model()
    inner.eval()
    trained = log_probs(inner, pairs)
    with model.disable_adapter():
        before = log_probs(inner, pairs)
    merged = merge(model, adapter)
    merged.eval()
    difference = _largest_difference(log_probs(merged, pairs), trained)
    tolerance = TOLERANCE.get(arithmetic, TOLERANCE_HALF)
    if not difference <= tolerance:
        raise SmaugError(
            f"merged into its base, the adapter {adapter} gives another model: log-probabilities of a token differ by "
            f"up to {difference:.3g} nats from those of base and adapter",
            fix="use the adapter as it is, beside its base; it is whole",
        )
    return Trained(merged, dtypes, Compared(pairs, before, trained))


def keep_exactly(
    base: PreTrainedModel, weights: Mapping[str, Tensor], pairs: Sequence[EncodedPair], dtype: torch.dtype
) -> Trained:
    """Return a fully trained model in float32, with its scores of some pairs before rounding to ``dtype``.

    Args:
        base: The model before training, which takes the weights.
        weights: The trained weights in float32.
        pairs: Pairs to compare.
        dtype: Type of the checkpoint's weights.
    """
    _widen(base)
    before = log_probs(base.eval(), pairs)
    base.load_state_dict({name: weight.to("cpu") for name, weight in weights.items()}, assign=True, strict=False)
    base.tie_weights()
    dtypes = {name: dtype for name, tensor in _weights(base) if tensor.is_floating_point()}
    return Trained(base, dtypes, Compared(pairs, before, log_probs(base, pairs)))


def compare_saved(trained: Trained, load: Callable[[], PreTrainedModel], dtype: str) -> Fidelity:
    """Load what was saved of a model, make sure that it is that, and measure what rounding took.

    Args:
        trained: The model, rounded; it is let go.
        load: Loads what was saved.
        dtype: Name of the checkpoint's type.

    Raises:
        SmaugError: the checkpoint has other weights than the model that was saved.
    """
    compared = trained.compared
    if compared is None:
        raise ValueError("the model was not looked at before its weights were rounded")
    saved = load()
    own, found = trained.model.state_dict(), saved.state_dict()
    for name in {**own, **found}:
        if name not in own or name not in found or not torch.equal(own[name].to(found[name].dtype), found[name]):
            raise SmaugError(
                f"the checkpoint is another model than the one that was saved: {name} differs once it is loaded",
                fix="use the adapter, where there is one; it is whole",
            )
    del own, found
    trained.model = None  # two copies are enough
    _widen(saved)
    after = log_probs(saved.eval(), compared.pairs)
    moved, off = _ratios(compared.trained, compared.before), _ratios(after, compared.trained)
    return Fidelity(
        pairs=len(compared.pairs),
        dtype=dtype,
        margin=float(np.mean(moved[0] - moved[1])),
        saved_margin=float(np.mean(np.subtract(*_ratios(after, compared.before)))),
        moved=float(np.sqrt(np.mean(np.square(moved)))),
        off=float(np.sqrt(np.mean(np.square(off)))),
    )


def log_probs(model: PreTrainedModel, pairs: Sequence[EncodedPair]) -> TokenLogProbs:
    """Return a model's scores of some pairs, every text by itself, in this process alone."""
    with _moved(model), scoring(model, share=False) as scorer:
        return score_pairs(scorer, model, pairs, row_tokens=ROW_TOKENS, autocast=None, alone=True)


def has_room(bytes_: float) -> bool:
    """Check whether the memory of this machine has room for so many bytes more."""
    return psutil.virtual_memory().available > SPARE * bytes_


def _widen(model: nn.Module) -> torch.dtype:
    """Put half-precision weights into float32 where the memory has room; returns the type to compute in."""
    half = [tensor for _, tensor in _weights(model) if _is_half(tensor)]
    if half and not has_room(sum(2 * tensor.numel() for tensor in half)):
        return half[0].dtype
    for tensor in half:
        tensor.data = tensor.data.float()
    return torch.float32


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Everything that a checkpoint holds, each tensor once, under its first name."""
    saved = model.state_dict(keep_vars=True)
    seen: set[int] = set()
    for name, tensor in saved.items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor


def _is_half(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.bfloat16, torch.float16)


@contextmanager
def _moved(model: PreTrainedModel) -> Iterator[None]:
    """Have a model on the GPU for a while, where there is one with room for it."""
    bytes_ = sum(tensor.numel() * tensor.element_size() for _, tensor in _weights(model))
    here = next(model.parameters()).device.type == "cpu" and torch.cuda.is_available()
    if not here or torch.cuda.mem_get_info()[0] < SPARE * bytes_:
        yield
        return
    model.to("cuda")
    try:
        yield
    finally:
        model.to("cpu")
        torch.cuda.empty_cache()


def _largest_difference(one: TokenLogProbs, other: TokenLogProbs) -> float:
    pairs = zip((*one.chosen, *one.rejected), (*other.chosen, *other.rejected), strict=True)
    return max((float(np.abs(a - b).max()) for a, b in pairs if len(a)), default=0.0)


def _ratios(one: TokenLogProbs, other: TokenLogProbs) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Log-ratios of chosen and rejected, shape ``(2, pairs)``."""
    return np.stack(one.sums) - np.stack(other.sums)
