"""Every code block of README and docs is right: commands and keys exist, recipes load, and what is marked so is run."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from smaug_eval import api
from smaug_eval.api import running
from smaug_eval.api.entries import checked_recipe
from smaug_eval.cli import app
from smaug_eval.gating.policy import read_policy
from smaug_eval.runs.recipe import Recipe
from smaug_eval.runs.recipe_file import parse_recipe
from tests.blocks import (
    AT_THE_TOP,
    ROOT,
    SHELL,
    Block,
    all_blocks,
    blocks,
    navigation,
    pages,
    shell_commands,
    workflow_commands,
)

OTHERS = {"cat", "cd", "git", "ls"}
"""Programs whose arguments are not checked."""
RUN_VERBS = {"demo", "run", "train", "eval", "reproduce", "mt-bench all"}
"""Verbs that make a recipe, which is checked before the run would begin."""


class Checked(Exception):
    """What was to be checked is right; nothing further is done."""


# Shell -----------------------------------------------------------------------------------------------------------


def leaf(words: list[str]) -> tuple[Any, str, list[str]]:
    """Return a command of the command line, its name and the arguments for it.

    Raises:
        KeyError: there is no such verb.
    """
    command: Any = get_command(app)
    names: list[str] = []
    while getattr(command, "commands", None) and words and not words[0].startswith("-"):
        command = command.commands[words[0]]
        names.append(words[0])
        words = words[1:]
    return command, " ".join(names), words


def check_smaug_eval(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    command, name, arguments = leaf(words)
    command.make_context(name, list(arguments))  # raises for an unknown option, a wrong value, a missing argument
    if name not in RUN_VERBS or "--results" in arguments:
        return

    def stop(recipe: Any, *, overrides: Any = (), **others: Any) -> None:
        checked_recipe(recipe, overrides)
        raise Checked

    for module in (api, running):
        monkeypatch.setattr(module, "prepare", stop)
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, Checked), result.exception


def check_python(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert words[0] == "-m", words
    module, arguments = words[1], words[2:]
    if module == "pytest":
        assert all((ROOT / each).exists() for each in arguments if not each.startswith("-")), arguments
        return
    assert importlib.util.find_spec(module) is not None, module
    if module == "smaug_eval.engines":
        check_lm_eval(arguments, monkeypatch)
    elif module.startswith("benchmarks."):
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        parse = argparse.ArgumentParser.parse_args

        def parsed(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> Any:
            parse(self, args, namespace)
            raise Checked

        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
        with pytest.raises(Checked):
            runpy.run_module(module, run_name="__main__")


def check_lm_eval(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval._cli.harness import HarnessCLI

    monkeypatch.setattr(sys, "argv", ["lm_eval", *words])
    HarnessCLI().parse_args()


def check_accelerate(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.commands.launch import launch_command_parser

    assert words[0] == "launch"
    parsed = launch_command_parser().parse_args(words[1:])
    if parsed.module:
        assert importlib.util.find_spec(parsed.training_script) is not None


def check_make(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(words) <= targets, set(words) - targets


def check_pip(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    known = re.search(r"\[project\.optional-dependencies\](.*?)\n\[", (ROOT / "pyproject.toml").read_text(), re.DOTALL)
    extras = set(re.findall(r"^([\w-]+) = \[", known[1] if known else "", re.MULTILINE))
    for word in words:
        assert not word.startswith("smaug-eval"), f"{word}: the package is not on PyPI; install from the clone"
        named = re.fullmatch(r"\.\[([\w,-]+)\]", word)
        assert named is None or set(named[1].split(",")) <= extras, word


def check_sbatch(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert (ROOT / words[0]).is_file(), words[0]


PROGRAMS: dict[str, Callable[[list[str], pytest.MonkeyPatch], None]] = {
    "smaug-eval": check_smaug_eval,
    "python": check_python,
    "lm_eval": check_lm_eval,
    "accelerate": check_accelerate,
    "make": check_make,
    "pip": check_pip,
    "sbatch": check_sbatch,
}


def check_shell(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in shell_commands(text):
        program = words[0].removeprefix(".venv/bin/")
        assert program in PROGRAMS or program in OTHERS, f"{program}: a program that no test knows"
        if program in PROGRAMS:
            with monkeypatch.context() as patched:
                PROGRAMS[program](words[1:], patched)


def write_recipes(page: str, folder: Path) -> None:
    """Write the recipes that commands of a page may name: its own by their names, and ``recipe.yaml``."""
    (folder / "recipe.yaml").write_text((ROOT / "recipes/demo.yaml").read_text())
    for block in blocks(page):
        if block.language == "yaml" and (named := re.match(r"name: ([\w-]+)", block.text)):
            (folder / f"{named[1]}.yaml").write_text(block.text)


@pytest.mark.parametrize("block", all_blocks(*SHELL), ids=str)
def test_commands_and_their_options_exist(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_recipes(block.page, tmp_path)
    monkeypatch.chdir(tmp_path)
    check_shell(block.text, monkeypatch)


QUOTED = sorted(
    {
        (page, " ".join(span.split()))
        for page in pages()
        if page != "CHANGELOG.md"  # which names what was
        for span in re.findall(
            r"`([^`]+)`", re.sub(r"^ *```.*?^ *```", "", (ROOT / page).read_text(), flags=re.M | re.S)
        )
        if span.startswith(("smaug-eval ", "make ", "python -m "))
    }
)


@pytest.mark.parametrize(("page", "command"), QUOTED)
def test_commands_in_the_text_exist(page: str, command: str) -> None:
    """Verbs, options, targets and modules of commands in a sentence, whose arguments may be in capitals."""
    program, *words = command.split()
    if program == "make":
        check_make(words, pytest.MonkeyPatch())
    elif program == "python":
        assert importlib.util.find_spec(words[1]) is not None
    elif words[0].strip("[].") and not words[0].startswith(("-", "[", "COMMAND")):
        verb, _, arguments = leaf([word.rstrip(",.;:") for word in words])
        known = {option for parameter in verb.params for option in parameter.opts} | {"--help"}
        assert {each.partition("=")[0] for each in arguments if each.startswith("--")} <= known


@pytest.mark.parametrize("page", ["README.md", *(path for path in pages() if path.startswith("docs/guides/"))])
def test_options_in_the_text_are_those_of_some_command(page: str) -> None:
    def options(command: Any) -> set[str]:
        own = {option for parameter in command.params for option in parameter.opts}
        return own.union(*map(options, getattr(command, "commands", {}).values()))

    named = set(re.findall(r"`(--[\w-]+)", (ROOT / page).read_text()))
    assert named <= options(get_command(app))


# Recipes ---------------------------------------------------------------------------------------------------------


def completed(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of a recipe with the model and pair sets that it leaves out."""
    whole = {"name": "x", **part}
    if not {"model", "models"} & part.keys():
        whole["model"] = "embedded:demo-model"
    arms = part.get("study", {}).get("arms", {}).values()
    if (part.get("trainings") or arms) and "pairs" not in part:
        named = {each["pairs"] for each in part.get("trainings", {}).values() if "pairs" in each}
        named |= {name for arm in arms for name in arm["sets"]}
        whole["pairs"] = {name: {"source": "rows", "path": "x.jsonl"} for name in named or {"pairs"}}
    return whole


@pytest.mark.parametrize("block", all_blocks("yaml", "yml"), ids=str)
def test_recipes_load(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    found = yaml.safe_load(block.text)
    if "jobs" in found:
        check_shell(workflow_commands(found), monkeypatch)
        return
    if "requirements" in found:
        read_policy(found)
        return
    keys = {field.alias or name for name, field in Recipe.model_fields.items()}
    assert block.mark == "not run" or found.keys() <= keys, found.keys() - keys
    if block.mark != "not run":
        parse_recipe(completed(found), where=str(block))


@pytest.mark.parametrize("block", all_blocks("toml", "json"), ids=str)
def test_other_data_can_be_read(block: Block) -> None:
    if block.language == "json":
        json.loads(block.text)
    else:
        pytest.importorskip("tomllib").loads(block.text)


# Python ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", all_blocks("python", "py"), ids=str)
def test_python_compiles_and_what_it_imports_is_there(block: Block) -> None:
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert not [each.name for each in node.names if not hasattr(module, each.name)]
        for name in node.names if isinstance(node, ast.Import) else ():
            importlib.import_module(name.name)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "smaug_eval":
            assert hasattr(importlib.import_module("smaug_eval"), node.attr), node.attr


# Marks, and what is run --------------------------------------------------------------------------------------------


def test_every_block_is_run_or_says_why_not() -> None:
    """On README and the pages of the site; recipes and data are always loaded."""
    shown = {"README.md", "CONTRIBUTING.md", *(f"docs/{page}" for page in navigation())}
    found = [str(each) for each in all_blocks(*SHELL, "python", "py") if each.page in shown and not each.mark]
    assert found == []
    assert not [str(each) for each in all_blocks("", "markdown") if each.page in shown], "name the block's language"


RUN = sorted({block.page for block in all_blocks(*SHELL, "python") if block.mark == "run"})
SMALL = (
    *("pairs.arithmetic.limit=8", "pairs.arithmetic.holdout=4", "evaluations.demo.limit=2", "mt_bench={}"),
    *("evaluations.demo.tasks=[facts,endings]", "evaluations.demo.batch_size=8"),
    *(
        f"trainings.{name}.{key}"
        for name in ("dpo", "dpop")
        for key in ("steps=1", "batch_size=4", "gradient_cosine_pairs=0")
    ),
)
RUNNER = """
import contextlib, io, json, os, shutil, sys, traceback
from smaug_eval.cli import main
pages, results = json.load(open("pages.json")), {}
here = os.getcwd()
def command(words):
    sys.argv = words
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise RuntimeError(f"{words}: exit code {ended.code}") from None
for page, parts in pages.items():
    os.chdir(here)
    folder = page.replace("/", "_")
    if page != "demo":
        shutil.copytree("demo/runs", f"{folder}/runs")
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            for kind, part in parts:
                command(part) if kind == "shell" else exec(compile(part, page, "exec"), {})
        results[page] = ""
    except BaseException:
        results[page] = traceback.format_exc()[-4000:] + said.getvalue()[-2000:]
os.chdir(here)
json.dump(results, open("results.json", "w"))
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the blocks of every page that are marked so, each page in a folder with a small run of the demo.

    All in one process, since importing torch takes longer than most blocks.
    """
    folder = tmp_path_factory.mktemp("blocks")
    todo: dict[str, list[tuple[str, Any]]] = {
        "demo": [("shell", ["smaug-eval", "demo", "--quiet", *(part for each in SMALL for part in ("--set", each))])]
    }
    for page in RUN:
        todo[page] = []
        for block in blocks(page):
            if block.mark != "run":
                continue
            if block.language == "python":
                todo[page].append(("python", block.text))
            else:
                todo[page] += [("shell", words) for words in shell_commands(block.text)]
    (folder / "pages.json").write_text(json.dumps(todo))
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert (folder / "results.json").is_file(), done.stderr[-4000:]
    return {"folder": folder, "results": json.loads((folder / "results.json").read_text()), "said": done.stderr}


@pytest.mark.slow
@pytest.mark.xdist_group("blocks")
@pytest.mark.parametrize("page", ["demo", *RUN])
def test_blocks_marked_so_are_run(page: str, ran: dict[str, Any]) -> None:
    assert ran["results"][page] == "", ran["said"][-2000:]


@pytest.mark.slow
@pytest.mark.xdist_group("blocks")
def test_results_files_names_every_file_that_a_run_leaves(ran: dict[str, Any]) -> None:
    """Every file of the small demo, against the table of docs/reference/results.md."""
    page = (ROOT / "docs/reference/results.md").read_text()
    cells = [cell for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for cell in re.findall(r"`([^`]+)`", row)]
    patterns = [re.escape(cell).replace("\\*", ".*") for cell in cells]
    known = [re.compile(re.sub(r"<\w+>", "[^/]+", each) + (".*" if each.endswith("/") else "")) for each in patterns]
    run = ran["folder"] / "demo/runs/demo"
    files = [path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()]
    assert len(files) > 40
    assert [file for file in files if not any(each.fullmatch(file) for each in known)] == []


def test_blocks_of_the_pages_are_found() -> None:
    found = all_blocks(*SHELL, "python", "yaml")
    assert len(found) > 30
    assert {"README.md", "docs/served.md", "docs/guides/train.md"} <= {block.page for block in found}
    assert len(RUN) >= 8
    assert set(AT_THE_TOP) <= set(pages())
