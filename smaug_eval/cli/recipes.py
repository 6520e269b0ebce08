"""Define the verbs about recipes: init, schema."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from smaug_eval.cli import options
from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.losses import LOSSES

_NONE = "none"


def init(
    out: Annotated[Path, typer.Argument(metavar="[FILE]", help="The recipe to write.")] = Path("recipe.yaml"),
    model: Annotated[
        str | None, typer.Option("--model", help="Folder, Hub id (NAME@REVISION) or embedded:demo-model.")
    ] = None,
    pairs: Annotated[
        str | None, typer.Option("--pairs", help="Pair file or Hub data set to train on; none to train nothing.")
    ] = None,
    loss: Annotated[
        list[str] | None, typer.Option("--loss", help=f"One of {', '.join(LOSSES)}; repeated, a training for each.")
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option("--suite", help="open_llm_v1, open_llm_v2, lm_eval, ... or none; may be repeated."),
    ] = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="Task of suite lm_eval; may be repeated.")] = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", metavar="KIND[xN]", help="GPUs, such as H200x8; none for the CPU.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="What makes pairs of rows: rows, metamath, arc, hellaswag.")
    ] = None,
    data_root: options.DataRoot = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write a commented recipe; what is not given as an option is asked on a terminal."""
    asked = _Asking(sys.stdin.isatty() and sys.stderr.isatty())
    model = asked.text(model, "Model (folder or Hub id)", None)
    pairs = asked.text(pairs, "Pairs (file or Hub data set; none to train nothing)", _NONE)
    pairs = None if pairs == _NONE else pairs
    losses = asked.names(loss, "Losses", "dpop") if pairs else loss or ["dpop"]
    suites = [name for name in asked.names(suite, "Suites (none to score nothing)", "open_llm_v1") if name != _NONE]
    tasks = asked.names(task, "Tasks of lm-eval", None) if "lm_eval" in suites else task or []
    gpu = asked.text(gpu, "GPUs (such as H200x8; none for the CPU)", _gpus_here() if gpu is None else None)

    from smaug_eval import api

    if not model:
        raise SmaugError("there is no model", fix="name a folder, a Hub id or embedded:demo-model with --model")
    written = api.init(
        model,
        pairs,
        out=out,
        losses=losses,
        suites=suites,
        tasks=tasks,
        gpus=gpu,
        source=source,
        data_root=data_root,
        force=force,
    )
    print(written)
    print(f"next: smaug-eval run {out} --dry-run", file=sys.stderr)


class _Asking:
    """Ask for what was not given, on a terminal; elsewhere the answers are the defaults."""

    def __init__(self, can_ask: bool) -> None:
        self._can_ask = can_ask

    def text(self, given: str | None, question: str, default: str | None) -> Any:
        if given is not None or not self._can_ask:
            return default if given is None else given
        return typer.prompt(question, default=default, err=True).strip()

    def names(self, given: list[str] | None, question: str, default: str | None) -> list[str]:
        if given:
            return given
        answer = self.text(None, f"{question}, with commas between", default)
        return [part.strip() for part in (answer or "").split(",") if part.strip()]


def _gpus_here() -> str:
    """The GPUs of this machine as ``--gpu`` takes them, as far as it knows their kind."""
    from smaug_eval.planning.machines import gpus_here

    found = gpus_here()
    return _NONE if found is None else found.name


def schema(
    out: Annotated[
        Path | None, typer.Option("--out", dir_okay=False, help="Write it to this file instead of printing it.")
    ] = None,
) -> None:
    """Print the JSON Schema of a recipe, for editors; installed plug-ins are part of it."""
    from smaug_eval.common.files import write_text
    from smaug_eval.runs.recipe_schema import schema_text

    if out is None:
        print(schema_text(), end="")
    else:
        write_text(out, schema_text())
        print(out)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(init)
    app.command()(schema)
