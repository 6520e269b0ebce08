"""Describe rows of the archived Open LLM Leaderboards to compare with: the Smaug models, their bases, and small models.

Source: the first leaderboard's archived contents table, which gives two decimals and the date of each submission; of
the second one the table of February 2025 and, of MATH, the last state, in which all rows were scored by math-verify.
"""

from __future__ import annotations

from dataclasses import dataclass

TITLES = ("ARC", "HellaSwag", "MMLU", "TruthfulQA", "Winogrande", "GSM8K")
V2_TITLES = ("IFEval", "BBH", "MATH Lvl 5", "GPQA", "MuSR", "MMLU-Pro")
SOURCE = "open-llm-leaderboard-old/contents"
V2_SOURCE = "open-llm-leaderboard/contents, February 2025"
V1, V2 = "open_llm_v1", "open_llm_v2"
MULTITURN_SINCE = "2024-09-23"
"""From this day on the second leaderboard gave chat models each shot as a turn of its own."""


@dataclass(frozen=True)
class PublishedRow:
    """Hold one row of the leaderboard; scores are in percent.

    Attributes:
        model: Hub id.
        revision: The commit that was evaluated.
        precision: The dtype it was submitted with.
        average: Plain mean of the six, as published.
        scores: Column title to score.
        date: Day of the submission (ISO 8601), None where the table has none.
        source: Where the row was published.
        suite: The leaderboard's suite.
        chat_template: Whether prompts were put into the model's chat template; None where nothing says so.
        math_verify: MATH in the second leaderboard's last state, where it is known; ``scores`` has that of February
            2025, by the rule before.
    """

    model: str
    revision: str
    precision: str
    average: float
    scores: dict[str, float]
    date: str | None = None
    source: str = SOURCE
    suite: str = V1
    chat_template: bool | None = None
    math_verify: float | None = None

    @property
    def is_multiturn(self) -> bool:
        """Return whether each shot was a turn of its own in the chat template."""
        return bool(self.chat_template) and (self.date or "") >= MULTITURN_SINCE


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


def _second(
    model: str, revision: str, date: str, template: bool, average: float, math_verify: float, *scores: float
) -> PublishedRow:
    columns = dict(zip(V2_TITLES, scores, strict=True))
    return PublishedRow(
        f"abacusai/{model}", revision, "bfloat16", average, columns, date, V2_SOURCE, V2, template, math_verify
    )


# fmt: off
PUBLISHED_V2 = (
    _second("Smaug-72B-v0.1", "a1d657156f82c24b670158406378648233487011", "2024-06-12", False, 29.57, 19.11,
            51.67, 43.13, 18.13, 9.84, 14.42, 40.26),
    _second("Smaug-34B-v0.1", "34d54c65a0247d5eb694973106c816d9c0ad3fc2", "2024-06-12", True, 23.76, 7.18,
            50.16, 34.26, 0.00, 10.63, 8.13, 39.37),
    _second("Smaug-Mixtral-v0.1", "98fdc8315906b0a8b9e7f24bad89914869fcfc20", "2024-08-30", True, 22.24, 9.52,
            55.54, 31.92, 0.00, 6.82, 12.99, 26.13),
    _second("Llama-3-Smaug-8B", "fe54a7d42160d3d8fcc3289c8c411fd9dd5e8357", "2024-07-02", True, 18.97, 8.53,
            48.67, 27.88, 7.93, 0.00, 5.05, 24.28),
    _second("Smaug-Llama-3-70B-Instruct-32K", "33840982dc253968f32ef3a534ee0e025eb97482", "2024-08-06", True,
            35.02, 27.49, 77.61, 49.07, 23.04, 6.15, 12.43, 41.83),
    _second("Smaug-Qwen2-72B-Instruct", "af015925946d0c60ef69f512c3b35f421cf8063d", "2024-07-29", True, 41.43, 41.31,
            78.25, 56.27, 37.46, 14.88, 15.18, 46.56),
)
# fmt: on


def published_rows_of(suite: str) -> tuple[PublishedRow, ...]:
    """Return the rows that we keep of a leaderboard."""
    return {V1: PUBLISHED, V2: PUBLISHED_V2}.get(suite, ())


def published_row(model: str, suite: str = V1) -> PublishedRow | None:
    """Return the row of a model by its Hub id, None where we keep none; case is ignored as on the Hub."""
    return next((row for row in published_rows_of(suite) if row.model.lower() == model.lower()), None)
