"""Probe a model: compare its own results for a few random texts with those of another way of scoring.

What is expected comes from the model's own attention, as it was loaded, one text at a time and without padding, on
texts longer than the lengths that its configuration names. Where such a length is too long for that, the trial is held
with the length made shorter in the model (:mod:`smaug_eval.prefix.lengths`). A length that cannot be tried so becomes
a limit: longer texts are scored one at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from smaug_eval.common.errors import SmaugError
from smaug_eval.prefix.attention import CannotPack, attentions_of, put_back
from smaug_eval.prefix.last_layer import RunsTwice
from smaug_eval.prefix.layout import Layout, PrefixGroup, TokenIds, single_rows
from smaug_eval.prefix.lengths import Length, context_length, named_lengths, shortened
from smaug_eval.prefix.plain import Forward, plain_log_probs

# Largest difference of log-probabilities that rounding explains, in nats.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
TOLERANCE_HALF = 0.15
# The same of two texts of one length, which go through the same kernels, for a model that calls itself an encoder.
ENCODER_TOLERANCE = 1e-5
ENCODER_TOLERANCE_HALF = 0.02

# Tokens of a trial's longest text: at least, where it costs next to nothing, and at most.
SHORTEST, CHEAP, LONGEST = 24, 96, 280
CHEAP_PRODUCT = 1e8  # of such a text's tokens and the model's weights, on a CPU
EARLY = 5  # tokens behind which a text is changed, to see whether that changes what is said of them
BEYOND = 24  # tokens that a text continues beyond a length
SHORTENED = 4  # what a length is made for a trial on short texts: one of them stays below it
MOST_LENGTHS = 4  # that are tried one by one
BELOW = 12  # what it is made for a trial on texts that stay below it

_PLACEHOLDER = re.compile(r"(image|video|audio|vision|bo[aiv]|eo[aiv])\w*_token_(id|index)$")

ANSWER_ERRORS = (
    *(CannotPack, RunsTwice, TypeError, ValueError, RuntimeError, AttributeError),
    *(LookupError, AssertionError, NotImplementedError, ArithmeticError),
)
"""What a model raises that does not take an input. :class:`SmaugError` is none of them."""

Ask = Callable[[Sequence[PrefixGroup]], tuple[Layout, Tensor]]
"""Lays groups out in some way and answers with the log-probabilities of their scored tokens."""


@dataclass(frozen=True)
class ProbeVerdict:
    """Hold the result of probing one way of scoring a model.

    Attributes:
        reason: Why it is not to be used; None if it is.
        limit: Tokens of the longest text that it is to be used for; None for any.
        because: The name of the length that makes the limit.
    """

    reason: str | None = None
    limit: int | None = None
    because: str | None = None


class Probe:
    """Compare a model's own log-probabilities with those of other ways of scoring it.

    Args:
        core: The model, in the middle of a PEFT model.
        forward: Its own forward pass.
    """

    def __init__(self, core: PreTrainedModel, forward: Forward) -> None:
        self._core = core
        self._forward = forward
        self._attentions = attentions_of(core)
        self.tolerance = tolerance_of(core)
        self._lengths = named_lengths(core.config)
        self._texts = probe_texts(core, _longest_text(core, self._lengths))
        self._short = probe_texts(core, BELOW)
        self._known: dict[tuple[tuple[Length, ...], int | None], Tensor] = {}

    def check_causal(self) -> None:
        """Check that no log-probability depends on a token behind it.

        Raises:
            SmaugError: it depends on it, or is random, or the model takes no text alone.
        """
        name = type(self._core).__name__
        settings = _settings_of_layers(self._core)
        try:
            found = self._own()
            difference = max(_distance(*_shared_beginnings(self._texts[0], found)), self._early_difference(found))
            again = found if difference <= self._causal_tolerance() else self._asked_alone(self._texts)
        except _Refused as error:
            raise SmaugError(
                f"{name} cannot say how likely a text is: {error}",
                fix="give a causal language model that needs nothing but token ids",
            ) from error
        if bool(found.isnan().any()):
            raise SmaugError(
                f"{name} gives log-probabilities that are not numbers (NaN)",
                fix="fetch its weights again, or load it in another dtype",
            )
        self._check_settings(settings)
        if _distance(again, found) > self._causal_tolerance():
            raise SmaugError(
                f"{name} gives other log-probabilities each time that it reads the same text "
                f"(by {_distance(again, found):.2g} nats)",
                fix="give a model whose evaluation is not random",
            )
        if difference > self._causal_tolerance():
            raise SmaugError(
                f"{name} is not causal: a later token changes the log-probability of an earlier one (by "
                f"{difference:.2g} nats), so that they do not add up to that of a text",
                fix="give a causal language model; an encoder (BERT), a prefix model or a diffusion model is none, "
                "unless it was trained with is_decoder: true, which config.json then has to say",
            )

    def _check_settings(self, before: dict[tuple[str, str], str]) -> None:
        """Make sure that reading texts has not changed what layers do.

        Raises:
            SmaugError: it has.
        """
        for (module, setting), value in _settings_of_layers(self._core).items():
            if before.get((module, setting), value) != value:
                raise SmaugError(
                    f"{type(self._core).__name__} changes its {setting} to {value} when it reads a text, so that what "
                    "it says of a text depends on what it has read before",
                    fix=f"write {setting}: {value} into config.json",
                )

    def examine(self, ask: Ask, rows: str, *, alone: Ask | None = None) -> ProbeVerdict:
        """Try a way of scoring, for which the model is set up.

        Args:
            ask: The way.
            rows: What kind of rows it makes, in a word.
            alone: The same model asked for each text alone, to be tried as well if long texts are to be asked so while
                it is set up for the way; None where it is known to be right.
        """
        name = type(self._core).__name__
        try:
            difference = self._difference(ask, (), None, self._texts)
        except _Refused as error:
            return ProbeVerdict(f"{name} refuses {rows} rows ({error})")
        if not difference <= self.tolerance:
            return ProbeVerdict(f"{name} gives other log-probabilities in {rows} rows (by {difference:.2g})")
        limiting = self._not_honoured(ask)
        if not limiting:
            return ProbeVerdict()
        least = min(limiting, key=lambda length: length.tokens)
        trials = [(ask, BELOW, self._short), *([(alone, SHORTENED, self._texts)] if alone is not None else [])]
        for each, tokens, texts in trials:
            if not self._agrees(each, limiting, tokens, texts):
                return ProbeVerdict(f"{name} computes otherwise beyond {least.name} ({least.tokens} tokens)")
        return ProbeVerdict(limit=least.tokens, because=least.name)

    def agrees(self, ask: Ask) -> bool:
        """Check whether a way of scoring gives the model's own log-probabilities."""
        return self._agrees(ask, (), None, self._texts)

    def agrees_at_ends(self, ask: Ask) -> bool:
        """Check the same where nothing is scored but what follows the texts' shared beginnings."""
        ends = [replace(group, scored_from=len(group.prefix)) for group in self._texts]
        asked = [
            torch.arange(len(group.prefix) - group.scored_from + len(tail)) >= len(group.prefix) - group.scored_from
            for group in self._texts
            for tail in group.tails
        ]
        expected = self._own()
        try:
            with _evaluating(self._core):
                layout, found = ask(ends)
        except _Refused:
            return False
        expected = expected[torch.cat(asked).to(expected.device)]
        return _distance(_by_text(ends, layout, found), expected) <= self.tolerance

    def _early_difference(self, found: Tensor) -> float:
        """How far what is said of a text's first tokens changes with those behind them, as in a prefix model.

        Args:
            found: What the model says of the texts.
        """
        group = self._texts[0]
        first, second = (np.concatenate([group.prefix, tail]) for tail in group.tails)
        early = min(EARLY, len(first) - 1)
        begun, other = (PrefixGroup(first[:early], (rest[early:],), 1) for rest in (first, second[::-1]))
        expected = found if group.scored_from == 1 else self._asked_alone([begun])
        # Of the first token that differs too: the place before it may see it.
        return _distance(self._asked_alone([other], first[1 : early + 1])[:early], expected[:early])

    def _causal_tolerance(self) -> float:
        if getattr(self._core.config, "is_decoder", None) is not False or getattr(self._core, "is_quantized", False):
            return self.tolerance
        return ENCODER_TOLERANCE if self.tolerance < TOLERANCE_HALF else ENCODER_TOLERANCE_HALF

    def _not_honoured(self, ask: Ask) -> list[Length]:
        """The lengths beyond the trial's texts of which a trial does not say that the way honours them."""
        longest = self._texts[0].longest
        can_be_tried = [length for length in self._lengths if length.can_be_tried]
        untried = [length for length in self._lengths if not length.can_be_tried]
        beyond = [length for length in can_be_tried if length.tokens > longest]
        if not beyond and len(can_be_tried) > 1:
            first, second = can_be_tried[-2:]  # so many blocks of so many tokens are a length too
            beyond = [first, second] if first.tokens * second.tokens > longest else []
        if len(beyond) > MOST_LENGTHS:
            return untried + beyond
        effective = [length for length in beyond if self._has_effect(length)]
        untried += [length for length in beyond if length not in effective and length.tokens > longest]
        if not effective or self._agrees(ask, effective, SHORTENED, self._texts):
            return untried
        guilty = [each for each in effective if not self._agrees(ask, [each], SHORTENED, self._texts)]
        return untried + (guilty or effective)

    def _has_effect(self, length: Length) -> bool:
        """Whether a shorter length changes what the model says of the texts."""
        try:
            return not _distance(self._own((length,), SHORTENED), self._own()) <= self.tolerance
        except _Refused:
            return False

    def _agrees(self, ask: Ask, lengths: Sequence[Length], tokens: int | None, texts: list[PrefixGroup]) -> bool:
        """Whether a way gives the model's own answers, while lengths are shorter."""
        try:
            return self._difference(ask, tuple(lengths), tokens, texts) <= self.tolerance
        except _Refused:
            return False

    def _difference(self, ask: Ask, lengths: tuple[Length, ...], tokens: int | None, texts: list[PrefixGroup]) -> float:
        """Largest difference between a way's answers and the model's own, in nats."""
        expected = self._own(lengths, tokens, texts)
        with _evaluating(self._core), shortened(self._core, lengths, tokens or 0):
            layout, found = ask(texts)
        return _distance(_by_text(texts, layout, found), expected)

    def _own(
        self, lengths: tuple[Length, ...] = (), tokens: int | None = None, texts: list[PrefixGroup] | None = None
    ) -> Tensor:
        """The model's own answers with its own attention, computed once for each set of lengths and ``tokens``."""
        key = (lengths, tokens)
        if key not in self._known:
            changed = attentions_of(self._core)
            put_back(self._attentions)
            try:
                with shortened(self._core, lengths, tokens or 0):
                    self._known[key] = self._asked_alone(texts or self._texts)
            finally:
                put_back(changed)
        return self._known[key]

    def _asked_alone(self, texts: Sequence[PrefixGroup], targets: TokenIds | None = None) -> Tensor:
        """What the model says of each text; ``targets`` are tokens to ask for instead of the first scored ones."""
        layout = single_rows(texts)
        if targets is not None:
            layout.targets[: len(targets)] = torch.from_numpy(targets)
        with _evaluating(self._core):
            return plain_log_probs(self._forward, layout.on(next(self._core.parameters()).device))


def check_causal(model: nn.Module) -> None:
    """Check that a model is causal, as :meth:`Probe.check_causal` does.

    Args:
        model: A language model of transformers, or a PEFT model around one.

    Raises:
        SmaugError: it is not.
    """
    core: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    Probe(core, core.forward).check_causal()


def tolerance_of(core: PreTrainedModel) -> float:
    """Return the largest difference of a model's log-probabilities that rounding explains, in nats."""
    # Of a quantised model norms and embeddings are in float32, whatever it computes in.
    dtype = torch.bfloat16 if getattr(core, "is_quantized", False) else next(core.parameters()).dtype
    return TOLERANCE.get(dtype, TOLERANCE_HALF)


def probe_texts(core: PreTrainedModel, longest: int = SHORTEST) -> list[PrefixGroup]:
    """Return two texts of ``longest`` tokens that begin alike, and one of 4 tokens; random, the same each time.

    Without tokens that stand for images or sound, which a model of several kinds of input puts in their place.
    """
    longest = min(longest, context_length(core.config) or longest)
    rng = np.random.default_rng(0)
    placeholders = [
        value for name, value in vars(core.config).items() if _PLACEHOLDER.match(name) and isinstance(value, int)
    ]
    vocabulary = core.config.get_text_config().vocab_size

    def ids(count: int) -> Any:
        drawn = rng.integers(0, vocabulary, count, dtype=np.int32)
        while (taken := np.isin(drawn, placeholders)).any():
            drawn = np.where(taken, (drawn + 1) % vocabulary, drawn)
        return drawn

    # Where the texts part, blocks of 2, 4, 8 ... tokens do not. In half precision, every token more is one more whose
    # rounding may be taken for a difference.
    shared = max(2, (longest - 1) // 8 * 8 - 1)
    tail = longest - shared
    scored_from = 1 if tolerance_of(core) < TOLERANCE_HALF else max(1, shared - 8)
    return [PrefixGroup(ids(shared), (ids(tail), ids(tail)), scored_from), PrefixGroup(ids(2), (ids(2),), 1)]


class _Refused(Exception):
    """A model did not take an input."""


@contextmanager
def _evaluating(core: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode, without gradients; errors that say of the input that it cannot be taken become one."""
    was_training = core.training
    core.eval()
    try:
        with torch.no_grad():
            yield
    except ANSWER_ERRORS as error:
        if isinstance(error, RuntimeError) and should_reduce_batch_size(error):  # out of memory says nothing of it
            raise
        kind = "" if isinstance(error, CannotPack) else f"{type(error).__name__}: "
        raise _Refused(f"{kind}{' '.join(str(error).split())[:200]}") from error
    finally:
        core.train(was_training)


def _longest_text(core: PreTrainedModel, lengths: Sequence[Length]) -> int:
    """Tokens of a trial's longest text: beyond the lengths, as far as that is affordable."""
    beyond = [length.tokens + BEYOND for length in lengths]
    free = CHEAP
    if next(core.parameters()).device.type == "cpu":
        free = min(CHEAP, int(CHEAP_PRODUCT / sum(weight.numel() for weight in core.parameters())))
    return max([SHORTEST, free, *(tokens for tokens in beyond if tokens <= LONGEST)])


def _settings_of_layers(core: nn.Module) -> dict[tuple[str, str], str]:
    """What layers hold as text, by the layer's name and the setting's."""
    return {
        (name, setting): value
        for name, module in core.named_modules()
        for setting, value in vars(module).items()
        if isinstance(value, str)
    }


def _distance(found: Tensor, expected: Tensor) -> float:
    """Largest difference; of two equal infinities none."""
    return float(torch.where(found == expected, 0.0, (found - expected).abs()).max())


def _shared_beginnings(group: PrefixGroup, log_probs: Tensor) -> tuple[Tensor, Tensor]:
    """What is said of the tokens that the two texts of a group share, in the one text and in the other."""
    shared = len(group.prefix) - group.scored_from
    whole = shared + len(group.tails[0])
    return log_probs[:shared], log_probs[whole : whole + shared]


def _by_text(groups: Sequence[PrefixGroup], layout: Layout, log_probs: Tensor) -> Tensor:
    """Log-probabilities in the order of plain rows, whatever the layout."""
    if not layout.spans:
        return log_probs
    parts = iter(layout.parts(log_probs))
    pieces = []
    for group in groups:
        shared = next(parts)
        for _ in group.tails:
            pieces += [shared, next(parts)]
    return torch.cat(pieces)
