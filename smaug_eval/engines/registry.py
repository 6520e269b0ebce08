"""List what can run a model: one entry per engine. Free of heavy imports."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smaug_eval.common.files import canonical_json
from smaug_eval.common.redaction import redacted_values
from smaug_eval.common.tables import Table
from smaug_eval.models.adapter_files import adapter_rank, adapter_settings, has_own_tokenizer
from smaug_eval.models.quantised import Use

if TYPE_CHECKING:
    from lm_eval.api.model import TemplateLM

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of an adapter that vLLM can make room for."""
AUTO = "auto"
"""In the place of an engine: vLLM where it and a GPU are there, else torch."""


@dataclass(frozen=True)
class Engine:
    """Describe what runs a model.

    Attributes:
        loader: What makes the lm-eval model, as ``module:callable``, imported when it is needed.
        use: How it loads weights, which says what quantised ones it takes.
        is_ours: Whether it computes shared prefixes once and keeps a journal of its answers.
    """

    loader: str
    use: Use
    is_ours: bool = False

    @property
    def is_vllm(self) -> bool:
        """Return whether it is vLLM, which chooses device and batch size for itself."""
        return self.use.is_vllm

    @property
    def is_served(self) -> bool:
        """Return whether a server runs the model, and nothing is loaded here."""
        return self.use is Use.API

    def load(self, **arguments: Any) -> TemplateLM:
        """Make the lm-eval model."""
        module, _, name = self.loader.partition(":")
        function: Callable[..., TemplateLM] = getattr(importlib.import_module(module), name)
        return function(**arguments)


ENGINES = Table(
    "engines",
    Engine,
    {
        "torch": Engine("smaug_eval.engines.torch_engine:TorchEngine", Use.TORCH, is_ours=True),
        "vllm": Engine("smaug_eval.engines.vllm_engine:VllmEngine", Use.VLLM, is_ours=True),
        "hf": Engine("smaug_eval.engines.loading:CheckedLoading", Use.HF),
        "api": Engine("smaug_eval.engines.served.engine:ApiEngine", Use.API),
        "lm-eval-vllm": Engine("smaug_eval.engines.vllm_install:lm_eval_vllm", Use.LM_EVAL_VLLM),
    },
)
"""Every engine by its name in recipes."""


@dataclass(frozen=True)
class EngineSpec:
    """Describe which model an engine loads, and how.

    Attributes:
        engine: A name of :data:`ENGINES`.
        checkpoint: Folder of a safetensors checkpoint with its tokenizer.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the checkpoint's own.
        batch_size: Sequences per forward pass, or ``auto`` (hf; torch for generation).
        device: torch device (torch, hf); None for the best there is.
        engine_args: Further arguments of the lm-eval model.
        adapter: Folder of a PEFT adapter, which is put beside the weights; None for none.
        trust_remote_code: Whether Python code that came with the checkpoint may run.
        context: Tokens that a prompt may have at most, where that is fewer than the model's; None for the model's.
        add_bos_token: Whether prompts begin with a BOS token; None for the tokenizer's own habit.
    """

    engine: str
    checkpoint: Path
    dtype: str = "auto"
    batch_size: int | str = 8
    device: str | None = None
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    adapter: Path | None = None
    trust_remote_code: bool = False
    context: int | None = None
    add_bos_token: bool | None = False

    @property
    def entry(self) -> Engine:
        """Return the engine's entry in the table."""
        return ENGINES[self.engine]

    @property
    def key(self) -> str:
        """Return a key for the loaded model: all settings but the batch size, which a loaded model can change."""
        adapter = None if self.adapter is None else self._adapter_key(self.adapter)
        loading = [
            *(self.dtype, self.device, dict(self.engine_args), adapter, self.trust_remote_code),
            *(self.context, self.add_bos_token),
        ]
        return canonical_json([self.engine, str(self.checkpoint), *loading])

    def _adapter_key(self, adapter: Path) -> str | list[Any]:
        """What of an adapter decides how a model is loaded: vLLM takes it with each request, and needs room for it."""
        if not self.entry.is_vllm:
            return str(adapter)
        own = str(adapter) if has_own_tokenizer(adapter, self.checkpoint) else None
        return ["LoRA", self.lora_rank(adapter), own]

    def lora_rank(self, adapter: Path) -> int:
        """Return the rank that vLLM makes room for: the adapter's, or more where ``engine_args`` say so."""
        needed = adapter_rank(adapter_settings(adapter))
        room = next((size for size in LORA_RANKS if size >= needed), needed)
        return max(room, int(self.engine_args.get("max_lora_rank", 0)))

    @property
    def is_divisible(self) -> bool:
        """Return whether several processes can each answer a share, as with our own engines."""
        return self.entry.is_ours and int(self.engine_args.get("data_parallel_size", 1)) == 1

    def describe(self) -> dict[str, Any]:
        """Return what the model was loaded with, for lm-eval's result files; keys among the arguments are masked."""
        return {
            "pretrained": str(self.checkpoint),
            "engine": self.engine,
            "dtype": self.dtype,
            "add_bos_token": self.add_bos_token,
            **({"max_length": self.context} if self.context is not None else {}),
            **({"trust_remote_code": True} if self.trust_remote_code else {}),
            **({"peft": str(self.adapter)} if self.adapter is not None else {}),
            **redacted_values(self.engine_args),
        }
