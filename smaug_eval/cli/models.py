"""Define the verbs about one model or this machine: diagnose, contamination, merge, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from smaug_eval.cli import options
from smaug_eval.cli.verbs import columns_of, print_result, reporter, settings_of
from smaug_eval.common.errors import SmaugError


def diagnose(
    model: options.ModelArgument,
    pairs: options.BuiltPairsArgument,
    reference: Annotated[
        str | None,
        typer.Option("--reference", metavar="MODEL", help="The model before training, to see what changed."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="First pairs to look at.")] = None,
    max_length: Annotated[
        int, typer.Option("--max-length", min=2, help="Tokens of prompt and completion together.")
    ] = 1024,
    gradient_pairs: Annotated[
        int, typer.Option("--gradient-pairs", min=0, help="Pairs of which to compare the gradients; 0 for none.")
    ] = 8,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which pairs those are.")] = 42,
    dtype: options.Dtype = "auto",
    config: options.DataConfig = None,
    split: options.DataSplit = None,
    revision: options.DataRevision = None,
    columns: options.PairColumns = None,
    model_revision: options.OwnModelRevision = None,
    data_root: options.DataRoot = None,
    as_json: options.AsJson = False,
    out: Annotated[Path | None, typer.Option("--out", dir_okay=False, help="Write the JSON to this file, too.")] = None,
    quiet: options.Quiet = False,
) -> None:
    """Diagnose how a model scores preference pairs, and what a training changed."""
    from smaug_eval import api
    from smaug_eval.cli.tables.diagnosis import diagnosis_tables
    from smaug_eval.common.files import write_json

    with reporter(quiet) as progress:
        found = api.diagnose(
            model,
            pairs,
            reference=reference,
            limit=limit,
            dtype=dtype,
            max_length=max_length,
            gradient_pairs=gradient_pairs,
            seed=seed,
            data_root=data_root,
            config=config,
            split=split,
            revision=revision,
            columns=columns_of(columns),
            model_revision=model_revision,
            reporter=progress,
        )
    if out is not None:
        write_json(out, found)
    print_result(found, as_json, diagnosis_tables)


def contamination(
    model: Annotated[
        str | None,
        typer.Argument(help="Folder or Hub id of the model to examine; left out where only pairs are."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option("--reference", metavar="MODEL", help="The reference model, such as huggyllama/llama-7b."),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option("--pairs", metavar="PAIRS", help="Training pairs to search: file, built folder or Hub data set."),
    ] = None,
    task: options.Task = None,
    suite: options.Suite = "open_llm_v1",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Documents of each task to show the models.")] = 100,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="batch_size, seed, device or engine_args.<name>=<value>."),
    ] = None,
    dtype: options.Dtype = "auto",
    revision: options.ModelRevision = None,
    data_root: options.DataRoot = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Check whether a model, or training pairs, have seen a benchmark's documents."""
    from smaug_eval import api
    from smaug_eval.cli.tables.contamination import check_tables

    if (model is None) != (reference is None) or (model is None and pairs is None):
        raise SmaugError("what to check is missing", fix="give MODEL with --reference MODEL, or --pairs, or both")
    found: dict[str, Any] = {}
    with reporter(quiet) as progress:
        where: dict[str, Any] = {"tasks": task, "suite": suite, "data_root": data_root, "reporter": progress}
        if pairs is not None:
            found["pairs"] = api.check_pair_overlap(pairs, **where)
        if model is not None and reference is not None:
            settings = settings_of(overrides, api.check_contamination)
            found["model"] = api.check_contamination(
                model,
                reference=reference,
                limit=limit,
                dtype=dtype,
                model_revision=revision,
                runs=runs,
                **where,
                **settings,
            )
    print_result(found, as_json, check_tables)


def merge(
    adapter: Annotated[
        str,
        typer.Argument(help="PEFT adapter (adapter_config.json, safetensors): folder, Hub id or NAME@REVISION."),
    ],
    out: Annotated[Path, typer.Option("--out", help="New folder for the checkpoint.")],
    base: Annotated[
        str | None,
        typer.Option("--base", help="Folder or Hub id of the base model; what the adapter names if left out."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit of an adapter on the Hub.")
    ] = None,
    dtype: options.Dtype = "auto",
) -> None:
    """Merge an adapter into its base: a checkpoint that loads by itself."""
    from smaug_eval import api

    print(api.merge(adapter, out, base=base, revision=revision, dtype=dtype))


def doctor(runs: options.Runs = options.DEFAULT_RUNS) -> None:
    """Check what this machine can run, and what to install for the rest."""
    from smaug_eval import api
    from smaug_eval.cli.tables.doctor import doctor_table

    print_result(api.doctor(runs), as_json=False, tables=doctor_table)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(diagnose)
    app.command()(contamination)
    app.command()(merge)
    app.command()(doctor)
