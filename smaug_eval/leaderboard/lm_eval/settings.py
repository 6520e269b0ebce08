"""Say how lm-eval's tasks are asked: shots, templates, generation, and where YAML of the user's own lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAME = "lm_eval"
"""The suite's name in recipes."""

FEWSHOT_SEED = 1234
"""lm-eval's default for the draw of shots."""


@dataclass(frozen=True)
class TaskSettings:
    """Hold what lm-eval's ``simple_evaluate`` is told beside tasks and limit.

    Attributes:
        include_path: Folder with YAML of the user's own; None for lm-eval's tasks alone.
        num_fewshot: Shots of every task that does not fix them to 0; None for each task's own number.
        fewshot_seed: Seed of the draw of shots.
        gen_kwargs: Settings of generation that replace the tasks' own.
        apply_chat_template: Whether prompts go through the model's chat template, or the name of one of its templates.
        system_instruction: Text of the system message, or before the prompt where there is no template.
        fewshot_as_multiturn: Whether shots are turns of a dialogue; None for lm-eval's default, true.
        metadata: What tasks with data made to measure read, such as ``max_seq_lengths``.
        trust_task_code: Whether Python code of the folder ``include_path`` may run.
    """

    include_path: Path | None = None
    num_fewshot: int | None = None
    fewshot_seed: int = FEWSHOT_SEED
    gen_kwargs: Mapping[str, Any] = field(default_factory=dict)
    apply_chat_template: bool | str = False
    system_instruction: str | None = None
    fewshot_as_multiturn: bool | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    trust_task_code: bool = False

    def options(self) -> dict[str, Any]:
        """Return the arguments of ``simple_evaluate``."""
        return {
            "num_fewshot": self.num_fewshot,
            "fewshot_random_seed": self.fewshot_seed,
            "gen_kwargs": dict(self.gen_kwargs) or None,
            "apply_chat_template": self.apply_chat_template,
            "system_instruction": self.system_instruction,
            "fewshot_as_multiturn": self.fewshot_as_multiturn is not False,
        }
