"""List what the evaluations of a recipe ask a model, column by column, and what decides the answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.settings import added_settings
from smaug_eval.engines.build import choose_engine
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.evaluate import Prompting
from smaug_eval.leaderboard.lm_eval.suite import LmEvalSuite
from smaug_eval.leaderboard.suite import Suite
from smaug_eval.leaderboard.suite_data import data_fingerprints, short_name
from smaug_eval.models.configuration import read_config
from smaug_eval.results.layout import JOURNAL
from smaug_eval.runs.data import RunData
from smaug_eval.runs.jobs import EvaluationJob
from smaug_eval.runs.models import RunModels
from smaug_eval.runs.recipe_entries import PLACES


class ColumnQuestions(NamedTuple):
    """Hold what an evaluation asks one model of one column.

    Attributes:
        column: The column's name in folders.
        title: Its name in tables.
        inputs: All that decides the answers, the stages that make the model apart.
        job: Asks it.
        revisions: The Hub's commits of the data, by Hub id.
    """

    column: str
    title: str
    inputs: dict[str, Any]
    job: EvaluationJob
    revisions: dict[str, str]


class EvaluationsAsked:
    """List what evaluations ask.

    Args:
        models: Of the run.
        data: Of the run.
    """

    def __init__(self, models: RunModels, data: RunData) -> None:
        self._models, self._recipe, self._data = models, models.recipe, data

    def asked(self, name: str, model: str, checkpoint: Path | None = None) -> Iterator[ColumnQuestions]:
        """Yield what an evaluation asks a model, column by column.

        Args:
            name: Of the evaluation.
            model: Of the model.
            checkpoint: Folder of its weights where they are others than those that it is evaluated by.

        Raises:
            SmaugError: a suite, a task or a data file is not there, or the suite takes no chat template.
        """
        config = self._recipe.evaluations[name]
        suite = self._data.suite(config)
        spec = EngineSpec(
            choose_engine(config.engine),
            checkpoint or self._models.checkpoint(model),
            dtype=self._models.dtype(model),
            batch_size=config.batch_size,
            device=config.device,
            engine_args=dict(config.engine_args),
            trust_remote_code=self._models.is_trusted(model),
            context=suite.context,
            add_bos_token=self._begins_with_bos(suite, model) or config.begins_with_bos,
            adapter=self._models.adapter(model),
        )
        start = self._models.base_of(model)
        prompting = Prompting(config.apply_chat_template, bool(config.fewshot_as_multiturn))
        if prompting.template and not suite.takes_chat and config.task_settings is None:
            raise SmaugError(
                f"evaluations.{name}.apply_chat_template: {suite.name} was run without chat templates",
                fix="leave it out; open_llm_v2 and lm_eval take one",
            )
        for column in suite.select(config.tasks):
            data = data_fingerprints(column, suite, self._data.root)
            inputs = {
                "suite": suite.name,
                "task": column.task,
                "limit": config.limit,
                "engine": spec.engine,
                "engine_args": dict(spec.engine_args),
                "dtype": spec.dtype,
                "data": data,
                **(_chat_inputs(spec, prompting) if suite.takes_chat else {}),
                **added_settings(config, (*PLACES, "development", "against")),
                **_definition(suite, column),
                **self._models.inputs(model),
            }
            job = EvaluationJob(
                suite=suite.name,
                task=column.task,
                limit=config.limit,
                data_root=self._data.root,
                commits=suite.commits(column, self._data.root),
                engine=spec,
                journal=self._models.directory.path / JOURNAL,
                base=None if start is None else start.path,
                prompting=prompting,
                decoding=config.decoding,
                settings=config.task_settings,
                definition=_definition(suite, column).get("definition"),
            )
            revisions = self._data.revisions([(suite, column)])
            yield ColumnQuestions(short_name(suite, column), column.title, inputs, job, revisions)

    def _begins_with_bos(self, suite: Suite, model: str) -> bool:
        """Whether a suite begins this model's prompts with a BOS."""
        if not suite.bos_types:
            return False
        kind = str(read_config(self._models.weights_of(model)).get("model_type", "")).lower()  # trained models keep it
        return any(name in kind for name in suite.bos_types)


def _chat_inputs(spec: EngineSpec, prompting: Prompting) -> dict[str, Any]:
    """What decides the prompts of a suite that may be put into a chat template."""
    return {
        "apply_chat_template": prompting.template,
        "fewshot_as_multiturn": prompting.multiturn,
        "context": spec.context,
        "add_bos_token": spec.add_bos_token,
    }


def _definition(suite: Suite, column: Column) -> dict[str, str]:
    """What decides the results of lm-eval's tasks beside their settings: the files that define them."""
    return {"definition": suite.definition(column)} if isinstance(suite, LmEvalSuite) else {}
