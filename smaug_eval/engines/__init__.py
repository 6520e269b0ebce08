"""What runs a model: lm-eval models, built for a checkpoint and watched while they work."""

from smaug_eval.engines.build import build_engine, choose_engine, set_batch_size
from smaug_eval.engines.watch import Watch

__all__ = ["Watch", "build_engine", "choose_engine", "set_batch_size"]
