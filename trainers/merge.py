"""Merge an adapter and its base into a checkpoint that loads by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from smaug_eval.common.digests import sha256_of_file
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import write_text
from smaug_eval.models.adapter_files import ADAPTER_CONFIG, WEIGHTS_FILE, adapter_settings, base_of
from smaug_eval.models.quantised import Use
from smaug_eval.models.quiet import quiet_transformers
from smaug_eval.trainers.base_model import DTYPES, fitting_length, load_model
from smaug_eval.trainers.fidelity import Fidelity, compare_saved, merge_exactly
from smaug_eval.trainers.saving import model_card, replacing, versions, write_model
from smaug_eval.trainers.tokenization import EncodedPair, PairEncoder

TEXTS = (
    # An adapter of unknown training is compared with its merge on a little of everything.
    ("The capital of France is", " Paris, on the river Seine.", " Rome, on the river Tiber."),
    ("Question: What is 17 + 25?\nAnswer:", " 17 + 25 = 42. The answer is 42.", " 17 + 25 = 52. The answer is 52."),
    ("def largest(numbers):\n", "    return max(numbers)\n", "    return min(numbers)\n"),
    ("Es war einmal ein König, der", " hatte drei Töchter und kein Geld.", " ist 7 % von 300 {null}."),
    ("Translate to French: good morning ->", " bonjour", " good night"),
    ("水在摄氏零度时", "结冰。", "沸腾。"),
)
"""Prompts, each with a likely and an unlikely continuation."""
MAX_LENGTH = 256


def named_base(adapter: Path) -> tuple[str, str | None]:
    """Return the base model that an adapter names, and its revision on the Hub where it names one.

    Raises:
        SmaugError: the folder is no adapter, or it names none.
    """
    name, revision = base_of(adapter_settings(adapter))
    if name is None:
        raise SmaugError(f"{adapter / ADAPTER_CONFIG} names no base model", fix="name it with --base")
    return name, revision


def merge_adapter(
    adapter: Path,
    *,
    base_path: Path,
    base_name: str,
    base_sha256: str,
    dtype: str,
    out_dir: Path,
    hub_id: str | None = None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Fidelity:
    """Merge a PEFT adapter into its base and save the result, with tokenizer, chat template and model card.

    The tokenizer is the adapter's where it has one, which is what it was trained with, else the base's. The merged
    model and the saved one are compared with base and adapter on a few built-in texts.

    Args:
        adapter: Folder of the adapter: ``adapter_config.json`` and ``adapter_model.safetensors``.
        base_path: Folder of the base model.
        base_name: Name of the base model, for the card.
        base_sha256: Digest of the base model's weights, for the card.
        dtype: ``float32``, ``bfloat16`` or ``float16``: the type of the weights, to which each sum is rounded once.
        out_dir: Where the checkpoint goes.
        hub_id: Name of the base model on the Hub, for the card; None for a base from elsewhere.
        on_note: Receives what rounding took.

    Returns:
        What rounding left of the adapter.

    Raises:
        SmaugError: the adapter is pickled or damaged or does not fit the base, the merged model is another than base
            and adapter, or ``out_dir`` is in use.
    """
    settings = adapter_settings(adapter)
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise SmaugError(f"{out_dir} exists already", fix="choose a new folder for the merged model")

    def load(folder: Path) -> PreTrainedModel:
        return load_model(folder, dtype=dtype, keep_dtype=True, use=Use.MERGE)[0]

    with quiet_transformers():
        base, tokenizer = load_model(base_path, dtype=dtype, keep_dtype=True, use=Use.MERGE)
        own_tokenizer = (adapter / "tokenizer_config.json").is_file()
        if own_tokenizer:
            tokenizer = AutoTokenizer.from_pretrained(adapter, trust_remote_code=False, local_files_only=True)
        pairs = _built_in_pairs(tokenizer, base)
        trained = merge_exactly(base, adapter, pairs, DTYPES[dtype])
        trained.round()
        with replacing(out_dir) as folder:
            write_model(trained.model, tokenizer, base_path, folder, own_tokenizer=own_tokenizer)
            fidelity = compare_saved(trained, lambda: load(folder), dtype)
            facts: dict[str, object] = {
                "adapter (SHA-256 of the weights)": f"`{sha256_of_file(adapter / WEIGHTS_FILE)}`",
                "base model": f"{base_name}, SHA-256 of the weights `{base_sha256}`",
                "weights": dtype,
                "rounding": fidelity.describe_change(),
                **versions(),
            }
            what = f"A {settings.get('peft_type', 'PEFT')} adapter merged into its base model with smaug-eval."
            write_text(folder / "README.md", model_card(out_dir.name, what, facts, base_model=hub_id))
    on_note(fidelity.describe_change())
    return fidelity


def _built_in_pairs(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> list[EncodedPair]:
    """The built-in texts in a model's tokens, as far as it has rows for them."""
    rows = model.get_input_embeddings().weight.shape[0]
    texts = [{"prompt": prompt, "chosen": likely, "rejected": other} for prompt, likely, other in TEXTS]
    pairs = PairEncoder(tokenizer, fitting_length(MAX_LENGTH, model)).encode(texts).pairs
    return [pair for pair in pairs if all(int(part.max()) < rows for part in (pair.prompt, pair.chosen, pair.rejected))]
