"""Define text generation: how it samples, what the model wrote, and why it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

NO_ROOM, REFUSED = "no room", "refused"
"""Why there is no continuation: the prompt fills the model's context, or the model's server refuses it."""


@dataclass(frozen=True)
class Sampling:
    """Describe how a text is continued.

    Attributes:
        temperature: 0 takes the likeliest token each time; otherwise tokens are drawn.
        max_new_tokens: Most tokens written.
        stop: Texts that end the continuation, themselves not part of it.
        stop_token_ids: Tokens that do the same, besides the tokenizer's end-of-sequence token.
        seed: Of the drawing; the same text, settings and seed give the same continuation.
        top_p: Tokens are drawn from the likeliest ones that together have this share (Holtzman et al. 2019); 1 for all.
    """

    temperature: float = 0.0
    max_new_tokens: int = 1024
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    seed: int = 0
    top_p: float = 1.0


@dataclass(frozen=True)
class Generation:
    """Hold what a model wrote.

    Attributes:
        text: Without special tokens and without what stopped it.
        tokens: Tokens written, the one that ended it included.
        finish_reason: ``stop``, or ``length`` where ``max_new_tokens`` or the model's context ran out; a server's own
            word, or ``NO_ROOM`` or ``REFUSED``, where it gave none.
        thinking: What the model thought, where its server separates that from the text.
        left_out: Keys of the sampling that its server refused, so that it wrote without them.
    """

    text: str
    tokens: int
    finish_reason: str
    thinking: str = ""
    left_out: tuple[str, ...] = ()


class Generator(Protocol):
    """Continue texts; ``smaug-torch`` and ``smaug-vllm`` are engines that can."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        samplings: Sequence[Sampling],
        on_done: Callable[[int, Generation], None] | None = None,
    ) -> list[Generation]:
        """Continue texts, as many at a time as suits the device.

        Args:
            prompts: Token ids of each text; where one leaves no room for ``max_new_tokens`` in the model's context,
                less is written.
            samplings: How to continue each.
            on_done: Called with each continuation when it is finished, in any order, with its prompt's index.

        Returns:
            The continuations, in the order of the prompts.

        Raises:
            ValueError: a prompt is empty or fills the model's context.
        """
        ...
