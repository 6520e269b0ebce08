"""Support the verbs: read --set, report progress, print results, and name the key of a missing option."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from smaug_eval.common.errors import Incomplete, SmaugError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

    from smaug_eval.common.console import Reporter


def settings_of(
    given: list[str] | None, taken: Callable[..., Any] | Iterable[str], option: str = "--set"
) -> dict[str, Any]:
    """Read the ``KEY=VALUE`` values of an option.

    Args:
        given: The values as typed.
        taken: Keys that the command has an argument or option for; a function stands for its parameters.
        option: The option's name.

    Raises:
        SmaugError: a value cannot be read, or its key is one of ``taken``.
    """
    from smaug_eval.runs.recipe_file import parse_settings

    keys = inspect.signature(taken).parameters if callable(taken) else taken
    settings = parse_settings(given or [])
    refused = sorted(settings.keys() & set(keys))
    if refused:
        raise SmaugError(f"{option} {refused[0]}: the command has an argument for it", fix="give it there; see --help")
    return settings


def columns_of(given: list[str] | None) -> dict[str, str]:
    """Read the ``NAME=COLUMN`` values of ``--column``.

    Raises:
        SmaugError: a value has another form, or a name is given twice.
    """
    columns: dict[str, str] = {}
    for value in given or []:
        name, separator, column = value.partition("=")
        if not (name and separator and column):
            raise SmaugError(
                f"--column {value!r}: not of the form NAME=COLUMN", fix="for example --column prompt=instruction"
            )
        if name in columns:
            raise SmaugError(f"--column {name} is given twice", fix="give it once")
        columns[name] = column
    return columns


def command_line() -> str:
    """Return the command as the user typed it, for the manifest and for advice on how to resume."""
    return shlex.join(["smaug-eval", *sys.argv[1:]])


def typed_program() -> str:
    """Return the program as the user can type it: by its path where the shell does not find it by its name."""
    if shutil.which("smaug-eval"):
        return "smaug-eval"
    if Path(sys.argv[0]).name == "smaug-eval":
        return shlex.quote(sys.argv[0])
    return f"{shlex.quote(sys.executable)} -m smaug_eval"


def reporter(quiet: bool) -> Reporter:
    """Make what shows progress; with ``quiet``, downloads from the Hub draw no bar, either."""
    from smaug_eval.common.console import Reporter, make_console
    from smaug_eval.common.hub_download import draw_bars

    draw_bars(not quiet)
    return Reporter(make_console(), quiet=quiet)


def print_result(found: Any, as_json: bool, tables: Callable[[Any], Any] | None = None) -> None:
    """Print a result as JSON, or as the tables that a function makes of it."""
    if as_json or tables is None:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print_whole(tables(found))


def print_whole(renderable: Any, console: Console | None = None) -> None:
    """Print tables whose words stay whole: :func:`smaug_eval.cli.tables.whole.print_whole`."""
    from smaug_eval.cli.tables import whole

    whole.print_whole(renderable, console)


@contextlib.contextmanager
def shown_if_incomplete(show: Callable[[Any], None]) -> Iterator[None]:
    """Show what there is where something is missing, before the error."""
    try:
        yield
    except Incomplete as error:
        if error.result is not None:
            show(error.result)
        raise


def with_keys(**configs: str) -> type[TyperCommand]:
    """Make a command that answers an unknown option which is a recipe key with the way to set it.

    Args:
        configs: By option without its dashes (``set``, ``set_judge``), the class whose fields are the keys, as
            ``module:Class`` below :mod:`smaug_eval`.
    """

    class Command(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            try:
                return super().parse_args(ctx, args)
            except Exception as error:
                option = getattr(error, "option_name", None)  # that of the usage error, which typer does not export
                if isinstance(option, str):
                    error.message = f"{error.message}{_key_hint(option, configs)}"  # type: ignore[attr-defined]
                raise

    return Command


def _key_hint(option: str, configs: dict[str, str]) -> str:
    key = option.lstrip("-").replace("-", "_")
    for setting, place in configs.items():
        module, _, name = place.partition(":")
        config: type[BaseModel] = getattr(importlib.import_module(f"smaug_eval.{module}"), name)
        known = {field.alias or name for name, field in config.model_fields.items()}
        for candidate in (key, key.removeprefix("judge_")):
            if candidate in known:
                return f". It is a key of the recipe: --{setting.replace('_', '-')} {candidate}=VALUE"
    return ""
