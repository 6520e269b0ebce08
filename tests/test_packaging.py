"""The wheel holds everything the commands need, and works away from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
WHEEL_MODEL_LIMIT = 10 * 2**20


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
