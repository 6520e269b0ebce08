"""The dump of requests against what the leaderboard's own harness asked, byte for byte."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from smaug_eval.cli import app
from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.benchmarks import mmlu
from smaug_eval.leaderboard.dump import dump_requests, dumped_name, select_tasks
from smaug_eval.leaderboard.protocol import requests
from smaug_eval.leaderboard.registry import find_suite

DEMO = find_suite("demo")


def lines_of(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.decode().strip("\n").split("\n")]


def golden_tasks(shared: Path) -> dict[str, dict[str, Any]]:
    return json.loads((shared / "golden" / "summary.json").read_text())


def as_golden(line: dict[str, Any]) -> str:
    """A line of ours in the golden files' form: no task, and stop strings as JSON text."""
    asked = [[first, second if isinstance(second, str) else json.dumps(second)] for first, second in line["requests"]]
    return json.dumps({"doc": line["doc"], "requests": asked}, ensure_ascii=False)


@pytest.fixture(scope="module")
def golden_dump(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    out = tmp_path_factory.mktemp("dump") / "requests.jsonl"
    return out, dump_requests(v1.SUITE, golden_tasks(shared), data_root=shared / "data", out=out)


def test_every_golden_task_is_dumped_byte_for_byte(shared: Path, golden_dump: tuple[Path, list[Any]]) -> None:
    ours: dict[str, list[str]] = defaultdict(list)
    for line in lines_of(golden_dump[0].read_bytes()):
        ours[line["task"]].append(as_golden(line))
    assert ours.keys() == golden_tasks(shared).keys()
    for task, lines in ours.items():
        golden = gzip.decompress((shared / "golden" / f"{task}.jsonl.gz").read_bytes()).decode()
        assert lines == golden.strip("\n").split("\n"), task


def test_counts_and_hashes_equal_the_golden_summary(shared: Path, golden_dump: tuple[Path, list[Any]]) -> None:
    found = {
        each.task: {"docs": each.documents, "requests": each.requests, "sha256": each.sha256} for each in golden_dump[1]
    }
    assert found == golden_tasks(shared)
    assert all(each.notes == () for each in golden_dump[1])  # no task of unofficial data is among them


def test_generation_settings_are_an_object(golden_dump: tuple[Path, list[Any]]) -> None:
    line = next(line for line in lines_of(golden_dump[0].read_bytes()) if line["task"] == "gsm8k")
    assert [asked[1] for asked in line["requests"]] == [{"until": [":", "Question:", "Question"]}]
    assert list(line) == ["task", "doc", "requests"]


def test_limit_takes_the_first_documents_of_each_task(shared: Path) -> None:
    (whole, cut), data = (io.BytesIO(), io.BytesIO()), shared / "data"
    dump_requests(v1.SUITE, ["mmlu_anatomy"], data_root=data, out=whole)
    dump_requests(v1.SUITE, ["mmlu_anatomy"], data_root=data, out=cut, limit=3)
    assert cut.getvalue().splitlines() == whole.getvalue().splitlines()[:3]
    documents = [line["doc"] for line in lines_of(whole.getvalue())]
    assert sorted(documents) == list(range(135))  # counted within the subject


def test_unofficial_data_are_named(shared: Path) -> None:
    (hellaswag,) = dump_requests(v1.SUITE, ["HellaSwag"], data_root=shared / "data", limit=1)
    assert "HellaSwag train has 5,000 rows, official 39,905" in hellaswag.notes


def test_the_demo_is_dumped_as_its_documents_ask() -> None:
    out = io.BytesIO()
    written = dump_requests(DEMO, ["truth", "demo_facts", "arithmetic"], out=out, limit=2)
    lines = lines_of(out.getvalue())
    assert [(line["task"], line["doc"]) for line in lines[:2]] == [
        ("facts", document["doc"]) for document in DEMO.documents("demo_facts")[:2]
    ]
    spec = DEMO.task("demo_truth")
    documents = DEMO.documents("demo_truth")[:2]
    asked = [[list(pair) for pair in requests(spec, document)] for document in documents]
    assert [line["requests"] for line in lines[2:4]] == asked
    assert [each.task for each in written] == ["facts", "truth", "arithmetic"]
    assert [len(line["requests"]) for line in lines[4:]] == [1, 1]
    truth = hashlib.sha256("".join(json.dumps(pair, ensure_ascii=False) for each in asked for pair in each).encode())
    assert written[1].sha256 == truth.hexdigest()


def test_a_compressed_dump_holds_the_same_and_is_the_same_every_time(tmp_path: Path) -> None:
    plain, one, two = (tmp_path / name for name in ("plain.jsonl", "one.jsonl.gz", "two.jsonl.gz"))
    for out in (plain, one, two):
        dump_requests(DEMO, ["facts"], out=out)
    assert one.read_bytes() == two.read_bytes()
    assert gzip.decompress(one.read_bytes()) == plain.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.jsonl.gz", "plain.jsonl", "two.jsonl.gz"]


def test_names_of_columns_tasks_and_the_old_harness() -> None:
    def chosen(*names: str) -> list[str]:
        return [dumped_name(v1.SUITE, spec) for spec in select_tasks(v1.SUITE, names)]

    assert chosen("gsm8k", "ARC") == ["arc_challenge", "gsm8k"]
    assert chosen("truthfulqa_mc") == chosen("TruthfulQA") == chosen("open_llm_v1_truthfulqa") == ["truthfulqa_mc"]
    assert chosen("mmlu_virology") == chosen("hendrycksTest-virology") == ["mmlu_virology"]
    assert chosen("mmlu_virology", "mmlu") == chosen("MMLU") == [f"mmlu_{subject}" for subject in mmlu.TEST_ROWS]
    everything = [dumped_name(v1.SUITE, spec) for spec in select_tasks(v1.SUITE)]
    assert len(everything) == 62
    assert everything[:2] + everything[-3:] == ["arc_challenge", "hellaswag", "truthfulqa_mc", "winogrande", "gsm8k"]


def test_a_misspelt_task_names_the_nearest() -> None:
    with pytest.raises(SmaugError, match="mmlu_anatmy") as caught:
        dump_requests(v1.SUITE, ["mmlu_anatmy"])
    assert caught.value.fix == "did you mean 'mmlu_anatomy'?"
    assert caught.value.exit_code == 2


def test_a_limit_must_be_positive() -> None:
    with pytest.raises(SmaugError, match="limit is 0"):
        dump_requests(DEMO, None, limit=0)


def test_the_verb_writes_to_standard_output_and_reports_beside_it() -> None:
    result = CliRunner().invoke(app, ["requests", "--suite", "demo", "--task", "facts", "--limit", "2"])
    assert result.exit_code == 0, result.output
    expected = io.BytesIO()
    (facts,) = dump_requests(DEMO, ["facts"], limit=2, out=expected)
    assert result.stdout_bytes == expected.getvalue()
    assert result.stderr.splitlines() == [
        f"facts: 2 documents, {facts.requests} requests, sha256 {facts.sha256}",
        f"1 tasks: 2 documents, {facts.requests} requests",
    ]
