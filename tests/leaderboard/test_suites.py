from __future__ import annotations

import pytest

from smaug_eval.errors import SmaugError
from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.registry import find_suite


def test_suites_by_name() -> None:
    assert find_suite("open_llm_v1") is v1.SUITE
    with pytest.raises(SmaugError) as error:
        find_suite("open_llm_v2")
    assert error.value.fix == "did you mean 'open_llm_v1'?"


def test_columns_in_table_order_whatever_they_are_called() -> None:
    assert v1.SUITE.lm_eval_tasks() == [
        "open_llm_v1_arc_challenge",
        "open_llm_v1_hellaswag",
        "open_llm_v1_mmlu",
        "open_llm_v1_truthfulqa",
        "open_llm_v1_winogrande",
        "open_llm_v1_gsm8k",
    ]
    assert v1.SUITE.lm_eval_tasks(["GSM8K", "arc_challenge", "open_llm_v1_mmlu", "ARC"]) == [
        "open_llm_v1_arc_challenge",
        "open_llm_v1_mmlu",
        "open_llm_v1_gsm8k",
    ]


def test_unknown_names_propose_the_nearest() -> None:
    with pytest.raises(SmaugError, match="no column of open_llm_v1 called 'helaswag'") as column:
        v1.SUITE.select(["helaswag"])
    assert column.value.fix == "did you mean 'hellaswag'?"
    with pytest.raises(SmaugError) as task:
        v1.load_documents("open_llm_v1_mmlu_anatomie")
    assert task.value.fix == "did you mean 'open_llm_v1_mmlu_anatomy'?"
