"""The command line as a new user meets it: help at once, and one-screen errors that name place and fix."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from smaug_eval import __version__
from smaug_eval.cli import run_command

RECIPE = """\
model: embedded:demo-model
pairs:
  made: {source: rows, path: rows.jsonl, holdout: 0}
trainings:
  dpop: {loss: dpop, steps: 1}
"""
GOOD = {"prompt": "1 + 1 =", "chosen": " 2", "rejected": " 3"}


Smaug = Callable[..., "subprocess.CompletedProcess[str]"]
Refused = Callable[..., str]


def in_a_process(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smaug_eval", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def smaug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Smaug:
    """The command line in this process, started in ``tmp_path``; keywords are added to the environment."""

    def invoke(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        command = ["smaug-eval", *map(str, arguments)]
        capfd.readouterr()
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            patch.setattr(sys, "argv", command)
            for name, value in environment.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                run_command()
        return subprocess.CompletedProcess(command, int(ended.value.code or 0), *capfd.readouterr())

    return invoke


@pytest.fixture
def refused(smaug: Smaug) -> Refused:
    """The same for a command that is refused; returns what is said."""
    return lambda *arguments: assert_refused(smaug(*arguments))


def assert_refused(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) < 24
    return result.stderr


def rows(folder: Path, *lines: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    (folder / "recipe.yaml").write_text(RECIPE)
    return path


def test_help_and_version_load_nothing_heavy(smaug: Smaug, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from smaug_eval.cli import app\n"
        "from typer.testing import CliRunner\n"
        "result = CliRunner().invoke(app, ['--help'])\n"
        "assert result.exit_code == 0 and 'demo' in result.output, result.output\n"
        "heavy = {'torch', 'transformers', 'lm_eval', 'pandas', 'datasets', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, timeout=300)
    assert in_a_process("--version", cwd=tmp_path).stdout == f"smaug-eval {__version__}\n"


def test_the_demo_says_at_once_what_it_does_and_at_the_end_what_is_next(tmp_path: Path) -> None:
    """At once: before anything heavy is imported. Of the run itself only that it comes between the two."""
    script = (
        "import sys\n"
        "from smaug_eval.cli import running\n"
        "def run(*_):\n"
        "    assert not {'torch', 'transformers', 'pydantic'} & set(sys.modules)\n"
        "    print('the run', flush=True)\n"
        "running.run = run\n"
        "sys.argv[0] = 'own env/bin/smaug-eval'\n"
        "running.demo(None, 'elsewhere', dry_run='--dry-run' in sys.argv, quiet='--quiet' in sys.argv)\n"
    )

    def said(*options: str, path: str = "") -> str:
        command = [sys.executable, "-c", script, *options]
        return subprocess.run(
            command,
            check=True,
            cwd=tmp_path,
            timeout=300,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PATH": path},
        ).stdout

    before, after = said().split("the run\n")
    assert "about three minutes on two free CPU cores" in before
    assert "open elsewhere/demo/report.html in a browser" in after
    assert f"({(tmp_path / 'elsewhere/demo/report.html').as_uri()})" in after
    assert "  'own env/bin/smaug-eval' report elsewhere/demo --format md" in after
    assert "  'own env/bin/smaug-eval' train MODEL PAIRS.jsonl" in after
    (tmp_path / "smaug-eval").touch(mode=0o755)
    assert "  smaug-eval report elsewhere/demo --format md" in said(path=str(tmp_path))
    assert said("--dry-run") == said("--quiet") == "the run\n"


def test_help_of_no_verb_loads_anything_heavy(tmp_path: Path) -> None:
    """Of every verb and every verb below one; what is imported, not how long it takes."""
    script = (
        "import sys\n"
        "from smaug_eval.cli import app\n"
        "from typer.main import get_command\n"
        "from typer.testing import CliRunner\n"
        "def verbs(command, path=()):\n"
        "    yield path\n"
        "    for name, each in getattr(command, 'commands', {}).items():\n"
        "        yield from verbs(each, (*path, name))\n"
        "for path in verbs(get_command(app)):\n"
        "    assert CliRunner().invoke(app, [*path, '--help']).exit_code == 0, path\n"
        "    heavy = {'torch', 'transformers', 'lm_eval', 'pandas', 'matplotlib', 'datasets', 'jinja2'}\n"
        "    heavy &= set(sys.modules)\n"
        "    assert not heavy, (path, heavy)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, timeout=300)


def test_what_needs_no_model_is_there_without_loading_what_runs_one() -> None:
    code = (
        "import sys, smaug_eval.api, smaug_eval.reports\n"
        "heavy = {'torch', 'transformers', 'lm_eval', 'vllm', 'ray'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


VERBS_WITHOUT_A_PAGE = [
    (["scores", "results"], 0),
    (["scores", "empty"], 1),
    (["leaderboard"], 0),
    (["reproduce", "--results", "results"], 0),
    (["report", "results", "--format", "json", "--out", "report.json"], 0),
]
"""And their exit codes; the one that may load more is the last."""


def test_numbers_are_read_without_charts_models_and_recipes(tmp_path: Path) -> None:
    """What is imported, not how long it takes: half a second each for matplotlib and pandas, several for torch."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "results").mkdir()
    document = {
        "results": {"winogrande": {"acc,none": 0.5, "acc_stderr,none": 0.1}},
        "n-shot": {"winogrande": 5},
        "config": {"model_args": "pretrained=openai-community/gpt2"},
    }
    (tmp_path / "results" / "results.json").write_text(json.dumps(document))
    script = (
        "import sys\n"
        "from smaug_eval.cli import app\n"
        "from typer.testing import CliRunner\n"
        f"for verb, code in {VERBS_WITHOUT_A_PAGE}:\n"
        "    result = CliRunner().invoke(app, verb)\n"
        "    heavy = {'matplotlib', 'pandas', 'scipy.optimize', 'torch', 'transformers', 'lm_eval', 'datasets',\n"
        "        'smaug_eval.api', 'smaug_eval.runs', 'smaug_eval.trainers.base_model'}\n"
        "    if verb[0] != 'report':\n"
        "        heavy |= {'smaug_eval.reports', 'jinja2', 'smaug_eval.trainers.config'}\n"
        "    assert result.exit_code == code, (verb, result.output)\n"
        "    assert not heavy & set(sys.modules), (verb, heavy & set(sys.modules))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], check=False, cwd=tmp_path, timeout=300, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr


def test_unknown_verb_and_option(refused: Refused, tmp_path: Path) -> None:
    assert "No such command 'evl'" in refused("evl")
    assert "No such option" in refused("run", "demo", "--sett", "x=1")


def test_missing_recipe(tmp_path: Path) -> None:
    told = assert_refused(in_a_process("run", "mine.yaml", cwd=tmp_path))
    assert "no recipe 'mine.yaml': no such file" in told


def test_recipe_with_a_typo(refused: Refused, tmp_path: Path) -> None:
    rows(tmp_path, GOOD)
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("steps: 1", "stepps: 1"))
    text = refused("run", "recipe.yaml")
    assert "recipe.yaml, line 5: trainings.dpop.stepps = 1: unknown key; did you mean 'steps'?" in text


def test_missing_model(refused: Refused, tmp_path: Path) -> None:
    rows(tmp_path, GOOD)
    text = refused("run", "recipe.yaml", "--set", "model.path=./nowhere")
    assert "nowhere': no such folder" in text
    assert "fix: give a folder with config.json" in text


def test_missing_pair_file(refused: Refused, tmp_path: Path) -> None:
    rows(tmp_path).unlink()
    assert "pairs.made.path" in refused("run", "recipe.yaml")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seventh", "expected"),
    [
        ('{"prompt": "x", "chosen": ', "line 7"),
        ({"prompt": "x", "chosen": " y"}, "rejected"),
        ({"prompt": "x", "chosen": " same", "rejected": " same"}, "line 7"),
    ],
    ids=["broken JSON", "missing column", "chosen equals rejected"],
)
def test_a_bad_line_7(refused: Refused, tmp_path: Path, seventh: object, expected: str) -> None:
    others = [{**GOOD, "prompt": f"{number} + 1 ="} for number in range(6)]
    rows(tmp_path, *others, seventh)
    text = refused("run", "recipe.yaml")
    assert "rows.jsonl" in text
    assert "line 7" in text
    assert expected in text
    assert "fix:" in text


def test_unknown_suite_and_task(refused: Refused, tmp_path: Path) -> None:
    assert "did you mean 'open_llm_v1'?" in refused("eval", "embedded:demo-model", "--suite", "open_lm_v1")
    text = refused("eval", "embedded:demo-model", "--suite", "demo", "--task", "arithmetics")
    assert "did you mean" in text
    assert "arithmetic" in text


def test_a_setting_that_has_its_own_option_is_refused(refused: Refused, tmp_path: Path) -> None:
    path = rows(tmp_path, GOOD)
    text = refused("train", "embedded:demo-model", path, "--set", "loss=dpo")
    assert "--set loss: the command has an argument for it" in text
    for verb in ("eval", "reproduce"):
        text = refused(verb, "embedded:demo-model", "--set", "engine=hf")
        assert "--set engine: the command has an argument for it" in text
    assert "--set limit:" in refused("eval", "embedded:demo-model", "--set", "limit=3")
    assert "--set out:" in refused("pairs", "build", path, "--out", "made", "--set", "out=x")


def test_unwritable_runs_directory(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    rows(tmp_path, GOOD)
    text = refused("run", "recipe.yaml", "--runs-dir", tmp_path / "file")
    assert "cannot write" in text
    assert "--runs-dir" in text


def test_report_on_nothing(refused: Refused, tmp_path: Path) -> None:
    assert "nowhere" in refused("report", "nowhere")


@pytest.mark.slow
def test_doctor_names_what_is_missing(smaug: Smaug, tmp_path: Path) -> None:
    result = smaug("doctor", HF_HUB_OFFLINE="1", COLUMNS="200")
    assert result.returncode == 0, result.stderr
    for topic in ("Python", "CPU", "GPU", "vLLM", "Hub", "Disk", "Demo"):
        assert topic in result.stdout
    assert "offline by HF_HUB_OFFLINE" in result.stdout


def test_pairs_build_prints_what_it_made(smaug: Smaug, tmp_path: Path) -> None:
    solutions = [
        {"question": f"Ann has {n} pens and buys 3. She halves them.", "answer": f"{n} + 3 = {n + 3}\n#### {n}"}
        for n in range(10, 30)
    ]
    path = rows(tmp_path, *solutions)
    result = smaug("pairs", "build", path, "--out", "made", "--set", "holdout=4", "--set", "shots=[0,1]")
    assert result.returncode == 0, result.stderr
    stats = json.loads(result.stdout)
    assert (stats["rows"], stats["train"], stats["eval"]) == (20, 16, 4)
    written = [json.loads(line) for line in (tmp_path / "made" / "train.jsonl").read_text().splitlines()]
    assert len(written) == 16
    assert all(row["chosen"] != row["rejected"] for row in written)


def test_pairs_stats_measures_ready_made_pairs(smaug: Smaug, refused: Refused, tmp_path: Path) -> None:
    path = rows(tmp_path, GOOD, GOOD, {"prompt": "5 + 5 =", "chosen": " ten", "rejected": " tens"})
    shown = smaug("pairs", "stats", path, COLUMNS="200")
    assert shown.returncode == 0, shown.stderr
    assert "rows.jsonl: 2 pairs of 3 rows (3 text)" in shown.stdout
    assert "left out: 1 duplicate" in shown.stdout
    assert "edit distance / longer" in shown.stdout
    # " 2" and " 3" differ in one of two characters, " ten" and " tens" in one of five.
    assert "35.0%" in shown.stdout
    stats = json.loads(smaug("pairs", "stats", path, "--json").stdout)
    assert stats["characters"]["edit_distance"] == {"mean": 0.35, "median": 0.35}
    assert stats["tokens"] is None
    assert "nowhere.jsonl does not exist" in refused("pairs", "stats", "nowhere.jsonl")
    assert "split has no meaning for the file" in refused("pairs", "stats", path, "--split", "x")


def test_pairs_build_has_no_mixtures(refused: Refused, tmp_path: Path) -> None:
    path = rows(tmp_path, GOOD)
    assert "describe it in a recipe" in refused("pairs", "build", path, "--out", "made", "--source", "mixture")


def test_what_the_train_verb_has_an_argument_for_is_not_set_twice(refused: Refused, tmp_path: Path) -> None:
    pairs = rows(tmp_path, GOOD)
    said = refused("train", "embedded:demo-model", pairs, "--set-pairs", "path=other.jsonl")
    assert "--set-pairs path: the command has an argument for it" in said
    said = refused("train", "embedded:demo-model", pairs, "--set", "loss=dpo")
    assert "--set loss: the command has an argument for it" in said


@pytest.mark.slow
def test_a_training_on_its_own_says_its_loss_and_ends_in_a_report(smaug: Smaug, tmp_path: Path) -> None:
    """No evaluation, so no scores: the report shows the training."""
    pairs = [
        {"prompt": f"{a} + {b} =", "chosen": f" {a + b}", "rejected": f" {a + b + 1}"} for a in (1, 2) for b in (3, 4)
    ]
    options = ("--set", "steps=2", "--set", "batch_size=2", "--set-pairs", "holdout=1", "--name", "alone")
    result = smaug("train", "embedded:demo-model", rows(tmp_path, *pairs), "--loss", "ipo", *options)
    assert result.returncode == 0, result.stderr
    said = result.stdout + result.stderr
    assert "(rho_w - rho_l - 1 / (2 * beta))^2, beta 0.1; log-probabilities summed over the tokens" in said
    assert "prefix-shared rows (SDPA)" in said
    run = tmp_path / "runs" / "alone"
    assert "alone" in (run / "report.html").read_text()
    assert (run / "train" / "ipo" / "checkpoint" / "model.safetensors").is_file()
    assert json.loads((run / "pairs" / "pairs" / "stats.json").read_text())["eval"] == 1
