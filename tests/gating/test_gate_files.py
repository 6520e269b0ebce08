"""What a gate writes for a pipeline: exit codes of the command, JSON, JUnit XML and Markdown."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lxml import etree

import smaug_eval
from smaug_eval import cli
from smaug_eval.gating import GateResult
from smaug_eval.gating.formats import junit, markdown
from tests.results.others import STAMP, accuracy, lines, newest, sample, write

# The rules that Jenkins' JUnit plugin checks such files by, as far as they concern what is written here.
RULES = """
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" elementFormDefault="qualified">
  <xs:element name="testsuites"><xs:complexType>
    <xs:sequence><xs:element ref="testsuite" minOccurs="0" maxOccurs="unbounded"/></xs:sequence>
    <xs:attribute name="name" type="xs:string"/><xs:attribute name="time" type="xs:decimal"/>
    <xs:attribute name="tests" type="xs:integer"/><xs:attribute name="failures" type="xs:integer"/>
    <xs:attribute name="errors" type="xs:integer"/><xs:attribute name="disabled" type="xs:integer"/>
  </xs:complexType></xs:element>
  <xs:element name="testsuite"><xs:complexType><xs:sequence>
    <xs:element name="properties" minOccurs="0"><xs:complexType><xs:sequence>
      <xs:element name="property" maxOccurs="unbounded"><xs:complexType>
        <xs:attribute name="name" type="xs:string" use="required"/>
        <xs:attribute name="value" type="xs:string" use="required"/>
      </xs:complexType></xs:element>
    </xs:sequence></xs:complexType></xs:element>
    <xs:element ref="testcase" minOccurs="0" maxOccurs="unbounded"/>
  </xs:sequence>
    <xs:attribute name="name" type="xs:string" use="required"/>
    <xs:attribute name="tests" type="xs:integer" use="required"/>
    <xs:attribute name="failures" type="xs:integer"/><xs:attribute name="errors" type="xs:integer"/>
    <xs:attribute name="skipped" type="xs:integer"/><xs:attribute name="time" type="xs:decimal"/>
  </xs:complexType></xs:element>
  <xs:element name="testcase"><xs:complexType><xs:choice minOccurs="0" maxOccurs="unbounded">
    <xs:element name="failure" type="said"/><xs:element name="error" type="said"/>
    <xs:element name="skipped" type="said"/>
    <xs:element name="system-out" type="xs:string"/><xs:element name="system-err" type="xs:string"/>
  </xs:choice>
    <xs:attribute name="name" type="xs:string" use="required"/>
    <xs:attribute name="classname" type="xs:string" use="required"/>
    <xs:attribute name="time" type="xs:decimal"/>
  </xs:complexType></xs:element>
  <xs:complexType name="said"><xs:simpleContent><xs:extension base="xs:string">
    <xs:attribute name="message" type="xs:string"/><xs:attribute name="type" type="xs:string"/>
  </xs:extension></xs:simpleContent></xs:complexType>
</xs:schema>
"""

HOSTILE = "org/<script>alert(1)&\"' |x\u202e\x07 [a](javascript:b)"
POLICY = {
    "name": "mixed",
    "requirements": [
        {"column": "falls", "is": "not worse"},
        {"column": "rises", "is": "better"},
        {"column": "missing", "is": "not worse"},
    ],
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders: one task fell, one rose, one is measured by one side alone."""
    home = tmp_path_factory.mktemp("mixed")
    own = {"old": {"falls": 300, "rises": 200, "missing": 10}, "new": {"falls": 200, "rises": 300}}
    for folder, tasks in own.items():
        model = HOSTILE if folder == "new" else "org/old"
        entries = {task: accuracy(right / 400, 0.02) for task, right in tasks.items()}
        write(home / folder / f"results_{STAMP}.json", newest(entries, model=model, n=400))
        for task, right in tasks.items():
            rows = lines([sample(i, float(i < right)) for i in range(400)])
            write(home / folder / f"samples_{task}_{STAMP}.jsonl", rows)
    return home


@pytest.fixture(scope="module")
def result(mixed: Path) -> GateResult:
    return smaug_eval.gate(mixed / "new", mixed / "old", policy=POLICY)


def test_junit_is_valid_and_says_what_the_gate_says(result: GateResult) -> None:
    document = etree.fromstring(junit(result).encode())
    etree.XMLSchema(etree.fromstring(RULES)).assertValid(document)
    (suite,) = document
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3", "failures": "1", "errors": "1", "skipped": "0"
    }  # fmt: skip
    found = {case.get("name"): [part.tag for part in case] for case in suite.findall("testcase")}
    assert found == {
        "falls (tasks): not worse": ["failure"],
        "rises (tasks): better": ["system-out"],
        "missing (tasks): not worse": ["error"],
    }
    shown = suite.find("testcase").get("classname")
    assert "<script>" in shown
    assert "⟨U+0007⟩" in shown
    assert suite.find("testcase/failure").get("message").startswith("fail: worse")


def test_junit_is_read_by_another_s_parser(result: GateResult, tmp_path: Path) -> None:
    junitparser = pytest.importorskip("junitparser", reason="needs junitparser")
    file = tmp_path / "gate.xml"
    file.write_text(junit(result), encoding="utf-8")
    document = junitparser.JUnitXml.fromfile(str(file))
    (suite,) = list(document)
    kinds = {case.name.partition(" ")[0]: [type(part).__name__ for part in case.result] for case in suite}
    assert kinds == {"falls": ["Failure"], "rises": [], "missing": ["Error"]}
    assert (suite.tests, suite.failures, suite.errors) == (3, 1, 1)


def test_the_summary_is_a_table_that_nothing_acts_on(result: GateResult) -> None:
    text = markdown(result)
    assert text.startswith("## ❌ Gate: fail\n")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert [row.split(" | ")[0] for row in rows[1:]] == ["| ❌ fail", "| ❓ cannot tell", "| ✅ pass"]
    assert "<script>" not in text
    assert "\\](javascript" in text
    unescaped = [row.replace("\\|", "").count("|") for row in rows]
    assert unescaped == [11] * len(rows)
    assert "−25.0" in rows[1]
    assert "+25.0" in rows[3]


def test_json_holds_the_numbers(result: GateResult) -> None:
    found = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert {key: found[key] for key in ("schema", "verdict", "exit_code", "policy", "baseline")} == {
        "schema": 1, "verdict": "fail", "exit_code": 4, "policy": "mixed", "baseline": "org/old"
    }  # fmt: skip
    first = found["checks"][0]
    assert (first["difference"], first["score"], first["reference"], first["verdict"]) == (-25.0, 50.0, 75.0, "fail")
    assert first["outcome"] == "worse"
    # Bonett and Price: (0 + 1) and (100 + 1) of 402
    centre, spread = -100 / 402, np.sqrt((102 / 402 - (100 / 402) ** 2) / 402)
    assert first["interval"] == pytest.approx([100 * (centre - 1.959964 * spread), 100 * (centre + 1.959964 * spread)])


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line: exit code, standard output and standard error."""

    def ended(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["smaug-eval", "gate", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.run_command()
        return int(exit_.value.code or 0), *capsys.readouterr()

    return ended


def test_the_command_ends_with_the_verdict_s_code(
    gate: Callable[..., tuple[int, str, str]], mixed: Path, tmp_path: Path
) -> None:
    policy, summary = tmp_path / "policy.yaml", tmp_path / "summary.md"
    policy.write_text(json.dumps(POLICY))
    summary.write_text("of an earlier step\n")
    code, shown, errors = gate(
        mixed / "new", "--baseline", mixed / "old", "--policy", policy, "--junit", tmp_path / "out" / "gate.xml",
        "--summary", summary, "--out", tmp_path / "gate.json",
    )  # fmt: skip
    assert code == 4, errors
    assert "gate: fail: of 3 requirements 1 failed, 1 undecided" in shown
    assert etree.parse(str(tmp_path / "out" / "gate.xml")).getroot().get("failures") == "1"
    assert summary.read_text().startswith("of an earlier step\n## ❌ Gate: fail")
    assert json.loads((tmp_path / "gate.json").read_text())["exit_code"] == 4
    policy.write_text(json.dumps({"requirements": [{"column": "rises", "is": "better"}]}))
    code, shown, _ = gate(mixed / "new", "--baseline", mixed / "old", "--policy", policy, "--json")
    assert (code, json.loads(shown)["verdict"]) == (0, "pass")
    policy.write_text(json.dumps({"requirements": [{"column": "missing", "is": "not worse"}]}))
    assert gate(mixed / "new", "--baseline", mixed / "old", "--policy", policy)[0] == 5
    policy.write_text("requirements:\n  - {column: rises, is: beter}\n")
    code, _, errors = gate(mixed / "new", "--baseline", mixed / "old", "--policy", policy)
    assert code == 2
    assert "policy.yaml, line 2: requirements.0.is = 'beter'" in errors


def test_a_damaged_file_is_bad_input_and_no_verdict(gate: Callable[..., tuple[int, str, str]], mixed: Path) -> None:
    damaged = mixed / "damaged" / "results_2026-01-01T00-00-00.000000.json"
    damaged.parent.mkdir()
    damaged.write_text('{"results": {')
    for arguments in ((damaged.parent, "--baseline", mixed / "old"), (mixed / "new", "--baseline", damaged.parent)):
        code, shown, errors = gate(*arguments)
        assert (code, shown) == (2, "")
        assert f"error: {damaged}, line 1: not JSON" in errors
        assert "fix: write the file again" in errors


def test_what_is_damaged_or_not_evaluated_yet_does_not_pass_by_being_absent(
    gate: Callable[..., tuple[int, str, str]], tmp_path: Path, run_writer: Any
) -> None:
    values = [1.0, 0.0] * 200
    better = [1.0 if number % 4 == 1 else value for number, value in enumerate(values)]
    run = run_writer(tmp_path / "run")
    for model, own in (("base", values), ("dpo", better)):
        mean = sum(own) / len(own)
        run.evaluation(model, {"mine": mean}, metric="acc", n=400, samples=run_writer.samples(own, "acc"))
    run.manifest(models={"base": {}, "dpo": {}})
    assert gate(run.path)[0] == 0
    run.manifest(models={"base": {}, "dpo": {}, "dpop": {}})
    code, shown, _ = gate(run.path, "--json")
    assert code == 5
    assert [(each["model"], each["verdict"], each["why_not"]) for each in json.loads(shown)["checks"]] == [
        ("dpo", "pass", ""), ("dpop", "cannot tell", "dpop was not measured on it"),
    ]  # fmt: skip
    assert gate(run.path, "--model", "dpo")[0] == 0
    damaged = tmp_path / "run/eval/dpo/main/other/results_2026-01-01T00-00-00.000000.json"
    damaged.parent.mkdir()
    damaged.write_text('{"results": {')
    code, shown, _ = gate(run.path, "--model", "dpo", "--json")
    last = json.loads(shown)["checks"][-1]
    assert (code, last["model"], last["verdict"]) == (5, "results", "cannot tell")
    assert last["reason"].startswith(f"not read: {damaged}: line 1: not JSON")


def test_one_file_is_not_written_twice(gate: Callable[..., tuple[int, str, str]], mixed: Path, tmp_path: Path) -> None:
    same = tmp_path / "gate.out"
    code, _, errors = gate(mixed / "new", "--baseline", mixed / "old", "--junit", same, "--out", same)
    assert code == 2
    assert f"{same} is named for two files" in errors
    assert not same.exists()
