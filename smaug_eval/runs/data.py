"""Resolve the data of a run when it is prepared: every data set of the Hub at a commit, every file by its hash."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from smaug_eval.common.digests import sha256_of_file
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.hub_commits import NotReached, is_commit, resolve_commit
from smaug_eval.leaderboard.lm_eval.settings import TaskSettings
from smaug_eval.leaderboard.lm_eval.suite import LmEvalSuite, lm_eval_suite
from smaug_eval.leaderboard.protocol import data_revisions, reference
from smaug_eval.leaderboard.registry import find_suite
from smaug_eval.leaderboard.suite import Column, Suite
from smaug_eval.results.layout import pairs_stage
from smaug_eval.runs.directory import RunDirectory
from smaug_eval.runs.following import shared_document
from smaug_eval.runs.lineage import ancestors
from smaug_eval.runs.recipe import Recipe
from smaug_eval.runs.recipe_entries import EvaluationConfig
from smaug_eval.trainers.config import PairsConfig
from smaug_eval.trainers.pairs.config import MixturePairs, SourcedPairs
from smaug_eval.trainers.pairs.read import source_files
from smaug_eval.trainers.pairs.sources import locations, with_commit


class RunData:
    """Find the data of one run; a branch or tag is looked up once, so that all of the run reads the same.

    Args:
        data_root: Offline mirror; None for the Hub.
        directory: Of the run.
        warn: Receives what the user must know.

    Attributes:
        root: The offline mirror; None for the Hub.
    """

    def __init__(self, data_root: Path | None, directory: RunDirectory, warn: Callable[[str], None]) -> None:
        self.root, self._directory, self._warn = data_root, directory, warn
        self._commits: dict[str, str] = {}
        self._loaded: dict[str, LmEvalSuite] = {}

    def suite(self, config: EvaluationConfig) -> Suite:
        """Return the suite of an evaluation, with the data sets behind its tasks at commits.

        Raises:
            SmaugError: the suite or a task is unknown, or the Hub does not answer and its cache names no commit.
        """
        if (settings := config.task_settings) is not None:
            return self._lm_eval(config.tasks or [], settings)
        suite = find_suite(config.suite)
        splits = suite.unpinned(config.tasks) if self.root is None else []
        return suite.at({each.reference: self._commit(each.hub_id, each.revision) for each in splits})

    def refuse_reported(self, training: str, evaluation: str, recipe: Recipe) -> None:
        """Refuse to choose a checkpoint by documents that a reported evaluation scores, too.

        Raises:
            SmaugError: one of the evaluations for this training, or one that goes on from it, scores one of them.
        """
        config = recipe.evaluations[evaluation]
        made = {name for name in recipe.trainings if training in (name, *ancestors(name, recipe.trainings))}
        for name, other in recipe.evaluations.items():
            if not made & set(recipe.models_of(other)):
                continue
            if (shared := shared_document(self._documents(config), self._documents(other))) is None:
                continue
            own, theirs = shared
            raise SmaugError(
                f"trainings.{training}.keep_metric: evaluations.{evaluation} ({own}) and the reported "
                f"evaluations.{name} ({theirs}) score the same documents, and a checkpoint chosen by them would "
                "look better than it is",
                fix="give the development evaluation documents of its own, such as those of a validation split",
            )

    def _documents(self, config: EvaluationConfig) -> dict[str, Sequence[Mapping[str, Any]]]:
        """The documents that an evaluation scores, by task."""
        suite = self.suite(config)
        leaves = [leaf for column in suite.select(config.tasks) for leaf in column.leaves]
        return {leaf.name: suite.rows(suite.task(leaf.name), self.root)[1] for leaf in leaves}

    def _lm_eval(self, tasks: Sequence[str], settings: TaskSettings) -> LmEvalSuite:
        """The tasks of lm-eval, which are loaded once for all models."""
        key = repr((tasks, settings))
        if key not in self._loaded:
            self._loaded[key] = lm_eval_suite(tasks, settings, data_root=self.root, commits=self._commits)
        return self._loaded[key]

    @property
    def lm_eval_suites(self) -> list[LmEvalSuite]:
        """Return the suites of lm-eval's tasks that were loaded."""
        return list(self._loaded.values())

    def revisions(self, columns: Sequence[tuple[Suite, Column]]) -> dict[str, str]:
        """Return the Hub's commits of the data sets behind columns, by Hub id."""
        return data_revisions(each for suite, column in columns for each in suite.commits(column, self.root).items())

    def pairs(self, name: str, config: PairsConfig) -> tuple[PairsConfig, dict[str, str]]:
        """Return a pair set as it is to be built, and what it is made from.

        Args:
            name: Its name in the recipe.
            config: Its entry there.

        Returns:
            The entry with a commit in the place of a branch or tag; hashes of the files it is made from or, for a data
            set of the Hub, its splits with the commit.

        Raises:
            SmaugError: a file, a split of the mirror, or the data set or its revision is not there.
        """
        if isinstance(config, MixturePairs):
            return config, {}
        try:
            pinned = self._pinned(name, config)
            return pinned, self._made_from(pinned)
        except SmaugError as error:
            raise SmaugError(f"pairs.{name}.path: {error.message}", fix=error.fix) from error

    def _pinned(self, name: str, config: SourcedPairs) -> SourcedPairs:
        """A pair set at the commit that its revision means now or, if the Hub is out of reach, meant in this run."""
        if config.is_file or self.root is not None:
            return config
        try:
            return with_commit(config, self._commit(config.path, config.revision))
        except NotReached as error:
            before = self._directory.record(pairs_stage(name)).get("inputs", {}).get("data", {})
            commit = before.get(f"hub:{locations(config)[0]}")
            if not is_commit(commit):
                raise
            self._warn(f"pairs.{name}: {error.message}; taken at the commit of this run: {commit}")
            return with_commit(config, commit)

    def _commit(self, hub_id: str, revision: str | None) -> str:
        name = reference(hub_id, revision)
        if name not in self._commits:
            self._commits[name] = resolve_commit("dataset", hub_id, revision)
        return self._commits[name]

    def _made_from(self, config: SourcedPairs) -> dict[str, str]:
        data: dict[str, str] = {}
        for location, side in zip(locations(config), ("", "held out: "), strict=True):
            if location is None:
                continue
            files = source_files(location, data_root=self.root)
            hub = {f"{side}hub:{location}": str(location.revision)}
            data |= {f"{side}{name}": sha256_of_file(file) for name, file in _named(files).items()} or hub
        return data


def _named(files: Sequence[Path]) -> dict[str, Path]:
    """Files by their names; by their paths below a common folder where names alone would not tell them apart."""
    if len({file.name for file in files}) == len(files):
        return {file.name: file for file in files}
    root = os.path.commonpath([file.absolute() for file in files])
    return {file.absolute().relative_to(root).as_posix(): file for file in files}
