"""Watch an lm-eval model while it answers: how far it is, and how many prompts did not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm_eval.api.model import TemplateLM

ProgressCallback = Callable[[int, int, str], None]
"""Receives the requests answered, the requests in all, and what is being done."""


class Watch:
    """Report progress and count truncated prompts of one lm-eval model.

    Attributes:
        lm: The model.
        truncated: Requests whose tokens did not all fit into the model's context since the last :meth:`start`.
        requests: Requests seen since the last :meth:`start`.
        generations: Those of them that are to be continued.
    """

    def __init__(self, lm: TemplateLM) -> None:
        self.truncated = 0
        self.requests = 0
        self.generations = 0
        self._report: ProgressCallback | None = None
        self._done = 0
        self._total = 0
        self._what = ""
        self.lm = lm
        self._score, self._generate = lm._loglikelihood_tokens, lm.generate_until
        lm._loglikelihood_tokens = self._scoring
        lm.generate_until = self._generating
        lm.set_cache_hook(self)

    def start(self, report: ProgressCallback) -> None:
        """Start counting from zero; ``report`` is called after every answer."""
        self.truncated = self.requests = self.generations = 0
        self._report = report

    def add_partial(self, attribute: str, request: Any, answer: Any) -> None:
        """Count an answered request: lm-eval's cache hook."""
        self._done += 1
        if self._report is not None:
            pace = getattr(self.lm, "pace", "")
            note = f"{self._what}, {pace}" if pace else self._what
            self._report(min(self._done, self._total), self._total, note)

    def _begin(self, total: int, what: str) -> None:
        self.requests += total
        self._done, self._total, self._what = 0, total, what

    def _scoring(self, requests: list[tuple[Any, list[int], list[int]]], **options: Any) -> Any:
        self._begin(len(requests), "log-likelihoods")
        # A model reads every token but the last, which it only has to predict.
        room = self.lm.max_length + 1
        self.truncated += sum(len(context) + len(continuation) > room for _, context, continuation in requests)
        return self._score(requests, **options)

    def _generating(self, requests: list[Any], **options: Any) -> Any:
        self._begin(len(requests), "generations")
        self.generations += len(requests)
        for request in requests:
            context, settings = request.args
            new_tokens = settings.get("max_gen_toks", self.lm.max_gen_toks)
            self.truncated += len(self.lm.tok_encode(context)) > self.lm.max_length - new_tokens
        return self._generate(requests, **options)
