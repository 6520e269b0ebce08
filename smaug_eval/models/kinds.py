"""Check which kind of model a configuration describes: only causal language models are evaluated and trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.models.quantised import Use

_VISION = "a vision-language model"
_ENCODER = "an encoder (masked language model)"
_KINDS = {
    # By the mapping of transformers' auto classes that has the type; the first that fits is named.
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES": "a speech model",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES": "an encoder-decoder model",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES": _VISION,
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES": _ENCODER,
}


def check_kind(source: str, config: Mapping[str, Any], uses: Collection[Use]) -> None:
    """Refuse a model that transformers knows and that is no causal language model.

    Args:
        source: The model, as the user named it.
        config: Its ``config.json``.
        uses: What it is to be used for: vLLM knows kinds of its own, and lm-eval's ``hf`` takes encoder-decoders.

    Raises:
        SmaugError: it is a vision-language model, an encoder, or another kind without a class for causal language
            modelling.
    """
    from transformers.models.auto import modeling_auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    uses = [use for use in uses if not use.is_vllm]
    kind = config.get("model_type")
    if not uses or kind not in CONFIG_MAPPING_NAMES:
        return
    of_decoders = modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    if kind in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        masked = kind in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and kind not in of_decoders
        if not masked or config.get("is_decoder") or config.get("causal"):
            return
        raise _refused(source, str(kind), _ENCODER)
    if isinstance(config.get("auto_map"), Mapping) and "AutoModelForCausalLM" in config["auto_map"]:
        return  # its own code makes it one
    if set(uses) == {Use.HF} and kind in of_decoders:
        return
    named = [words for mapping, words in _KINDS.items() if kind in getattr(modeling_auto, mapping, {})]
    raise _refused(source, str(kind), named[0] if named else "of another kind")


def _refused(source: str, kind: str, what: str) -> SmaugError:
    vision = "give its text model as a checkpoint of its own, or evaluate it with engine: vllm"
    return SmaugError(
        f"model {source!r} is {what} ({kind}); causal language models are trained and evaluated here",
        fix=vision if what == _VISION else "give a causal language model",
    )
