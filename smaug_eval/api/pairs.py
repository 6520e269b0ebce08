"""Build and measure preference pairs, and look at what a training did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smaug_eval.api.entries import full_name, text_or_none
from smaug_eval.common.arguments import PathLike, name_list, path_text
from smaug_eval.common.console import Reporter, make_console
from smaug_eval.common.errors import SmaugError
from smaug_eval.models.checkpoint import Checkpoint, locate, locate_adapter
from smaug_eval.models.quantised import Use
from smaug_eval.runs.mt_bench import answer_mt_bench as answer_mt_bench
from smaug_eval.runs.mt_bench import judge_mt_bench as judge_mt_bench
from smaug_eval.runs.mt_bench import score_mt_bench as score_mt_bench
from smaug_eval.runs.pipeline import DEFAULT_RUNS
from smaug_eval.runs.recipe_file import parse_recipe

if TYPE_CHECKING:
    pass


def build_pairs(
    path: PathLike,
    out: PathLike,
    *,
    source: str = "rows",
    data_root: PathLike | None = None,
    tokenizer: PathLike | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Make or check a pair set and write ``train.jsonl``, ``eval.jsonl`` and ``stats.json``.

    Args:
        path: A file or data set.
        out: Folder to write to.
        source: ``rows``, ``metamath``, ``arc`` or ``hellaswag``.
        tokenizer: Folder, Hub id or ``embedded:demo-model`` of a tokenizer, to count tokens too.
        **settings: Further keys of the pair set, as in a recipe.

    Returns:
        The statistics that ``stats.json`` holds.

    Raises:
        SmaugError: a setting or a row is wrong.
    """
    from smaug_eval.trainers.pairs.build import build_pairs as build

    if source == "mixture":
        raise SmaugError("a mixture draws from other pair sets", fix="describe it in a recipe, beside its sets")
    recipe = {
        "name": "pairs",
        "model": "embedded:demo-model",
        "pairs": {"pairs": {"source": source, "path": path_text(path, "path"), **settings}},
    }
    config = parse_recipe(recipe).pairs["pairs"]
    stats = build(
        config, data_root=Path(data_root) if data_root else None, out_dir=Path(out), tokenizer=text_or_none(tokenizer)
    )
    return stats.model_dump(mode="json")


def pair_stats(
    path: PathLike,
    *,
    tokenizer: PathLike | None = None,
    data_root: PathLike | None = None,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Measure ready-made pairs: lengths, prompt to completion, and how far chosen and rejected lie apart.

    Args:
        path: A pair file, a folder that ``build_pairs`` wrote, or a Hub data set.
        tokenizer: Folder, Hub id or ``embedded:demo-model`` of a tokenizer, to count tokens too.
        columns: Columns under other names, such as ``{"prompt": "instruction"}``: by the name here, that in the rows.

    Returns:
        The fields of :class:`smaug_eval.trainers.pairs.stats.PairFileStats` as plain data.

    Raises:
        SmaugError: the rows or the tokenizer cannot be read, or there is no pair to measure.
    """
    from smaug_eval.trainers.pairs.stats import pair_stats as measure

    stats = measure(
        path_text(path, "path"),
        tokenizer=text_or_none(tokenizer),
        data_root=Path(data_root) if data_root else None,
        config=config,
        split=split,
        revision=revision,
        columns=columns,
    )
    return stats.model_dump(mode="json")


def diagnose(
    model: PathLike,
    pairs: PathLike,
    *,
    reference: PathLike | None = None,
    limit: int | None = None,
    dtype: str = "auto",
    max_length: int = 1024,
    gradient_pairs: int = 8,
    seed: int = 42,
    data_root: PathLike | None = None,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    columns: Mapping[str, str] | None = None,
    model_revision: str | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Diagnose how a model scores preference pairs: before, at and after the edit, by edit distance, CHES, gradients.

    Args:
        pairs: A pair file, a folder that ``build_pairs`` wrote (its held-out pairs, if it has any), or a Hub data set.
        reference: The model before training, to see what the training changed.
        limit: First pairs to look at; all if None.
        max_length: Tokens of prompt and completion together.
        gradient_pairs: Pairs of which the gradients of chosen and rejected are compared; 0 for none.
        seed: Which pairs those are.
        columns: As of :func:`pair_stats`.

    Returns:
        Plain data, described at :func:`smaug_eval.trainers.diagnosis.diagnose_model`.

    Raises:
        SmaugError: a model or the pairs cannot be used.
    """
    from smaug_eval.trainers.diagnosis import DiagnosisSettings, check_models, diagnose_model, read_preferences
    from smaug_eval.trainers.launch import refuse_foreign_launch

    refuse_foreign_launch()
    source = full_name(model, model_revision)
    how = DiagnosisSettings(limit, dtype, max_length, gradient_pairs, seed)
    check_models(source, text_or_none(reference), how)
    read = read_preferences(
        path_text(pairs, "pairs"),
        data_root=Path(data_root) if data_root else None,
        config=config,
        split=split,
        revision=revision,
        columns=columns,
    )
    return diagnose_model(
        source,
        read,
        reference=text_or_none(reference),
        settings=how,
        reporter=reporter or Reporter(make_console(), quiet=True),
    )


def check_contamination(
    model: PathLike,
    *,
    reference: PathLike,
    tasks: str | Sequence[str] | None = None,
    suite: str = "open_llm_v1",
    limit: int | None = 100,
    dtype: str = "auto",
    model_revision: str | None = None,
    data_root: PathLike | None = None,
    runs: PathLike = DEFAULT_RUNS,
    reporter: Reporter | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Return the share of benchmark documents that a model finds more likely than what a reference model makes of them.

    What is computed lies in ``contamination`` of the runs directory; the same call continues an interrupted one.

    Args:
        reference: The reference model, in the same forms; published figures take ``huggyllama/llama-7b``.
        suite: ``open_llm_v1``, ``open_llm_v2`` or ``demo``.
        limit: Documents of each task; all if None.
        **settings: Further fields of :class:`smaug_eval.contamination.check.CheckSettings` (``batch_size=25``,
            ``engine_args={"parallelize": True}``).

    Returns:
        Plain data, described at :func:`smaug_eval.contamination.check.check_model`.

    Raises:
        SmaugError: a model, a task, a setting or the data cannot be used.
    """
    from smaug_eval.contamination.check import check_model, check_settings
    from smaug_eval.leaderboard.registry import find_suite

    return check_model(
        full_name(model, model_revision),
        path_text(reference, "reference"),
        suite=find_suite(suite),
        tasks=name_list(tasks, "tasks") or None,
        settings=check_settings({"limit": limit, "dtype": dtype, **settings}),
        data_root=Path(data_root) if data_root else None,
        journals=Path(runs) / "contamination",
        reporter=reporter or Reporter(make_console(), quiet=True),
    )


def check_pair_overlap(
    pairs: PathLike,
    *,
    tasks: str | Sequence[str] | None = None,
    suite: str = "open_llm_v1",
    data_root: PathLike | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Return which documents of the evaluated splits stand in training pairs, whole or in runs of words.

    Args:
        pairs: A pair file, a folder that ``build_pairs`` wrote, or a Hub data set.
        suite: ``open_llm_v1``, ``open_llm_v2`` or ``demo``.

    Returns:
        Plain data, described at :func:`smaug_eval.contamination.overlap.check_pairs`.

    Raises:
        SmaugError: the pairs, a task or its data cannot be used.
    """
    from smaug_eval.contamination.overlap import check_pairs
    from smaug_eval.leaderboard.registry import find_suite

    return check_pairs(
        path_text(pairs, "pairs"),
        suite=find_suite(suite),
        tasks=name_list(tasks, "tasks") or None,
        data_root=Path(data_root) if data_root else None,
        reporter=reporter or Reporter(make_console(), quiet=True),
    )


def merge(
    adapter: PathLike,
    out: PathLike,
    *,
    base: str | None = None,
    revision: str | None = None,
    dtype: str = "auto",
    reporter: Reporter | None = None,
) -> Path:
    """Merge a PEFT adapter into its base: a checkpoint that loads by itself, with tokenizer and model card.

    Args:
        adapter: Folder with ``adapter_config.json`` and ``adapter_model.safetensors``, ours or anybody's, or a Hub id.
        out: New folder for the checkpoint.
        base: Folder, Hub id or ``embedded:demo-model`` of the base; what the adapter names if None.
        revision: Branch, tag or commit of an adapter on the Hub.
        dtype: Type of the weights, ``auto`` for the base's own.
        reporter: Receives what rounding the weights lost.

    Returns:
        The folder.

    Raises:
        SmaugError: the adapter is pickled, damaged, or made for another base, the merged model is another than base and
            adapter, or ``out`` is in use.
    """
    from smaug_eval.trainers.merge import merge_adapter, named_base

    folder = locate_adapter(path_text(adapter, "adapter"), revision=revision)
    found = locate(base, uses=[Use.MERGE]) if base else _named_base(*named_base(folder))
    merge_adapter(
        folder,
        base_path=found.path,
        base_name=found.path.name if Path(found.source).exists() else found.source,
        base_sha256=found.sha256,
        dtype=found.dtype if dtype == "auto" else dtype,
        out_dir=Path(out),
        hub_id=found.hub_id,
        on_note=(reporter or Reporter(make_console(), quiet=True)).say,
    )
    return Path(out)


def _named_base(name: str, revision: str | None) -> Checkpoint:
    """The base model that an adapter names."""
    try:
        return locate(name, revision=None if Path(name).exists() else revision, uses=[Use.MERGE])
    except SmaugError as error:
        raise SmaugError(
            f"the base that the adapter names cannot be used: {error.message}", fix=f"name it with --base; {error.fix}"
        ) from error
