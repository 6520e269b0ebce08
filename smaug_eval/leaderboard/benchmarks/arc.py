"""Define ARC-Challenge: which of the choices answers a question of school science.

Source: the task file of lm-evaluation-harness at commit b281b0921b63 (2023-06-15); data as on the Hub.
"""

from __future__ import annotations

from smaug_eval.leaderboard.benchmark import Benchmark, ModernTask
from smaug_eval.leaderboard.forms import LETTERS, Document, Form, Row, choice_document, question, solved
from smaug_eval.leaderboard.protocol import DataSplit, TaskSpec
from smaug_eval.leaderboard.samples import choice_measure

_ARC_KEYS = {key: index for index, keys in enumerate(("A1", "B2", "C3", "D4", "E5")) for key in keys}
REVISION = "210d026faf9955653af8916fad021475a3f00453"


def gold(row: Row) -> int:
    """Return the index of the right choice; a few ARC rows number their choices 1-5 instead of A-E."""
    return _ARC_KEYS[row["answerKey"]]


def shot(row: Row) -> str:
    """Return a solved ARC question."""
    return solved(question(row), row["choices"]["text"], gold(row))


def document(row: Row, preamble: str) -> Document:
    """Build the document of an ARC question to score."""
    return choice_document(question(row), row["choices"]["text"], gold(row), preamble)


def example(row: Row) -> str | None:
    """Return the text that the contamination check shows a model; None for the few rows with other letters."""
    if row["answerKey"] not in LETTERS:
        return None
    return f"{row['question']} {row['choices']['text'][LETTERS.index(row['answerKey'])]}"


def identity(row: Row) -> tuple[list[str], str]:
    """Return what identifies a row in training pairs: its wordings, and the right answer."""
    return [row["question"]], row["choices"]["text"][gold(row)]


FORM = Form(
    "arc",
    ("question", "choices", "answerKey"),
    shot,
    document,
    example=example,
    identity=identity,
    gold=gold,
)
TASK = TaskSpec(
    name="open_llm_v1_arc_challenge",
    form=FORM,
    evaluated=DataSplit(
        "allenai/ai2_arc",
        "ARC-Challenge",
        "test",
        REVISION,
        title="ARC",
        fingerprint="27c177718ed0b2c66fd7e9e4c2f38771957045e90189e9c327b0c7c921f02a91",
    ),
    num_fewshot=25,
    shots=DataSplit(
        "allenai/ai2_arc",
        "ARC-Challenge",
        "train",
        REVISION,
        title="ARC",
        fingerprint="aa9c327e8d4ef583fb092a39ea412fa7225603e4f0c1ded36110ccc0c118e139",
    ),
    official_rows=1_172,
    official_shot_rows=1_119,
)
BENCHMARK = Benchmark(
    title="ARC",
    metric="acc_norm",
    tasks=(TASK,),
    measure=choice_measure(gold, by_length=True),
    reported={"acc_norm": ("acc_norm,none", "acc_norm"), "acc": ("acc,none", "acc")},
    modern=ModernTask("arc_challenge", "acc_norm"),
    names=dict.fromkeys(("arc_challenge", "arc:challenge"), TASK.name),
)
