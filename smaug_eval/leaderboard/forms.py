"""The six request forms of the Open LLM Leaderboard v1.

A form turns one row, in the Hub's own columns, into text: a solved example for the prompt, and an evaluated
document. Forms know nothing of where rows come from or how many shots there are, so any suite may reuse them.
Source: the task files of lm-evaluation-harness at commit b281b0921b63 (2023-06-15).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smaug_eval.leaderboard.metrics import final_answer
from smaug_eval.wording import SHOT_SEPARATOR, clean_hellaswag, hellaswag_query, question

Row = Mapping[str, Any]
Document = dict[str, Any]

LETTERS = ("A", "B", "C", "D")

_ARC_KEYS = {key: index for index, keys in enumerate(("A1", "B2", "C3", "D4", "E5")) for key in keys}


@dataclass(frozen=True)
class Form:
    """How rows of one kind are shown to a model.

    Attributes:
        name: Short name of the form.
        columns: The Hub columns that ``shot`` and ``document`` read.
        shot: Row to solved example, answer included, without a separator after it.
        document: Row and preamble (everything before the question) to the fields of an evaluated document.

    ``shot`` and ``document`` raise ValueError, KeyError or TypeError on a row that does not fit the form.
    """

    name: str
    columns: tuple[str, ...]
    shot: Callable[[Row], str]
    document: Callable[[Row, str], Document]


def arc_gold(row: Row) -> int:
    """Index of the right choice; a few ARC rows number their choices 1-5 instead of A-E."""
    return _ARC_KEYS[row["answerKey"]]


def arc_shot(row: Row) -> str:
    """A solved ARC question."""
    return _solved(question(row), row["choices"]["text"], arc_gold(row))


def arc_document(row: Row, preamble: str) -> Document:
    """An ARC question to score."""
    return _choice_document(question(row), row["choices"]["text"], arc_gold(row), preamble)


def hellaswag_shot(row: Row) -> str:
    """A HellaSwag beginning with its true ending."""
    return _solved(hellaswag_query(row), [clean_hellaswag(ending) for ending in row["endings"]], int(row["label"]))


def hellaswag_document(row: Row, preamble: str) -> Document:
    """A HellaSwag beginning with four endings to score."""
    endings = [clean_hellaswag(ending) for ending in row["endings"]]
    return _choice_document(hellaswag_query(row), endings, int(row["label"]), preamble)


def mmlu_header(subject: str) -> str:
    """The line above the shots of an MMLU subject, with the blank line after it."""
    name = subject.replace("_", " ")
    return f"The following are multiple choice questions (with answers) about {name}.{SHOT_SEPARATOR}"


def mmlu_query(row: Row) -> str:
    """An MMLU question with its lettered choices."""
    choices = "".join(f"{letter}. {choice}\n" for letter, choice in zip(LETTERS, row["choices"], strict=True))
    return f"{row['question'].strip()}\n{choices}Answer:"


def mmlu_shot(row: Row) -> str:
    """A solved MMLU question."""
    return _solved(mmlu_query(row), LETTERS, row["answer"])


def mmlu_document(row: Row, preamble: str) -> Document:
    """An MMLU question whose four letters are to be scored."""
    return _choice_document(mmlu_query(row), list(LETTERS), row["answer"], preamble)


def truthfulqa_query(row: Row) -> str:
    """A TruthfulQA question."""
    return f"Q: {row['question']}\nA:"


def truthfulqa_shot(row: Row) -> str:
    """A question with its one best answer."""
    return f"{truthfulqa_query(row)} {row['mc1_targets']['choices'][0]}"


def truthfulqa_document(row: Row, preamble: str) -> Document:
    """A question with the answers of both scorings: first those of mc1, then those of mc2.

    ``n_mc1`` counts the former; ``n_true`` is where the first false answer stands among the latter, which is where
    the leaderboard split true from false; ``labels`` are 1 for the true ones of the latter.
    """
    mc1, mc2 = row["mc1_targets"], row["mc2_targets"]
    if list(mc1["labels"]).index(1) != 0:
        raise ValueError("the best answer is not the first of mc1_targets")
    n_true = list(mc2["labels"]).index(0)
    document = _choice_document(truthfulqa_query(row), [*mc1["choices"], *mc2["choices"]], 0, preamble)
    return {**document, "n_mc1": len(mc1["choices"]), "n_true": n_true, "labels": list(mc2["labels"])}


def winogrande_beginning(row: Row, option: str) -> str:
    """The sentence up to the blank, filled with ``option``."""
    sentence = row["sentence"]
    return f"{sentence[: sentence.index('_')]}{option}"


def winogrande_ending(row: Row) -> str:
    """The sentence after the blank, the only part that is scored."""
    sentence = row["sentence"]
    return sentence[sentence.index("_") + 1 :].strip()


def winogrande_gold(row: Row) -> int:
    """Index of the right option."""
    return ("1", "2").index(row["answer"])


def winogrande_shot(row: Row) -> str:
    """The sentence with its blank filled correctly."""
    beginning = winogrande_beginning(row, (row["option1"], row["option2"])[winogrande_gold(row)])
    return f"{beginning} {winogrande_ending(row)}"


def winogrande_document(row: Row, preamble: str) -> Document:
    """A sentence to score by partial evaluation: two contexts, one continuation."""
    beginnings = [winogrande_beginning(row, row[column]) for column in ("option1", "option2")]
    return {
        "query": row["sentence"],
        "contexts": [preamble + beginning for beginning in beginnings],
        "target": winogrande_ending(row),
        "gold": winogrande_gold(row),
    }


def gsm8k_shot(row: Row) -> str:
    """A worded problem with its worked solution."""
    return f"{question(row)} {row['answer']}"


def gsm8k_document(row: Row, preamble: str) -> Document:
    """A worded problem whose solution is to be generated; ``gold`` is its final number as text."""
    gold = final_answer(row["answer"])
    if gold is None:
        raise ValueError("the answer has no '#### <number>'")
    query = question(row)
    return {"query": query, "ctx": preamble + query, "answer": row["answer"], "gold": gold}


def continuations(document: Document) -> list[tuple[str, str]]:
    """The ``(context, continuation)`` pairs of a document with choices, in the harness's order."""
    if "contexts" in document:
        return [(context, f" {document['target']}") for context in document["contexts"]]
    return [(document["ctx"], f" {option}") for option in document["options"]]


def _choice_document(query: str, options: list[str], gold: int, preamble: str) -> Document:
    return {"query": query, "ctx": preamble + query, "options": list(options), "gold": _checked(gold, options)}


def _solved(query: str, options: Sequence[str], gold: int) -> str:
    return f"{query} {options[_checked(gold, options)]}"


def _checked(gold: int, options: Sequence[str]) -> int:
    if not 0 <= gold < len(options):
        raise ValueError(f"the answer is choice {gold}, but there are {len(options)} choices")
    return gold


ARC = Form("arc", ("question", "choices", "answerKey"), arc_shot, arc_document)
HELLASWAG = Form(
    "hellaswag",
    ("activity_label", "ctx_a", "ctx_b", "endings", "label"),
    hellaswag_shot,
    hellaswag_document,
)
MMLU = Form("mmlu", ("question", "subject", "choices", "answer"), mmlu_shot, mmlu_document)
TRUTHFULQA = Form(
    "truthfulqa",
    ("question", "mc1_targets", "mc2_targets"),
    truthfulqa_shot,
    truthfulqa_document,
)
WINOGRANDE = Form(
    "winogrande",
    ("sentence", "option1", "option2", "answer"),
    winogrande_shot,
    winogrande_document,
)
GSM8K = Form("gsm8k", ("question", "answer"), gsm8k_shot, gsm8k_document)
