"""Add the stages of pair sets: building one, and looking for test documents in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.settings import deciding_settings
from smaug_eval.contamination.leaks import check_pairs, known_tasks
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.suite import Suite
from smaug_eval.leaderboard.suite_data import data_fingerprints, short_name
from smaug_eval.results.layout import leaks_stage, pairs_stage
from smaug_eval.runs.data import RunData
from smaug_eval.runs.lineage import ancestors
from smaug_eval.runs.models import RunModels
from smaug_eval.runs.stages.listing import StageList
from smaug_eval.trainers.layout import EVAL_FILE, TRAIN_FILE
from smaug_eval.trainers.pairs.config import MixturePairs
from smaug_eval.trainers.pairs.sources import commits_of


class PairStages:
    """Add the stages of a run's pair sets.

    Args:
        stages: Receives them.
        models: Of the run.
        data: Of the run.
        say: Receives what building a set has to say.
    """

    def __init__(self, stages: StageList, models: RunModels, data: RunData, say: Callable[[str], None]) -> None:
        self._stages, self._data, self._say = stages, data, say
        self._recipe, self._directory = models.recipe, models.directory

    def add_pairs(self, name: str) -> None:
        """Build a pair set, behind the sets that it draws from."""
        config = self._recipe.pairs[name]
        settings = deciding_settings(config, ("path", "eval_path", "allow_leaks", "ches"))
        sets = tuple(config.sets) if isinstance(config, MixturePairs) else ()
        if filtered := next((part for part in sets if self._recipe.pairs[part].ches is not None), None):
            raise SmaugError(
                f"pairs.{filtered}.ches has no effect in the mixture {name}: a training filters its own pair set",
                fix=f"give ches in pairs.{name}",
            )
        pinned, data = self._data.pairs(name, config)
        commits = {} if isinstance(pinned, MixturePairs) else commits_of(pinned, self._data.root)

        def work(folder: Path) -> Mapping[str, Any]:
            from smaug_eval.trainers.pairs.build import build_pairs  # with pandas and pyarrow

            built = {part: self._directory.folder(pairs_stage(part)) for part in sets}
            stats = build_pairs(pinned, data_root=self._data.root, out_dir=folder, sets=built)
            for note in stats.notes:
                self._say(f"pairs {name}: {note}")
            return {**stats.model_dump(mode="json"), "data_revisions": commits}

        needs = tuple(map(pairs_stage, sets))
        inputs = {"pairs": settings, "data": data}
        self._stages.add(pairs_stage(name), f"pairs {name}", inputs, needs, work, data_revisions=commits)

    def add_leaks(self, name: str) -> None:
        """Keep what the models trained on a pair set are scored on out of it."""
        columns = self._columns_scored_after(name)
        key = f"pairs.{name}.allow_leaks"
        allowed = known_tasks(self._recipe.pairs[name].allow_leaks, key, columns)
        if not columns:
            return
        pairs = self._directory.folder(pairs_stage(name))
        documents = {column.task: data_fingerprints(column, suite, self._data.root) for suite, column in columns}
        inputs = {"documents": documents, "allow_leaks": sorted(allowed & {short_name(*each) for each in columns})}

        def work(folder: Path) -> Mapping[str, Any]:
            return check_pairs(
                name,
                columns,
                train_file=pairs / TRAIN_FILE,
                eval_file=pairs / EVAL_FILE,
                allowed=allowed,
                data_root=self._data.root,
                out_dir=folder,
            )

        revisions = self._data.revisions(columns)
        title = f"look for test documents in pairs {name}"
        self._stages.add(leaks_stage(name), title, inputs, (pairs_stage(name),), work, data_revisions=revisions)

    def _columns_scored_after(self, pair_set: str) -> list[tuple[Suite, Column]]:
        """Return the columns that some model trained on a pair set is scored on."""
        trainings = self._recipe.trainings
        trained = {
            name
            for name in trainings
            if any(trainings[each].pairs == pair_set for each in (name, *ancestors(name, trainings)))
        }
        columns = {
            column.task: (suite, column)
            for name, config in self._recipe.evaluations.items()
            if trained & set(self._recipe.asked_of(name))
            for suite in [self._data.suite(config)]
            for column in suite.select(config.tasks)
        }
        return list(columns.values())
