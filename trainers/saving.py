"""Save what a training leaves: a checkpoint that loads by itself, the adapter, and their model cards."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

import peft
import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import sync, sync_folder, write_text
from smaug_eval.models.adapter_files import name_base
from smaug_eval.models.checkpoint import CARRIED_PATTERNS, TOKENIZER_PATTERNS
from smaug_eval.models.quantised import Use
from smaug_eval.models.weights import is_tied
from smaug_eval.trainers.base_model import DTYPES, load_model, standalone
from smaug_eval.trainers.checkpoints import TrainingResult
from smaug_eval.trainers.fidelity import (
    NOTHING,
    Fidelity,
    Trained,
    chosen_pairs,
    compare_saved,
    has_room,
    keep_exactly,
    merge_exactly,
)
from smaug_eval.trainers.layout import ADAPTER_FOLDER, CHECKPOINT_FOLDER
from smaug_eval.trainers.tokenization import EncodedPair

CHAT_TEMPLATE_FILE = "chat_template.jinja"
PARTIAL = ".partial"
"""In a folder that a checkpoint was linked to: what is being written."""


def save_result(
    policy: PreTrainedModel | peft.PeftModel,
    weights: Mapping[str, Tensor],
    tokenizer: PreTrainedTokenizerBase,
    base_config: PreTrainedConfig,
    model_path: Path,
    out_dir: Path,
    result: TrainingResult,
    *,
    pairs: Sequence[EncodedPair],
    on_note: Callable[[str], None] = lambda note: None,
    trust_remote_code: bool = False,
    base_source: str | None = None,
    base_revision: str | None = None,
    own_template: bool = False,
) -> TrainingResult:
    """Write ``checkpoint/``, a model that loads by itself, and for LoRA ``adapter/``; each is complete or absent.

    The adapter is merged into the base model as it was given, read again from ``model_path``: the trained base may be
    quantised or lie on other devices. What was saved is read again, too, and compared with what was trained.

    Args:
        policy: The trained model, which may be sharded.
        weights: All its weights, as :meth:`smaug_eval.trainers.trainer.PairTrainer.full_weights` gives them.
        tokenizer: Saved beside the weights, with its chat template.
        base_config: The base model's configuration, which the checkpoint keeps.
        model_path: Folder of the base model.
        out_dir: Where the folders go.
        result: What the model card states.
        pairs: Pairs whose log-probabilities are compared: held-out ones, or those trained on.
        on_note: Receives what rounding took.
        trust_remote_code: Whether Python code that came with the base model may run.
        base_source: What the adapter names as its base; ``model_path`` if None.
        own_template: Whether the tokenizer's chat template is another one than the base's.
        base_revision: Commit of the base on the Hub, where ``base_source`` is its name; None for one from elsewhere.

    Returns:
        The result, with what the comparison found.

    Raises:
        SmaugError: the checkpoint is another model than the trained one; ``adapter/`` stays.
    """
    hub_id = None if base_revision is None else base_source
    dtype, parameters = DTYPES[result.dtype], sum(weight.numel() for weight in weights.values())
    compared = chosen_pairs(pairs, parameters)

    def load(folder: Path) -> PreTrainedModel:
        settings = {"dtype": result.dtype, "keep_dtype": True, "trust_remote_code": trust_remote_code}
        return load_model(folder, use=Use.MERGE, **settings)[0]  # type: ignore[arg-type]

    if isinstance(policy, peft.PeftModel):
        with replacing(out_dir / ADAPTER_FOLDER) as folder:
            policy.save_pretrained(folder, state_dict=dict(weights))
            name_base(folder, base_source or str(model_path), base_revision)
            tokenizer.save_pretrained(folder)
            write_text(folder / "README.md", _model_card(result, adapter=True, hub_id=hub_id))
        trained = merge_exactly(load(model_path), out_dir / ADAPTER_FOLDER, compared, dtype)
    else:
        wide = dtype != torch.float32 and has_room(6.0 * parameters)
        trained = (
            keep_exactly(load(model_path), weights, compared, dtype)
            if wide
            else Trained(standalone(base_config, weights, dtype))
        )
    if is_tied(base_config) and not is_tied(trained.model.config):
        on_note("the adapter changes embedding or output head alone: checkpoint/ has a matrix for each, not a tied one")
    trained.round()
    with replacing(out_dir / CHECKPOINT_FOLDER) as folder:
        write_model(trained.model, tokenizer, model_path, folder)
        if own_template:
            for file in folder.glob("chat_template*"):
                file.unlink()
            write_text(folder / CHAT_TEMPLATE_FILE, str(tokenizer.chat_template))
        if trained.compared is not None:
            fidelity = compare_saved(trained, partial(load, folder), result.dtype)
            result = _with_fidelity(result, fidelity, isinstance(policy, peft.PeftModel), on_note)
        write_text(folder / "README.md", _model_card(result, adapter=False, hub_id=hub_id))
    return result


def write_kept(
    policy: PreTrainedModel | peft.PeftModel,
    weights: Mapping[str, Tensor],
    tokenizer: PreTrainedTokenizerBase,
    base_config: PreTrainedConfig,
    model_path: Path,
    folder: Path,
    dtype: torch.dtype,
) -> None:
    """Write a checkpoint of a training that goes on: a model that loads by itself, or the adapter beside its base.

    Args:
        policy: The model, which may be sharded.
        weights: Those that are trained.
        tokenizer: Saved beside them.
        base_config: The base model's configuration.
        model_path: Folder of the base model.
        folder: Where it goes; complete or absent.
        dtype: Type of a model's weights.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder) as unfinished:
        if isinstance(policy, peft.PeftModel):
            policy.save_pretrained(unfinished, state_dict=dict(weights))
            tokenizer.save_pretrained(unfinished)
        else:
            write_model(standalone(base_config, weights, dtype), tokenizer, model_path, unfinished)


def write_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, base: Path, folder: Path, *, own_tokenizer: bool = False
) -> None:
    """Write a checkpoint but for its model card: weights, configuration, and what belongs to the base model.

    The base's tokenizer is copied as it is, its files for other programs included (``tokenizer.model``), and so are its
    generation settings, the settings of its processors, and its licence.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        base: Folder of the base model.
        folder: Where the files go.
        own_tokenizer: Whether the tokenizer is another one than the base's.
    """
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if own_tokenizer or not any(base.glob("tokenizer*")):
        tokenizer.save_pretrained(folder)
    for pattern in CARRIED_PATTERNS if own_tokenizer else (*TOKENIZER_PATTERNS, *CARRIED_PATTERNS):
        for file in base.glob(pattern):
            if file.is_file():
                shutil.copyfile(file, folder / file.name)


def _with_fidelity(
    result: TrainingResult, fidelity: Fidelity, lora: bool, on_note: Callable[[str], None]
) -> TrainingResult:
    """The result with what rounding took; where it took much, a warning, and the adapter is evaluated."""
    note = fidelity.describe()
    if result.dtype != "float32":
        on_note(note)
    if not fidelity.is_much or (not lora and fidelity.moved < NOTHING):
        return replace(result, rounding=fidelity.as_dict())
    kept = "evaluations use the adapter beside its base" if lora else "model.dtype: float32 keeps it"
    return replace(
        result,
        rounding=fidelity.as_dict(),
        evaluated=ADAPTER_FOLDER if lora else CHECKPOINT_FOLDER,
        warnings=[*result.warnings, f"{note}; {kept}"],
    )


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Make a new folder to fill; it takes the place of ``folder`` once it is complete.

    Where ``folder`` is a link, its files move to where that leads, which must be empty: see :func:`check_place`.
    """
    check_place(folder)
    unfinished = folder / PARTIAL if folder.is_symlink() else folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync_folder(unfinished)
    if folder.is_symlink():
        for file in unfinished.iterdir():
            file.replace(folder / file.name)
        unfinished.rmdir()
    else:
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.replace(folder)
    sync(folder.parent)


def check_place(folder: Path) -> None:
    """Make sure that nothing of the user's is in the way of a folder that is to be written.

    Raises:
        SmaugError: the user linked it to another place, and that has files.
    """
    if folder.is_symlink() and not (folder.is_dir() and all(each.name == PARTIAL for each in folder.iterdir())):
        raise SmaugError(
            f"{folder} is a link to {folder.readlink()}, which is not an empty folder",
            fix="make it an empty folder, or remove the link",
        )


def _model_card(result: TrainingResult, *, adapter: bool, hub_id: str | None) -> str:
    facts: Mapping[str, object] = {
        "loss": f"{result.loss}: `{result.formula}`",
        **result.weights,
        "log-probabilities": f"{result.normalisation} over the tokens of a completion",
        "steps": result.steps,
        "pairs": result.pairs,
        "seed": result.seed,
        "base model": f"{result.base}, SHA-256 of the weights `{result.model_sha256}`",
        "pairs (SHA-256 of the file)": f"`{result.train_sha256}`",
        "weights": result.dtype,
        **({"rounding": result.rounding["text"]} if result.rounding and not adapter else {}),
        **({"base while training": f"{result.quantize} weights"} if result.quantize else {}),
        **versions(),
    }
    what = "LoRA adapter" if adapter else "model"
    text = (
        f"A {what} trained on preference pairs with smaug-eval. `rho_w` and `rho_l` are the log-ratios of policy to "
        "base model for the chosen and the rejected completion, summed over tokens."
    )
    if result.quantize:
        text += f" The adapter was trained on a base of {result.quantize} weights, which is also the reference" + (
            "." if adapter else "; here it is merged into the unquantised base, so log-probabilities differ a little."
        )
    if result.stored:
        text += f" The base's weights are stored as {result.stored}" + (
            "." if adapter else "; here they are dequantised, and the adapter is merged into them."
        )
    if result.evaluated == ADAPTER_FOLDER and not adapter:
        text += " Much of the training was lost when the merged weights were rounded: use the adapter beside its base."
    library = "peft" if adapter else "transformers"
    return model_card(result.name, text, facts, library=library, tags=(result.loss,), base_model=hub_id)


def model_card(
    title: str,
    text: str,
    facts: Mapping[str, object],
    *,
    library: str = "transformers",
    tags: Sequence[str] = (),
    base_model: str | None = None,
) -> str:
    """Return a model card in Markdown.

    A sentence, and a table of facts; ``base_model`` is the base's name on the Hub.
    """
    lines = [
        "---",
        f"library_name: {library}",
        *([] if base_model is None else [f"base_model: {base_model}"]),
        "pipeline_tag: text-generation",
        f"tags: [{', '.join((*tags, 'preference-optimization', 'smaug-eval'))}]",
        "---",
        f"# {title}",
        "",
        text,
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in facts.items()),
    ]
    return "\n".join(lines) + "\n"


def versions() -> dict[str, str]:
    """Return the versions of the libraries that decide a checkpoint, for its model card."""
    return {f"{name} version": metadata.version(name) for name in ("smaug-eval", "torch", "transformers", "peft")}
