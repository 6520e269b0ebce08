"""Write the pages of docs/reference that list what the code declares: recipe keys, command line, Python functions.

    python -m benchmarks.reference_pages [--out docs/reference]

The keys come from the classes that read a recipe, the command line from typer, the functions from
``smaug_eval.__all__``. ``tests/test_reference.py`` fails where a committed page is not what this writes.
"""

from __future__ import annotations

import argparse
import inspect
import re
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.cli import get_docs_for_click
from typer.main import get_command

import smaug_eval
from smaug_eval.common.files import write_text
from smaug_eval.leaderboard.registry import suite_names
from smaug_eval.mt_bench.config import JudgeConfig, MtBenchConfig
from smaug_eval.runs import recipe, recipe_entries
from smaug_eval.trainers.config import LaunchConfig, LoraConfig, TrainingConfig
from smaug_eval.trainers.pairs.config import SOURCES, ChesKeys, MixturePairs
from smaug_eval.trainers.study import Arm, Study
from smaug_eval.trainers.study_names import Questions
from smaug_eval.trainers.training_keys import CheckpointEvaluations

WRITTEN = "<!-- Written by `python -m benchmarks.reference_pages`; do not edit. -->"

SECTIONS: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("The recipe", recipe.Recipe, ""),
    ("`model` and each of `models`", recipe_entries.ModelSpec, "model"),
    *((f"`pairs.<name>` with `source: {name}`", source.config, "pairs.<name>") for name, source in SOURCES.items()),
    ("`pairs.<name>` with `source: mixture`", MixturePairs, "pairs.<name>"),
    ("`trainings.<name>`", TrainingConfig, "trainings.<name>"),
    ("`pairs.<name>.ches`", ChesKeys, "pairs.<name>.ches"),
    ("`trainings.<name>.evaluate`", CheckpointEvaluations, "trainings.<name>.evaluate"),
    ("`trainings.<name>.lora`", LoraConfig, "trainings.<name>.lora"),
    ("`trainings.<name>.launch`", LaunchConfig, "trainings.<name>.launch"),
    ("`study`", Study, "study"),
    ("`study.arms.<name>`", Arm, "study.arms.<name>"),
    ("`study.questions`", Questions, "study.questions"),
    ("`evaluations.<name>`", recipe_entries.EvaluationConfig, "evaluations.<name>"),
    ("`evaluations.<name>.thinking`", recipe_entries.ThinkingConfig, "evaluations.<name>.thinking"),
    ("`evaluations.<name>.sampling`", recipe_entries.SamplingConfig, "evaluations.<name>.sampling"),
    ("`mt_bench.<name>`", MtBenchConfig, "mt_bench.<name>"),
    ("`mt_bench.<name>.judge`", JudgeConfig, "mt_bench.<name>.judge"),
    ("`report`", recipe.ReportConfig, "report"),
)
"""Every part of a recipe: its heading, the class that reads it, and where it is."""

RECIPE_HEAD = f"""{WRITTEN}
# Recipe keys

A recipe is a YAML file that `smaug-eval run RECIPE` executes. Unknown keys are refused, with the nearest known one.
`--set KEY=VALUE` overrides a key: `--set trainings.dpop.beta=0.1`. Relative paths are relative to the recipe; those of
`--set` are relative to the current directory. The recipes in [recipes/](../../recipes/demo.yaml) are complete examples.
"""
CLI_HEAD = f"""{WRITTEN}
# Command line

Exit codes of every command:

| code | meaning |
|---|---|
| 0 | done |
| 1 | an unexpected error; with `--strict`, unreadable results |
| 2 | input or settings to correct; the message says what to do |
| 3 | interrupted; the same command resumes |
| 4 | a gate failed |
| 5 | incomplete: judgments are missing, and the same command asks for them; of a gate: the results cannot tell |
"""
PYTHON_HEAD = f"""{WRITTEN}
# Python

Every verb of the command line is a function of the package: call `smaug_eval.run`, `smaug_eval.evaluate` and so on. A
function raises `SmaugError` for what you can correct, with the correction in `fix`. It raises `Interrupted` when it was
stopped; the same call then resumes.

| function | what it does |
|---|---|
"""
CLASSES = (
    "smaug_eval.runs.pipeline.RunResult",
    "smaug_eval.common.errors.SmaugError",
    "smaug_eval.common.errors.Interrupted",
    "smaug_eval.trainers.preference_trainer.PreferenceTrainer",
    "smaug_eval.trainers.preference_config.PreferenceConfig",
)


def recipe_page() -> str:
    """Return the page of all keys of a recipe, in Markdown."""
    lines = [RECIPE_HEAD]
    for title, config, place in SECTIONS:
        lines += [f"## {title}", "", *_about(config), *_key_table(config, place), ""]
    suites = ", ".join(f"`{name}`" for name in suite_names())
    return "\n".join([*lines, f"Suites of an evaluation: {suites}.", ""])


def _about(config: type[BaseModel]) -> list[str]:
    text = _first_line(config)
    text += " All keys of a training but `pairs` and `seed` are keys of an arm, too." if config is Arm else ""
    return [_cell(text), ""] if text else []


def _first_line(described: Any) -> str:
    """Return the first line of a docstring, with its markup as Markdown."""
    text = (inspect.getdoc(described) or "").partition("\n")[0]
    return re.sub(r"(?::\w+:)?`+~?([^`]+)`+", r"`\1`", text)


def _key_table(config: type[BaseModel], place: str) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in config.model_fields.items():
        if config is Arm and name in TrainingConfig.model_fields:
            continue  # the keys of a training, which have a section of their own
        key = field.alias or name
        yield f"| `{key}` | {_cell(_kind(field))} | {_cell(_default(field))} | {_cell(field.description or '')} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined or isinstance(value, BaseModel):
        return ""
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _kind(field: FieldInfo) -> str:
    kinds = list(dict.fromkeys(_names(field.annotation)))
    return " or ".join(kinds)


def _names(kind: Any) -> Iterator[str]:
    """Yield the names of a type for a user who writes YAML."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    simple = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path"}
    if kind in (None, type(None)):
        return
    if kind in simple:
        yield simple[kind]
    elif origin is typing.Annotated:
        yield from _names(inner[0])
    elif origin is typing.Literal:
        yield ", ".join(f"`{_plain(value)}`" for value in inner)
    elif origin in (typing.Union, types.UnionType):
        for part in inner:
            yield from _names(part)
    elif origin in (list, tuple):
        parts = list(dict.fromkeys(name for part in inner if part is not Ellipsis for name in _names(part)))
        yield f"list of {' or '.join(parts)}"
    else:
        yield "mapping"


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|").replace("<name>", "\\<name\\>")


def cli_page() -> str:
    """Return the page of all commands, in Markdown."""
    command = get_command(smaug_eval_app())
    context = typer.Context(command, info_name="smaug-eval")
    text = get_docs_for_click(obj=command, ctx=context, name="smaug-eval", indent=1, title="smaug-eval")
    for name, verb in _verbs(command):  # typer cuts the help of a verb in the list of all
        whole = (verb.help or "").partition("\n")[0]
        text = text.replace(f"* `{name}`: {verb.get_short_help_str()}\n", f"* `{name}`: {whole}\n")
    return f"{CLI_HEAD}\n{text.strip()}\n".replace("```console", "```text")


def _verbs(command: Any) -> Iterator[tuple[str, Any]]:
    for name, verb in getattr(command, "commands", {}).items():
        yield name, verb
        yield from _verbs(verb)


def smaug_eval_app() -> typer.Typer:
    """Return the command line's application."""
    from smaug_eval.cli import app

    return app


def python_page() -> str:
    """Return the page of all public functions: a table, and a directive of mkdocstrings for each."""
    from smaug_eval import api

    rows, places = [], []
    for name in smaug_eval.__all__:
        function = getattr(api, name)
        rows.append(f"| `smaug_eval.{name}` | {_cell(_first_line(function))} |")
        places.append(f"{function.__module__}.{name}")
    described = "\n\n".join(f"::: {place}" for place in places)
    classes = "\n\n".join(f"::: {place}" for place in CLASSES)
    common = "\n".join((inspect.getdoc(api) or "").splitlines()[1:]).strip().split("\n\nEvery function")[0]
    return (
        f"{PYTHON_HEAD}" + "\n".join(rows) + f"\n\n{common.replace('``', '`')}\n\n## Functions\n\n{described}\n\n"
        f"## Classes and errors\n\n{classes}\n"
    )


PAGES = {"recipe.md": recipe_page, "cli.md": cli_page, "python.md": python_page}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/reference"))
    folder = parser.parse_args(arguments).out
    for name, page in PAGES.items():
        write_text(folder / name, page())


if __name__ == "__main__":
    main()
