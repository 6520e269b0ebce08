"""The verbs of ``smaug-eval mt-bench``: short functions, no logic. Heavy imports happen inside the verbs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

mt_bench_app = typer.Typer(
    help="Let models answer MT-Bench, have a judge rate the answers, and score judgments.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

# typer reads these annotations at run time, on Python 3.10 too.
Model = Annotated[str, typer.Argument(help="Folder or Hub id of the model.")]
Questions = Annotated[
    str,
    typer.Option(
        "--mt-bench-dir",
        envvar="SMAUG_MT_BENCH_DIR",
        metavar="DIR",
        help="Folder with question.jsonl, judge_prompts.jsonl and reference_answer, or demo for the demo's dialogues; "
        "left out, MT-Bench is fetched once from its public home.",
    ),
]
Template = Annotated[
    str, typer.Option("--chat-template", help="tokenizer for the model's own, plain, or one of FastChat's by name.")
]
SystemPrompt = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--system-prompt", help="In the place of the template's own."),
]
Engine = Annotated[str, typer.Option("--engine", help="auto, torch or vllm.")]
Dtype = Annotated[str, typer.Option("--dtype", help="float32, bfloat16, float16, or auto for the checkpoint's own.")]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="KEY=VALUE", help="A key of mt_bench in a recipe, such as batch_size=16."),
]
References = Annotated[
    str, typer.Option("--references", help="original, corrected, or the stem of a file of reference answers.")
]
JudgeModel = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--judge-model", help="The judge's name at its endpoint, best a dated snapshot."),
]
BaseUrl = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--judge-base-url", help="Any OpenAI-compatible endpoint, up to /v1; OpenAI's if left out."),
]
KeyEnv = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--judge-key-env", help="Environment variable that holds the key; OPENAI_API_KEY if left out."),
]
Repeats = Annotated[int, typer.Option("--repeats", min=1, help="Times each judgment is asked for.")]
Concurrency = Annotated[int, typer.Option("--judge-concurrency", min=1, help="Most requests under way.")]
PerMinute = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--requests-per-minute", help="Most requests begun in a minute."),
]
MaxCalls = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--max-calls", min=1, help="Most requests, repeated ones included."),
]
MaxCost = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--max-cost", help="Most that judging may cost; needs --price-in and --price-out."),
]
PriceIn = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--price-in", help="Price of a million tokens that the judge reads."),
]
PriceOut = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--price-out", help="Price of a million tokens that the judge writes."),
]
JudgeOverrides = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set-judge", metavar="KEY=VALUE", help="A further key of the judge, such as timeout=60."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and the result only.")]
DEFAULT_FOLDER = Path("mt_bench")


@mt_bench_app.command()
def answer(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="Folder; receives model_answer/<model>.jsonl.")] = DEFAULT_FOLDER,
    model_id: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--model-id", help="Name of the model in files; made from the argument if left out."),
    ] = None,
    questions: Questions = "mt_bench",
    chat_template: Template = "tokenizer",
    system_prompt: SystemPrompt = None,
    engine: Engine = "auto",
    dtype: Dtype = "auto",
    seed: Annotated[int, typer.Option("--seed", min=0, help="From which each turn's seed is derived.")] = 42,
    overrides: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Let a model answer every question; the same command goes on where it stopped."""
    from smaug_eval import api

    taken = ("questions", "chat_template", "system_prompt", "engine", "seed", "judge", "models", "references")
    settings = _settings(overrides, "--set", taken)
    with _reporter(quiet) as reporter:
        file = api.answer_mt_bench(
            model,
            out,
            questions=questions,
            model_id=model_id,
            dtype=dtype,
            seed=seed,
            reporter=reporter,
            chat_template=chat_template,
            system_prompt=system_prompt,
            engine=engine,
            **settings,
        )
    print(f"answers: {file}")


@mt_bench_app.command()
def judge(
    answers: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Argument(help="Files of answers, ours or FastChat's, or folders with model_answer; mt_bench if none."),
    ] = None,
    model: JudgeModel = None,
    base_url: BaseUrl = None,
    key_env: KeyEnv = None,
    mode: Annotated[str, typer.Option("--mode", help="single, pairwise-baseline or pairwise-all.")] = "single",
    baseline: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--baseline", help="The model that the others are compared with."),
    ] = None,
    questions: Questions = "mt_bench",
    references: References = "original",
    repeats: Repeats = 1,
    concurrency: Concurrency = 8,
    requests_per_minute: PerMinute = None,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    price_in: PriceIn = None,
    price_out: PriceOut = None,
    overrides: JudgeOverrides = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="Folder; receives model_judgment. Left out, the folder of the answers."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what there is to do.")] = False,
    quiet: Quiet = False,
) -> None:
    """Have a judge rate answers, or compare them; the same command asks only for what is missing."""
    from rich.console import Console

    from smaug_eval import api
    from smaug_eval.mt_bench.records import read_judgments
    from smaug_eval.mt_bench.tables import score_tables

    settings = _judge_settings(
        overrides,
        questions,
        model=model,
        base_url=base_url,
        key_env=key_env,
        mode=mode,
        baseline=baseline,
        repeats=repeats,
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        max_calls=max_calls,
        max_cost=max_cost,
        price_in=price_in,
        price_out=price_out,
    )
    with _reporter(quiet) as reporter:
        result = api.judge_mt_bench(
            answers or [DEFAULT_FOLDER],
            out,
            questions=questions,
            references=references,
            dry_run=dry_run,
            reporter=reporter,
            **settings,
        )
    if result.summary is None:
        print(result.forecast)
        return
    for table in score_tables(read_judgments([result.file]), judge=result.judge, baseline=baseline):
        Console().print(table)
    print(f"judgments: {result.file}")


@mt_bench_app.command()
def score(
    files: Annotated[list[Path], typer.Argument(help="Files of judgments, ours or FastChat's, or folders of them.")],
    judge: Annotated[Optional[str], typer.Option("--judge", help="Whose judgments, where there are several's.")] = None,  # noqa: UP045
    baseline: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--baseline", help="Count only pairs with this model."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score judgments as FastChat's show_result does, with intervals, and what it leaves out counted."""
    import json

    from rich.console import Console

    from smaug_eval import api
    from smaug_eval.mt_bench.tables import score_tables
    from smaug_eval.mt_bench.verbs import load_judgments

    if as_json:
        print(json.dumps(api.score_mt_bench(files, judge=judge, baseline=baseline), indent=2, ensure_ascii=False))
        return
    judgments = load_judgments(files)
    for table in score_tables(judgments, judge=judge, baseline=baseline):
        Console().print(table)
    for note in judgments.notes:
        print(note)


@mt_bench_app.command("all")
def run_all(
    model: Model,
    judge_model: JudgeModel = None,
    base_url: BaseUrl = None,
    key_env: KeyEnv = None,
    questions: Questions = "mt_bench",
    references: References = "original",
    chat_template: Template = "tokenizer",
    system_prompt: SystemPrompt = None,
    engine: Engine = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that came with the model; read it before.")
    ] = False,
    repeats: Repeats = 1,
    concurrency: Concurrency = 8,
    requests_per_minute: PerMinute = None,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    price_in: PriceIn = None,
    price_out: PriceOut = None,
    overrides: Overrides = None,
    judge_overrides: JudgeOverrides = None,
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--name", help="Name of the run; made from the arguments if left out."),
    ] = None,
    runs: Annotated[Path, typer.Option("--runs-dir", help="Where run directories are.")] = Path("runs"),
    quiet: Quiet = False,
) -> None:
    """Answer, judge, score and report, in a run directory."""
    from rich.console import Console

    from smaug_eval import api
    from smaug_eval.mt_bench.tables import run_tables

    taken = (
        "questions",
        "references",
        "chat_template",
        "system_prompt",
        "engine",
        "judge",
        "models",
        "trust_remote_code",
    )
    settings = _settings(overrides, "--set", taken)
    judge_settings = _judge_settings(
        judge_overrides,
        questions,
        model=judge_model,
        base_url=base_url,
        key_env=key_env,
        repeats=repeats,
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        max_calls=max_calls,
        max_cost=max_cost,
        price_in=price_in,
        price_out=price_out,
    )
    with _reporter(quiet) as reporter:
        result = api.run_mt_bench(
            model,
            judge=judge_settings,
            questions=questions,
            name=name,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            runs=runs,
            reporter=reporter,
            command=shlex.join(["smaug-eval", *sys.argv[1:]]),
            references=references,
            chat_template=chat_template,
            system_prompt=system_prompt,
            engine=engine,
            **settings,
        )
    for table in run_tables(result.path):
        Console().print(table)
    print(f"report: {result.report}")


def _judge_settings(overrides: list[str] | None, questions: str, **options: Any) -> dict[str, Any]:
    """The judge's keys: the options given, and ``--set-judge``; the demo's questions need no judge to be named."""
    given = {key: value for key, value in options.items() if value is not None}
    settings = given | _settings(overrides, "--set-judge", options)
    return settings | {"demo": True} if questions == "demo" and "model" not in settings else settings


def _settings(overrides: list[str] | None, option: str, taken: Any) -> dict[str, Any]:
    """The ``--set`` values of a verb; those that it has an option of its own for are refused."""
    from smaug_eval.errors import SmaugError
    from smaug_eval.recipe import parse_settings

    settings = parse_settings(overrides or [])
    refused = sorted(settings.keys() & set(taken))
    if refused:
        raise SmaugError(f"{option} {refused[0]}: the command has an option for it", fix="give it there; see --help")
    return settings


def _reporter(quiet: bool) -> Any:
    from smaug_eval.console import Reporter, make_console

    return Reporter(make_console(), quiet=quiet)
