"""An engine: an lm-eval model that prefers short continuations and loads nothing. Its tokens are bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM

from smaug_eval.engines.registry import Engine
from smaug_eval.models.quantised import Use


class ShortestFirst(TemplateLM):
    """The log-likelihood of a continuation is minus its length in bytes."""

    eot_token_id = 0
    max_length = 1024
    max_gen_toks = 8

    def __init__(self, **settings: Any) -> None:
        super().__init__()

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **settings: Any) -> list[int]:
        """Return the text's bytes."""
        return list(string.encode())

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **options: Any
    ) -> list[tuple[float, bool]]:
        return [(-float(len(continuation)), False) for _, _, continuation in requests]

    def loglikelihood_rolling(self, requests: list[Instance], **options: Any) -> list[float]:
        """Score whole texts."""
        return [-float(len(request.args[0])) for request in requests]

    def generate_until(self, requests: list[Instance], **options: Any) -> list[str]:
        """Write nothing."""
        return ["" for _ in requests]


ENGINE = Engine("colours.engine:ShortestFirst", Use.HF)
