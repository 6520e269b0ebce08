"""Define the keys of a recipe's models and evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.names import with_revision
from smaug_eval.common.schemas import JsonSchema, offering
from smaug_eval.common.settings import ADDED, Strict, added_settings
from smaug_eval.engines.decoding_rules import Decoding, SamplingRule, ThinkingRule
from smaug_eval.engines.registry import AUTO, ENGINES
from smaug_eval.leaderboard.lm_eval.settings import FEWSHOT_SEED, TaskSettings
from smaug_eval.leaderboard.lm_eval.settings import NAME as LM_EVAL
from smaug_eval.trainers.config import Seed
from smaug_eval.trainers.study_names import BASE as BASE

OF_LM_EVAL = frozenset(
    {"include_path", "num_fewshot", "fewshot_seed", "gen_kwargs", "apply_chat_template", "system_instruction"}
    | {"fewshot_as_multiturn", "metadata", "add_bos_token", "trust_task_code"}
)
"""Keys of an evaluation for lm-eval's own tasks, those of chats for open_llm_v2 too."""
_OF_CHATS = {"apply_chat_template", "fewshot_as_multiturn"}
PLACES = ("include_path", "trust_task_code")
"""Keys of lm-eval's tasks that decide no result by themselves: what the files say does."""

if TYPE_CHECKING:
    EngineName = str
else:
    _ENGINES = (AUTO, *ENGINES)
    EngineName = Literal[_ENGINES]


def _suites() -> list[str]:
    from smaug_eval.leaderboard.registry import suite_names  # reading a recipe does not need them

    return suite_names()


class ModelSpec(Strict):
    """Configure a model: the base, or one of several existing ones."""

    path: str = Field(
        min_length=1,
        description="A checkpoint's folder, a Hub id (also as NAME@REVISION), api:NAME of a served model, or "
        "embedded:demo-model; a PEFT adapter is put beside the base "
        "that it names.",
    )
    adapter: str | None = Field(
        None,
        description="A PEFT adapter's folder or Hub id (organisation/name@revision), put beside the weights unmerged.",
        json_schema_extra=ADDED,
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the Hub.")
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = Field(
        "auto", description="Precision to train and evaluate in; auto is the checkpoint's own."
    )
    trust_remote_code: bool = Field(
        False, description="Run Python code that came with this checkpoint; read it before."
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        """Describe what :meth:`_beside_a_base` takes, too."""
        made = handler.resolve_ref_schema(handler(schema))
        made["properties"]["base"] = {
            **made["properties"]["path"],
            "title": "Base",
            "description": "The same as path, beside an adapter.",
        }
        del made["required"]
        made["anyOf"] = [{"required": [key]} for key in ("path", "base", "adapter")]
        return made

    @model_validator(mode="before")
    @classmethod
    def _beside_a_base(cls, value: Any) -> Any:
        """``{base: ..., adapter: ...}``, and an adapter alone, which stands beside the base that it names."""
        if not isinstance(value, Mapping) or "path" in value:
            return value
        if "base" in value:
            return {"path": value["base"], **{key: part for key, part in value.items() if key != "base"}}
        if value.get("adapter"):
            return {"path": value["adapter"], **{key: part for key, part in value.items() if key != "adapter"}}
        return value

    @model_validator(mode="after")
    def _revision_of_the_name(self) -> ModelSpec:
        try:
            self.path, self.revision = with_revision(self.path, self.revision)
        except SmaugError as error:
            raise ValueError(f"{error.message}: {error.fix}") from error
        return self


class ThinkingConfig(Strict):
    """Configure how the reasoning of a thinking model is removed before its answers are scored."""

    end: str = Field("</think>", min_length=1, description="Text that ends the reasoning.")
    start: str | None = Field(None, description="Text that begins it; end without its slash if empty.")
    max_tokens: PositiveInt = Field(4096, description="Tokens of reasoning before the answer, which has its own limit.")


class SamplingConfig(Strict):
    """Configure how generated answers are drawn."""

    temperature: PositiveFloat = Field(1.0, description="Temperature of the drawing.")
    top_p: float = Field(1.0, gt=0, le=1, description="Share of the distribution that tokens are drawn from.")
    seed: Seed = Field(0, description="Seed of the drawing; each document and repeat draws for itself.")


class EvaluationConfig(Strict):
    """Configure one benchmark suite, run on the base model and on every trained one."""

    suite: str = Field(
        "open_llm_v1",
        description="open_llm_v1 or open_llm_v2 (the archived leaderboards), lm_eval (any tasks of lm-eval), "
        "lm_eval_0413, or demo.",
        json_schema_extra=offering(_suites),
    )
    tasks: list[str] | None = Field(
        None, description="Tasks of the suite to run; all if empty. Of lm_eval: tasks, tags, groups and patterns."
    )
    limit: float | None = Field(
        None,
        gt=0,
        description="First documents of each task, in protocol order, or the share of them (0.1); all if empty.",
    )
    engine: EngineName = Field(
        "auto",
        description="What runs the model: torch or vllm, which compute shared prefixes once and keep a journal, or "
        "lm-eval's own hf or lm-eval-vllm; api asks a server (engine_args.base_url, docs/served.md); auto is vllm "
        "where it and a GPU are there, else torch.",
    )
    batch_size: PositiveInt | Literal["auto"] = Field(
        8, description="Sequences per forward pass of the hf engine; torch generates with it."
    )
    device: str | None = Field(
        None, description="cpu, cuda, cuda:1, ...; the best available device if empty (torch, hf)."
    )
    engine_args: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of lm-eval's model, such as tensor_parallel_size."
    )
    models: list[str] | None = Field(
        None,
        description=f"Of {BASE}, the names of models and trainings and, in a study, its arms or <arm>.<set>; all if "
        "empty.",
    )

    include_path: str | None = Field(
        None, description="lm_eval: folder with task YAML of your own.", json_schema_extra=ADDED
    )
    num_fewshot: NonNegativeInt | None = Field(
        None,
        description="lm_eval: shots of every task that does not fix them to 0; each task's own number if empty.",
        json_schema_extra=ADDED,
    )
    fewshot_seed: NonNegativeInt = Field(
        FEWSHOT_SEED, description="lm_eval: seed of the draw of shots.", json_schema_extra=ADDED
    )
    gen_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="lm_eval: settings of generation that replace the tasks' own, such as max_gen_toks.",
        json_schema_extra=ADDED,
    )
    apply_chat_template: bool | str = Field(
        False,
        description="lm_eval, open_llm_v2: put prompts into the model's chat template, or into that of its templates "
        "which has this name.",
        json_schema_extra=ADDED,
    )
    system_instruction: str | None = Field(
        None, description="lm_eval: the system message, or text before the prompt.", json_schema_extra=ADDED
    )
    fewshot_as_multiturn: bool | None = Field(
        None,
        description="Whether a chat template gets each shot as a question and an answer of its own (if empty: lm_eval "
        "true, open_llm_v2 false).",
        json_schema_extra=ADDED,
    )
    metadata: dict[str, Any] = Field(
        default_factory=dict,
        description="lm_eval: what tasks with data made to measure read, such as max_seq_lengths.",
        json_schema_extra=ADDED,
    )
    add_bos_token: bool | None = Field(
        None,
        description="lm_eval: whether prompts begin with a BOS token; as the tokenizer does if empty, like lm-eval.",
        json_schema_extra=ADDED,
    )
    trust_task_code: bool = Field(
        False,
        description="lm_eval: run Python code of the folder include_path; read it before.",
        json_schema_extra=ADDED,
    )

    development: bool = Field(
        False,
        description="Score checkpoints of trainings alone (trainings.<name>.evaluate) and stand in no table; keep: "
        "best may choose by it. Its documents must be others than those of the reported evaluations.",
        json_schema_extra=ADDED,
    )

    thinking: ThinkingConfig | None = Field(
        None,
        description="Remove reasoning before scoring, and count reasoning that never ended.",
        json_schema_extra=ADDED,
    )
    sampling: SamplingConfig | None = Field(
        None, description="Draw generated answers; the task's own way if empty.", json_schema_extra=ADDED
    )
    repeats: PositiveInt = Field(
        1,
        description="Times each document is answered, with sampling; gives means, pass@k and maj@k.",
        json_schema_extra=ADDED,
    )

    stop: Literal["decided"] | None = Field(
        None,
        description="decided: score documents in random order until each column is better, worse or, with within, "
        "smaller than a margin (docs/sequential.md); all documents if empty.",
        json_schema_extra=ADDED,
    )
    within: PositiveFloat | None = Field(
        None, description="With stop: points below which a difference is too small to matter.", json_schema_extra=ADDED
    )
    against: str | None = Field(
        None,
        description="With stop: the model to compare with, by its name here, or a run or results with all documents; "
        "report.baseline if empty.",
        json_schema_extra=ADDED,
    )

    @property
    def decoding(self) -> Decoding | None:
        """Return how answers are written; None for the task's own way."""
        if self.thinking is None and self.sampling is None:
            return None
        thinking = None if self.thinking is None else ThinkingRule(**self.thinking.model_dump())
        sampling = None if self.sampling is None else SamplingRule(**self.sampling.model_dump())
        return Decoding(thinking, sampling, self.repeats)

    @model_validator(mode="after")
    def _has_turns_of_a_chat(self) -> EvaluationConfig:
        if self.fewshot_as_multiturn and not self.apply_chat_template and self.suite.lower() != LM_EVAL:
            raise ValueError("fewshot_as_multiturn makes turns of a chat: set apply_chat_template, too")
        return self

    @model_validator(mode="after")
    def _repeats_are_drawn(self) -> EvaluationConfig:
        if self.repeats > 1 and self.sampling is None:
            raise ValueError(f"repeats: {self.repeats} answers without sampling are all the same; set sampling")
        return self

    @model_validator(mode="after")
    def _stops_where_it_can(self) -> EvaluationConfig:
        if self.stop is None:
            if given := next((key for key in ("within", "against") if getattr(self, key) is not None), None):
                raise ValueError(f"{given} does nothing without stop: set stop: decided, too")
            return self
        if self.limit is not None:
            raise ValueError("limit and stop both say which documents are scored: leave one of them out")
        if self.decoding is not None:
            raise ValueError("stop compares one greedy answer for each document: leave thinking and sampling out")
        if self.engine != AUTO and not (ENGINES[self.engine].is_ours or ENGINES[self.engine].is_served):
            raise ValueError(
                f"stop needs an engine that keeps a journal, and {self.engine} does not: use torch or vllm"
            )
        return self

    @field_validator("tasks")
    @classmethod
    def _all_if_empty(cls, value: list[str] | None) -> list[str] | None:
        return value or None

    @field_validator("limit")
    @classmethod
    def _number_or_share(cls, value: float | None) -> float | None:
        if value is None or value < 1:
            return value
        if not float(value).is_integer():
            raise ValueError("a number of documents is whole, and a share of them is below 1")
        return int(value)

    @field_validator("gen_kwargs", mode="before", json_schema_input_type=dict[str, Any] | str)
    @classmethod
    def _as_lm_eval_writes_it(cls, value: Any) -> Any:
        """``temperature=0.7,top_p=0.9``, as on lm-eval's command line."""
        if not isinstance(value, str):
            return value
        from lm_eval.utils import simple_parse_args_string

        return simple_parse_args_string(value)

    @model_validator(mode="after")
    def _keys_of_lm_eval(self) -> EvaluationConfig:
        if self.suite.lower() == LM_EVAL:
            self.suite = LM_EVAL
            if not self.tasks:
                raise ValueError("tasks: name tasks, tags or groups of lm-eval; `smaug-eval tasks WORD` lists them")
            if self.fewshot_as_multiturn is not None and not self.apply_chat_template:
                raise ValueError("fewshot_as_multiturn does nothing without apply_chat_template: set that, too")
            if self.trust_task_code and self.include_path is None:
                raise ValueError("trust_task_code is for the folder include_path, which is not given")
        elif given := sorted((OF_LM_EVAL - _OF_CHATS) & added_settings(self).keys()):
            raise ValueError(f"{given[0]}: this key is for suite {LM_EVAL}; {self.suite} settles it itself")
        return self

    @model_validator(mode="after")
    def _development_is_for_trainings(self) -> EvaluationConfig:
        if self.development and self.models:
            raise ValueError("models: a development evaluation scores the trainings that name it in evaluate")
        return self

    @property
    def task_settings(self) -> TaskSettings | None:
        """Return how lm-eval's own tasks are asked; None for the other suites."""
        if self.suite != LM_EVAL:
            return None
        own = {name: getattr(self, name) for name in OF_LM_EVAL - {"include_path", "add_bos_token"}}
        return TaskSettings(include_path=None if self.include_path is None else Path(self.include_path), **own)

    @property
    def begins_with_bos(self) -> bool | None:
        """Return whether prompts begin with a BOS token; None for the tokenizer's own habit."""
        return self.add_bos_token if self.suite == LM_EVAL else False
