"""Truncate or drop a pair that is longer than the limit in tokens.

Both completions of a pair follow the same prompt, so that a prompt that is cut is cut for both. By the rule
``balanced`` the prompt gives way to the completions, but not to an endless one: a completion has no claim to more than
a quarter of ``max_length`` or twice the length of the other, whichever is more, and to more than three quarters of
``max_length`` in no case. What is beyond its claim and beyond what the prompt leaves, it loses at its end. The prompt
keeps its beginning (the begin token and, in a chat, the system's turn up to the first message of the user) and its end,
and loses what lies between.

By the rule ``keep_start``, TRL's default under the same name (``DPOConfig.truncation_mode``, TRL 1.16), the prompt is
kept whole, completions lose their ends, and a pair whose prompt leaves no room is dropped. TRL's ``keep_end`` keeps the
last tokens of chosen and rejected apart, which then follow different prompts; no pair here can be that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

TokenIds = npt.NDArray[np.int32]
TruncationMode = Literal["balanced", "keep_start"]


@dataclass(frozen=True)
class Limits:
    """Hold the limits of a pair in tokens.

    Attributes:
        max_length: Prompt and completion together, at least 2.
        max_prompt_length: The prompt; None for what ``max_length`` leaves it.
        max_completion_length: Each completion, which then has a claim to so much; None, or a number that ``max_length``
            does not hold, for the claim above.
        mode: The rule, as above.
    """

    max_length: int
    max_prompt_length: int | None = None
    max_completion_length: int | None = None
    mode: TruncationMode = "balanced"

    def room(self, prompt: int, completions: Sequence[int]) -> tuple[int, int]:
        """Return how many tokens of the prompt are kept, and the most that a completion may have.

        Args:
            prompt: Length of the prompt, at least 1.
            completions: Lengths of its completions.

        Returns:
            The two numbers; the second is 0 or less where the prompt leaves no room.
        """
        prompt = min(prompt, self.max_prompt_length or prompt)
        if self.mode == "balanced":
            prompt = min(prompt, self.max_length - min(max(completions), self._claim(min(completions))))
        return prompt, min(self.max_length - prompt, self.max_completion_length or self.max_length)

    def _claim(self, shorter: int) -> int:
        """The most tokens that a completion can claim from the prompt, beside another of a given length."""
        if self.max_completion_length is not None and self.max_completion_length < self.max_length:
            return self.max_completion_length
        quarter = max(1, self.max_length // 4)
        return min(max(quarter, 2 * shorter), self.max_length - quarter)


def cut_prompt(prompt: TokenIds, kept: int, starts: Sequence[int]) -> tuple[TokenIds, int]:
    """Return a prompt without the tokens that are too many, which are taken from behind its beginning.

    Args:
        prompt: Its ids.
        kept: How many to keep, at least 1.
        starts: Lengths of the beginnings to keep, the wanted one first, shorter ones after it. One that would take more
            than three quarters of what is kept gives way to the next, and the last to none.

    Returns:
        The ids, and which of the beginnings was kept: its place in ``starts``, or their number for none.
    """
    if kept >= len(prompt):
        return prompt, 0
    place, start = next(
        ((place, start) for place, start in enumerate(starts) if 4 * start <= 3 * kept), (len(starts), 0)
    )
    return np.concatenate([prompt[:start], prompt[len(prompt) - (kept - start) :]]), place
