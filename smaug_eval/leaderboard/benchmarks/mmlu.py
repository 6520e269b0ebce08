"""Define MMLU: four lettered choices, in 57 subjects that are a task each.

Source: the task file of lm-evaluation-harness at commit b281b0921b63 (2023-06-15); data as on the Hub.
"""

from __future__ import annotations

from smaug_eval.leaderboard.benchmark import Benchmark, Documents, ModernTask, ViewCause
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.forms import LETTERS, SHOT_SEPARATOR, Document, Form, Row, choice_document, solved
from smaug_eval.leaderboard.protocol import DataSplit, TaskSpec
from smaug_eval.leaderboard.samples import choice_measure
from smaug_eval.leaderboard.scores import ColumnScore, Score, mean_of_means, mean_over_documents

REVISION = "c30699e8356da336a370243923dbaf21066bb9fe"
_BEFORE_497 = (
    "not comparable: version 0 of hendrycksTest, from before the harness's pull request 497, asks for the text of the "
    "choices and not for their letters"
)
TEST_ROWS = {
    "abstract_algebra": 100,
    "anatomy": 135,
    "astronomy": 152,
    "business_ethics": 100,
    "clinical_knowledge": 265,
    "college_biology": 144,
    "college_chemistry": 100,
    "college_computer_science": 100,
    "college_mathematics": 100,
    "college_medicine": 173,
    "college_physics": 102,
    "computer_security": 100,
    "conceptual_physics": 235,
    "econometrics": 114,
    "electrical_engineering": 145,
    "elementary_mathematics": 378,
    "formal_logic": 126,
    "global_facts": 100,
    "high_school_biology": 310,
    "high_school_chemistry": 203,
    "high_school_computer_science": 100,
    "high_school_european_history": 165,
    "high_school_geography": 198,
    "high_school_government_and_politics": 193,
    "high_school_macroeconomics": 390,
    "high_school_mathematics": 270,
    "high_school_microeconomics": 238,
    "high_school_physics": 151,
    "high_school_psychology": 545,
    "high_school_statistics": 216,
    "high_school_us_history": 204,
    "high_school_world_history": 237,
    "human_aging": 223,
    "human_sexuality": 131,
    "international_law": 121,
    "jurisprudence": 108,
    "logical_fallacies": 163,
    "machine_learning": 112,
    "management": 103,
    "marketing": 234,
    "medical_genetics": 100,
    "miscellaneous": 783,
    "moral_disputes": 346,
    "moral_scenarios": 895,
    "nutrition": 306,
    "philosophy": 311,
    "prehistory": 324,
    "professional_accounting": 282,
    "professional_law": 1534,
    "professional_medicine": 272,
    "professional_psychology": 612,
    "public_relations": 110,
    "security_studies": 245,
    "sociology": 201,
    "us_foreign_policy": 100,
    "virology": 166,
    "world_religions": 171,
}


def gold(row: Row) -> int:
    """Return the index of the right choice."""
    return int(row["answer"])


def header(subject: str) -> str:
    """Return the line above the shots of an MMLU subject, with the blank line after it."""
    name = subject.replace("_", " ")
    return f"The following are multiple choice questions (with answers) about {name}.{SHOT_SEPARATOR}"


def query(row: Row) -> str:
    """Return an MMLU question with its lettered choices."""
    choices = "".join(f"{letter}. {choice}\n" for letter, choice in zip(LETTERS, row["choices"], strict=True))
    return f"{row['question'].strip()}\n{choices}Answer:"


def shot(row: Row) -> str:
    """Return a solved MMLU question."""
    return solved(query(row), LETTERS, row["answer"])


def document(row: Row, preamble: str) -> Document:
    """Build the document of an MMLU question whose four letters are to be scored."""
    return choice_document(query(row), list(LETTERS), row["answer"], preamble)


def example(row: Row) -> str:
    """Return the text that the contamination check shows a model."""
    return f"{row['question']} {row['choices'][row['answer']]}"


def identity(row: Row) -> tuple[list[str], str]:
    """Return what identifies a row in training pairs: its wordings, and the right answer."""
    return [row["question"]], row["choices"][row["answer"]]


FORM = Form(
    "mmlu",
    ("question", "subject", "choices", "answer"),
    shot,
    document,
    example=example,
    identity=identity,
    gold=gold,
)
_EVALUATED = DataSplit(
    "cais/mmlu",
    "all",
    "test",
    REVISION,
    title="MMLU",
    fingerprint="75ee6ab178ff2f54f1f54d1f9c5e0548c0f005111f5607e552c6a5d21f5cb2c0",
)
_SHOTS = DataSplit(
    "cais/mmlu",
    "all",
    "dev",
    REVISION,
    title="MMLU",
    fingerprint="3b25fce1ee3a9d47fe679c4d45208f1dd8ce355630377f8402db1008ab891296",
)
TASKS = tuple(
    TaskSpec(
        name=f"open_llm_v1_mmlu_{subject}",
        form=FORM,
        evaluated=_EVALUATED,
        num_fewshot=5,
        shots=_SHOTS,
        draws_shots=False,
        header=header(subject),
        subject=subject,
        official_rows=rows,
        official_shot_rows=5,
    )
    for subject, rows in TEST_ROWS.items()
)


def modern_rule(
    _column: Column, score: ColumnScore, _documents: Documents
) -> tuple[Score | None, tuple[ViewCause, ...]]:
    """Return the mean over all documents, as lm-eval 0.4.13 weighs the subjects."""
    leaves = list(score.leaves.values())
    modern = mean_over_documents(leaves)
    detail = "tasks weighted by their documents; the leaderboard weighs all alike"
    return modern, (ViewCause("weighting", modern.value - mean_of_means(leaves).value, detail),)


BENCHMARK = Benchmark(
    title="MMLU",
    metric="acc",
    tasks=TASKS,
    measure=choice_measure(gold),
    reported={"acc": ("acc,none", "acc")},
    modern=ModernTask("mmlu", "acc", modern_rule, weighted_by_size=True),
    group="open_llm_v1_mmlu",
    names={f"{prefix}{spec.subject}": spec.name for prefix in ("mmlu_", "mmlu:", "hendrycksTest-") for spec in TASKS},
    old_names={spec.name: f"hendrycksTest-{spec.subject}" for spec in TASKS},
    old_versions={0: _BEFORE_497},
)
