"""GSM8K answers under the leaderboard's rules and lm-eval 0.4.13's; for the latter lm-eval's own code is the oracle."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.api.metrics import exact_match_hf_evaluate
from lm_eval.filters.extraction import RegexFilter
from lm_eval.tasks import TaskManager

from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.benchmarks.gsm8k import flexible_extract, strict_match
from smaug_eval.leaderboard.rescore import document_metrics

SOLUTION = "She sells 9 eggs: 9 * 2 = 18.\n#### 18"
THOUSANDS = "900 * 2 = 1800.\n#### 1,800"
NEGATIVE = "2 - 5 = -3.\n#### -3"

# What the model wrote (before any stop), the worked solution, and: the leaderboard's acc (of the text up to ":",
# "Question:" or "Question"), lm-eval 0.4.13's strict-match and flexible-extract (of the whole text).
ANSWERS = [
    ("#### 18", SOLUTION, 1, 1, 1),
    (" 9 * 2 = 18\n#### 18", SOLUTION, 1, 1, 1),
    ("#### 18.", SOLUTION, 0, 1, 1),
    ("#### 18.\n", SOLUTION, 0, 1, 1),
    ("#### 18..", SOLUTION, 0, 0, 0),
    ("#### 18.0", SOLUTION, 0, 0, 0),
    ("#### 18.00", SOLUTION, 0, 0, 0),
    ("#### 018", SOLUTION, 0, 0, 0),
    ("#### $18", SOLUTION, 0, 0, 1),
    ("#### $18.", SOLUTION, 0, 0, 1),
    ("#### -18", SOLUTION, 0, 0, 0),
    ("#### 1,8", SOLUTION, 1, 1, 1),
    ("#### ,18", SOLUTION, 1, 1, 1),
    ("#### 18,", SOLUTION, 1, 1, 1),
    ("#### 18 eggs", SOLUTION, 1, 1, 1),
    ("#### 18 eggs and 2 hens", SOLUTION, 1, 1, 0),
    ("#### 18%", SOLUTION, 1, 1, 1),
    ("#### 18\n\nQuestion: What is 4?", SOLUTION, 1, 1, 0),
    ("#### 18\n\nWhat is next?", SOLUTION, 1, 1, 1),
    ("####18", SOLUTION, 0, 0, 1),
    ("#### eighteen", SOLUTION, 0, 0, 0),
    ("### 18", SOLUTION, 0, 0, 1),
    ("##### 18", SOLUTION, 1, 1, 1),
    ("#### 18\n#### 19", SOLUTION, 1, 1, 0),
    ("#### 19\n#### 18", SOLUTION, 0, 0, 1),
    ("18", SOLUTION, 0, 0, 1),
    ("The answer is 18.", SOLUTION, 0, 0, 1),
    ("The answer is 18", SOLUTION, 0, 0, 1),
    ("The answer is $18.", SOLUTION, 0, 0, 1),
    ("She earns 18 dollars for 9 eggs", SOLUTION, 0, 0, 0),
    ("", SOLUTION, 0, 0, 0),
    ("I do not know.", SOLUTION, 0, 0, 0),
    ("She sells: 9 * 2 = 18\n#### 18", SOLUTION, 0, 1, 1),
    ("Total: 18\n#### 18.", SOLUTION, 0, 1, 1),
    (": #### 18", SOLUTION, 0, 1, 1),
    ("#### 18: that is all", SOLUTION, 1, 1, 1),
    ("The answer: 18", SOLUTION, 0, 0, 1),
    ("Questionable, but\n#### 18", SOLUTION, 0, 1, 1),
    ("#### 1,800", THOUSANDS, 1, 1, 1),
    ("#### 1800", THOUSANDS, 1, 1, 1),
    ("#### 1,800.", THOUSANDS, 0, 1, 1),
    ("#### $1,800", THOUSANDS, 0, 0, 1),
    ("#### 1 800", THOUSANDS, 0, 0, 0),
    ("#### 1.800", THOUSANDS, 0, 0, 0),
    ("#### -3", NEGATIVE, 1, 1, 1),
    ("#### - 3", NEGATIVE, 0, 0, 0),
    ("#### 3", NEGATIVE, 0, 0, 0),
    ("#### -3.", NEGATIVE, 0, 1, 1),
    ("2 - 5 = -3", NEGATIVE, 0, 0, 1),
]


@cache
def lm_eval_s_gsm8k() -> dict[str, Any]:
    """The settings of lm-eval's own task, as installed."""
    config: dict[str, Any] = TaskManager()._index["gsm8k"].cfg
    return config


def by_lm_eval(name: str, text: str, answer: str) -> float:
    """One of gsm8k's two scorings through lm-eval's filter and metric, with the settings of its YAML file."""
    task = lm_eval_s_gsm8k()
    settings = next(each["filter"][0] for each in task["filter_list"] if each["name"] == name)
    extract = RegexFilter(**{key: value for key, value in settings.items() if key != "function"})
    ((found,),) = extract.apply([[text]], [{}])
    rule = task["metric_list"][0]
    return float(
        exact_match_hf_evaluate(
            [found],
            [answer],
            regexes_to_ignore=rule["regexes_to_ignore"],
            ignore_case=rule["ignore_case"],
            ignore_punctuation=rule["ignore_punctuation"],
        )["exact_match"]
    )


def sample(text: str, answer: str, until: list[str]) -> dict[str, Any]:
    return {
        "doc_id": 0,
        "doc": {"answer": answer},
        "arguments": {"gen_args_0": {"arg_0": "Question: ?\nAnswer:", "arg_1": {"until": until}}},
        "resps": [[text]],
    }


@pytest.mark.parametrize(("text", "answer", "acc", "strict", "flexible"), ANSWERS)
def test_answers(text: str, answer: str, acc: int, strict: int, flexible: int) -> None:
    values = document_metrics(v1.GSM8K, [sample(text, answer, ["Question:", "</s>", "<|im_end|>"])])
    found = {name: values[name].tolist() for name in ("acc", "strict_match", "flexible_extract", "open")}
    assert found == {"acc": [acc], "strict_match": [strict], "flexible_extract": [flexible], "open": [0]}
    assert by_lm_eval("strict-match", text, answer) == strict
    assert by_lm_eval("flexible-extract", text, answer) == flexible


@given(
    st.text("#### 0123456789.,$-: \nab", max_size=30).map("#### ".__add__) | st.text("# 18.,$-:\n", max_size=20),
    st.sampled_from([SOLUTION, THOUSANDS, NEGATIVE]),
)
def test_any_answer_scores_as_by_lm_eval(text: str, answer: str) -> None:
    assert strict_match(text, answer) == by_lm_eval("strict-match", text, answer)
    assert flexible_extract(text, answer) == by_lm_eval("flexible-extract", text, answer)


@pytest.mark.parametrize(
    ("text", "is_open", "is_open_flexible"),
    [
        (" 9 * 2 = 18\n#### 18", 0, 0),  # whatever followed, the first match stays the first
        (" 9 * 2 = 18\n#### 18\n\n", 0, 0),
        (" 9 * 2 = 18\n#### 18 eggs", 0, 1),
        (" She sells", 1, 1),  # the ":" stop may have cut it
        ("", 1, 1),
    ],
)
def test_what_a_stopped_output_cannot_tell(text: str, is_open: int, is_open_flexible: int) -> None:
    values = document_metrics(v1.GSM8K, [sample(text, SOLUTION, [":", "Question:", "Question"])])
    assert (values["open"].tolist(), values["open_flexible"].tolist()) == ([is_open], [is_open_flexible])
