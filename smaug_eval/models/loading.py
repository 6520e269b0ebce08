"""Load weights through transformers, and make sure that every one of them is the checkpoint's."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from smaug_eval.common.errors import SmaugError
from smaug_eval.models.adapter_files import refuse_both
from smaug_eval.models.adapters import attach
from smaug_eval.models.configuration import CONFIG_FILE, read_config
from smaug_eval.models.kinds import check_kind
from smaug_eval.models.quantised import Use, check_quantisation
from smaug_eval.models.remote_code import SWITCH, code_refused
from smaug_eval.models.weights import (
    check_stored,
    check_weights,
    refuse_faulty,
    refuse_torn_experts,
    settle_ties,
    tensor_names,
)

LOADING_ERRORS = (
    *(OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, AssertionError, ImportError),
    *(NotImplementedError, SafetensorError, StrictDataclassError),
)
"""What libraries raise where a checkpoint, its configuration or its tokenizer cannot be loaded."""
_LONGEST = 400
"""Characters of another library's message that are shown."""


def check_model(source: str, path: Path, uses: Collection[Use], *, trust_remote_code: bool = False) -> None:
    """Find out whether a checkpoint can be loaded for some uses and whether its weights are all there.

    No weight is read; it takes as long as the model takes to be laid out without numbers, seconds at most.

    Args:
        source: The model, as the user named it.
        path: Its folder.
        uses: What it is to be used for.
        trust_remote_code: Whether Python code that came with it may run.

    Raises:
        SmaugError: it is of another kind, quantised in a way that a use cannot take, or lacks weights.
    """
    config = read_config(path)
    check_quantisation(source, config, uses)
    check_kind(source, config, uses)
    for for_vllm in sorted({use.is_vllm for use in uses}) or [False]:
        check_weights(source, path, for_vllm=for_vllm, trust_remote_code=trust_remote_code)


def load_pretrained(
    path: str | Path,
    use: Use,
    *,
    source: str | None = None,
    adapter: Path | None = None,
    auto_class: Any = AutoModelForCausalLM,
    **arguments: Any,
) -> Any:
    """Load a checkpoint with transformers, in evaluation mode.

    Args:
        path: Its folder.
        use: What for.
        source: The model, as the user named it; the path if None.
        adapter: Folder of a PEFT adapter, which is put beside the weights, not merged into them.
        auto_class: The class that loads it.
        **arguments: Further arguments of ``from_pretrained``.

    Returns:
        The model. With an adapter it is still the class of the checkpoint, with the adapter's layers in its places.

    Raises:
        SmaugError: the checkpoint cannot be loaded for this use, some of its weights are missing or have another
            shape, or the adapter does not fit.
    """
    name = str(path) if source is None else source
    if arguments.get("quantization_config", ...) is None:
        del arguments["quantization_config"]  # given as None, it takes the checkpoint's own section away
    refuse_both(name, Path(path))
    if (Path(path) / CONFIG_FILE).is_file():
        config = read_config(Path(path))
        check_kind(name, config, [use])
        check_stored(name, Path(path), check_quantisation(name, config, [use]))
    try:
        model, info = auto_class.from_pretrained(
            path, **arguments, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except LOADING_ERRORS as error:
        if SWITCH in str(error) and not arguments.get(SWITCH):
            raise code_refused(name, "without, it cannot be loaded") from error
        if any(Path(path).glob("*.safetensors")):
            refuse_torn_experts(name, tensor_names(Path(path)))
        raise SmaugError(
            f"model {name!r} cannot be loaded: {_brief(error)}",
            fix="give a folder with config.json, model.safetensors and tokenizer files, and check dtype and device",
        ) from error
    causal = auto_class is AutoModelForCausalLM
    refuse_faulty(name, model, info, causal=causal and not getattr(model, "is_quantized", False))
    settle_ties(name, model)
    return model if adapter is None else attach(model, adapter).get_base_model().eval()


def _brief(error: BaseException) -> str:
    """What another library says, without its lists of everything it knows."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
