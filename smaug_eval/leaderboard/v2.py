"""Describe the six benchmarks as the second Open LLM Leaderboard ran them, from June 2024 to March 2025.

Source: the leaderboard's documentation, and its fork of lm-evaluation-harness at commit b569ab01 (2025-03-18). Prompts
are cut at 4,096 tokens, on the left. Only models whose type contains "gemma" get a BOS. Whether a model's chat template
is used is decided run by run, as the submitters of models did.

Nobody recorded at which revision of the data its rows were measured, so the data sets are read at the commit that they
have when a run is prepared, which its records keep.
"""

from __future__ import annotations

from smaug_eval.common.embedded import TASKS_FOLDER
from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.benchmarks import OPEN_LLM_V2
from smaug_eval.leaderboard.suite import Suite

NAME = "open_llm_v2"
CONTEXT = 4096

TASKS = {spec.name: spec for benchmark in OPEN_LLM_V2 for spec in benchmark.tasks}

SUITE = Suite(
    name=NAME,
    columns=tuple(benchmark.column for benchmark in OPEN_LLM_V2),
    folder=TASKS_FOLDER / NAME,
    read=v1.read_rows,
    takes_chat=True,
    context=CONTEXT,
    bos_types=("gemma",),
)
