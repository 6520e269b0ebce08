"""Write the manifest of a run: everything that a reader needs to know where the numbers come from."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from smaug_eval.common.files import write_json
from smaug_eval.common.tables import loaded_plugins
from smaug_eval.leaderboard.protocol import data_revisions
from smaug_eval.results.layout import MANIFEST
from smaug_eval.runs.directory import now
from smaug_eval.runs.environment import environment
from smaug_eval.runs.execution import Stage
from smaug_eval.runs.jobs import TrainingJob
from smaug_eval.runs.models import RunModels
from smaug_eval.runs.recipe import recipe_as_dict
from smaug_eval.trainers.earlier import difference_to_earlier


class ManifestWriter:
    """Write ``manifest.json`` of a run again after every stage.

    Args:
        models: Of the run.
        stages: All of them.
        created: When the run was begun.
        command: The shell command that led here.
        warnings: What was known before anything ran.
        conversations: How models are spoken to, by the recipe's name of the questions and by model.
    """

    def __init__(
        self,
        models: RunModels,
        stages: Sequence[Stage],
        created: datetime.datetime,
        command: str | None,
        warnings: Sequence[str],
        conversations: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._known, self._conversations = warnings, conversations
        self._models, self._stages = models, stages
        self._recipe, self._directory = models.recipe, models.directory
        self._created, self._command = created, command
        self._records: dict[str, dict[str, Any]] = {}
        self._earlier: list[str] = []

    def read_records(self) -> list[str]:
        """Read what is recorded of every stage; returns what is to say of trainings of earlier versions."""
        self._records = {stage.name: self._directory.record(stage.name) for stage in self._stages}
        self._earlier = self._earlier_rules()
        return self._earlier

    def take_record(self, stage: str) -> None:
        """Bring the manifest up to date with what was recorded of a stage."""
        self._records[stage] = self._directory.record(stage)
        self.write()

    def write(self) -> None:
        """Write it from the records read so far."""
        self._directory.check_held()
        file = self._directory.path / MANIFEST
        before = self._directory.manifest()
        recipe, records = self._recipe, self._records  # read once: a study has hundreds of stages
        write_json(
            file,
            {
                "name": recipe.name,
                "description": recipe.description,
                "created": before.get("created", self._created.isoformat(timespec="seconds")),
                "updated": now(),
                "command": self._command,
                **environment(),
                **({"plugins": plugins} if (plugins := loaded_plugins()) else {}),
                "seeds": {
                    "recipe": recipe.seed,
                    "pairs": {name: pairs.seed for name, pairs in recipe.pairs.items()},
                    "trainings": {
                        name: recipe.seed if training.seed is None else training.seed
                        for name, training in recipe.trainings.items()
                    },
                },
                "models": self._models.describe(records),
                **({"conversations": self._conversations} if self._conversations else {}),
                "data": {stage.name: stage.inputs["data"] for stage in self._stages if stage.inputs.get("data")},
                "data_revisions": data_revisions(
                    each for stage in self._stages for each in _revisions(stage, records[stage.name]).items()
                ),
                "stages": [_stage_line(stage, records[stage.name]) for stage in self._stages],
                "warnings": self._warnings(),
                "recipe": recipe_as_dict(recipe),
            },
        )

    def _warnings(self) -> list[str]:
        """List what a reader of the numbers must know, each once."""
        records = self._records.values()
        of_stages = [text for record in records for text in record.get("summary", {}).get("warnings", [])]
        known = [*self._models.trust_warnings(), *self._known]
        return list(dict.fromkeys([*known, *self._earlier, *of_stages]))

    def _earlier_rules(self) -> list[str]:
        """Say which trainings an earlier version finished, whose pairs it encoded into other ids."""
        found = []
        for stage in self._stages:
            record = self._records[stage.name]
            if not isinstance(stage.work, TrainingJob) or record.get("status") != "done":
                continue
            why = difference_to_earlier(record.get("summary", {}), stage.work.spec.train_file)
            if why is not None and record.get("key") == stage.key:
                found.append(
                    f"{stage.work.spec.name}: an earlier version encoded its pairs, perhaps otherwise than today's "
                    f"rules do: {why}; its numbers stay as they are; to train it again, remove {stage.name} in the run"
                )
        return found


def _revisions(stage: Stage, record: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the commits of the data that a stage has read, or will read."""
    found: Mapping[str, str] = record.get("summary", {}).get("data_revisions") or {}
    return found if record.get("key") == stage.key and found else stage.data_revisions


def _stage_line(stage: Stage, record: Mapping[str, Any]) -> dict[str, Any]:
    done = record.get("key") == stage.key
    return {
        "name": stage.name,
        "status": record.get("status", "new") if done else "new",
        "seconds": record.get("seconds") if done else None,
        "finished": record.get("finished") if done else None,
        "key": stage.key,
    }
