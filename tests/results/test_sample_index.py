from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from smaug_eval.common import workers
from smaug_eval.common.errors import SmaugError
from smaug_eval.results import sample_index
from smaug_eval.results.sample_index import ABSENT, locate, read_ahead, read_samples, scanned

# Texts that look like the keys which are searched for.
TRAP = '", "filter": "x", "metrics": ["acc"], "acc": 7}'


def line(doc_id: int, acc: object, **more: Any) -> str:
    raw = {
        "doc_id": doc_id, "doc": {"text": TRAP, "filter": "inner"}, "target": TRAP, "arguments": {}, "resps": [[TRAP]],
        "filtered_resps": [TRAP], "filter": "none", "metrics": ["acc", "other"], "doc_hash": f"h{doc_id}",
        "acc": acc, "other": 0.25,
    }  # fmt: skip
    return json.dumps(raw | more) + "\n"


def test_documents_are_found_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(line(0, 1.0) + line(3, 0.0) + line(4, "N/A"))
    found = locate(path, "acc")
    assert [(each.key, each.metric) for each in found] == [
        (("0", "h0"), "acc"),
        (("3", "h3"), "acc"),
        (("4", "h4"), "acc"),
    ]
    assert [each.value for each in found[:2]] == [1.0, 0.0]
    assert math.isnan(found[2].value)
    read = dict(read_samples(path, [found[1].start]))
    assert read[found[1].start]["doc_id"] == 3
    assert read[found[1].start]["resps"] == [[TRAP]]


def test_without_the_metric_the_first_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(line(0, 1.0))
    assert [each.metric for each in locate(path, None)] == ["acc"]
    assert [each.metric for each in locate(path, "absent")] == ["acc"]
    assert [(each.metric, each.value) for each in locate(path, "other")] == [("other", 0.25)]


def test_of_several_filters_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(line(0, 1.0, filter="strict") + line(0, 0.0, filter="flexible"))
    assert [each.value for each in locate(path, "acc,flexible")] == [0.0]
    assert [each.value for each in locate(path, "acc")] == [1.0]


def test_other_orders_of_keys_are_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps({"acc": 0.5, "metrics": ["acc"], "doc_id": "a b"}) + "\n")
    (found,) = locate(path, "acc")
    assert (found.key, found.value) == (("a b", "None"), 0.5)


def test_an_unfinished_last_line_is_left_out_and_a_damaged_one_named(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(line(0, 1.0) + line(1, 1.0)[:-40])
    assert [each.key[0] for each in locate(path, "acc")] == ["0"]
    path.write_text(line(0, 1.0) + "nonsense\n" + line(1, 1.0))
    with pytest.raises(SmaugError, match=r"s\.jsonl, line 2: not valid JSON"):
        locate(path, "acc")
    path.write_text("[1]\n")
    with pytest.raises(SmaugError, match=r"sample 1: expected a JSON object"):
        locate(path, "acc")


def test_invalid_bytes_are_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(
        line(0, 1.0).replace("inner", "in\\u00ff").encode() + line(1, 0.0).encode().replace(b"inner", b"\xff")
    )
    found = locate(path, "acc")
    assert [each.value for each in found] == [1.0, 0.0]
    assert [raw["doc"]["filter"] for _, raw in read_samples(path, [each.start for each in found])] == [
        "in\xff",
        "\udcff",
    ]


@pytest.mark.parametrize(
    "line",
    [
        '{"doc_id": 0, "filter": "none", "metrics": [], "doc_hash": "d", "doc": ' + '{"a":' * 5000 + "1" + "}" * 5001,
        '{"doc_id": ' + "9" * 5000 + ', "filter": "none", "metrics": [], "doc_hash": "d"}',
    ],
    ids=["nested too deeply", "a number of thousands of digits"],
)
def test_lines_that_no_program_writes_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "samples_a_x.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(SmaugError, match="line 1: not valid JSON"):
        scanned(path)


def shown(path: Path) -> tuple[list[int], list[dict[str, Any]]]:
    scan = scanned(path)
    return list(scan.starts), list(scan.rows())


def test_keys_that_not_every_line_has_stay_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    rows = [{"doc_id": 0, "acc": 1.0}, {"acc": None, "f1": [1, 2], "target": "left out"}, {"doc_id": 2, "f1": "a"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    starts, found = shown(path)
    assert starts == [0, len(json.dumps(rows[0])) + 1, sum(len(json.dumps(row)) + 1 for row in rows[:2])]
    assert found == [rows[0], {"acc": None, "f1": [1, 2]}, rows[2]]
    assert scanned(path).column("f1") == [ABSENT, [1, 2], "a"]
    assert scanned(path).column("other") == [ABSENT] * 3
    assert scanned(path).keys == [("0", "None"), ("None", "None"), ("2", "None")]
    assert [(each.metric, str(each.value)) for each in locate(path, "acc")] == [
        ("acc", "1.0"),
        ("acc", "nan"),
        ("", "nan"),
    ]


def test_files_that_processes_read_are_what_one_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{name}.jsonl" for name in ("plain", "mixed", "listed", "damaged", "absent", "empty")]
    plain, mixed, listed, damaged, _, empty = paths
    plain.write_text(line(0, 1.0) + line(1, math.inf) + line(2, "N/A", metrics=["other"])[:-1])
    mixed.write_text(line(0, True) + '{"doc_id": 1, "acc": [1, null]}\n')
    listed.write_text(f"[{line(5, 0.5)}]")
    damaged.write_text(line(0, 1.0) + "nonsense\n" + line(1, 1.0))
    empty.write_text("")
    alone = {path: shown(path) for path in (plain, mixed, listed, empty)}
    sample_index._scanned.cache_clear()
    monkeypatch.setattr(sample_index, "_AHEAD_FROM", 0)
    monkeypatch.setattr(workers, "cores", lambda: 2)
    read_ahead(paths)
    assert {state.path for state in sample_index._AHEAD} == {plain, mixed, empty}
    assert {path: shown(path) for path in alone} == alone
    with pytest.raises(SmaugError, match=r"damaged\.jsonl, line 2: not valid JSON"):
        scanned(damaged)
    assert not sample_index._AHEAD
