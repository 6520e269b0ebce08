"""Keep the model used last in memory, so that consecutive tasks load it once."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smaug_eval.engines.build import build_engine, put_adapter, set_batch_size
from smaug_eval.engines.journal import Relay
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.engines.watch import Watch


@dataclass(frozen=True)
class LoadedEngine:
    """Hold a model in memory.

    Attributes:
        watch: The lm-eval model under observation.
        arguments: What it was loaded with, for lm-eval's result files.
    """

    watch: Watch
    arguments: Mapping[str, Any]


class EnginePool:
    """Keep the model used last in memory, so that consecutive tasks load it once."""

    def __init__(self) -> None:
        self._key: str | None = None
        self._loaded: LoadedEngine | None = None

    def get(self, spec: EngineSpec, *, journal: Path | None = None, relay: Relay | None = None) -> LoadedEngine:
        """Return the engine for some settings; another one is unloaded first.

        Args:
            spec: The settings.
            journal: Folder in which our own engines keep finished answers, so that nothing is computed twice.
            relay: Where they send finished answers, if it is another process that writes the journal.

        Raises:
            SmaugError: the model cannot be loaded.
        """
        if self._loaded is None or spec.key != self._key:
            self.close()
            self._key, self._loaded = spec.key, LoadedEngine(Watch(build_engine(spec)), spec.describe())
        elif spec.adapter is not None and self._loaded.arguments["peft"] != str(spec.adapter):  # vLLM's own kind of key
            try:
                put_adapter(self._loaded.watch.lm, spec.adapter, spec.dtype)
            except BaseException:
                self.close()
                raise
            self._loaded = LoadedEngine(self._loaded.watch, spec.describe())
        set_batch_size(self._loaded.watch.lm, spec.batch_size)
        if hasattr(self._loaded.watch.lm, "keep_journal"):  # one of our own
            self._loaded.watch.lm.keep_journal(journal, relay)
        return self._loaded

    @property
    def computed(self) -> int:
        """Return the tokens that one of our own engines has computed for log-likelihoods since it was loaded."""
        return 0 if self._loaded is None else int(getattr(self._loaded.watch.lm, "computed", 0))

    def close(self) -> None:
        """Free the model, its memory, and the processes that vLLM started for it."""
        if self._loaded is None:
            return
        import torch

        if hasattr(self._loaded.watch.lm, "close_journal"):
            self._loaded.watch.lm.close_journal()
        engine = getattr(getattr(self._loaded.watch.lm, "model", None), "llm_engine", None)
        if engine is not None:
            engine.engine_core.shutdown()
        self._key = self._loaded = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
