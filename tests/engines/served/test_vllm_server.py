"""A model behind vLLM's own OpenAI-compatible server, scored as by transformers; needs vLLM (``make test-vllm``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

pytest.importorskip("vllm", reason="vLLM is not installed here; make test-vllm runs these")

from smaug_eval.common.embedded import embedded_path
from smaug_eval.engines.build import build_engine
from smaug_eval.engines.registry import EngineSpec
from tests.engines.served.vllm_server import LENGTH

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

DEMO = str(embedded_path("demo-model"))
PAIRS = [("Anna has 3 apples.", " She buys 4 more."), ("One two ", "three"), ("One two", " four")]


def scored(lm: Any) -> list[tuple[float, bool]]:
    return list(lm.loglikelihood([Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(PAIRS)], True))


def written(lm: Any) -> list[str]:
    told = {"until": ["\n"], "max_gen_toks": 12}
    return list(
        lm.generate_until([Instance("generate_until", {}, (pair[0], told), n) for n, pair in enumerate(PAIRS)], True)
    )


def test_vllm_serves_what_transformers_computes(vllm_server: str) -> None:
    local: Any = build_engine(EngineSpec("hf", Path(DEMO), "float32", 1, "cpu"))
    for tokenizer in (DEMO, None):
        told = {"base_url": vllm_server, "key_env": "NO_SUCH_KEY", "tokenizer": tokenizer}
        lm: Any = build_engine(EngineSpec("api", Path("api:demo"), engine_args=told))
        assert lm.max_length == LENGTH - 2
        found, expected = scored(lm), scored(local)
        assert [pair[0] for pair in found] == pytest.approx([pair[0] for pair in expected], abs=5e-3)
        assert [pair[1] for pair in found] == [pair[1] for pair in expected]
        assert written(lm) == written(local)
    chat: Any = build_engine(EngineSpec("api", Path("api:demo"), engine_args={"base_url": vllm_server, "chat": True}))
    assert written(chat) == written(local)
