from __future__ import annotations

import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard import v1, v2
from smaug_eval.leaderboard.registry import find_suite


def test_suites_by_name() -> None:
    assert find_suite("open_llm_v1") is v1.SUITE
    assert find_suite("open_llm_v2") is v2.SUITE
    with pytest.raises(SmaugError) as error:
        find_suite("open_lm_v2")
    assert error.value.fix == "did you mean 'open_llm_v2'?"


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


@pytest.mark.parametrize("name", ["piqa", "ifeval", "mmlu_pro", "bbh"])
def test_names_of_other_tasks_are_no_misspellings(name: str) -> None:
    with pytest.raises(SmaugError) as error:
        v1.SUITE.select([name])
    fix = str(error.value.fix)
    assert "did you mean" not in fix
    assert (
        "there is arc_challenge, hellaswag, mmlu, truthfulqa, winogrande, gsm8k; any other task of lm-eval is run with "
        "suite lm_eval (--suite lm_eval --task NAME" in fix
    )
    with pytest.raises(SmaugError) as suite:
        find_suite("ifeval")
    assert str(suite.value.fix).startswith(
        "there is lm_eval_0413, open_llm_v1, open_llm_v2, demo, lm_eval; any other task of lm-eval"
    )


def test_lm_evals_tasks_are_no_board() -> None:
    with pytest.raises(SmaugError, match="suite lm_eval has no columns of its own"):
        find_suite("lm_eval")
