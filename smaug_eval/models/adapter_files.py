"""Read the files of a PEFT adapter without PEFT, and distinguish an adapter from a model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json, write_json
from smaug_eval.models.to_safetensors import conversion_command

ADAPTER_CONFIG = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PICKLED_FILE = "adapter_model.bin"
_ADAPTER_WEIGHTS = "adapter_model"
_MODEL_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def adapter_settings(folder: Path) -> dict[str, Any]:
    """Read ``adapter_config.json``.

    Raises:
        SmaugError: the folder is no adapter, or its weights are not safetensors.
    """
    if not folder.is_dir():
        raise SmaugError(
            f"adapter {folder}: no such folder",
            fix="give the folder of a PEFT adapter, or one on the Hub (ORGANISATION/NAME)",
        )
    if not (folder / ADAPTER_CONFIG).is_file():
        raise SmaugError(f"{folder} has no {ADAPTER_CONFIG}", fix="give the folder of a PEFT adapter")
    if not (folder / WEIGHTS_FILE).is_file():
        if not (folder / PICKLED_FILE).is_file():
            raise SmaugError(f"{folder} has no {WEIGHTS_FILE}", fix="fetch the adapter again")
        raise SmaugError(
            f"{folder}: the adapter's weights are pickled ({PICKLED_FILE}); they can run code and are refused",
            fix=f"convert them, which runs none: {conversion_command(folder)}",
        )
    settings = read_json(folder / ADAPTER_CONFIG)
    if not isinstance(settings, dict):
        raise SmaugError(f"{folder / ADAPTER_CONFIG} is no JSON object", fix="fetch the adapter again")
    return settings


def base_of(settings: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the base model that an adapter's settings name, and its revision on the Hub; None where they name none."""
    name, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    return (str(name), None if revision is None else str(revision)) if name else (None, None)


def adapter_rank(settings: Mapping[str, Any]) -> int:
    """Return the largest rank of a LoRA adapter's matrices, by its settings."""
    return max(int(each) for each in (settings.get("r") or 0, *(settings.get("rank_pattern") or {}).values()))


def name_base(folder: Path, name: str, revision: str | None) -> None:
    """Write the base's public name into an adapter: PEFT writes the folder that the weights were read from.

    Args:
        folder: Of the adapter, as PEFT saved it.
        name: Hub id of the base, or its path as the user gave it.
        revision: Its commit on the Hub; None for a base from elsewhere.
    """
    settings = {**read_json(folder / ADAPTER_CONFIG), "base_model_name_or_path": name, "revision": revision}
    write_json(folder / ADAPTER_CONFIG, settings)


def refuse_adapter(source: str, path: Path) -> None:
    """Refuse the folder of a PEFT adapter: the error names what it is, and how it becomes a model.

    Args:
        source: The model as the user named it.
        path: Its folder. One that holds a model's weights, too, is none of an adapter.

    Raises:
        SmaugError: it holds an adapter and no model.
    """
    if not holds_adapter(path):
        return
    base = _base_of(path)
    is_here = Path(source).exists()
    folder = str(path) if is_here else source
    out = f"{folder if is_here else source.rpartition('/')[2]}-merged"
    command = ["smaug-eval", "merge", folder, "--out", out, *([] if base else ["--base", "BASE"])]
    merged = path.with_name("checkpoint")
    is_beside = merged != path and (merged / "config.json").is_file()
    beside = f", or give {merged}, which holds it merged" if is_beside else ""
    raise SmaugError(
        f"model {source!r} is a PEFT adapter of {base or 'a base that it does not name'}, not a model",
        fix=f"merge it first: {shlex.join(command)}{beside}",
    )


def holds_adapter(path: Path) -> bool:
    """Return whether a folder holds a PEFT adapter and no model's weights."""
    if not (path / ADAPTER_CONFIG).is_file() and not any(path.glob(f"{_ADAPTER_WEIGHTS}.*")):
        return False
    weights = (file for pattern in _MODEL_WEIGHTS for file in path.glob(pattern))
    return all(file.name.startswith(_ADAPTER_WEIGHTS) for file in weights)


def has_own_tokenizer(adapter: Path, base: Path) -> bool:
    """Return whether an adapter's folder holds another tokenizer than its base, of which it is trained.

    Files of the same name are compared byte by byte; ``tokenizer_config.json`` by its chat template alone, as each
    version of transformers writes its other keys differently.
    """
    if not (adapter / "tokenizer_config.json").is_file():
        return False
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")
    for name in names:
        own = adapter / name
        if own.is_file() and (not (base / name).is_file() or own.read_bytes() != (base / name).read_bytes()):
            return True
    return _chat_template(adapter) not in (None, _chat_template(base))


def _chat_template(folder: Path) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    config = folder / "tokenizer_config.json"
    settings = read_json(config) if config.is_file() else None
    found = settings.get("chat_template") if isinstance(settings, dict) else None
    return found if isinstance(found, str) else None


def refuse_both(source: str, path: Path) -> None:
    """Refuse a folder with an adapter beside whole weights: transformers would put the one on top of the other.

    Raises:
        SmaugError: it is one.
    """
    if (path / ADAPTER_CONFIG).is_file():
        raise SmaugError(
            f"model {source!r}: {path} holds an adapter ({ADAPTER_CONFIG}) beside whole weights, and transformers "
            "would load both as one model",
            fix=f"move {ADAPTER_CONFIG} and adapter_model.* to a folder of their own, or remove them",
        )


def _base_of(path: Path) -> str | None:
    try:
        settings = read_json(path / ADAPTER_CONFIG)
    except SmaugError:
        return None
    name = settings.get("base_model_name_or_path") if isinstance(settings, dict) else None
    return str(name) if name else None
