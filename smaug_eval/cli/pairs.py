"""Define the verbs that make and measure preference pairs: pairs build, pairs stats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smaug_eval.cli import options
from smaug_eval.cli.verbs import columns_of, print_result, settings_of, with_keys

pairs_app = typer.Typer(help="Make and check preference pairs.", no_args_is_help=True, rich_markup_mode=None)


@pairs_app.command(cls=with_keys(set="trainers.config:MetaMathPairs"))
def build(
    path: Annotated[str, typer.Argument(help="Rows to make pairs from, ready-made pairs, or a Hub data set.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for train.jsonl, eval.jsonl and stats.json.")],
    source: Annotated[
        str,
        typer.Option(
            "--source",
            help="metamath: falsify one intermediate result; arc, hellaswag: the correct choice against each wrong "
            "one; rows: check ready-made pairs.",
        ),
    ] = "metamath",
    overrides: options.PairKeys = None,
    tokenizer: options.Tokenizer = None,
    data_root: options.DataRoot = None,
) -> None:
    """Make preference pairs, or check ready-made ones, and print what they hold."""
    from smaug_eval import api

    settings = settings_of(overrides, api.build_pairs)
    found = api.build_pairs(path, out, source=source, data_root=data_root, tokenizer=tokenizer, **settings)
    print_result(found, as_json=True)


@pairs_app.command()
def stats(
    path: options.BuiltPairsArgument,
    tokenizer: options.Tokenizer = None,
    config: options.DataConfig = None,
    split: options.DataSplit = None,
    revision: options.DataRevision = None,
    columns: options.PairColumns = None,
    data_root: options.DataRoot = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure ready-made pairs: lengths, and how far chosen and rejected lie apart."""
    from smaug_eval import api
    from smaug_eval.cli.tables.pairs import pair_tables

    found = api.pair_stats(
        path,
        tokenizer=tokenizer,
        data_root=data_root,
        config=config,
        split=split,
        revision=revision,
        columns=columns_of(columns),
    )
    print_result(found, as_json, pair_tables)
