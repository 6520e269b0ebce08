"""Continue prompts and answer chats by a served model, without a tokenizer or an lm-eval model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from smaug_eval.common.served.client import CallFailed
from smaug_eval.common.served.faults import Kind
from smaug_eval.engines.generation import NO_ROOM, REFUSED, Generation, Sampling
from smaug_eval.engines.served.calls import answers
from smaug_eval.engines.served.client import ModelClient, Prompt, sampling_keys
from smaug_eval.engines.served.context import told_length
from smaug_eval.engines.served.settings import ApiSettings

Message = Mapping[str, str]
"""``role`` and ``content`` of a part of a chat."""


class ServedGenerator:
    """Let a served model write; a :class:`~smaug_eval.engines.generation.Generator` whose prompts may be chats.

    What several calls of :meth:`generate` request counts towards one budget.

    Args:
        settings: How the model is reached.
        name: What it is called there.
        notice: Receives lines for the user.
    """

    def __init__(self, settings: ApiSettings, name: str, notice: Callable[[str], None]) -> None:
        self._settings, self._notice = settings, notice
        self._endpoint, self._budget = settings.endpoint(name), settings.budget()
        self._context: int | None = None

    def context(self) -> int | None:
        """Return the tokens that the model reads and writes together; None where nobody says.

        Raises:
            Incomplete: nothing listens at the address.
        """
        self._context = self._context or self._settings.max_length or told_length(self._endpoint)
        return self._context

    def generate(
        self,
        prompts: Sequence[str | Sequence[int] | Sequence[Message]],
        samplings: Sequence[Sampling],
        on_done: Callable[[int, Generation], None] | None = None,
    ) -> list[Generation]:
        """Continue texts and tokens by plain completions, answer lists of messages by chat completions.

        A prompt that the server refuses for its own sake has a generation that says so (``NO_ROOM``, ``REFUSED``),
        given last: a server that refuses every prompt is an error.

        Args:
            prompts: Texts, tokens or messages. Of tokens less is written where the context leaves less room.
            samplings: How to continue each.
            on_done: Called with each continuation when it is there, in any order, with its prompt's index.

        Returns:
            The continuations, in the order of the prompts.

        Raises:
            Incomplete: the model answers no request, the budget is spent, or some requests had no answer;
                ``on_done`` was called with those that there are.
        """
        are_tokens = any(not isinstance(prompt, str) and _messages(prompt) is None for prompt in prompts)
        context = self.context() if are_tokens else None
        found: dict[int, Generation] = {}
        refused: dict[int, Generation] = {}

        async def ask(client: ModelClient, index: int) -> Generation | None:
            keys = sampling_keys(samplings[index])
            try:
                if (messages := _messages(prompts[index])) is not None:
                    return await client.chat(messages, keys, bends=True)
                prompt = _plain(prompts[index])
                if context is not None and not isinstance(prompt, str):
                    keys["max_tokens"] = min(keys["max_tokens"], context - len(prompt))
                return await client.complete(prompt, keys, bends=True)
            except CallFailed as failure:
                if failure.kind is None or not failure.kind.is_of_prompt:
                    raise
                why = NO_ROOM if failure.kind is Kind.TOO_LONG else REFUSED
                refused[index] = Generation("", 0, why)
                self._notice(f"the model's server refuses a prompt: {failure.reason}")
                return None

        def done(index: int, generation: Generation) -> None:
            found[index] = generation
            if on_done is not None:
                on_done(index, generation)

        for index, generation in answers(self._connect, ask, range(len(prompts)), self._settings.concurrency):
            if generation is not None:
                done(index, generation)
        for index, generation in sorted(refused.items()):
            done(index, generation)
        return [found[index] for index in range(len(prompts))]

    @property
    def spent(self) -> str:
        """Return what was used, as text."""
        return self._budget.describe()

    def _connect(self) -> ModelClient:
        return ModelClient(self._endpoint, self._budget, self._notice, self._settings.extra_body)


def _messages(prompt: str | Sequence[int] | Sequence[Message]) -> list[Message] | None:
    """The messages of a chat; None for texts and tokens."""
    found = [] if isinstance(prompt, str) else [part for part in prompt if isinstance(part, Mapping)]
    return found or None


def _plain(prompt: str | Sequence[int] | Sequence[Message]) -> Prompt:
    return prompt if isinstance(prompt, str) else [part for part in prompt if isinstance(part, int)]
