"""The six benchmarks as the Open LLM Leaderboard v1 ran them.

Source: the leaderboard's About page, and lm-evaluation-harness at commit b281b0921b63; row counts as on the Hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tasks
from smaug_eval.data import read_split
from smaug_eval.errors import SmaugError
from smaug_eval.leaderboard import forms, official
from smaug_eval.leaderboard.forms import Document, Row
from smaug_eval.leaderboard.protocol import DataSplit, Generation, TaskSpec
from smaug_eval.leaderboard.suite import Column, Suite

NAME = "open_llm_v1"

MMLU_TEST_ROWS = {
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

# The six questions and answers before every TruthfulQA question (Lin et al. 2021, the "QA prompt").
TRUTHFULQA_HEADER = (
    "Q: What is human life expectancy in the United States?\n"
    "A: Human life expectancy in the United States is 78 years.\n\n"
    "Q: Who was president of the United States in 1955?\n"
    "A: Dwight D. Eisenhower was president of the United States in 1955.\n\n"
    "Q: Which party did he belong to?\n"
    "A: He belonged to the Republican Party.\n\n"
    "Q: What is the square root of banana?\n"
    "A: I have no comment.\n\n"
    "Q: How does a telescope work?\n"
    "A: Telescopes use lenses or mirrors to focus light and make objects appear closer.\n\n"
    "Q: Where were the 1992 Olympics held?\n"
    "A: The 1992 Olympics were held in Barcelona, Spain.\n\n"
)

ARC = TaskSpec(
    name=f"{NAME}_arc_challenge",
    form=forms.ARC,
    evaluated=DataSplit("allenai/ai2_arc", "ARC-Challenge", "test", official.ARC_REVISION),
    num_fewshot=25,
    shots=DataSplit("allenai/ai2_arc", "ARC-Challenge", "train", official.ARC_REVISION),
    official_rows=1_172,
    official_shot_rows=1_119,
)
HELLASWAG = TaskSpec(
    name=f"{NAME}_hellaswag",
    form=forms.HELLASWAG,
    evaluated=DataSplit("Rowan/hellaswag", "default", "validation", official.HELLASWAG_REVISION),
    num_fewshot=10,
    shots=DataSplit("Rowan/hellaswag", "default", "train", official.HELLASWAG_REVISION),
    official_rows=10_042,
    official_shot_rows=39_905,
)
MMLU = tuple(
    TaskSpec(
        name=f"{NAME}_mmlu_{subject}",
        form=forms.MMLU,
        evaluated=DataSplit("cais/mmlu", "all", "test", official.MMLU_REVISION),
        num_fewshot=5,
        shots=DataSplit("cais/mmlu", "all", "dev", official.MMLU_REVISION),
        draws_shots=False,
        header=forms.mmlu_header(subject),
        subject=subject,
        official_rows=rows,
        official_shot_rows=5,
    )
    for subject, rows in MMLU_TEST_ROWS.items()
)
TRUTHFULQA = TaskSpec(
    name=f"{NAME}_truthfulqa",
    form=forms.TRUTHFULQA,
    evaluated=DataSplit("truthfulqa/truthful_qa", "multiple_choice", "validation", official.TRUTHFULQA_REVISION),
    header=TRUTHFULQA_HEADER,
    official_rows=817,
)
WINOGRANDE = TaskSpec(
    name=f"{NAME}_winogrande",
    form=forms.WINOGRANDE,
    evaluated=DataSplit("allenai/winogrande", "winogrande_xl", "validation", official.WINOGRANDE_REVISION),
    num_fewshot=5,
    shots=DataSplit("allenai/winogrande", "winogrande_xl", "train", official.WINOGRANDE_REVISION),
    official_rows=1_267,
    official_shot_rows=40_398,
)
GSM8K = TaskSpec(
    name=f"{NAME}_gsm8k",
    form=forms.GSM8K,
    evaluated=DataSplit("openai/gsm8k", "main", "test", official.GSM8K_REVISION),
    num_fewshot=5,
    shots=DataSplit("openai/gsm8k", "main", "train", official.GSM8K_REVISION),
    generation=Generation(stops=(":", "Question:", "Question"), max_new_tokens=256),
    official_rows=1_319,
    official_shot_rows=7_473,
)

TASKS = {spec.name: spec for spec in (ARC, HELLASWAG, *MMLU, TRUTHFULQA, WINOGRANDE, GSM8K)}


def read_rows(split: DataSplit, columns: tuple[str, ...], data_root: Path | None) -> Sequence[Row]:
    """The rows of a split: from the mirror at ``data_root``, else from the Hub at the split's pinned revision.

    Raises:
        SmaugError: the split is not there or lacks one of ``columns``.
    """
    data = read_split(split.hub_id, split.config, split.name, data_root=data_root, revision=split.revision)
    missing = [column for column in columns if column not in data.column_names]
    if missing:
        raise SmaugError(
            f"{split} has no column {', '.join(missing)}; it has {', '.join(data.column_names)}",
            fix="use the Hub's own column names",
        )
    rows: list[Row] = data.select_columns(list(columns)).to_list()
    return rows


SUITE = Suite(
    name=NAME,
    columns=(
        Column("ARC", ARC.name, "acc_norm", (ARC,)),
        Column("HellaSwag", HELLASWAG.name, "acc_norm", (HELLASWAG,)),
        Column("MMLU", f"{NAME}_mmlu", "acc", MMLU),
        Column("TruthfulQA", TRUTHFULQA.name, "mc2", (TRUTHFULQA,)),
        Column("Winogrande", WINOGRANDE.name, "acc", (WINOGRANDE,)),
        Column("GSM8K", GSM8K.name, "acc", (GSM8K,)),
    ),
    folder=Path(tasks.__file__).parent / NAME,
    read=read_rows,
)


def load_documents(task_name: str, data_root: Path | None = None) -> list[Document]:
    """The documents of one task of ``TASKS`` in protocol order.

    Raises:
        SmaugError: the task is unknown, or its data are missing or do not fit.
    """
    return SUITE.documents(task_name, data_root)
