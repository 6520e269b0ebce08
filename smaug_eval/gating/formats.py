"""Write what a gate came to: JUnit XML for a pipeline's test report, and a Markdown summary for a job's page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from smaug_eval._version import __version__
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import unwritable, write_json, write_text
from smaug_eval.common.redaction import without_keys
from smaug_eval.common.text import visible
from smaug_eval.gating.gate import Check, GateResult
from smaug_eval.gating.rulings import Ruling, difference_words, interval_words, score_words
from smaug_eval.reports.markdown import escaped
from smaug_eval.results.differences import p_words

MARKS = {Ruling.PASS: "✅", Ruling.FAIL: "❌", Ruling.CANNOT_TELL: "❓"}
_SUITE = "smaug-eval gate"


def junit(result: GateResult) -> str:
    """Return JUnit XML: a suite for each model, a case for each requirement.

    A failed requirement is a failure; one that cannot be told is an error, which no reader of such files takes for a
    pass as it would a skipped case. A gate without any requirement has one case, an error.
    """
    root = ElementTree.Element("testsuites", {"name": _SUITE, **_counts(result.checks)})
    by_model: dict[str, list[Check]] = {}
    for check in result.checks:
        by_model.setdefault(check.model, []).append(check)
    for model, checks in by_model.items():
        suite = ElementTree.SubElement(
            root, "testsuite", {"name": _text(f"{_SUITE}: {model}"), **_counts(checks), "skipped": "0", "time": "0"}
        )
        properties = ElementTree.SubElement(suite, "properties")
        for name, value in (
            ("policy", result.policy), ("baseline", result.baseline or ""), ("smaug-eval", __version__)
        ):  # fmt: skip
            ElementTree.SubElement(properties, "property", {"name": name, "value": _text(value)})
        for check in checks:
            _case(suite, check)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _counts(checks: Sequence[Check]) -> Mapping[str, str]:
    rulings = [check.ruling for check in checks]
    return {
        "tests": str(len(rulings)),
        "failures": str(rulings.count(Ruling.FAIL)),
        "errors": str(rulings.count(Ruling.CANNOT_TELL)),
    }


def _case(suite: ElementTree.Element, check: Check) -> None:
    name = _text(f"{check.subject}: {check.requirement}")
    case = ElementTree.SubElement(suite, "testcase", {"classname": _text(check.model), "name": name, "time": "0"})
    if check.ruling is not Ruling.PASS:
        kind = "failure" if check.ruling is Ruling.FAIL else "error"
        message = _text(f"{check.ruling.value}: {check.reason}")
        ElementTree.SubElement(case, kind, {"message": message, "type": check.ruling.value}).text = message
    else:
        ElementTree.SubElement(case, "system-out").text = _text(check.reason)


def _text(value: str) -> str:
    """Text as XML can hold it: other characters are written as their code points, and keys are masked."""
    return without_keys(visible(value))


def markdown(result: GateResult) -> str:
    """Return a summary in GitHub's Markdown: the verdict, and a table of all requirements, the failed ones first."""
    return without_keys("\n".join(_markdown_lines(result)).rstrip() + "\n")


def _markdown_lines(result: GateResult) -> Iterator[str]:
    models = ", ".join(map(escaped, result.models)) or "no model"
    against = f" against {escaped(result.baseline)}" if result.baseline else ""
    yield from (f"## {MARKS[result.ruling]} Gate: {result.verdict}", "")
    yield from (f"{models}{against}, {escaped(result.policy)}: {result.words}.", "")
    if result.checks:
        yield "| | model | what | required | score | baseline | difference | 95% interval | p | why |"
        yield "|---|---|---|---|---:|---:|---:|---|---|---|"
    order = (Ruling.FAIL, Ruling.CANNOT_TELL, Ruling.PASS)
    for check in sorted(result.checks, key=lambda each: order.index(each.ruling)):
        yield f"| {' | '.join(_cells(check))} |"
    if result.checks:
        yield from (
            "",
            "Differences are paired by document where both sides have samples. p is adjusted by Holm's method as in "
            "the report, intervals are not.",
        )
    if result.notes:
        yield from ("", *(f"- {escaped(note)}" for note in result.notes))


def _cells(check: Check) -> list[str]:
    found = check.evidence
    return [
        f"{MARKS[check.ruling]} {check.ruling.value}",
        escaped(check.model),
        escaped(check.subject),
        escaped(check.requirement),
        "" if found.score is None else score_words(found.score, found),
        "" if found.reference is None else score_words(found.reference, found),
        "" if found.difference is None else difference_words(found.difference, found),
        "" if found.interval is None else interval_words(found.interval, found),
        "" if found.adjusted_p is None else escaped(p_words(found.adjusted_p)),
        escaped(_reason(check)),
    ]


def _reason(check: Check) -> str:
    """The reason without the interval and p value, which have columns of their own."""
    found, told = check.evidence, check.reason
    shown = [] if found.interval is None else [f"95% interval {interval_words(found.interval, found)}"]
    shown += [] if found.adjusted_p is None else [p_words(found.adjusted_p)]
    for part in shown:
        told = told.replace(f", {part}", "").replace(f"{part}, ", "")
    return told


def write_gate(
    result: GateResult, *, junit_file: Path | None = None, summary: Path | None = None, json_file: Path | None = None
) -> None:
    """Write a gate's files; the summary is appended, as a job's page on GitHub collects the steps' summaries.

    Raises:
        SmaugError: a place cannot be written.
    """
    if json_file is not None:
        write_json(json_file, result.as_dict())
    if junit_file is not None:
        write_text(junit_file, junit(result))
    if summary is not None:
        try:
            summary.parent.mkdir(parents=True, exist_ok=True)
            with summary.open("a", encoding="utf-8") as file:
                file.write(markdown(result))
        except OSError as error:
            raise unwritable(summary, error) from error


def refuse_unwritable(*files: Path | None) -> None:
    """Refuse a place for a file that is a folder or another one's, before anything is computed.

    Raises:
        SmaugError: one of them is.
    """
    given = [file for file in files if file is not None]
    for number, file in enumerate(given):
        if file.is_dir():
            raise SmaugError(f"{file} is a folder", fix="name a file")
        if file.resolve() in {each.resolve() for each in given[:number]}:
            raise SmaugError(f"{file} is named for two files, and one would replace the other", fix="name another")
