"""Define the verbs of ``smaug-eval mt-bench``: answer, judge, score, all. Heavy imports happen inside the verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from smaug_eval.cli import options
from smaug_eval.cli.verbs import command_line, print_result, reporter, settings_of, shown_if_incomplete, with_keys

mt_bench_app = typer.Typer(
    help="Let models answer MT-Bench, have a judge rate the answers, and score judgments.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
DEFAULT_FOLDER = Path("mt_bench")
DIALOGUES, JUDGE = "mt_bench.config:MtBenchConfig", "mt_bench.config:JudgeConfig"
NOT_OF_ANSWERS = ("judge", "models", "served", "references", "model", "out", "model_id", "dtype", "reporter")
"""Keys that mean nothing where a model only answers, and names that the command has an argument or option for."""


@mt_bench_app.command(cls=with_keys(set=DIALOGUES))
def answer(
    model: options.ModelArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder; receives model_answer/<model>.jsonl.")] = DEFAULT_FOLDER,
    model_id: Annotated[
        str | None,
        typer.Option("--model-id", help="Name of the model in files; made from the argument if left out."),
    ] = None,
    questions: options.Questions = "mt_bench",
    chat_template: options.ChatTemplate = "tokenizer",
    engine: options.AnswerEngine = "auto",
    dtype: options.Dtype = "auto",
    revision: options.ModelRevision = None,
    limit: options.FirstQuestions = None,
    turns: options.FirstTurns = None,
    thinking: options.Thinking = None,
    overrides: options.DialogueKeys = None,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
) -> None:
    """Generate a model's answers to every question; the same command resumes where it stopped."""
    from smaug_eval import api
    from smaug_eval.runs.mt_bench import forecast_answers

    given = {"questions": questions, "chat_template": chat_template, "engine": engine}
    given |= _given(limit=limit, turns=turns, thinking=thinking)
    settings = settings_of(overrides, (*given, *NOT_OF_ANSWERS))
    with reporter(quiet) as progress:
        found = (forecast_answers if dry_run else api.answer_mt_bench)(
            model,
            out,
            model_id=model_id,
            dtype=dtype,
            model_revision=revision,
            reporter=progress,
            **{**given, **settings},
        )
    print(found if dry_run else f"answers: {found}")


@mt_bench_app.command(cls=with_keys(set_judge=JUDGE))
def judge(
    answers: Annotated[
        list[Path] | None,
        typer.Argument(help="Files of answers, ours or FastChat's, or folders with model_answer; mt_bench if none."),
    ] = None,
    model: options.JudgeModel = None,
    base_url: options.BaseUrl = None,
    key_env: options.KeyEnv = None,
    mode: Annotated[str, typer.Option("--mode", help="single, pairwise-baseline or pairwise-all.")] = "single",
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="The model that the others are compared with.")
    ] = None,
    questions: options.Questions = "mt_bench",
    references: options.References = "original",
    overrides: options.JudgeKeys = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder; receives model_judgment. Left out, the folder of the answers."),
    ] = None,
    limit: options.FirstQuestions = None,
    turns: options.FirstTurns = None,
    reference_categories: options.ReferenceCategories = None,
    thinking: options.Thinking = None,
    allow_missing: options.AllowMissing = None,
    stop: Annotated[
        str | None,
        typer.Option("--stop", help="decided: judge questions in random order until models are shown to differ."),
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="With --stop: the model to compare with; the first one if empty.")
    ] = None,
    within: Annotated[
        float | None,
        typer.Option("--within", min=0, help="With --stop: stop, too, where a smaller difference is shown."),
    ] = None,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
) -> None:
    """Judge answers, or compare them, with a judge model; the same command requests only what is missing."""
    from smaug_eval import api
    from smaug_eval.cli.tables.mt_bench import print_judging

    settings = _judge_settings(
        overrides,
        questions,
        model=model,
        base_url=base_url,
        key_env=key_env,
        mode=mode,
        baseline=baseline,
        allow_missing=allow_missing,
    )
    shown = shown_if_incomplete(lambda found: print_judging(found, baseline))
    with shown, reporter(quiet) as progress:
        result = api.judge_mt_bench(
            answers or [DEFAULT_FOLDER],
            out,
            questions=questions,
            references=references,
            limit=limit,
            turns=turns,
            reference_categories=reference_categories,
            thinking=thinking,
            stop=stop,
            against=against,
            within=within,
            dry_run=dry_run,
            reporter=progress,
            **settings,
        )
    print_judging(result, baseline)


@mt_bench_app.command()
def score(
    files: Annotated[list[Path], typer.Argument(help="Files of judgments, ours or FastChat's, or folders of them.")],
    judge: Annotated[str | None, typer.Option("--judge", help="Whose judgments, where there are several's.")] = None,
    baseline: Annotated[str | None, typer.Option("--baseline", help="Count only pairs with this model.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Score judgments as FastChat's show_result does, with intervals, and what it leaves out counted."""
    from smaug_eval import api
    from smaug_eval.cli.tables.mt_bench import print_scores
    from smaug_eval.runs.mt_bench import load_judgments

    if as_json:
        print_result(api.score_mt_bench(files, judge=judge, baseline=baseline, details=True), as_json)
    else:
        print_scores(load_judgments(files), judge, baseline)


@mt_bench_app.command("all", cls=with_keys(set=DIALOGUES, set_judge=JUDGE))
def run_all(
    model: options.ModelArgument,
    judge_model: options.JudgeModel = None,
    base_url: options.BaseUrl = None,
    key_env: options.KeyEnv = None,
    questions: options.Questions = "mt_bench",
    references: options.References = "original",
    chat_template: options.ChatTemplate = "tokenizer",
    engine: options.AnswerEngine = "auto",
    dtype: options.Dtype = "auto",
    revision: options.ModelRevision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    limit: options.FirstQuestions = None,
    turns: options.FirstTurns = None,
    reference_categories: options.ReferenceCategories = None,
    thinking: options.Thinking = None,
    allow_missing: options.AllowMissing = None,
    overrides: options.DialogueKeys = None,
    judge_overrides: options.JudgeKeys = None,
    name: options.Name = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    quiet: options.Quiet = False,
) -> None:
    """Answer, judge, score and report, in a run directory."""
    from smaug_eval import api
    from smaug_eval.cli.tables.mt_bench import print_run_scores

    given = {
        "questions": questions,
        "references": references,
        "chat_template": chat_template,
        "engine": engine,
        "model_revision": revision,
        "trust_remote_code": trust_remote_code,
        **_given(limit=limit, turns=turns, reference_categories=reference_categories, thinking=thinking),
    }
    settings = settings_of(overrides, (*given, "judge", "models", "served"))
    judged = {"model": judge_model, "base_url": base_url, "key_env": key_env, "allow_missing": allow_missing}
    judge_settings = _judge_settings(judge_overrides, questions, **judged)
    with shown_if_incomplete(print_run_scores), reporter(quiet) as progress:
        result = api.run_mt_bench(
            model,
            judge=judge_settings,
            name=name,
            dtype=dtype,
            runs=runs,
            reporter=progress,
            command=command_line(),
            **{**given, **settings},
        )
    print_run_scores(result)


def _given(**options_of_verb: Any) -> dict[str, Any]:
    """Options that were given; the others are left to ``--set``."""
    return {key: value for key, value in options_of_verb.items() if value is not None}


def _judge_settings(overrides: list[str] | None, questions: str, **given: Any) -> dict[str, Any]:
    """Merge the judge's options with ``--set-judge``; the demo's questions need no judge to be named."""
    settings = _given(**given)
    settings |= settings_of(
        overrides, [key for key in given if key != "allow_missing" or key in settings], "--set-judge"
    )
    return settings | {"demo": True} if questions == "demo" and "model" not in settings else settings
