"""A model behind vLLM's own OpenAI-compatible server, scored as by transformers; needs vLLM (``make test-vllm``)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

pytest.importorskip("vllm", reason="vLLM is not installed here; make test-vllm runs these")

import smaug_eval
from smaug_eval.common.embedded import embedded_path
from smaug_eval.engines.build import build_engine
from smaug_eval.engines.registry import EngineSpec
from tests.engines.served.vllm_server import LENGTH, TEMPLATE

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


@pytest.mark.parametrize("chat", [True, False])
def test_vllm_answers_mt_bench_as_the_same_weights_do_here(chat: bool, vllm_server: str, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(DEMO, own)
    (own / "chat_template.jinja").write_text(TEMPLATE)
    told: dict[str, Any] = {"questions": "demo", "limit": 4, "max_new_tokens": 40}
    reached = {"base_url": vllm_server, "key_env": "NO_SUCH_KEY"} | (
        {} if chat else {"chat": False, "tokenizer": str(own)}
    )
    there = smaug_eval.answer_mt_bench("api:demo", tmp_path / "there", engine="api", engine_args=reached, **told)
    here = smaug_eval.answer_mt_bench(own, tmp_path / "here", engine="torch", device="cpu", dtype="float32", **told)

    def turns(file: Path) -> list[tuple[int, list[str]]]:
        lines = map(json.loads, file.read_text().splitlines())
        return [
            (line["question_id"], line["choices"][0]["turns"]) for line in lines if not line["smaug"]["temperature"]
        ]

    assert turns(there) == turns(here) != []


def test_a_chat_ends_where_vllms_context_does(vllm_server: str, tmp_path: Path) -> None:
    # vLLM refuses an answer of 1,024 tokens in a context of 512; without a limit it writes what there is room for.
    reached = {"base_url": vllm_server, "key_env": "NO_SUCH_KEY"}
    told: dict[str, Any] = {"questions": "demo", "limit": 1, "max_new_tokens": 1024, "engine_args": reached}
    (line,) = smaug_eval.answer_mt_bench("api:demo", tmp_path, engine="api", **told).read_text().splitlines()
    found = json.loads(line)["smaug"]
    assert found["marks"] == ["truncated", "failed"]
    assert found["finish_reasons"] == ["length", "no room"]
    assert 300 < found["tokens"][0] < LENGTH
