"""Checkpoints: those to resume from, and the finished one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from smaug_eval.digests import sha256_of_files
from smaug_eval.errors import SmaugError
from smaug_eval.files import read_json, sync, sync_folder, write_json, write_text
from trainers.adapters import merged
from trainers.config import LOSS_WEIGHTS
from trainers.models import DTYPES, load_model
from trainers.processes import wait_for_all

STATE_FILE = "trainer_state.json"
PROCESSES_FILE = "processes.json"
"""Beside the checkpoints: how many processes write them."""
SEAL_FILE = "complete.json"
"""In a checkpoint to resume from, written last: the sizes of its files, which are on the disk."""
FINISHED_FILE = "finished.json"
"""Beside a finished checkpoint, written last: what it was made of, and a digest of its files."""


@dataclass(frozen=True)
class TrainingResult:
    """What a finished training left behind; the same values are in ``summary.json``.

    Attributes:
        name: Name of the training in the recipe.
        loss: The loss's name in recipes.
        formula: The loss of a pair.
        normalisation: ``summed`` or ``averaged`` log-probabilities over the tokens of a completion.
        beta: As trained; this and the further weights are None for losses without them.
        lambda_: As trained.
        margin: As trained.
        likelihood_weight: As trained.
        forward: How the model was asked: packed, padded or plain.
        steps: Optimiser steps taken.
        pairs: Pairs trained on.
        eval_pairs: Held-out pairs scored.
        dropped: Pairs left out when encoding, by reason (training and held-out together).
        truncated: Training pairs that were cut to ``max_length``.
        truncated_prompts: Those of which the prompt was cut.
        truncated_completions: Those of which a completion was cut.
        max_length: Limit in tokens that was applied.
        seed: Seed of the order of the pairs.
        dtype: Type of the saved weights.
        quantize: Weights of the base while its adapter was trained (``nf4``, ``int8``); None for those of ``dtype``.
        processes: Processes that trained together, each with batches of its own.
        base: Name of the base model.
        model_sha256: Digest of the base model's weights, as given.
        train_sha256: Digest of the pair file.
        seconds: Time spent training, interruptions not counted.
        final: Last means over held-out pairs, or over the last training steps where none are held out.
        diagnostics: The last row of ``diagnostics.jsonl``; None where no pairs are held out.
        warnings: What a reader of the numbers should know.
    """

    name: str
    loss: str
    formula: str
    normalisation: str
    beta: float | None
    lambda_: float | None
    margin: float | None
    likelihood_weight: float | None
    steps: int
    pairs: int
    eval_pairs: int
    forward: str
    dropped: dict[str, int]
    truncated: int
    truncated_prompts: int
    truncated_completions: int
    max_length: int
    seed: int
    dtype: str
    quantize: str | None
    processes: int
    base: str
    model_sha256: str
    train_sha256: str
    seconds: float
    final: dict[str, float]
    diagnostics: dict[str, Any] | None
    warnings: list[str]

    def summary(self) -> dict[str, Any]:
        """The result as JSON, with ``lambda`` under its own name."""
        return {name.rstrip("_"): value for name, value in asdict(self).items()}


def newest_checkpoint(folder: Path, *, remove_incomplete: bool = False) -> Path | None:
    """The checkpoint with the highest step that was written completely.

    Args:
        folder: Where the trainer keeps its ``checkpoint-*`` folders.
        remove_incomplete: Whether to remove what a crash left half written.
    """
    complete: dict[int, Path] = {}
    for checkpoint in folder.glob("checkpoint-*"):
        step = checkpoint_step(checkpoint)
        if step is not None:
            complete[step] = checkpoint
        elif remove_incomplete:
            shutil.rmtree(checkpoint)
    return complete[max(complete)] if complete else None


class Sealing(TrainerCallback):
    """Seals every checkpoint once all processes have written theirs, and only then removes the older ones."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Do it."""
        wait_for_all()
        if state.is_world_process_zero:
            newest = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            seal(newest)
            for older in set(newest.parent.glob("checkpoint-*")) - {newest}:
                shutil.rmtree(older)


def seal(checkpoint: Path) -> None:
    """Bring a checkpoint to the disk, and write down what belongs to it.

    Raises:
        SmaugError: the disk refuses it.
    """
    sync_folder(checkpoint)
    sizes = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in _files(checkpoint)}
    write_json(checkpoint / SEAL_FILE, {"bytes": sizes})
    sync(checkpoint.parent)


def processes_of(folder: Path) -> int:
    """How many processes write the checkpoints of a folder."""
    note = folder / PROCESSES_FILE
    return int(read_json(note)["processes"]) if note.is_file() else 1


def checkpoint_step(checkpoint: Path) -> int | None:
    """The step of a complete checkpoint, whose files are those that were sealed; None for an incomplete one."""
    try:
        sizes = read_json(checkpoint / SEAL_FILE)["bytes"]
        if sizes != {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in _files(checkpoint)}:
            return None
        return int(json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))["global_step"])
    except (OSError, SmaugError, ValueError, KeyError, TypeError):
        return None


def mark_finished(out_dir: Path, identity: str) -> None:
    """Note that a training's results are all there.

    Args:
        out_dir: Holds ``checkpoint/`` and ``summary.json``.
        identity: Digest of all that decides them.
    """
    write_json(out_dir / FINISHED_FILE, {"identity": identity, "sha256": _results_sha256(out_dir)})


def finished_result(out_dir: Path, identity: str) -> TrainingResult | None:
    """The result of a training that was finished before; None where it was not, or its files are not what they were."""
    if not (out_dir / FINISHED_FILE).is_file():
        return None
    try:
        if read_json(out_dir / FINISHED_FILE) != {"identity": identity, "sha256": _results_sha256(out_dir)}:
            return None
        summary = read_json(out_dir / "summary.json")
        return TrainingResult(**{"lambda_" if name == "lambda" else name: value for name, value in summary.items()})
    except (OSError, SmaugError, TypeError):
        return None


def _results_sha256(out_dir: Path) -> str:
    folders = [folder for name in ("checkpoint", "adapter") for folder in (out_dir / name).rglob("*")]
    return sha256_of_files([file for file in (*folders, out_dir / "summary.json") if file.is_file()], out_dir)


def _files(checkpoint: Path) -> list[Path]:
    return [path for path in checkpoint.rglob("*") if path.is_file() and path.name != SEAL_FILE]


def save_result(
    policy: PreTrainedModel | peft.PeftModel,
    weights: Mapping[str, Tensor],
    tokenizer: PreTrainedTokenizerBase,
    base_config: PreTrainedConfig,
    model_path: Path,
    out_dir: Path,
    result: TrainingResult,
    *,
    trust_remote_code: bool = False,
) -> None:
    """Write ``checkpoint/``, a model that loads by itself, and for LoRA ``adapter/``; each is complete or absent.

    The adapter is merged into the base model as it was given, read again from ``model_path``: the trained base may be
    quantised or lie on other devices.

    Args:
        policy: The trained model, which may be sharded.
        weights: All its weights, as :meth:`trainers.trainer.PreferenceTrainer.full_weights` gives them.
        tokenizer: Saved beside the weights, with its chat template.
        base_config: The base model's configuration, which the checkpoint keeps.
        model_path: Folder of the base model.
        out_dir: Where the folders go.
        result: What the model card states.
        trust_remote_code: Whether Python code that came with the base model may run.
    """
    dtype = DTYPES[result.dtype]
    if isinstance(policy, peft.PeftModel):
        with replacing(out_dir / "adapter") as folder:
            policy.save_pretrained(folder, state_dict=dict(weights))
            tokenizer.save_pretrained(folder)
            write_text(folder / "README.md", _model_card(result, adapter=True))
        base, _ = load_model(model_path, dtype=result.dtype, keep_dtype=True, trust_remote_code=trust_remote_code)
        model = merged(base, out_dir / "adapter")
    else:
        model = _standalone(base_config, weights, dtype)
    save_model(model, tokenizer, model_path, out_dir / "checkpoint", _model_card(result, adapter=False))


def save_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, model_path: Path, folder: Path, card: str
) -> None:
    """Write a checkpoint: weights, configuration, tokenizer, generation settings of the base, model card."""
    with replacing(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        (partial / "generation_config.json").unlink(missing_ok=True)
        if (model_path / "generation_config.json").is_file():
            shutil.copyfile(model_path / "generation_config.json", partial / "generation_config.json")
        write_text(partial / "README.md", card)


def _standalone(config: PreTrainedConfig, weights: Mapping[str, Tensor], dtype: torch.dtype) -> PreTrainedModel:
    """A model of its own with copies of some weights on the CPU."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    cast = {name: value.to("cpu", dtype if value.is_floating_point() else None) for name, value in weights.items()}
    model.load_state_dict(cast, assign=True, strict=False)
    model.tie_weights()
    if missing := [name for name, weight in model.named_parameters() if weight.is_meta]:
        raise RuntimeError(f"weights were not gathered: {', '.join(missing)}")
    # The base model's own settings are copied; inconsistent ones would make the save fail.
    model.generation_config = GenerationConfig()
    return model


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder to fill; it takes the place of ``folder`` once it is complete."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    sync_folder(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
    sync(folder.parent)


def _model_card(result: TrainingResult, *, adapter: bool) -> str:
    facts: Mapping[str, object] = {
        "loss": f"{result.loss}: `{result.formula}`",
        **{name: value for name in LOSS_WEIGHTS if (value := result.summary()[name]) is not None},
        "log-probabilities": f"{result.normalisation} over the tokens of a completion",
        "steps": result.steps,
        "pairs": result.pairs,
        "seed": result.seed,
        "base model": f"{result.base}, SHA-256 of the weights `{result.model_sha256}`",
        "pairs (SHA-256 of the file)": f"`{result.train_sha256}`",
        "weights": result.dtype,
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
    return model_card(result.name, text, facts, library="peft" if adapter else "transformers", tags=(result.loss,))


def model_card(
    title: str, text: str, facts: Mapping[str, object], *, library: str = "transformers", tags: Sequence[str] = ()
) -> str:
    """A model card in Markdown: a sentence, and a table of facts."""
    lines = [
        "---",
        f"library_name: {library}",
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
    """Versions of the libraries that decide a checkpoint, for its model card."""
    return {f"{name} version": metadata.version(name) for name in ("smaug-eval", "torch", "transformers", "peft")}
