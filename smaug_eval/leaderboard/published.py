"""Rows of the archived Open LLM Leaderboard v1 to compare with: the Smaug models, their bases, and small models.

Source: the leaderboard's archived contents table, which gives two decimals and the date of each submission.
"""

from __future__ import annotations

from dataclasses import dataclass

TITLES = ("ARC", "HellaSwag", "MMLU", "TruthfulQA", "Winogrande", "GSM8K")
SOURCE = "open-llm-leaderboard-old/contents"


@dataclass(frozen=True)
class PublishedRow:
    """One row of the leaderboard; scores in percent.

    Attributes:
        model: Hub id.
        revision: The commit that was evaluated.
        precision: The dtype it was submitted with.
        average: Plain mean of the six, as published.
        scores: Column title to score.
        date: Day of the submission (ISO 8601), None where the table has none.
        source: Where the row was published.
    """

    model: str
    revision: str
    precision: str
    average: float
    scores: dict[str, float]
    date: str | None = None
    source: str = SOURCE


def _row(model: str, revision: str, precision: str, date: str, average: float, *scores: float) -> PublishedRow:
    return PublishedRow(model, revision, precision, average, dict(zip(TITLES, scores, strict=True)), date)


# fmt: off
PUBLISHED = (
    _row("abacusai/Smaug-72B-v0.1", "54a8c35600ec5cb30ca2129247854ece23e57f57", "bfloat16", "2024-02-03",
         80.48, 76.02, 89.27, 77.15, 76.67, 85.08, 78.70),
    _row("moreh/MoMo-72B-lora-1.8.7-DPO", "c64edea08b27be1e7e2ae6a95bcdd74849cb887e", "bfloat16", "2024-01-22",
         78.55, 70.82, 85.96, 77.13, 74.71, 84.06, 78.62),
    _row("abacusai/Smaug-34B-v0.1", "7b74a95019f01b59630cbd6469814c752d0e59e5", "bfloat16", "2024-01-27",
         77.29, 74.23, 86.76, 76.66, 70.22, 83.66, 72.18),
    _row("jondurbin/bagel-34b-v0.2", "bc599b31f468d46d873964a58cab78380366d934", "bfloat16", "2024-01-01",
         69.70, 68.77, 83.72, 76.45, 59.26, 83.82, 46.17),
    _row("abacusai/Smaug-Mixtral-v0.1", "2f83b45077479bc3f663da50c4c40372894bf92e", "bfloat16", "2024-02-20",
         75.64, 74.91, 87.79, 70.08, 66.88, 81.69, 72.48),
    _row("mistralai/Mistral-7B-v0.1", "e836d8f71b5812f9fee65618453dc537c66bd82a", "float16", "2023-10-16",
         60.97, 59.98, 83.31, 64.16, 42.15, 78.37, 37.83),
    _row("microsoft/phi-1_5", "ea95720a352172db6fcbcd89032bfb1cb8481797", "bfloat16", "2023-11-06",
         47.69, 52.90, 63.79, 43.89, 40.89, 72.22, 12.43),
    _row("Qwen/Qwen1.5-1.8B", "921f88e4573192da5a10c809ed188603ea0f3937", "bfloat16", "2024-02-18",
         46.55, 37.88, 61.42, 46.71, 39.43, 60.30, 33.59),
    _row("Qwen/Qwen1.5-0.5B", "fedce23ef6393499effdf4958f9b3256f299cc7d", "bfloat16", "2024-02-18",
         38.62, 31.48, 49.05, 39.35, 38.30, 57.22, 16.30),
    _row("EleutherAI/pythia-160m-deduped", "582159a2dfe3e712a8d47ae83dec95ae3bde8e7e", "float16", "2023-09-09",
         29.38, 24.06, 31.39, 24.86, 44.34, 51.38, 0.23),
    _row("facebook/opt-125m", "3d2b5f275bdf882b8775f902e1bfdb790e2cfc32", "float16", "2023-09-09",
         29.15, 22.87, 31.47, 26.02, 42.87, 51.62, 0.08),
    _row("openai-community/gpt2", "11c5a3d5811f50298f278a704980280950aedb10", "float16", "2024-02-09",
         28.53, 22.01, 31.53, 25.83, 40.69, 50.43, 0.68),
)
# fmt: on


def published_row(model: str) -> PublishedRow | None:
    """The row of a model by its Hub id, None where we keep none; case is ignored as on the Hub."""
    return next((row for row in PUBLISHED if row.model.lower() == model.lower()), None)
