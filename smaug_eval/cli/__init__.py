"""Run the command line: verbs without logic, each of which calls the function of its name in :mod:`smaug_eval.api`.

Heavy imports happen inside the verbs: ``--help`` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from smaug_eval._version import __version__
from smaug_eval.cli import gate, models, recipes, results, running, sharing
from smaug_eval.cli.mt_bench import mt_bench_app
from smaug_eval.cli.pairs import pairs_app
from smaug_eval.common.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, SmaugError
from smaug_eval.common.hub_errors import cause_of, chain, is_network_error
from smaug_eval.common.interrupts import exit_at_once
from smaug_eval.common.redaction import hide_keys_in_tracebacks
from smaug_eval.common.streams import fit_standard_streams, written_out

app = typer.Typer(
    name="smaug-eval",
    help="Train with DPO and DPO-Positive, evaluate on the Open LLM Leaderboard v1, and report what changed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit codes: 0 done, 1 nothing that was found can be read, 2 bad input, 3 interrupted (the same command "
    "continues), 4 a gate failed, 5 incomplete (the same command asks only for what is missing; of a gate: the results "
    "cannot tell).",
)
recipes.register(app)
running.register(app)
models.register(app)
results.register(app)
sharing.register(app)
gate.register(app)
app.add_typer(pairs_app, name="pairs")
app.add_typer(mt_bench_app, name="mt-bench")


def main() -> NoReturn:
    """Run the command line as this process: after Ctrl-C it ends at once, without taking libraries apart."""
    try:
        run_command()
    except SystemExit as ended:
        if ended.code == EXIT_INTERRUPTED:
            exit_at_once(EXIT_INTERRUPTED)
        raise


def run_command() -> NoReturn:
    """Run the command line; a problem the user can fix is one message, never a traceback.

    Raises:
        SystemExit: always, with the exit code.
    """
    hide_keys_in_tracebacks()
    fit_standard_streams()
    try:
        with written_out():
            app()
    except SmaugError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt as error:
        _end_interrupted(error)
    except SystemExit as ended:
        stopped = [error for error in chain(ended) if isinstance(error, KeyboardInterrupt)]
        if not stopped:
            raise
        _end_interrupted(stopped[-1])  # typer makes 130 of it
    except Exception as error:
        # The last net: a library asked for something by itself.
        if not is_network_error(error):
            raise
        cause = cause_of(error)
        print(f"error: {SmaugError(f'a request failed: {cause.text}', fix=cause.fix)}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    sys.exit(0)


def _end_interrupted(error: KeyboardInterrupt) -> NoReturn:
    print(f"interrupted {error}".rstrip(), file=sys.stderr)
    sys.exit(EXIT_INTERRUPTED)


def _version(value: bool) -> None:
    if value:
        print(f"smaug-eval {__version__}")
        raise typer.Exit


@app.callback()
def global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Read the options of every verb."""
