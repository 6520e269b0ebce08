"""Plans of recipes with several models: an adapter, a served one, the second leaderboard, tasks of any kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from benchmarks.document_lengths import document_tokens
from smaug_eval.cli.tables.plan import plan_tables
from smaug_eval.common.errors import SmaugError
from smaug_eval.planning.estimate import plan_recipe
from smaug_eval.planning.machines import parse_machine
from smaug_eval.planning.plans import RecipePlan
from smaug_eval.runs.recipe_file import parse_recipe

DEMO = "embedded:demo-model"
SERVER = {"engine": "api", "engine_args": {"base_url": "http://127.0.0.1:9/v1"}}


def planned(models: dict[str, Any], evaluations: dict[str, Any]) -> RecipePlan:
    recipe = parse_recipe({"name": "several", "models": models, "evaluations": evaluations})
    return plan_recipe(recipe, [parse_machine("H200")])


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": DEMO, "peft_type": "LORA"}))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    return tmp_path


def test_an_adapter_takes_what_its_base_takes_and_a_served_model_nothing(adapter: Path) -> None:
    arc = {"suite": "open_llm_v1", "tasks": ["arc_challenge"]}
    plan = planned(
        {"start": DEMO, "mine": str(adapter), "served": "api:thing"},
        {"arc": {**arc, "models": ["start", "mine"]}, "theirs": {**arc, **SERVER, "models": ["served"]}},
    )
    stages = {stage.name: stage for stage in plan.machines[0].stages}
    assert list(stages) == ["eval/start/arc", "eval/mine/arc"]
    assert stages["eval/start/arc"].tokens == stages["eval/mine/arc"].tokens == 1_172 * 1_012
    assert "served models are computed elsewhere and take no time here: served" in plan.assumptions
    with pytest.raises(SmaugError, match="every model is served"):
        planned({"served": "api:thing"}, {"theirs": {**arc, **SERVER}})


def test_requests_to_served_models_are_counted() -> None:
    server = {"base_url": "http://127.0.0.1:9/v1", "price_in": 1.0, "price_out": 2.0}
    talk = {"chat_template": "zero_shot", "served": {"theirs": server}, "limit": 10, "max_new_tokens": 500}
    recipe = parse_recipe({"name": "s", "models": {"mine": DEMO, "theirs": "api:x"}, "mt_bench": {"talk": talk}})
    plan = plan_recipe(recipe, [parse_machine("H200")])
    assert [stage.name for stage in plan.machines[0].stages] == ["mt-bench/mine/talk"]
    # Of 10 questions: 120 tokens to read in the first turn; in the second 240, and an answer of 500.
    read, written = 10 * (120 + 240 + 500), 20 * 500
    (asked,) = plan.requests
    cost = (read * 1 + written * 2) / 1e6
    assert (asked.name, asked.calls, asked.read, asked.written) == ("mt-bench/theirs/talk", 20, read, written)
    assert asked.cost == pytest.approx(cost)
    text = shown(plan)
    assert "mt-bench/theirs/talk: 20 calls: about 8,600 tokens to read, at most 10,000 to write, at most 0.03" in text

    alone = {"name": "s", "model": "api:x", "mt_bench": {"talk": {"engine": "api", "engine_args": server}}}
    plan = plan_recipe(parse_recipe(alone), [parse_machine("H200")])
    assert (plan.machines, [each.calls for each in plan.requests]) == ([], [160])
    assert "s: api:x, which a server runs" in shown(plan)


def shown(plan: RecipePlan) -> str:
    console = Console(width=200)
    with console.capture() as found:
        console.print(plan_tables(plan))
    return found.get()


def test_columns_of_the_second_leaderboard_and_other_tasks() -> None:
    plan = planned(
        {"start": DEMO},
        {
            "v2": {"suite": "open_llm_v2", "tasks": ["bbh", "mmlu_pro"], "limit": 0.5},
            "own": {"suite": "lm_eval", "tasks": ["piqa"]},
        },
    )
    v2, own = plan.machines[0].stages
    assert v2.tokens == 2_881 * 452 + 6_016 * 840
    assert v2.tokens_unshared == 2_881 * 2_600 + 6_016 * 8_242
    assert own.tokens == 0
    assert "evaluations whose documents plan does not know take no time here: own" in plan.assumptions


def test_a_documents_tokens_are_counted_once_where_its_requests_begin_alike() -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = Tokenizer(WordLevel({"?": 0}, unk_token="?"))  # noqa: S106
    words.add_tokens(["a", "b", "c", "d", "e"])
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
    assert document_tokens(tokenizer, [("a b c", " d"), ("a b c", " e e")]) == (6, 9)
    assert document_tokens(tokenizer, [("a b c", {"until": []})]) == (3, 3)
