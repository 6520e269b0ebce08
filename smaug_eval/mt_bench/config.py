"""Configure answering a question set and judging the answers, as keys of the recipe. Free of heavy imports."""

from __future__ import annotations

import datetime
import re
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from smaug_eval.common.served import limits
from smaug_eval.common.served.endpoint import DEFAULT_KEY_ENV, OPENAI_URL
from smaug_eval.common.settings import ADDED

MT_BENCH, DEMO = "mt_bench", "demo"
"""Question sets with a name: MT-Bench, fetched from its public home, and the demo's dialogues."""

SINGLE, BASELINE, ALL_PAIRS = "single", "pairwise-baseline", "pairwise-all"
MODES = (SINGLE, BASELINE, ALL_PAIRS)

API = "api"
"""The engine of a model that a server runs."""

STRIP, KEEP = "strip", "keep"
"""What is done with blocks of thinking in answers: removed before the next turn and the judge, or left in."""

MAX_ANSWER_TOKENS, MAX_JUDGMENT_TOKENS = 1024, 2048
"""FastChat's longest answer and judgment."""
JSON = "json"
"""Begins a verdict pattern that names a key of a JSON object: ``json``, ``json:rating``."""


def check_pattern(pattern: str) -> None:
    """Check a verdict pattern: ``json``, ``json:KEY``, or a regular expression whose last match counts.

    With ``json`` the last JSON object in the text counts, in which a verdict stands under one of the usual keys
    (``score``, ``rating``, ``winner``, ...), or under the one that is named. A regular expression has at most one
    group, which is the verdict. A verdict is a number, or for pairs a name: A, B, tie, model_1, "assistant a", ...

    Raises:
        ValueError: it is none of these.
    """
    if pattern == JSON or pattern.startswith(f"{JSON}:"):
        return
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"verdict {pattern!r} is no regular expression: {error}; correct it, or take json") from None
    if groups > 1:
        raise ValueError(f"verdict {pattern!r} has {groups} groups; keep the one that is the verdict: (?:...)")


class JudgeConfig(BaseModel):
    """Configure the judge; the plain text ``demo`` selects the demo's rule."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    demo: bool = Field(False, description="The demo's rule, served on this machine, instead of a model.")
    model: str | None = Field(None, min_length=1, description="Its name at the endpoint, best a dated snapshot.")
    base_url: str = Field(OPENAI_URL, description="Of any OpenAI-compatible endpoint, up to /v1.")
    key_env: str = Field(DEFAULT_KEY_ENV, min_length=1, description="Environment variable that holds the key.")
    mode: Literal["single", "pairwise-baseline", "pairwise-all"] = Field(
        "single", description="Rate each answer, compare each model with the baseline, or all models with each other."
    )
    baseline: str | None = Field(None, description="The model that the others are compared with.")
    repeats: PositiveInt = Field(1, description="Times each judgment is requested; the median counts.")
    concurrency: int = limits.CONCURRENCY
    requests_per_minute: float | None = limits.REQUESTS_PER_MINUTE
    timeout: float = limits.TIMEOUT
    attempts: int = limits.ATTEMPTS
    backoff: float = limits.BACKOFF
    max_tokens: PositiveInt = Field(MAX_JUDGMENT_TOKENS, description="Longest judgment.")
    max_calls: PositiveInt | None = limits.MAX_CALLS
    max_cost: PositiveFloat | None = limits.MAX_COST
    price_in: float | None = limits.price_in("judge")
    price_out: float | None = limits.PRICE_OUT
    allow_missing: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the judgments that may be missing for the judging to count as done; recorded.",
        json_schema_extra=ADDED,
    )
    verdict: str | None = Field(
        None,
        min_length=1,
        description="How the set's judge prompts ask for a verdict, instead of [[rating]]: json, json:KEY, or a "
        "regular expression.",
        json_schema_extra=ADDED,
    )
    reasoning_effort: str | None = Field(
        None, min_length=1, description="How long a reasoning judge thinks: low, medium, ...", json_schema_extra=ADDED
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict, description="Further keys of each request to the judge.", json_schema_extra=ADDED
    )
    headers: dict[str, str] = Field(
        default_factory=dict,
        description="Further headers of each request; a value $NAME is that of an environment variable.",
        json_schema_extra=ADDED,
    )
    api_version: str | None = Field(
        None, min_length=1, description="Azure's api-version; the key goes into api-key.", json_schema_extra=ADDED
    )
    stream: bool = Field(False, description="Ask for answers as a stream (SSE).", json_schema_extra=ADDED)
    longest_wait: PositiveFloat = limits.longest_wait("judge")

    @field_validator("api_version", mode="before")
    @classmethod
    def _version_is_text(cls, value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime.date) else value  # YAML takes it for a date

    @field_validator("verdict")
    @classmethod
    def _verdict_is_one(cls, value: str | None) -> str | None:
        if value is not None:
            check_pattern(value)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> JudgeConfig:
        if self.demo == (self.model is not None):
            raise ValueError("name the judge's model (--judge-model), or take the demo's rule: one of both")
        if (self.mode == BASELINE) != (self.baseline is not None):
            raise ValueError(f"mode {BASELINE} and a baseline belong together")
        if (self.price_in is None) != (self.price_out is None):
            raise ValueError("price_in and price_out belong together")
        if self.max_cost is not None and self.price_in is None:
            raise ValueError("max_cost needs the judge's prices: price_in and price_out, of a million tokens")
        return self


class MtBenchConfig(BaseModel):
    """Configure one question set, answered by the base model and by every trained one, and judged."""

    model_config = ConfigDict(extra="forbid")

    questions: str = Field(
        MT_BENCH,
        min_length=1,
        description="mt_bench (fetched once, checked), demo, or a folder in FastChat's layout.",
    )
    references: str = Field("original", min_length=1, description="original, corrected, or the stem of a file.")
    models: list[str] | None = Field(None, description="Of base and the trainings' names; all if empty.")
    chat_template: str = Field(
        "tokenizer",
        min_length=1,
        description="tokenizer for the model's own, plain, or one of FastChat's by name, of which chat completions get "
        "the system message.",
    )
    system_prompt: str | None = Field(None, description="System message instead of the template's own.")
    max_new_tokens: PositiveInt = Field(MAX_ANSWER_TOKENS, description="Longest answer.")
    seed: int | None = Field(None, ge=0, description="From which each turn's seed is derived; the recipe's if empty.")
    engine: Literal["auto", "torch", "vllm", "api"] = Field(
        "auto",
        description="What runs the model; api asks a server (engine_args.base_url, docs/served.md), auto is vllm where "
        "it and a GPU are there, else torch.",
    )
    batch_size: PositiveInt | Literal["auto"] = Field(8, description="Conversations at a time of the torch engine.")
    device: str | None = Field(None, description="cpu, cuda, cuda:1, ...; the best available device if empty (torch).")
    engine_args: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of the engine, such as tensor_parallel_size."
    )
    served: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Models that a server runs, by name, each with its engine_args of engine api; engine runs the "
        "others.",
        json_schema_extra=ADDED,
    )
    thinking: Literal["strip", "keep"] = Field(
        "strip",
        description="Blocks such as <think>...</think> in answers: taken out before the second turn and the judge, or "
        "kept.",
        json_schema_extra=ADDED,
    )
    limit: PositiveInt | None = Field(
        None, description="First questions of the set; all if empty.", json_schema_extra=ADDED
    )
    turns: PositiveInt | None = Field(
        None, description="First turns of each question; all if empty.", json_schema_extra=ADDED
    )
    reference_categories: list[str] | None = Field(
        None,
        description="Categories judged with a reference answer: FastChat's if empty; none for a set without them.",
        json_schema_extra=ADDED,
    )
    judge: JudgeConfig | None = Field(None, description="Who judges; answers only if empty.")
    stop: Literal["decided"] | None = Field(
        None,
        description="decided: judge questions in random order until each model is higher or lower than another or, "
        "with within, nearer than a margin (docs/sequential.md); all questions if empty.",
        json_schema_extra=ADDED,
    )
    within: PositiveFloat | None = Field(
        None,
        description="With stop: points of the judge's scale below which a difference is too small to matter.",
        json_schema_extra=ADDED,
    )
    against: str | None = Field(
        None,
        min_length=1,
        description="With stop: the model to compare with; report.baseline if empty.",
        json_schema_extra=ADDED,
    )

    def of(self, model: str) -> MtBenchConfig:
        """Return the entry as it is for one model: one of ``served`` has the engine ``api``."""
        own: dict[str, Any] = {"served": {}}
        if model in self.served:
            fields = type(self).model_fields
            own |= {"engine": API, "engine_args": self.served[model]}
            own |= {name: fields[name].default for name in ("device", "batch_size")}
        return self.model_copy(update=own)

    @field_validator("reference_categories", mode="before", json_schema_input_type=list[str] | str | None)
    @classmethod
    def _categories(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [] if value == "none" else [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("judge", mode="before", json_schema_input_type=JudgeConfig | Literal["demo"] | None)
    @classmethod
    def _demo_judge(cls, value: Any) -> Any:
        return {"demo": True} if value == DEMO else value

    @model_validator(mode="after")
    def _stops_where_it_can(self) -> MtBenchConfig:
        if self.stop is None:
            if given := next((key for key in ("within", "against") if getattr(self, key) is not None), None):
                raise ValueError(f"{given} does nothing without stop: set stop: decided, too")
        elif self.judge is None:
            raise ValueError("stop says which answers are judged, and there is no judge: name one, or leave it out")
        elif self.judge.mode != SINGLE:
            raise ValueError(f"stop compares ratings of single answers: leave judge.mode = {self.judge.mode} out")
        return self

    @model_validator(mode="after")
    def _demo_goes_together(self) -> MtBenchConfig:
        if self.judge is not None and self.judge.demo and self.questions != DEMO:
            raise ValueError("judge: the demo's rule knows only the demo's questions (questions: demo)")
        return self
