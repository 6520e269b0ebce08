from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.protocol import build_documents, data_notes, requests, requests_sha256, shot_plan
from smaug_eval.leaderboard.published import PUBLISHED, published_row

SUM = {"question": "1 + 1?", "answer": "1 + 1 = 2.\n#### 2"}
SUM_SHOT = "Question: 1 + 1?\nAnswer: 1 + 1 = 2.\n#### 2\n\n"
GOLDEN = (
    "arc_challenge",
    "gsm8k",
    "mmlu_abstract_algebra",
    "mmlu_anatomy",
    "mmlu_college_physics",
    "mmlu_high_school_us_history",
    "mmlu_moral_scenarios",
    "mmlu_professional_law",
)


@pytest.mark.parametrize(
    ("spec", "digest"),
    [
        (v1.ARC, "17e56c4f3766b570"),
        (v1.HELLASWAG, "9d3ab37c3d77989d"),
        (v1.WINOGRANDE, "5abcb07718b9e4b4"),
        (v1.GSM8K, "daebe74fcb358dbb"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_plan_with_official_row_counts_is_the_old_harness_s(spec: v1.TaskSpec, digest: str) -> None:
    plan = shot_plan(spec.official_rows or 0, spec.official_shot_rows or 0, spec.num_fewshot)
    assert hashlib.sha256(json.dumps(plan).encode()).hexdigest()[:16] == digest


def test_first_shots_are_taken_in_order() -> None:
    plan = shot_plan(3, 7, 5, draws_shots=False)
    assert sorted(document for document, _ in plan) == [0, 1, 2]
    assert all(shots == [0, 1, 2, 3, 4] for _, shots in plan)


def test_documents_are_shuffled_as_without_shots() -> None:
    orders = [[document for document, _ in shot_plan(20, 30, k)] for k in (0, 5)]
    assert orders[0] == orders[1] != sorted(orders[0])


def test_document_carries_header_shots_and_row_index() -> None:
    spec = replace(v1.GSM8K, num_fewshot=1, header="HEADER\n\n")
    rows = [{"question": f"{n}?", "answer": f"#### {n}"} for n in range(3)]
    documents = build_documents(spec, [SUM], rows)
    assert sorted(document["doc"] for document in documents) == [0, 1, 2]
    for document in documents:
        assert document["ctx"] == f"HEADER\n\n{SUM_SHOT}Question: {document['doc']}?\nAnswer:"
        assert document["ctx"].endswith(document["query"])
        assert requests(spec, document) == [(document["ctx"], '{"until": [":", "Question:", "Question"]}')]


def test_too_few_rows_for_the_shots() -> None:
    with pytest.raises(SmaugError, match=r"gsm8k: 5 shots cannot come from 1 rows of openai/gsm8k .*train"):
        build_documents(v1.GSM8K, [SUM], [SUM])


def test_a_row_that_does_not_fit_is_named() -> None:
    spec = replace(v1.GSM8K, num_fewshot=1)
    with pytest.raises(SmaugError, match=r"row 1 of openai/gsm8k \(main\), split test .* '#### <number>'"):
        build_documents(spec, [SUM], [SUM, {"question": "?", "answer": "none"}])
    with pytest.raises(SmaugError, match=r"row 0 of openai/gsm8k \(main\), split train"):
        build_documents(spec, [{"question": "?"}], [SUM])


def test_requests_sha256_is_over_their_json_in_order() -> None:
    expected = hashlib.sha256('["a", " é"]["b", " c"]'.encode()).hexdigest()
    assert requests_sha256([("a", " é"), ("b", " c")]) == expected


def test_data_notes_name_the_split_that_differs() -> None:
    assert data_notes(v1.HELLASWAG, 39_905, 10_042) == []
    assert data_notes(v1.HELLASWAG, 5_000, 10_042) == ["HellaSwag train has 5,000 rows, official 39,905"]
    assert data_notes(v1.TASKS["open_llm_v1_mmlu_anatomy"], 5, 20) == ["MMLU test (anatomy) has 20 rows, official 135"]
    assert data_notes(v1.TRUTHFULQA, 0, 817) == []


def test_mmlu_has_57_subjects_and_its_official_size() -> None:
    assert len(v1.MMLU) == 57
    assert sum(spec.official_rows or 0 for spec in v1.MMLU) == 14_042
    assert len(v1.TASKS) == 62


def write_parquet(root: Path, name: str, rows: list[dict[str, object]]) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def test_a_renamed_column_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path, "openai/gsm8k/main/train.parquet", [{"question": "?", "solution": "#### 1"}])
    with pytest.raises(SmaugError, match=r"openai/gsm8k \(main\), split train has no column answer"):
        v1.load_documents("open_llm_v1_gsm8k", tmp_path)


def test_a_missing_subject_is_named(tmp_path: Path) -> None:
    row = {"question": "?", "subject": "anatomy", "choices": ["a", "b", "c", "d"], "answer": 0}
    for split in ("dev", "test"):
        write_parquet(tmp_path, f"cais/mmlu/all/{split}.parquet", [row] * 5)
    assert len(v1.load_documents("open_llm_v1_mmlu_anatomy", tmp_path)) == 5
    with pytest.raises(SmaugError, match="no rows of subject 'virology'"):
        v1.load_documents("open_llm_v1_mmlu_virology", tmp_path)


@pytest.mark.parametrize("task", GOLDEN)
def test_requests_equal_the_old_harness_s(task: str, shared: Path) -> None:
    name = f"open_llm_v1_{task}"
    documents = v1.load_documents(name, shared / "data")
    with gzip.open(shared / "golden" / f"{task}.jsonl.gz", "rt", encoding="utf-8") as lines:
        golden = [json.loads(line) for line in lines]
    ours = [
        {"doc": document["doc"], "requests": [list(pair) for pair in requests(v1.TASKS[name], document)]}
        for document in documents
    ]
    assert ours == golden
    summary = json.loads((shared / "golden" / "summary.json").read_text(encoding="utf-8"))[task]
    in_order = [pair for document in documents for pair in requests(v1.TASKS[name], document)]
    assert (len(documents), len(in_order), requests_sha256(in_order)) == (
        summary["docs"],
        summary["requests"],
        summary["sha256"],
    )


@pytest.mark.slow
def test_every_task_builds_from_the_mirror(shared: Path) -> None:
    counts = {
        name: sum(len(requests(spec, document)) for document in v1.load_documents(name, shared / "data"))
        for name, spec in v1.TASKS.items()
    }
    assert counts["open_llm_v1_hellaswag"] == 4 * 10_042
    assert counts["open_llm_v1_winogrande"] == 2 * 1_267
    assert sum(counts[spec.name] for spec in v1.MMLU) == 4 * 14_042


def test_the_mirror_s_stand_in_is_noted(shared: Path) -> None:
    arc, hellaswag, mmlu, *_ = v1.SUITE.columns
    assert v1.SUITE.data_notes(arc, shared / "data") == []
    assert v1.SUITE.data_notes(hellaswag, shared / "data") == [
        "HellaSwag train has 5,000 rows, official 39,905",
        "the content of HellaSwag validation was rebuilt from preprocessed text",
    ]
    assert v1.SUITE.data_notes(mmlu, shared / "data") == []


def test_published_averages_are_the_mean_of_six() -> None:
    for row in PUBLISHED:
        assert row.average == pytest.approx(sum(row.scores.values()) / 6, abs=0.011), row.model
    smaug = published_row("abacusai/smaug-72b-v0.1")
    assert smaug is not None
    assert smaug.scores["GSM8K"] == 78.70
    assert published_row("nobody/nothing") is None


def test_published_rows_are_the_archive_s(shared: Path) -> None:
    import pandas as pd

    archive = pd.read_csv(shared / "leaderboard" / "open_llm_leaderboard_v1.csv.gz")
    for row in PUBLISHED:
        match = archive[(archive["Model"] == row.model) & (archive["Model sha"] == row.revision)].iloc[0]
        assert match["Precision"] == row.precision
        assert match.filter(like="Average").iloc[0] == row.average
        assert {title: match[title] for title in row.scores} == row.scores
