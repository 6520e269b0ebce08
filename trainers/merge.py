"""From an adapter and its base to a checkpoint that loads by itself."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer

from smaug_eval.digests import sha256_of_file
from smaug_eval.errors import SmaugError
from trainers.adapters import CONFIG_FILE, WEIGHTS_FILE, adapter_settings, merged
from trainers.checkpoints import model_card, save_model, versions
from trainers.models import load_model, quiet_transformers


def adapter_base(adapter: Path) -> str:
    """The base model that an adapter names.

    Raises:
        SmaugError: the folder is no adapter, or it names none.
    """
    name = adapter_settings(adapter).get("base_model_name_or_path")
    if not name:
        raise SmaugError(f"{adapter / CONFIG_FILE} names no base model", fix="name it with --base")
    return str(name)


def merge_adapter(
    adapter: Path, *, base_path: Path, base_name: str, base_sha256: str, dtype: str, out_dir: Path
) -> None:
    """Merge a PEFT adapter into its base and save the result, with tokenizer, chat template and model card.

    The tokenizer is the adapter's where it has one, which is what it was trained with, else the base's.

    Args:
        adapter: Folder of the adapter: ``adapter_config.json`` and ``adapter_model.safetensors``.
        base_path: Folder of the base model.
        base_name: Name of the base model, for the card.
        base_sha256: Digest of the base model's weights, for the card.
        dtype: ``float32``, ``bfloat16`` or ``float16``: the type of the weights, to which each sum is rounded once.
        out_dir: Where the checkpoint goes.

    Raises:
        SmaugError: the adapter is pickled or damaged or does not fit the base, or ``out_dir`` is in use.
    """
    settings = adapter_settings(adapter)
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise SmaugError(f"{out_dir} is there already", fix="choose a new folder for the merged model")
    with quiet_transformers():
        base, tokenizer = load_model(base_path, dtype=dtype, keep_dtype=True)
        if (adapter / "tokenizer_config.json").is_file():
            tokenizer = AutoTokenizer.from_pretrained(adapter, trust_remote_code=False, local_files_only=True)
        model = merged(base, adapter)
        card = model_card(
            out_dir.name,
            f"A {settings.get('peft_type', 'PEFT')} adapter merged into its base model with smaug-eval.",
            {
                "adapter (SHA-256 of the weights)": f"`{sha256_of_file(adapter / WEIGHTS_FILE)}`",
                "base model": f"{base_name}, SHA-256 of the weights `{base_sha256}`",
                "weights": dtype,
                **versions(),
            },
        )
        save_model(model, tokenizer, base_path, out_dir, card)
