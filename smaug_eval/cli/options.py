"""Define every option and argument that the command line takes, once; a verb's signature names them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_RUNS = Path("runs")

# What is read
ModelArgument = Annotated[
    str, typer.Argument(help="Folder or Hub id of the model; a commit, tag or branch of it is NAME@REVISION.")
]
ModelRevision = Annotated[
    str | None,
    typer.Option(
        "--revision", "--model-revision", help="Branch, tag or commit of the model on the Hub; or NAME@REVISION."
    ),
]
OwnModelRevision = Annotated[
    str | None, typer.Option("--model-revision", help="Branch, tag or commit of the model on the Hub.")
]
PairsArgument = Annotated[str, typer.Argument(help="Pair file (.jsonl, .jsonl.gz, .parquet) or Hub data set.")]
BuiltPairsArgument = Annotated[str, typer.Argument(help="Pair file, folder that pairs build wrote, or Hub data set.")]
RecipeArgument = Annotated[str, typer.Argument(help="A YAML file, or the name of a committed recipe.")]
ResultsArgument = Annotated[list[Path], typer.Argument(help="Run directories, folders or files of lm-eval results.")]
Archive = Annotated[
    Path | None,
    typer.Option("--archive", help="All rows of the archived leaderboard (CSV, CSV.gz), to find or rank models in."),
]
DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", envvar="SMAUG_DATA_ROOT", help="Offline mirror of the Hub's data sets."),
]
DataConfig = Annotated[str | None, typer.Option("--config", help="Configuration of the data set.")]
DataSplit = Annotated[str | None, typer.Option("--split", help="Split of the data set.")]
DataRevision = Annotated[str | None, typer.Option("--revision", help="Revision of the data set.")]
PairColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="NAME=COLUMN",
        help="A column under another name, such as prompt=instruction; may be repeated.",
    ),
]

Baseline = Annotated[str | None, typer.Option("--baseline", help="Model that differences are taken against.")]
Metric = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="[TASK=]METRIC[,FILTER]",
        help="Metric to stand for a task, or for all that have it; a task's first one otherwise. May be repeated.",
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Exit with 1 where a file that looks like results cannot be read.")
]

# How a model is loaded
Dtype = Annotated[str, typer.Option("--dtype", help="float32, bfloat16, float16, or auto for the checkpoint's own.")]
Engine = Annotated[str, typer.Option("--engine", help="auto, torch, vllm, hf, lm-eval-vllm or api.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that came with the model; read it before.")
]
Tokenizer = Annotated[
    str | None,
    typer.Option("--tokenizer", metavar="MODEL", help="Count its tokens too: folder, Hub id or embedded:demo-model."),
]

# What is scored
Suite = Annotated[
    str,
    typer.Option("--suite", help="open_llm_v1, open_llm_v2, lm_eval (any tasks of lm-eval), lm_eval_0413 or demo."),
]
Task = Annotated[
    list[str] | None,
    typer.Option("--task", help="Column of the suite, such as arc_challenge; of lm_eval any task; may be repeated."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="First documents of each task.")]
LimitOrShare = Annotated[
    float | None,
    typer.Option("--limit", min=0, help="First documents of each task, or the share of them if below 1."),
]

# Keys of a recipe
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key, such as trainings.dpop.beta=0.1."),
]
TrainingKeys = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A key of the training, such as beta=0.1 or lora.r=16."),
]
PairKeys = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A key of the pair set, such as shots=[0,2] or holdout=100."),
]
EvaluationKeys = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A key of the evaluation, such as batch_size=16."),
]
DialogueKeys = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A key of mt_bench in a recipe, such as max_new_tokens=512."),
]
JudgeKeys = Annotated[
    list[str] | None,
    typer.Option("--set-judge", metavar="KEY=VALUE", help="A key of the judge in a recipe, such as max_calls=500."),
]

# Where results go, and what is printed
Runs = Annotated[Path, typer.Option("--runs-dir", help="Where run directories are.")]
Name = Annotated[str | None, typer.Option("--name", help="Name of the run; made from the arguments if left out.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what there is to do; change nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and the result only.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Ray = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Work on a Ray cluster: HOST:PORT, or auto for this machine's."),
]

# MT-Bench
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
References = Annotated[
    str, typer.Option("--references", help="original, corrected, or the stem of a file of reference answers.")
]
ChatTemplate = Annotated[
    str, typer.Option("--chat-template", help="tokenizer for the model's own, plain, or one of FastChat's by name.")
]
AnswerEngine = Annotated[str, typer.Option("--engine", help="auto, torch, vllm, or api for a served model.")]
JudgeModel = Annotated[
    str | None, typer.Option("--judge-model", help="The judge's name at its endpoint, best a dated snapshot.")
]
BaseUrl = Annotated[
    str | None,
    typer.Option("--judge-base-url", help="Any OpenAI-compatible endpoint, up to /v1; OpenAI's if left out."),
]
KeyEnv = Annotated[
    str | None,
    typer.Option("--judge-key-env", help="Environment variable that holds the key; OPENAI_API_KEY if left out."),
]
FirstQuestions = Annotated[int | None, typer.Option("--limit", min=1, help="First questions of the set.")]
FirstTurns = Annotated[int | None, typer.Option("--turns", min=1, help="First turns of each question, such as 1.")]
ReferenceCategories = Annotated[
    str | None,
    typer.Option(
        "--reference-categories",
        metavar="NAMES",
        help="Categories judged with a reference answer, with commas between them, or none; FastChat's if left out.",
    ),
]
Thinking = Annotated[
    str | None,
    typer.Option("--thinking", help="strip or keep blocks such as <think>...</think> in answers; strip if left out."),
]
AllowMissing = Annotated[
    float | None,
    typer.Option(
        "--allow-missing", min=0.0, max=1.0, metavar="SHARE", help="Share of the judgments that may be missing."
    ),
]
