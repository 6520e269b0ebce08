"""Find and switch off what makes two passes of a model in training mode differ, beside dropout.

The reference is scored in evaluation mode. A policy that routes its tokens at random while it is trained (PhiMoE's
sparse mixer, the jitter of Mixtral, Dbrx or Switch) differs from it before the first update.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from smaug_eval.prefix.lengths import configurations
from smaug_eval.prefix.probe import TOLERANCE_HALF, probe_texts, tolerance_of
from smaug_eval.prefix.scorer import Scorer

# Names of settings that scale the noise of a router; 0 or None means none.
NOISE = ("jitter", "noise")
ROUNDS = 8  # kinds of layers that may each be a source of their own
TOKENS = 64  # of a trial's longest text: noise may show at few of them
EXACT = 1e-4  # nats that rounding explains in float32: all passes take the same input through the same kernels


@dataclass(frozen=True)
class Noise:
    """Describe what was found in a model.

    Attributes:
        stilled: What was switched off: names of settings and of classes of layers.
        left: Largest difference in nats between two passes in training mode, or between one and a pass in evaluation
            mode, that is left; None where rounding explains it.
    """

    stilled: tuple[str, ...] = ()
    left: float | None = None

    def note(self) -> str | None:
        """Return one line on what was switched off; None where nothing was."""
        return f"noise in training is switched off: {', '.join(self.stilled)}" if self.stilled else None

    def warning(self) -> str | None:
        """Return one line on what is left; None where nothing is."""
        if self.left is None:
            return None
        return (
            f"in training mode the model gives other log-probabilities than in evaluation mode (by {self.left:.2g} "
            "nats), so that the policy differs from its reference before the first update"
        )


@contextmanager
def without_noise(model: PreTrainedModel, scorer: Scorer) -> Iterator[Noise]:
    """Switch off what makes a model random in training mode, for as long as the context lasts.

    Settings with ``jitter`` or ``noise`` in their names become 0, unless that changes the model in evaluation mode as
    well (PhiMoE's ``router_jitter_noise`` is a threshold there). Layers that answer the same input with other numbers
    stay in evaluation mode, together with all of their class.

    Args:
        model: The model, without an adapter, whose dropout may be meant.
        scorer: From :func:`smaug_eval.prefix.scorer.scoring`, whose context the model is in.
    """
    was_training = model.training
    settings: list[tuple[Any, str, Any]] = []
    held: list[nn.Module] = []
    with torch.random.fork_rng(_gpus(model)):
        trial = _Trial(model, scorer)
        evaluated = trial.answers(training=False)
        stilled = _still_settings(model, trial, evaluated, settings)
        left = trial.spread(evaluated)
        for _ in range(ROUNDS):
            if left <= trial.tolerance and not trial.draws:
                break
            # None where what is drawn changes nothing, or two passes happened to draw the same.
            classes = {type(module) for module in trial.sources() if module not in held}
            if left <= trial.tolerance and not classes:
                break
            new = [module for module in model.modules() if type(module) in classes]
            for module in new:
                _hold(module)
            held += new
            stilled += sorted(kind.__name__ for kind in classes)
            left = trial.spread(evaluated)
    model.train(was_training)
    try:
        yield Noise(tuple(stilled), left if left > trial.tolerance else None)
    finally:
        for module in held:
            vars(module).pop("train", None)
        for holder, name, value in reversed(settings):
            setattr(holder, name, value)
        model.train(was_training)


class _Call(NamedTuple):
    """A module's part in a pass: copies of what it was given and answered, and whether it drew random numbers."""

    module: nn.Module
    given: list[Tensor]
    answer: list[Tensor]
    draws: bool


class _Trial:
    """Passes of one model over the same few texts."""

    def __init__(self, model: PreTrainedModel, scorer: Scorer) -> None:
        self._model = model
        self._scorer = scorer
        self._layout = scorer.layout(probe_texts(model, TOKENS))
        tolerance = tolerance_of(model)
        self.tolerance = tolerance if tolerance >= TOLERANCE_HALF else EXACT
        self.draws = False
        """Whether the last pass has drawn random numbers, which may change the answers to other texts."""

    def answers(self, *, training: bool) -> Tensor:
        """Log-probabilities of the texts' tokens, with gradients switched on as in training."""
        self._model.train(training)
        before = self._generators()
        with torch.enable_grad():
            found = self._scorer.log_probs(self._model, self._layout).detach()
        self.draws = not _equal(before, self._generators())
        return found

    def spread(self, evaluated: Tensor) -> float:
        """Largest difference among two passes in training mode and what was found in evaluation mode, in nats."""
        first, second = self.answers(training=True), self.answers(training=True)
        pairs = ((first, second), (first, evaluated), (second, evaluated))
        return max(float((one - other).abs().max()) for one, other in pairs)

    def sources(self) -> list[nn.Module]:
        """The innermost modules that are random in training mode.

        They answer equal inputs with other numbers, or draw random numbers that may do so with another input. Layers
        that can drop something draw even where the share that they drop is 0.
        """
        first, second = self._recorded(), self._recorded()
        found: list[nn.Module] = []
        explained: list[nn.Module] = []  # what is random in the modules around them is in these
        # Calls are listed as they end, inner ones first. Behind a router that is random others may follow.
        for one, other in zip(first, second, strict=False):
            if one.module is not other.module:
                break
            if any(child in explained for child in one.module.modules()):
                continue
            differs = _equal(one.given, other.given) and not _equal(one.answer, other.answer)
            drops = any("drop" in name for name in vars(one.module))
            if differs or (one.draws and not drops):
                found.append(one.module)
            if differs or one.draws:
                explained.append(one.module)
        return found

    def _recorded(self) -> list[_Call]:
        calls: list[_Call] = []
        waiting: list[tuple[list[Tensor], list[Tensor]]] = []
        handles = []

        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            waiting.append((_tensors((args, kwargs)), self._generators()))

        def after(module: nn.Module, args: Any, kwargs: Any, answer: Any) -> None:
            given, generators = waiting.pop()
            calls.append(_Call(module, given, _tensors(answer), not _equal(generators, self._generators())))

        for module in self._model.modules():
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(after, with_kwargs=True))
        try:
            self.answers(training=True)
        finally:
            for handle in handles:
                handle.remove()
        return calls

    def _generators(self) -> list[Tensor]:
        """The states of the random number generators that the model may draw from."""
        return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, _gpus(self._model))]


def _gpus(model: nn.Module) -> list[torch.device]:
    return [device for device in {weight.device for weight in model.parameters()} if device.type == "cuda"]


def _still_settings(
    model: PreTrainedModel, trial: _Trial, evaluated: Tensor, settings: list[tuple[Any, str, Any]]
) -> list[str]:
    """Set noise to 0 name by name, where evaluation stays as it is; ``settings`` receives what it was before."""
    holders = [*configurations(model), *model.modules()]
    named = sorted({name for holder in holders for name, value in vars(holder).items() if _is_noise(name, value)})
    stilled = []
    for name in named:
        changed = [(holder, name, value) for holder in holders if _is_noise(name, value := vars(holder).get(name))]
        for holder, _, _ in changed:
            setattr(holder, name, 0.0)
        if float((trial.answers(training=False) - evaluated).abs().max()) <= trial.tolerance:
            settings += changed
            stilled.append(name)
            continue
        for holder, _, value in changed:
            setattr(holder, name, value)
    return stilled


def _is_noise(name: str, value: Any) -> bool:
    return isinstance(value, float) and value != 0 and any(part in name for part in NOISE)


def _hold(module: nn.Module) -> None:
    """Keep a module, not what is in it, in evaluation mode when the model is set to train."""
    vars(module)["train"] = partial(_train_what_is_inside, module)


def _train_what_is_inside(module: nn.Module, mode: bool = True) -> nn.Module:
    type(module).train(module, mode)
    module.training = False
    return module


def _tensors(value: Any) -> list[Tensor]:
    """Copies of the tensors in arguments or an answer."""
    if isinstance(value, Tensor):
        return [value.detach().clone()]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for each in value for tensor in _tensors(each)]
    return []


def _equal(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))
