"""Models of other kinds: told in one line what they are, before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.models.checkpoint import locate
from smaug_eval.models.kinds import check_kind
from smaug_eval.models.loading import load_pretrained
from smaug_eval.models.quantised import Use

Make = Callable[..., Path]


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"model_type": "llava"}, "a vision-language model (llava)"),
        ({"model_type": "qwen2_5_vl"}, "a vision-language model (qwen2_5_vl)"),
        ({"model_type": "mistral3"}, "a vision-language model (mistral3)"),
        ({"model_type": "t5"}, "an encoder-decoder model (t5)"),
        ({"model_type": "bert"}, "an encoder (masked language model) (bert)"),
        ({"model_type": "modernbert"}, "an encoder (masked language model) (modernbert)"),
        ({"model_type": "siglip"}, "of another kind (siglip)"),
    ],
)
def test_other_kinds_are_named_in_one_line(config: dict[str, Any], what: str) -> None:
    with pytest.raises(SmaugError) as caught:
        check_kind("org/model", config, [Use.TRAINING])
    assert caught.value.message.startswith(f"model 'org/model' is {what}; ")
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama"},
        {"model_type": "gemma3"},  # has a text-only use in transformers
        {"model_type": "bert", "is_decoder": True},
        {"model_type": "bart"},
        {"model_type": "of-their-own"},
        {"model_type": "llava", "auto_map": {"AutoModelForCausalLM": "modeling.Own"}},
        {},
    ],
)
def test_causal_language_models_are_let_through(config: dict[str, Any]) -> None:
    check_kind("org/model", config, [Use.TRAINING, Use.TORCH])


def test_what_other_engines_know_is_left_to_them() -> None:
    check_kind("org/model", {"model_type": "llava"}, [Use.VLLM, Use.LM_EVAL_VLLM])
    check_kind("org/model", {"model_type": "t5"}, [Use.HF])
    with pytest.raises(SmaugError, match="encoder-decoder"):
        check_kind("org/model", {"model_type": "t5"}, [Use.HF, Use.TRAINING])


def test_a_folder_is_refused_where_it_is_found_and_where_it_is_loaded(make: Make) -> None:
    folder = make()
    settings = json.loads((folder / "config.json").read_text()) | {"model_type": "qwen2_5_vl"}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(SmaugError, match="is a vision-language model"):
        locate(str(folder), uses=[Use.TORCH])
    with pytest.raises(SmaugError, match="is a vision-language model"):
        load_pretrained(folder, Use.TORCH, local_files_only=True)
    assert locate(str(folder), uses=[Use.VLLM]).path == folder
