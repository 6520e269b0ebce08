"""List the stages of a run while they are built: each gets its key from what it depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from smaug_eval.common.redaction import redacted_values
from smaug_eval.results.layout import CURVES, EVALUATIONS
from smaug_eval.runs.directory import stage_key
from smaug_eval.runs.execution import Stage
from smaug_eval.runs.jobs import Job


class StageList:
    """List the stages of a run, in an order in which each can be done.

    Attributes:
        all: The stages so far.
    """

    def __init__(self) -> None:
        self.all: list[Stage] = []

    def add(
        self,
        name: str,
        title: str,
        inputs: Mapping[str, Any],
        needs: tuple[str, ...],
        work: Callable[[Path], Mapping[str, Any]] | Job,
        outputs: tuple[str, ...] = (),
        after: tuple[str, ...] = (),
        *,
        data_revisions: Mapping[str, str] | None = None,
        drafted: bool = False,
    ) -> None:
        """Append a stage; its arguments are those of :class:`~smaug_eval.runs.execution.Stage`, without the key."""
        inputs = redacted_values(inputs)  # another key for the same thing is no change
        keys = {stage.name: stage.key for stage in self.all}
        key = stage_key(inputs, [keys[need] for need in needs])
        self.all.append(Stage(name, inputs, needs, key, work, title, outputs, after, data_revisions or {}, drafted))

    def __contains__(self, name: str) -> bool:
        """Return whether there is a stage of a name."""
        return any(stage.name == name for stage in self.all)

    def named(self, prefix: str) -> list[str]:
        """Return the names of the stages so far that begin with a prefix."""
        return [stage.name for stage in self.all if stage.name.startswith(prefix)]

    def scored_on_the_same(self, model: str, data: Mapping[str, str]) -> tuple[str, ...]:
        """Name the stages before that score a model on some of the same rows: it is settled which answers a request.

        Args:
            model: The model's name.
            data: What is scored, as the inputs of its stage say it.
        """
        rows = set(data.values())
        own = (f"{EVALUATIONS}/{model}/", f"{CURVES}/{model}/")
        before = [stage for stage in self.all if stage.name.startswith(own)]
        return tuple(stage.name for stage in before if rows & set(stage.inputs["data"].values()))
