"""Write a first recipe, with comments, from a model, pairs, losses, suites and GPUs; a dry run accepts it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smaug_eval.common.embedded import PREFIX, recipes_folder
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import write_text
from smaug_eval.common.names import given_path, is_plain_name, is_there
from smaug_eval.common.suggest import nearest
from smaug_eval.leaderboard.lm_eval.settings import NAME as LM_EVAL
from smaug_eval.leaderboard.registry import suite_names
from smaug_eval.planning.commented import CommentedRecipe, Hint
from smaug_eval.planning.fitting import SHARDED, Fit, fit_to_cpu, fit_to_gpus
from smaug_eval.planning.machines import parse_machine
from smaug_eval.runs.recipe_file import load_recipe
from smaug_eval.runs.recipe_schema import SCHEMA_FILE, SCHEMA_LINE, SCHEMA_TITLE, schema_text
from smaug_eval.trainers import learning_rates
from smaug_eval.trainers.losses import contested_weights, find_loss, loss_name
from smaug_eval.trainers.pairs.config import SOURCES
from smaug_eval.trainers.pairs.files import is_local

CPU = "none"
"""In the place of GPUs: train and score on the CPU."""
_MADE_FROM = {
    "openai/gsm8k": "metamath",
    "meta-math/MetaMathQA": "metamath",
    "allenai/ai2_arc": "arc",
    "Rowan/hellaswag": "hellaswag",
    "embedded:demo-arithmetic": "metamath",
    "embedded:demo-facts": "arc",
}
"""Rows that are no pairs yet, and the source that makes pairs of them."""
_MAX_LENGTH = 1024


@dataclass(frozen=True)
class RecipeChoices:
    """Hold what a recipe is drafted from.

    Attributes:
        model: A folder, a Hub id (NAME@REVISION) or ``embedded:demo-model``.
        pairs: A pair file or Hub data set; None to train nothing.
        losses: Losses, each of a training of its own.
        suites: Benchmark suites.
        tasks: Tasks of suite ``lm_eval``.
        gpu: GPUs as :func:`~smaug_eval.planning.machines.parse_machine` takes them; ``none`` for the CPU.
        source: What makes pairs of the rows; found out where None.
        data_root: Offline mirror of the Hub's data sets.
    """

    model: str
    pairs: str | None
    losses: Sequence[str] = ("dpop",)
    suites: Sequence[str] = ("open_llm_v1",)
    tasks: Sequence[str] = ()
    gpu: str = CPU
    source: str | None = None
    data_root: str | None = None


def write_recipe(choices: RecipeChoices, out: Path, *, force: bool = False) -> Path:
    """Write a commented recipe, and beside it the schema that it names and a launch file where it needs one.

    Args:
        choices: What it is made of.
        out: The YAML file; the run is named by it.
        force: Whether files that are there are replaced.

    Raises:
        SmaugError: a choice is unknown or does not fit the others, a local model or pair file is not there, or a file
            is there already; nothing is written then.
    """
    if out.suffix not in (".yaml", ".yml") or not is_plain_name(out.stem):
        raise SmaugError(
            f"{out}: a recipe is a YAML file whose name names the run, and its folder",
            fix="call it NAME.yaml, with letters, digits, '.', '_' and '-' in NAME; its folder may have any name",
        )
    _check(choices)
    fit = _fit(choices, out.parent)
    recipe, notes = _recipe(choices, fit, out.parent)
    text = "\n".join([SCHEMA_LINE, *_head(choices, fit, out), CommentedRecipe(notes).text(recipe)])
    beside = [] if "config" not in fit.training.get("launch", {}) else [SHARDED]
    _check_free(out, beside, force=force)
    for name in beside:
        (out.parent / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(recipes_folder() / name, out.parent / name)
    write_text(out.with_name(SCHEMA_FILE), schema_text())
    write_text(out, text)
    try:
        load_recipe(out)
    except SmaugError as error:
        out.unlink()
        raise SmaugError(f"these choices make no recipe: {error.message}", fix=error.fix) from error
    return out


def _check(choices: RecipeChoices) -> None:
    """Refuse what no recipe can be made of."""
    for what, name in (("model", choices.model), ("pairs", choices.pairs)):
        missing = name is not None and name.startswith(("/", ".", "~")) and not is_there(given_path(name))
        if missing or (what == "pairs" and name and is_local(name) and "*" not in name and not is_there(Path(name))):
            raise SmaugError(f"{what}: there is no {name}", fix="give a file or folder that is there, or a Hub id")
    for suite in choices.suites:
        if suite not in suite_names():
            raise SmaugError(f"--suite {suite!r}: unknown{nearest(suite, suite_names())}")
    if bool(choices.tasks) != (LM_EVAL in choices.suites):
        raise SmaugError(
            f"suite {LM_EVAL} and tasks belong together",
            fix=f"give --suite {LM_EVAL} --task NAME; `smaug-eval tasks` lists what there is",
        )
    if choices.source is not None and choices.source not in SOURCES:
        raise SmaugError(f"--source {choices.source!r}: unknown{nearest(choices.source, SOURCES)}")
    if not choices.suites and choices.pairs is None:
        raise SmaugError("there is nothing to do", fix="give --pairs to train on, --suite to score on, or both")
    for loss in choices.losses:
        _own_loss(loss)


def _own_loss(loss: str) -> str:
    try:
        return loss_name(loss)
    except ValueError as error:
        raise SmaugError(f"--loss {loss!r}: {error}", fix="see docs/losses.md") from error


def _check_free(out: Path, beside: Sequence[str], *, force: bool) -> None:
    """Refuse to replace a recipe, and a schema or launch file that is not ours."""
    schema = out.with_name(SCHEMA_FILE)
    foreign = [schema] if schema.is_file() and SCHEMA_TITLE not in schema.read_text(encoding="utf-8")[:400] else []
    for name in beside:
        there = out.parent / name
        if there.is_file() and there.read_bytes() != (recipes_folder() / name).read_bytes():
            foreign.append(there)
    for path in [*([out] if out.exists() else []), *foreign]:
        if not force:
            raise SmaugError(f"{path} exists already", fix="give another name, or replace it with --force")


def _fit(choices: RecipeChoices, folder: Path) -> Fit:
    if choices.gpu.lower() in (CPU, "cpu"):
        return fit_to_cpu()
    machine = parse_machine(choices.gpu)
    pairs = None if choices.pairs is None else _pair_set(choices, None)
    keys = {"loss": _own_loss(choices.losses[0]) if choices.losses else "dpop", "max_length": _MAX_LENGTH}
    return fit_to_gpus(machine, choices.model, pairs, keys)


def _pair_set(choices: RecipeChoices, folder: Path | None) -> dict[str, Any]:
    source = choices.source or _MADE_FROM.get(str(choices.pairs), "rows")
    return {"source": source, "path": _place(str(choices.pairs), folder)}


def _place(name: str, folder: Path | None) -> str:
    """A path of this machine as a recipe in ``folder`` has it; an absolute one and a Hub id stay as they are."""
    if folder is None or name.startswith(("/", "~", PREFIX)) or not (is_there(Path(name)) or "*" in name):
        return name
    relative = os.path.relpath(name, folder)
    return relative if relative.startswith("..") else f"./{relative}"


def _head(choices: RecipeChoices, fit: Fit, out: Path) -> list[str]:
    gpu = choices.gpu if choices.gpu.lower() in (CPU, "cpu") else parse_machine(choices.gpu).name
    on = "the CPU" if gpu.lower() in (CPU, "cpu") else gpu
    lines = [
        f"# Drafted by smaug-eval init for {on}. What there is to do: smaug-eval run {out.name} --dry-run",
        *([] if on == "the CPU" else [f"# What it takes: smaug-eval plan {out.name} --gpu {gpu}"]),
        *(f"#   {note}" for note in fit.notes),
    ]
    return [*lines, ""]


def _recipe(choices: RecipeChoices, fit: Fit, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The recipe's keys in the order of its file, and comments in the place of the declarations' own."""
    notes: dict[str, str] = {}
    root = choices.data_root
    recipe: dict[str, Any] = {
        "description": f"{choices.model}: {_purpose(choices)}.",
        "seed": 42,
        "data_root": Hint("PATH/TO/MIRROR")
        if root is None
        else os.path.relpath(Path(root).resolve(), folder.resolve()),
        "model": {"path": _place(choices.model, folder), "dtype": fit.dtype},
    }
    if choices.pairs is not None:
        recipe["pairs"] = {"pairs": {**_pair_set(choices, folder), "limit": Hint(1000), "holdout": 64}}
        recipe["trainings"] = {}
        for loss in dict.fromkeys(map(_own_loss, choices.losses)):
            name = _training_name(loss)
            recipe["trainings"][name] = _training(loss, fit)
            entry = find_loss(loss)
            notes[f"trainings.{name}.loss"] = f"{entry.title}: {entry.formula}"
            for weight, defaults in contested_weights(loss).items():
                each = ", ".join(f"{value} of {term}" for term, value in defaults.items())
                notes[f"trainings.{name}.{weight}"] = f"Choose: all terms use this one, and their defaults are {each}."
    if choices.suites:
        recipe["evaluations"] = {suite: _evaluation(suite, choices, fit) for suite in dict.fromkeys(choices.suites)}
    return recipe, notes


def _purpose(choices: RecipeChoices) -> str:
    losses = ", ".join(map(_own_loss, choices.losses)) if choices.pairs is not None else ""
    trained = f"{losses} on {choices.pairs}" if losses else ""
    scored = f"scored on {', '.join(choices.suites)}" if choices.suites else ""
    return ", ".join(filter(None, (trained, scored)))


def _training_name(loss: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", loss).strip("-.")[:64]


def _training(loss: str, fit: Fit) -> dict[str, Any]:
    weights = {name: value for name, value in find_loss(loss).weights.items() if value is not None}
    return {
        "loss": loss,
        **weights,
        "learning_rate": learning_rates.default_rate(lora="lora" in fit.training),
        "epochs": 1,
        **fit.training,
        "max_length": _MAX_LENGTH,
        "eval_every": 50,
        "wandb_project": Hint("PROJECT"),
    }


def _evaluation(suite: str, choices: RecipeChoices, fit: Fit) -> dict[str, Any]:
    return {
        "suite": suite,
        "tasks": list(choices.tasks) if suite == LM_EVAL else Hint([]),
        "limit": Hint(50),
        "engine": fit.engine,
        **({"engine_args": fit.engine_args} if fit.engine_args else {}),
    }
