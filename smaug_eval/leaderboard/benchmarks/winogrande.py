"""Define Winogrande: which of two options fills the blank, scored by the rest of the sentence.

Source: the task file of lm-evaluation-harness at commit b281b0921b63 (2023-06-15); data as on the Hub.
"""

from __future__ import annotations

from smaug_eval.leaderboard.benchmark import Benchmark, ModernTask
from smaug_eval.leaderboard.forms import Document, Form, Row
from smaug_eval.leaderboard.protocol import DataSplit, TaskSpec
from smaug_eval.leaderboard.samples import choice_measure

REVISION = "01e74176c63542e6b0bcb004dcdea22d94fb67b5"


def beginning(row: Row, option: str) -> str:
    """Return the sentence up to the blank, filled with ``option``."""
    sentence = row["sentence"]
    return f"{sentence[: sentence.index('_')]}{option}"


def ending(row: Row) -> str:
    """Return the sentence after the blank, the only part that is scored."""
    sentence = row["sentence"]
    return sentence[sentence.index("_") + 1 :].strip()


def gold(row: Row) -> int:
    """Return the index of the right option."""
    return ("1", "2").index(row["answer"])


def shot(row: Row) -> str:
    """Return the sentence with its blank filled correctly."""
    right = (row["option1"], row["option2"])[gold(row)]
    return f"{beginning(row, right)} {ending(row)}"


def document(row: Row, preamble: str) -> Document:
    """Build the document of a sentence to score by partial evaluation: two contexts, one continuation."""
    beginnings = [beginning(row, row[column]) for column in ("option1", "option2")]
    return {
        "query": row["sentence"],
        "contexts": [preamble + beginning for beginning in beginnings],
        "target": ending(row),
        "gold": gold(row),
    }


def identity(row: Row) -> tuple[list[str], str]:
    """Return what identifies a row in training pairs: its wordings, and the right answer."""
    options = (row["option1"], row["option2"])
    filled = [f"{beginning(row, option)} {ending(row)}" for option in options]
    return [row["sentence"], *filled], options[gold(row)]


FORM = Form(
    "winogrande",
    ("sentence", "option1", "option2", "answer"),
    shot,
    document,
    example=shot,
    identity=identity,
    gold=gold,
)
TASK = TaskSpec(
    name="open_llm_v1_winogrande",
    form=FORM,
    evaluated=DataSplit(
        "allenai/winogrande",
        "winogrande_xl",
        "validation",
        REVISION,
        title="Winogrande",
        fingerprint="a5d688f9f07dc313f6a9dd616e787e7cec260b267d92940a4cb6d5f539e2cb50",
    ),
    num_fewshot=5,
    shots=DataSplit(
        "allenai/winogrande",
        "winogrande_xl",
        "train",
        REVISION,
        title="Winogrande",
        fingerprint="69501f58f66c48b0d6f50f726ca550134fd94ddd14878601a8857daa4890fc7e",
    ),
    official_rows=1_267,
    official_shot_rows=40_398,
)
BENCHMARK = Benchmark(
    title="Winogrande",
    metric="acc",
    tasks=(TASK,),
    measure=choice_measure(gold),
    reported={"acc": ("acc,none", "acc")},
    modern=ModernTask("winogrande", "acc"),
    names={"winogrande": TASK.name},
)
