"""Read results: reports, gates, tables, and what leaves the house."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smaug_eval.common.arguments import PathLike, name_list, path_list, path_text
from smaug_eval.common.console import Reporter, make_console
from smaug_eval.runs.mt_bench import answer_mt_bench as answer_mt_bench
from smaug_eval.runs.mt_bench import judge_mt_bench as judge_mt_bench
from smaug_eval.runs.mt_bench import score_mt_bench as score_mt_bench

if TYPE_CHECKING:
    import pandas as pd

    from smaug_eval.gating import GateResult
    from smaug_eval.results.views import ModelViews
    from smaug_eval.sharing.publishing import Publication


def report(
    paths: PathLike | Sequence[PathLike],
    out: PathLike | None = None,
    *,
    title: str | None = None,
    baseline: str | None = None,
    format_: str = "html",
    archive: PathLike | None = None,
    metrics: Sequence[str] = (),
    strict: bool = False,
) -> Path:
    """Write one report over run directories, lm-eval results, training logs and FastChat's files.

    Args:
        paths: Run directories, folders of one training or its ``log.jsonl``, folders or files of lm-eval results,
            FastChat's judgments or answers, in any mix.
        out: The file to write; ``report.<format_>`` where None.
        title: Heading.
        baseline: The model that differences are taken against.
        format_: ``html``; ``md``, a summary for a pull request; ``json``, the numbers.
        archive: Rows of the archived leaderboard (CSV, CSV.gz), to rank models in.
        metrics: Metrics to stand for tasks of no suite, ``METRIC[,FILTER]`` or ``TASK=METRIC[,FILTER]``; each task's
            first one otherwise.
        strict: Raise, after the report is written, where a file that looks like results could not be read.

    Raises:
        SmaugError: nothing to report is found or can be read, or there is no such baseline, metric or format.
    """
    from smaug_eval.reports import build_report

    return build_report(
        path_list(paths, "paths"),
        Path(f"report.{format_}" if out is None else out),
        title=title,
        baseline=baseline,
        format_=format_,
        archive=None if archive is None else Path(archive),
        metrics=metrics,
        strict=strict,
    )


def gate(
    run: PathLike,
    baseline: PathLike | None = None,
    *,
    policy: PathLike | Mapping[str, Any] | None = None,
    models: str | Sequence[str] = (),
    baseline_model: str | None = None,
    metrics: Sequence[str] = (),
    junit: PathLike | None = None,
    summary: PathLike | None = None,
    out: PathLike | None = None,
) -> GateResult:
    """Return rule on a run for a pipeline: pass, fail or cannot tell; see :func:`smaug_eval.gating.gate.gate_run`.

    Args:
        run: What :func:`report` reads, with the models to judge.
        baseline: The path of another run or results, or a model of ``run``; its model "base" if None.
        policy: A YAML file or plain data; no average and no column worse if None.
        models: Those of ``run`` to judge; all but the baseline if empty.
        baseline_model: Which model, where the path ``baseline`` holds several.
        metrics: Metrics to stand for tasks of no suite, as of :func:`report`.
        junit: JUnit XML to write.
        summary: Markdown to append a summary to.
        out: JSON to write.

    Returns:
        The ruling: ``verdict``, ``exit_code`` (0 pass, 4 fail, 5 cannot tell), ``checks`` and ``as_dict()``.

    Raises:
        SmaugError: the policy is wrong, a path cannot be read, or a name is unknown.
    """
    from smaug_eval.gating import gate_run
    from smaug_eval.gating.formats import refuse_unwritable, write_gate

    files = [None if file is None else Path(path_text(file, "file")) for file in (junit, summary, out)]
    refuse_unwritable(*files)
    found = gate_run(
        Path(path_text(run, "run")),
        None if baseline is None else path_text(baseline, "baseline"),
        policy=policy if policy is None or isinstance(policy, Mapping) else Path(path_text(policy, "policy")),
        models=name_list(models, "models"),
        baseline_model=baseline_model,
        metrics=metrics,
    )
    write_gate(found, junit_file=files[0], summary=files[1], json_file=files[2])
    return found


def scores(
    paths: PathLike | Sequence[PathLike], *, baseline: str | None = None, metrics: Sequence[str] = ()
) -> pd.DataFrame:
    """Return the scores of runs and of anybody's results as a data frame; see :func:`smaug_eval.results.frame.scores`.

    Where there are judged answers only, it is :func:`judged_scores` in the same columns.
    """
    from smaug_eval.results import frame as tables

    given = path_list(paths, "paths")
    found = tables.scores(given, baseline=baseline, metrics=metrics)
    return tables.judged_scores(given, baseline=baseline) if found.empty else found


def judged_scores(paths: PathLike | Sequence[PathLike], *, baseline: str | None = None) -> pd.DataFrame:
    """Return judges' scores of runs and FastChat's files as a data frame.

    See :func:`smaug_eval.results.frame.judged_scores`.
    """
    from smaug_eval.results import frame as tables

    return tables.judged_scores(path_list(paths, "paths"), baseline=baseline)


def publish(
    run: PathLike,
    model: str,
    repo: str,
    *,
    private: bool = False,
    weights: str | None = None,
    license: str | None = None,
    base_model: str | None = None,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> Publication:
    """Send a trained model to the Hub: its checkpoint, a model card with the results, and the report.

    The token comes from the environment. Texts are sent without paths of this machine. What the repository has by the
    same SHA-256 is not sent, so the same call goes on after an interruption.

    Args:
        run: The run directory.
        model: A training of the run.
        repo: ``ORGANISATION/NAME``; made where it is not there.
        private: Make a new repository private.
        weights: ``merged`` or ``adapter``, of a LoRA training; what was evaluated if None.
        license: Its identifier on the Hub, such as ``apache-2.0``.
        base_model: The base's id on the Hub, where the run names it by a folder.
        dry_run: Find out what would be created and sent, and change nothing.

    Returns:
        The files, which of them the repository has, and the commit.

    Raises:
        SmaugError: the training is not finished, there is no token, or the Hub refuses.
    """
    from smaug_eval.common.hub_errors import is_offline
    from smaug_eval.sharing.publishing import prepare_publication, push

    found = prepare_publication(
        Path(run),
        model,
        repo,
        private=private,
        weights=weights,
        license_=license,
        base_model=base_model,
        ask_hub=not (dry_run and is_offline()),
    )
    voice = reporter or Reporter(make_console(), quiet=True)
    return found if dry_run else push(found, on_note=voice.say, bars=not voice.quiet)


def export(
    paths: PathLike | Sequence[PathLike],
    to: str,
    out: PathLike | None = None,
    *,
    organization: str = "unknown",
    relationship: str = "other",
    force: bool = False,
) -> list[Path]:
    """Export results in the format of other programs; return the files.

    Args:
        paths: Run directories, folders or files of lm-eval results.
        to: ``eee`` (Every Eval Ever, schema 0.3.0), ``lm-eval`` (its folders of results and samples) or ``csv``.
        out: A new folder, of ``csv`` a file; ``export-<to>`` or ``export.csv`` if None.
        organization: For ``eee``, the name of who measured.
        relationship: For ``eee``, of who measured to the model's developer: ``first_party``, ``third_party``,
            ``collaborative`` or ``other``.
        force: Write where there are files already.

    Raises:
        SmaugError: the format is unknown, nothing is there to export, or ``out`` is in use.
    """
    from smaug_eval.sharing.every_eval_ever import Evaluator
    from smaug_eval.sharing.exporting import export_results

    place = Path(out) if out is not None else Path("export.csv" if to == "csv" else f"export-{to}")
    evaluator = Evaluator(organization, relationship)
    return export_results(path_list(paths, "paths"), to, place, evaluator=evaluator, force=force)


def score_views(paths: PathLike | Sequence[PathLike]) -> list[ModelViews]:
    """Score runs, or anybody's lm-eval results, by the leaderboard's rules and by lm-eval 0.4.13's.

    See :func:`smaug_eval.results.views.score_views`.
    """
    from smaug_eval.results import views as model_views

    return model_views.score_views(path_list(paths, "paths"))
