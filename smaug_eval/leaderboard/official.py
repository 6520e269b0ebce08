"""The official data of the leaderboard's six benchmarks: the Hub's commit, and a fingerprint of each split's content.

The commits are those at which the Hub's data sets became plain parquet files; public evaluation code pins the same.
The fingerprints were computed from verbatim copies of the splits with :func:`fingerprint`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from smaug_eval.files import canonical_json

ARC_REVISION = "210d026faf9955653af8916fad021475a3f00453"
HELLASWAG_REVISION = "218ec52e09a7e7462a5400043bb9a69a41d06b76"
MMLU_REVISION = "c30699e8356da336a370243923dbaf21066bb9fe"
TRUTHFULQA_REVISION = "741b8276f2d1982aa3d5b832d3ee81ed3b896490"
WINOGRANDE_REVISION = "01e74176c63542e6b0bcb004dcdea22d94fb67b5"
GSM8K_REVISION = "e53f048856ff4f594e959d75785d2c2d37b678ee"

NAMES = {
    "allenai/ai2_arc": "ARC",
    "Rowan/hellaswag": "HellaSwag",
    "cais/mmlu": "MMLU",
    "truthfulqa/truthful_qa": "TruthfulQA",
    "allenai/winogrande": "Winogrande",
    "openai/gsm8k": "GSM8K",
}

# (Hub id, configuration, split) -> fingerprint of the columns that the task uses. HellaSwag is not here: no verbatim
# copy was at hand, so only its rows are counted.
FINGERPRINTS = {
    ("allenai/ai2_arc", "ARC-Challenge", "test"): "27c177718ed0b2c66fd7e9e4c2f38771957045e90189e9c327b0c7c921f02a91",
    ("allenai/ai2_arc", "ARC-Challenge", "train"): "aa9c327e8d4ef583fb092a39ea412fa7225603e4f0c1ded36110ccc0c118e139",
    ("cais/mmlu", "all", "test"): "75ee6ab178ff2f54f1f54d1f9c5e0548c0f005111f5607e552c6a5d21f5cb2c0",
    ("cais/mmlu", "all", "dev"): "3b25fce1ee3a9d47fe679c4d45208f1dd8ce355630377f8402db1008ab891296",
    ("truthfulqa/truthful_qa", "multiple_choice", "validation"): (
        "718213ff9765094047599b9ac54f4eb1cc47a191fb635fb2ad156c30eb930fad"
    ),
    ("allenai/winogrande", "winogrande_xl", "validation"): (
        "a5d688f9f07dc313f6a9dd616e787e7cec260b267d92940a4cb6d5f539e2cb50"
    ),
    ("allenai/winogrande", "winogrande_xl", "train"): (
        "69501f58f66c48b0d6f50f726ca550134fd94ddd14878601a8857daa4890fc7e"
    ),
    ("openai/gsm8k", "main", "test"): "3fb31cfaeb4e270b7a44e0f3d244d96494e3c0956e699a1670ba24af1522cabd",
    ("openai/gsm8k", "main", "train"): "f23d761f3315a79bf59eb4deeda29ed369ca66e29f9f495e1a5d6403a446ba3d",
}

# Fingerprints of copies with the right number of rows that are known not to be the Hub's own text.
COPIES = {
    "2d32d00899a873f5695a7743e056b23310e3d3bd6e8336811ba5f6180964a7cc": (
        "the content of HellaSwag validation was rebuilt from preprocessed text"
    ),
}


def data_set_name(hub_id: str) -> str:
    """What tables call a data set; the id itself for those that are not the leaderboard's."""
    return NAMES.get(hub_id, hub_id)


def content_note(
    hub_id: str, config: str, split: str, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]
) -> str | None:
    """How the content of a split differs from the official one, in words.

    None where it does not, and where the official content is not known.
    """
    official = FINGERPRINTS.get((hub_id, config, split))
    if official is None and hub_id not in NAMES:
        return None
    found = fingerprint(rows, columns)
    if found in COPIES:
        return COPIES[found]
    if official is None or found == official:
        return None
    return f"the content of {data_set_name(hub_id)} {split} differs"


def fingerprint(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Hexadecimal SHA-256 over ``columns`` of ``rows``, whatever file format they were read from.

    Rows of several subjects are taken subject by subject, since a file may hold the subjects in any order.

    Raises:
        KeyError: a row lacks one of ``columns``.
    """
    if "subject" in columns:
        rows = sorted(rows, key=lambda row: str(row["subject"]))  # stable: within a subject the order counts
    digest = hashlib.sha256()
    for row in rows:
        digest.update(canonical_json([row[column] for column in columns]).encode())
        digest.update(b"\n")
    return digest.hexdigest()
