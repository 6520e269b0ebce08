"""Plan the prompts for vLLM, so that it computes what texts share once and returns every log-probability.

vLLM keeps the keys and values of prompts in a cache of blocks. A prompt whose beginning is there is computed from the
first missing block on, and log-probabilities of its own tokens are returned for the computed part alone. Those of
chosen tokens behind a prompt are always returned. So a context is one prompt, with the first tokens of all its
continuations as the chosen ones, and each longer continuation in a prompt of its own, short of the text's last token,
which is again a chosen one: a model of context ``n`` can score a text of ``n + 1`` tokens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from smaug_eval.engines.trie import Text, shared_lengths

if TYPE_CHECKING:
    from vllm import RequestOutput
    from vllm.logprobs import FlatLogprobs

MOST_CHOSEN = 128
"""Tokens whose log-probabilities vLLM returns behind one prompt; its own limit."""
LONG = 64
"""New tokens of a context from which on it is a prompt by itself, though it has one continuation only."""
FEW_MISSING = 4
"""Log-probabilities that are requested one by one rather than all together without the cache."""
WAITING = 1024
"""Prompts that vLLM is given before it has answered: enough for its largest steps."""
TRIES = 3
"""Times that a text's missing log-probabilities are requested: they can be had at the first."""

Told = tuple[int, int, float, bool]
"""A token behind the first so many of a text: how many, the token, its log-probability, whether none is likelier."""
ScoredTokens = tuple[int, npt.NDArray[np.float32], npt.NDArray[np.bool_]]
"""Index of a text; log-probabilities of its scored tokens, in nats; whether each is the likeliest one."""


@dataclass(frozen=True)
class Prompt:
    """Hold the first tokens of a text, and which log-probabilities are wanted.

    Attributes:
        text: Index of the text.
        fed: How many of its tokens, at least one, are the prompt.
        first: Of the prompt's own tokens, those from this one on are wanted; ``fed`` if none is.
        chosen: Tokens that are wanted behind the prompt.
        cached: Whether the cache may be read.
    """

    text: int
    fed: int
    first: int
    chosen: tuple[int, ...]
    cached: bool = True


class Respondent(Protocol):
    """Answer prompts: vLLM, or a stand-in in a test."""

    @property
    def waiting(self) -> int:
        """Return the prompts without an answer."""
        ...

    def ask(self, prompt: Prompt, ids: list[int]) -> None:
        """Submit a prompt and its tokens."""
        ...

    def answers(self) -> Sequence[tuple[Prompt, Sequence[Told]]]:
        """Wait for the next answered prompts, and return the log-probabilities of each."""
        ...


def score(respondent: Respondent, texts: Sequence[Text]) -> Iterator[list[ScoredTokens]]:
    """Score texts in their order; what can be put together at a time is yielded together.

    Args:
        respondent: What answers the prompts.
        texts: Sorted by :func:`~smaug_eval.engines.trie.sort_key`, without repetitions.

    Raises:
        RuntimeError: a log-probability is not returned.
    """
    course = _PlanCourse(respondent, texts)
    while course.ask_ahead():
        course.listen()
        if finished := course.finished():
            yield finished


class _PlanCourse:
    """Keep texts in their order: which are planned, which submitted, and the results of the first of these."""

    def __init__(self, respondent: Respondent, texts: Sequence[Text]) -> None:
        self._respondent, self._texts = respondent, texts
        self._shared = shared_lengths(texts)
        self._plans = enumerate(plan(texts, self._shared))
        self._asked: deque[int] = deque()
        self._unanswered: dict[int, int] = {}  # prompts of each text that is submitted
        self._told: dict[int, list[Told]] = {}
        self._path = Path()
        self._tries = 0

    def ask_ahead(self) -> bool:
        """Keep the respondent busy; whether any text is unfinished."""
        while self._respondent.waiting < WAITING and (planned := next(self._plans, None)) is not None:
            self._asked.append(planned[0])
            self._ask(*planned)
        return bool(self._asked)

    def listen(self) -> None:
        """Take the next answers, if any prompt waits for one."""
        for prompt, told in self._respondent.answers() if self._respondent.waiting else ():
            self._told[prompt.text] += told
            self._unanswered[prompt.text] -= 1

    def finished(self) -> list[ScoredTokens]:
        """Yield the complete texts, from the first unfinished one on; request what is missing in a gap."""
        found: list[ScoredTokens] = []
        while self._asked and not self._unanswered[self._asked[0]]:
            index = self._asked[0]
            self._path.learn(self._told.pop(index))
            if missing := self._path.missing(self._texts[index]):
                self._tries += 1
                if self._tries > TRIES:
                    raise RuntimeError(f"vLLM returned nothing for tokens {missing} of a text that it was asked for")
                self._ask(index, ask_again(self._texts[index], index, missing))
                break
            self._tries = 0
            found.append((index, *self._path.read(self._texts[index])))
            del self._unanswered[self._asked.popleft()]
            if index + 1 < len(self._texts):
                self._path.go_on(self._shared[index + 1])
        return found

    def _ask(self, index: int, prompts: Sequence[Prompt]) -> None:
        self._unanswered[index], self._told[index] = len(prompts), []
        for prompt in prompts:
            self._respondent.ask(prompt, self._texts[index].ids[: prompt.fed].tolist())


def plan(texts: Sequence[Text], shared: Sequence[int]) -> Iterator[list[Prompt]]:
    """Plan for each text the prompts that are needed after those of the texts before it; none where those suffice.

    Args:
        texts: Sorted by :func:`~smaug_eval.engines.trie.sort_key`, without repetitions.
        shared: From :func:`~smaug_eval.engines.trie.shared_lengths`.
    """
    chosen: dict[int, tuple[int, ...]] = {}  # behind how many tokens of the present text which tokens were asked for
    for index, text in enumerate(texts):
        chosen = {fed: tokens for fed, tokens in chosen.items() if fed <= shared[index]}
        context, last = len(text.ids) - text.scored, len(text.ids) - 1
        prompts = []
        # What precedes it was computed for the text before, or is found missing and requested later.
        start = max(context, shared[index])
        if text.ids[start] in chosen.get(start, ()):
            start += 1
        elif start == context:
            following = _next_tokens(texts, shared, index, start)
            # Asked by itself, a context is spared the log-probabilities of its own tokens.
            if len(following) > 1 or start - shared[index] > LONG:
                chosen[start] = following
                prompts.append(Prompt(index, start, start, following))
                start += 1
        if start <= last:
            chosen[last] = _next_tokens(texts, shared, index, last)
            prompts.append(Prompt(index, last, start, chosen[last]))
        yield prompts


def ask_again(text: Text, index: int, missing: Sequence[int]) -> list[Prompt]:
    """Return the prompts for the log-probabilities that a cached block kept out of an answer.

    Args:
        text: The text.
        index: Its index.
        missing: Indices of its tokens, ascending.
    """
    if len(missing) <= FEW_MISSING:
        return [Prompt(index, place, place, (int(text.ids[place]),)) for place in missing]
    last = len(text.ids) - 1
    return [Prompt(index, last, missing[0], (int(text.ids[last]),), cached=False)]


def told_by(prompt: Prompt, output: RequestOutput) -> list[Told]:
    """Read the log-probabilities of an answer: of the chosen tokens behind the prompt, and of the prompt's own.

    Nothing is read of a token whose predecessor came from the cache: vLLM has no row there, or, by its version, a row
    of what happened to be in the memory.
    """
    (completion,) = output.outputs
    behind = completion.logprobs[0]
    likeliest = behind[completion.token_ids[0]].logprob
    found = [(prompt.fed, token, behind[token].logprob, behind[token].logprob >= likeliest) for token in prompt.chosen]
    if prompt.first < prompt.fed:
        found += _told_of_own(prompt, output.prompt_token_ids, output.prompt_logprobs, output.num_cached_tokens or 0)
    return found


def _told_of_own(prompt: Prompt, ids: Sequence[int], rows: FlatLogprobs, cached: int) -> list[Told]:
    """The log-probabilities of the prompt's own tokens in an answer, in a row each of the token and the likeliest one.

    The last row is that of the prompt's last token.
    """
    found: list[Told] = []
    before = len(rows) - len(ids)
    for place in range(max(prompt.first, cached + 1), prompt.fed):
        row, token = before + place, int(ids[place])
        if row > 0 and rows.token_ids[rows.start_indices[row]] == token:
            own, likeliest = rows.logprobs[rows.start_indices[row] : rows.end_indices[row]]
            found.append((place, token, own, own >= likeliest))
    return found


class Path:
    """Hold what is known of the tokens of one text, and of other tokens in their places.

    Goes from text to text, and keeps what the next one shares.
    """

    def __init__(self) -> None:
        self._told: dict[int, dict[int, tuple[float, bool]]] = {}

    def learn(self, told: Sequence[Told]) -> None:
        """Record the log-probabilities of tokens behind beginnings of the text."""
        for place, token, log_prob, greedy in told:
            self._told.setdefault(place, {})[token] = (log_prob, greedy)

    def missing(self, text: Text) -> list[int]:
        """Return the indices of scored tokens of which nothing is known."""
        return [
            place
            for place in range(len(text.ids) - text.scored, len(text.ids))
            if int(text.ids[place]) not in self._told.get(place, {})
        ]

    def read(self, text: Text) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Read the log-probabilities of a text's scored tokens, and whether each is the likeliest one."""
        told = [self._told[place][int(text.ids[place])] for place in range(len(text.ids) - text.scored, len(text.ids))]
        log_probs, greedy = zip(*told, strict=True)
        return np.array(log_probs, np.float32), np.array(greedy, np.bool_)

    def go_on(self, shared: int) -> None:
        """Move to a text that shares this many tokens."""
        self._told = {place: told for place, told in self._told.items() if place <= shared}


def _next_tokens(texts: Sequence[Text], shared: Sequence[int], index: int, place: int) -> tuple[int, ...]:
    """What a text and those after it have behind the first ``place`` tokens that they share, as far as it is scored."""
    found: dict[int, None] = {}
    for number in range(index, len(texts)):
        text = texts[number]
        if (number > index and shared[number] < place) or len(found) == MOST_CHOSEN:
            break
        if len(text.ids) - text.scored <= place < len(text.ids):
            found[int(text.ids[place])] = None
    return tuple(found)
