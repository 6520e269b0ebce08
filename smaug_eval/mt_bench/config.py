"""The recipe's keys for answering a question set and having the answers judged. Free of heavy imports."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

MT_BENCH, DEMO = "mt_bench", "demo"
"""Question sets with a name: MT-Bench, fetched from its public home, and the demo's dialogues."""

SINGLE, BASELINE, ALL_PAIRS = "single", "pairwise-baseline", "pairwise-all"
MODES = (SINGLE, BASELINE, ALL_PAIRS)

OPENAI_URL = "https://api.openai.com/v1"
DEFAULT_KEY_ENV = "OPENAI_API_KEY"
MAX_ANSWER_TOKENS, MAX_JUDGMENT_TOKENS = 1024, 2048
"""FastChat's longest answer and judgment."""


class JudgeConfig(BaseModel):
    """Who judges, and how; the plain text ``demo`` is the demo's rule."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    demo: bool = Field(False, description="The demo's rule, served on this machine, in the place of a model.")
    model: str | None = Field(None, min_length=1, description="Its name at the endpoint, best a dated snapshot.")
    base_url: str = Field(OPENAI_URL, description="Of any OpenAI-compatible endpoint, up to /v1.")
    key_env: str = Field(DEFAULT_KEY_ENV, min_length=1, description="Environment variable that holds the key.")
    mode: Literal["single", "pairwise-baseline", "pairwise-all"] = Field(
        "single", description="Rate each answer, compare each model with the baseline, or all models with each other."
    )
    baseline: str | None = Field(None, description="The model that the others are compared with.")
    repeats: PositiveInt = Field(1, description="Times each judgment is asked for; the median counts.")
    concurrency: PositiveInt = Field(8, description="Most requests under way.")
    requests_per_minute: PositiveFloat | None = Field(None, description="Most requests begun in a minute.")
    timeout: PositiveFloat = Field(300.0, description="Seconds to wait for an answer.")
    attempts: PositiveInt = Field(8, description="Times a call is made before it counts as failed.")
    backoff: NonNegativeFloat = Field(1.0, description="Seconds of the first wait between them, at most.")
    max_tokens: PositiveInt = Field(MAX_JUDGMENT_TOKENS, description="Longest judgment.")
    max_calls: PositiveInt | None = Field(None, description="Most requests of one invocation, repeated ones included.")
    max_cost: PositiveFloat | None = Field(None, description="Most that one invocation may cost; needs the prices.")
    price_in: NonNegativeFloat | None = Field(None, description="Price of a million tokens that the judge reads.")
    price_out: NonNegativeFloat | None = Field(None, description="Price of a million tokens that it writes.")

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
    """One question set, answered by the base model and by every trained one, and judged."""

    model_config = ConfigDict(extra="forbid")

    questions: str = Field(
        MT_BENCH,
        min_length=1,
        description="mt_bench (fetched once, checked), demo, or a folder in FastChat's layout.",
    )
    references: str = Field("original", min_length=1, description="original, corrected, or the stem of a file.")
    models: list[str] | None = Field(None, description="Of base and the trainings' names; all if empty.")
    chat_template: str = Field(
        "tokenizer", min_length=1, description="tokenizer for the model's own, plain, or one of FastChat's by name."
    )
    system_prompt: str | None = Field(None, description="In the place of the template's own.")
    max_new_tokens: PositiveInt = Field(MAX_ANSWER_TOKENS, description="Longest answer.")
    seed: int | None = Field(None, ge=0, description="From which each turn's seed is derived; the recipe's if empty.")
    engine: Literal["auto", "torch", "vllm"] = Field(
        "auto", description="What runs the model; auto is vllm where it and a GPU are there, else torch."
    )
    batch_size: PositiveInt | Literal["auto"] = Field(8, description="Conversations at a time of the torch engine.")
    device: str | None = Field(None, description="cpu, cuda, cuda:1, ...; the best there is if empty (torch).")
    engine_args: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of the engine, such as tensor_parallel_size."
    )
    judge: JudgeConfig | None = Field(None, description="Who judges; answers only if empty.")

    @field_validator("judge", mode="before")
    @classmethod
    def _demo_judge(cls, value: Any) -> Any:
        return {"demo": True} if value == DEMO else value

    @model_validator(mode="after")
    def _demo_goes_together(self) -> MtBenchConfig:
        if self.judge is not None and self.judge.demo and self.questions != DEMO:
            raise ValueError("judge: the demo's rule knows only the demo's questions (questions: demo)")
        return self
