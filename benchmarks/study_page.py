"""Write docs/study.md from a study's run directory: what was run, how long it took, and what it found.

    python -m benchmarks.study_page runs/study [--out docs/study.md]

The words are those of ``smaug-eval report RUN --format md``; every figure comes from the run's files.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import write_text
from smaug_eval.reports.formats import escaped
from smaug_eval.reports.panels.provenance import duration
from smaug_eval.reports.study.formats import study_lines
from smaug_eval.results.comparison import compare
from smaug_eval.results.sources import Source, read_source
from smaug_eval.results.study import StudyResults

READING = """## How to read this

Intervals and tests are over items (held-out problems, or documents) and seeds at once, so that they speak of a loss
and not of the weights of one training. The squared standard error adds the spread of the items' means and that of the
seeds' means; degrees of freedom are Satterthwaite's within each of the two, and the critical value is Cochran's and
Cox's between them (`smaug_eval/stats/crossed.py` has the formulas and sources). In 84 kinds of simulated study with 24
or 64 items and 3 or 5 seeds it raised at most 5.4% false alarms (standard error 0.3), and fewer, down to 0.3%, where it
is cautious: where items and seeds both matter, and where most of the variance belongs to an item and a seed together
(`python -m benchmarks.study_statistics`, 4,000 simulated tables of each kind, 2026-11-23). The price is power: of means
that lie three true standard errors from 0 it finds, with three seeds, 81 to 85% where items alone vary, 39 to 58% where
seeds do, and 30 to 40% where only the residual does.

`low` holds pairs that differ in one number, as MetaMath_DPO_FewShot; `high` a right choice against a wrong one, as
ARC_DPO_FewShot; `edits-N` the problems of `low` with N places of the rejected solution falsified, `edits-all` with all
but the final answer. A model of two million parameters says little of one of seven billion. What does not depend on
its size: the verdicts follow from the files, and a null study (`recipes/study-null.yaml`) ends inconclusive.
"""


def read_grid(run: Path, command: str) -> tuple[Source, StudyResults]:
    """Read a study's run.

    Args:
        run: Its run directory.
        command: What makes such a run, for the fix.

    Raises:
        SmaugError: it is no study, or cannot be read.
    """
    source = read_source(run)
    study = compare([source], title=None, baseline=None).study
    if study is None:
        raise SmaugError(f"{run} is no study: its manifest has no arms", fix=f"give the run directory of `{command}`")
    return source, study


def page(run: Path) -> str:
    """Return the page as text.

    Args:
        run: The study's run directory.

    Raises:
        SmaugError: it is no study, or cannot be read.
    """
    source, study = read_grid(run, "make study")
    lines = ["# The paper's questions at the size of a laptop", "", *about(source, "study_page"), ""]
    if study.missing:
        lines += ["**The run had not finished when this page was written: its verdicts are those of a part.**", ""]
    lines += study_lines(study, escaped)
    return "\n".join(lines).rstrip() + "\n\n" + READING


def about(source: Source, writer: str) -> Iterator[str]:
    """Yield what was run, when, on what and how long it took.

    Args:
        source: The study's run directory.
        writer: The module in this folder that writes the page.
    """
    manifest = source.manifest or {}
    hardware, stages = _mapping(manifest.get("hardware")), manifest.get("stages")
    listed = [each for each in stages if isinstance(each, Mapping)] if isinstance(stages, list) else []
    seconds = [float(each["seconds"]) for each in listed if each.get("seconds")]
    found = re.search("x86_64|aarch64|arm64", str(hardware.get("platform")))
    described = ", ".join([*([found.group()] if found else []), *([] if hardware.get("gpus") else ["no GPU"])])
    name = escaped(source.label)
    yield f"`smaug-eval run {name}`, {str(manifest.get('updated', ''))[:10]}, on {hardware.get('cores', '?')} cores"
    yield f"({described}) that others shared: {duration(sum(seconds))} in {len(seconds)} finished stages. This page was"
    yield f"written by `python -m benchmarks.{writer} runs/{name}`; figures are in the run's `report.html`."


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def write_from_run(page: Callable[[Path], str], about: str | None, out: Path) -> None:
    """Write a page from the run directory that the command line names.

    Args:
        page: Makes the page's text from a study's run directory.
        about: What the command's help says.
        out: The page's file where the command line names no other.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run directory of the study")
    parser.add_argument("--out", type=Path, default=out)
    arguments = parser.parse_args()
    write_text(arguments.out, page(arguments.run))


def main() -> None:
    """Write the page."""
    write_from_run(page, __doc__, Path("docs/study.md"))


if __name__ == "__main__":
    main()
