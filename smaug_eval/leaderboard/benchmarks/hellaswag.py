"""Define HellaSwag: which of four endings continues a beginning.

Source: the task file of lm-evaluation-harness at commit b281b0921b63 (2023-06-15); data as on the Hub.
"""

from __future__ import annotations

import re

from smaug_eval.leaderboard.benchmark import Benchmark, ModernTask
from smaug_eval.leaderboard.forms import Document, Form, Row, choice_document, solved
from smaug_eval.leaderboard.protocol import DataSplit, TaskSpec
from smaug_eval.leaderboard.samples import choice_measure

_BRACKETED = re.compile(r"\[.*?\]")
REVISION = "218ec52e09a7e7462a5400043bb9a69a41d06b76"


def clean(text: str) -> str:
    """Remove WikiHow's markup from a HellaSwag text."""
    text = text.strip().replace(" [title]", ". ")
    return _BRACKETED.sub("", text).replace("  ", " ")


def query(row: Row) -> str:
    """Return the activity and the beginning of a HellaSwag row."""
    return clean(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}")


def gold(row: Row) -> int:
    """Return the index of the true ending."""
    return int(row["label"])


def shot(row: Row) -> str:
    """Return a HellaSwag beginning with its true ending."""
    return solved(query(row), [clean(ending) for ending in row["endings"]], gold(row))


def document(row: Row, preamble: str) -> Document:
    """Build the document of a HellaSwag beginning with four endings to score."""
    endings = [clean(ending) for ending in row["endings"]]
    return choice_document(query(row), endings, gold(row), preamble)


def identity(row: Row) -> tuple[list[str], str]:
    """Return what identifies a row in training pairs: its wordings, and the right answer."""
    context = f"{row['ctx_a']} {row['ctx_b']}"
    return [clean(context), context], clean(row["endings"][gold(row)])


FORM = Form(
    "hellaswag",
    ("activity_label", "ctx_a", "ctx_b", "endings", "label"),
    shot,
    document,
    example=shot,
    identity=identity,
    gold=gold,
)
TASK = TaskSpec(
    name="open_llm_v1_hellaswag",
    form=FORM,
    evaluated=DataSplit(
        "Rowan/hellaswag",
        "default",
        "validation",
        REVISION,
        title="HellaSwag",
        # No verbatim copy was at hand, so only its rows are counted, and a copy that is known is named.
        copies=(
            (
                "2d32d00899a873f5695a7743e056b23310e3d3bd6e8336811ba5f6180964a7cc",
                "the content of HellaSwag validation was rebuilt from preprocessed text",
            ),
        ),
    ),
    num_fewshot=10,
    shots=DataSplit(
        "Rowan/hellaswag",
        "default",
        "train",
        REVISION,
        title="HellaSwag",
    ),
    official_rows=10_042,
    official_shot_rows=39_905,
)
BENCHMARK = Benchmark(
    title="HellaSwag",
    metric="acc_norm",
    tasks=(TASK,),
    measure=choice_measure(gold, by_length=True),
    reported={"acc_norm": ("acc_norm,none", "acc_norm"), "acc": ("acc,none", "acc")},
    modern=ModernTask("hellaswag", "acc_norm"),
    names={"hellaswag": TASK.name},
)
