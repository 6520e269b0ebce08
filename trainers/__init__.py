"""Train models on preference pairs: pair sets, losses, the trainer and what it leaves.

``PreferenceTrainer`` and ``PreferenceConfig`` stand in the place of TRL's ``DPOTrainer`` and ``DPOConfig``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smaug_eval.trainers.preference_config import PreferenceConfig
    from smaug_eval.trainers.preference_trainer import PreferenceTrainer

__all__ = ["PreferenceConfig", "PreferenceTrainer"]


def __getattr__(name: str) -> Any:
    """Import the classes when they are asked for: reading a recipe needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "PreferenceConfig":
        from smaug_eval.trainers.preference_config import PreferenceConfig

        return PreferenceConfig
    from smaug_eval.trainers.preference_trainer import PreferenceTrainer

    return PreferenceTrainer
