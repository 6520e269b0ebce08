"""Files as programs and people leave them: byte order marks, other encodings, blank lines, numbers as text, tables."""

from __future__ import annotations

import codecs
import gzip
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.results.json_files import number_of_text
from smaug_eval.results.scored import Scored, score_paths
from smaug_eval.results.sources import read_source, unread_notes
from tests.results.others import STAMP, accuracy, lines, newest, older, sample, write

ANSWERS = lines([sample(number, float(number < 3)) for number in range(4)])
RESULTS = json.dumps(newest({"quiz": accuracy(0.75, 0.25)}), indent=1)

Form = Callable[[str], bytes]

FORMS: dict[str, tuple[Form, Form]] = {
    "byte order mark": (lambda text: codecs.BOM_UTF8 + text.encode(),) * 2,
    "UTF-16": (lambda text: text.encode("utf-16"), str.encode),
    "line ends of Windows": (lambda text: text.replace("\n", "\r\n").encode(),) * 2,
    "blank lines": (lambda text: f"\n{text}\n\n".encode(), lambda text: text.replace("\n", "\n\n").encode()),
    "no last line feed": (str.encode, lambda text: text.rstrip("\n").encode()),
}


def only(found: Scored) -> Any:
    """The only cell of the only table."""
    (table,) = found.comparison.all_tables
    ((cell,),) = table.cells.values()
    return cell


@pytest.mark.parametrize("form", FORMS)
def test_a_file_means_the_same_in_every_form(tmp_path: Path, form: str) -> None:
    """3 of 4 right: Wilson's interval from the samples, 30.06 to 95.44; from the standard error it would end at 100."""
    of_results, of_samples = FORMS[form]
    (tmp_path / f"results_{STAMP}.json").write_bytes(of_results(RESULTS))
    (tmp_path / f"samples_quiz_{STAMP}.jsonl").write_bytes(of_samples(ANSWERS))
    found = score_paths([tmp_path])
    cell = only(found)
    assert (cell.score.value, cell.score.n) == (75.0, 4)
    assert cell.score.interval == pytest.approx((30.06, 95.44), abs=0.01)
    assert list(found.notes) == []


@pytest.mark.parametrize("end", [".jsonl", ".jsonl.gz"])
def test_a_last_line_that_was_being_written_is_no_document(tmp_path: Path, end: str) -> None:
    write(tmp_path / f"results_{STAMP}.json", newest({"quiz": accuracy(0.75)}))
    cut = ANSWERS[:-30].encode()
    (tmp_path / f"samples_quiz_{STAMP}{end}").write_bytes(gzip.compress(cut) if end.endswith(".gz") else cut)
    assert only(score_paths([tmp_path])).score.notes == ("the samples hold 3 of 4 documents: scored as reported",)


def test_a_damaged_line_takes_the_samples_away_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / f"results_{STAMP}.json", newest({"quiz": accuracy(0.75)}))
    (tmp_path / f"samples_quiz_{STAMP}.jsonl").write_text(ANSWERS.replace('"doc_id": 1,', '"doc_id": ,'))
    found = score_paths([tmp_path])
    assert only(found).score.value == 75.0
    assert any("line 2: not valid JSON" in note for note in found.notes)


def test_numbers_that_were_written_as_text_are_numbers(tmp_path: Path) -> None:
    """lm-eval writes numpy's scalars as text, in results and in samples."""
    document = newest({"quiz": accuracy(0.75), "arc_challenge": accuracy(0.5, 0.01, "acc_norm,none")})
    document["results"]["quiz"] |= {"acc,none": "0.75", "acc_stderr,none": "0.25", "alias": "12"}
    document["results"]["arc_challenge"]["acc_norm,none"] = "0.5"
    document["n-samples"]["quiz"] = {"original": "4", "effective": "4"}
    document["n-shot"]["quiz"] = "5"
    write(tmp_path / f"results_{STAMP}.json", document)
    rows = [sample(number, str(number < 3)) for number in range(4)]
    (tmp_path / f"samples_quiz_{STAMP}.jsonl").write_text(lines(rows))
    found = {column: row for _, row in smaug_eval.scores([tmp_path]).iterrows() for column in [row["column"]]}
    assert (found["quiz"]["score"], found["quiz"]["n"]) == (75.0, 4)
    assert found["ARC"]["score"] == 50.0
    assert read_source(tmp_path).results["org/model"]["quiz"].asked.shots == 5
    cells = [
        cell for table in score_paths([tmp_path]).comparison.all_tables for (cell,) in table.cells.values() if cell
    ]
    assert pytest.approx((30.06, 95.44), abs=0.01) in [cell.score.interval for cell in cells]


@pytest.mark.parametrize(
    ("text", "number"),
    [("0.75", 0.75), (" -1e-3 ", -0.001), ("12", 12.0), (".5", 0.5), ("1_000", None), ("0x10", None), ("", None),
     ("N/A", None), ("5 shots", None), ("9" * 65, None), (True, None), (3, None)],
)  # fmt: skip
def test_which_texts_are_numbers(text: object, number: float | None) -> None:
    assert number_of_text(text) == number


def test_metrics_without_a_number_are_said(tmp_path: Path) -> None:
    results: dict[str, dict[str, Any]] = {
        "good": accuracy(0.5),
        "nan": {"acc,none": float("nan"), "acc_stderr,none": "N/A"},
        "null": {"acc,none": None},
        "text": {"f1,none": "NaN"},
        "empty": {},
    }
    write(tmp_path / f"results_{STAMP}.json", newest(results))
    assert list(score_paths([tmp_path]).notes) == [
        "org/model: not a number, shown as n/a: nan (acc), null (acc), text (f1)",
        "without a number: empty",
    ]


@pytest.mark.parametrize(
    ("limit", "n", "label", "said"),
    [
        (0.1, None, "0 shots, limit 10%, lm-eval 0.4.9", "scored on the first documents alone: quiz (limit 10%)"),
        (50, None, "0 shots, limit 50, lm-eval 0.4.9", "scored on the first documents alone: quiz (limit 50)"),
        (50, 50, "0 shots, limit 50, lm-eval 0.4.9", ""),
        (None, 50, "0 shots, lm-eval 0.4.9", ""),
    ],
)
def test_a_limit_is_in_the_label_and_said(
    tmp_path: Path, limit: float | None, n: int | None, label: str, said: str
) -> None:
    write(tmp_path / f"results_{STAMP}.json", newest({"quiz": accuracy(0.5)}, n=n, config={"limit": limit}))
    found = score_paths([tmp_path])
    (table,) = found.comparison.all_tables
    assert table.labels == {"quiz": label}
    assert [note for note in found.notes if note.startswith("org/model")] == ([f"org/model: {said}"] if said else [])


TABLES = ("scores.csv", "summary.md", "results.tsv", "leaderboard.xlsx")


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_named_for_what_they_are(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("model,acc\nm,0.5\n")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(SmaugError, match="a table or text, not JSON") as error:
            read_source(path)
        assert "--output_path" in str(error.value.fix)
        assert "FastChat" not in str(error.value.fix)
    write(tmp_path / "results.json", newest({"quiz": accuracy(0.5)}))
    assert unread_notes(read_source(tmp_path)) == [f"not read: {name}: a table or text, not JSON"]


def models(tmp_path: Path, arguments: Sequence[str], **more: Any) -> list[str]:
    """Names of the models of results that several evaluations wrote, one in each folder."""
    for number, each in enumerate(arguments):
        write(tmp_path / f"r{number}" / "results.json", {**older({"piqa": {"acc": 0.5 + number / 10}}, each), **more})
    return list(read_source(tmp_path).results)


def test_local_models_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    paths = ["pretrained=/data/exp1/llama-dpo", "pretrained=/data/exp2/llama-dpo,dtype=float16"]
    assert models(tmp_path, paths) == ["llama-dpo, in /data/exp1", "llama-dpo, in /data/exp2"]


def test_files_of_one_local_model_are_joined(tmp_path: Path) -> None:
    write(tmp_path / "a.json", older({"piqa": {"acc": 0.5}}, "pretrained=/data/exp1/llama-dpo"))
    write(tmp_path / "b.json", older({"boolq": {"acc": 0.6}}, "pretrained=/data/exp1/llama-dpo/"))
    (results,) = read_source(tmp_path).results.values()
    assert set(results) == {"piqa", "boolq"}


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("pretrained=/root/.cache/huggingface/hub/models--org--m-8B/snapshots/0123abcd,dtype=auto", "org/m-8B"),
        ("pretrained=models--gpt2/snapshots/0123abcd", "gpt2"),
        ("pretrained=C:\\cache\\models--org--m\\snapshots\\0123", "org/m"),
        ("pretrained=org/base,lora_local_path=/data/adapters/mine", "mine"),
        ("pretrained=org/base,peft=org/adapter", "org/adapter"),
    ],
)
def test_names_in_the_hub_s_cache_and_of_adapters(tmp_path: Path, arguments: str, name: str) -> None:
    assert models(tmp_path, [arguments], model_name="org/base" if "base" in arguments else None) == [name]


def test_an_adapter_and_its_base_are_two_models(tmp_path: Path) -> None:
    """vLLM's lora_local_path: lm-eval gives both the base's name."""
    arguments = ["pretrained=org/base", "pretrained=org/base,lora_local_path=/adapters/mine"]
    assert models(tmp_path, arguments, model_name="org/base") == ["org/base", "mine"]


def test_the_same_twice_is_told_with_folders_where_files_are_called_alike(tmp_path: Path) -> None:
    for number, value in enumerate((0.5, 0.6)):
        document = newest({"quiz": accuracy(value)}, date=1.7e9 + number)
        write(tmp_path / f"r{number}" / f"results_{STAMP}.json", document)
    (note,) = read_source(tmp_path).notes
    newest_one, older_one = (f"r{number}/results_{STAMP}.json" for number in (1, 0))
    assert f"the newest is shown ({newest_one}: acc 0.6), not {older_one}: acc 0.5" in note


def test_a_snapshot_of_a_dataset_in_the_hub_s_cache(tmp_path: Path) -> None:
    """Its files are links into blobs; the repository, the snapshot, a folder of it and a file can be given."""
    home = tmp_path / "datasets--org--results"
    folder = home / "snapshots" / ("c" * 40) / "org__model"
    folder.mkdir(parents=True)
    names = {f"results_{STAMP}.json": RESULTS, f"samples_quiz_{STAMP}.jsonl": ANSWERS}
    for number, (name, text) in enumerate(names.items()):
        blob = home / "blobs" / (str(number) * 64)
        write(blob, text)
        (folder / name).symlink_to(os.path.relpath(blob, folder))
    for path in (home, folder.parent, folder, folder / f"results_{STAMP}.json"):
        assert only(score_paths([path])).score.interval == pytest.approx((30.06, 95.44), abs=0.01)


def two(tmp_path: Path, first: dict[str, Any], second: dict[str, Any]) -> Scored:
    """Two models with results of one task."""
    for name, entry in (("org/a", first), ("org/b", second)):
        write(tmp_path / f"{name[-1]}.json", newest({"quiz": entry}, model=name))
    return score_paths([tmp_path])


def test_the_headline_is_one_that_all_models_have(tmp_path: Path) -> None:
    found = two(tmp_path, {"f1,none": 0.4, "acc,none": 0.5}, {"acc,none": 0.6})
    (table,) = found.comparison.all_tables
    assert table.metrics == ("acc",)
    assert [cell.score.value for (cell,) in table.cells.values() if cell is not None] == [50.0, 60.0]


def test_a_model_without_the_metric_does_not_vanish_without_a_word(tmp_path: Path) -> None:
    found = two(tmp_path, accuracy(0.5), {"f1,none": 0.4})
    assert only(found).score.value == 50.0
    assert list(found.notes) == ["org/b: quiz: not shown, with f1 but no acc (see --metric)"]


def test_a_group_without_a_number_is_no_loss(tmp_path: Path) -> None:
    document = newest({"top": {" ": " "}, "quiz": accuracy(0.5)}, group_subtasks={"top": ["quiz"], "quiz": []})
    write(tmp_path / "a.json", document)
    assert list(score_paths([tmp_path]).notes) == []


@pytest.mark.parametrize(
    ("task", "metric", "title"),
    [("arc_challenge", "acc_norm,none", "ARC"), ("hendrycksTest-anatomy", "acc", "MMLU"),
     ("leaderboard_mmlu_pro", "acc,none", "MMLU-Pro")],
)  # fmt: skip
def test_shares_of_the_leaderboards_tasks_may_be_in_percent(tmp_path: Path, task: str, metric: str, title: str) -> None:
    """57.5%: as it is, and for MMLU-Pro above the 10% of a guess, (57.5 - 10) / 90."""
    write(tmp_path / "a.json", newest({task: accuracy(57.5, 1.5, metric)}))
    (table,) = score_paths([tmp_path]).comparison.all_tables
    cell = table.cells["org/model"][table.columns.index(title)]
    assert cell is not None
    scale = 1 / 0.9 if title == "MMLU-Pro" else 1.0
    assert cell.score.value == pytest.approx(scale * (57.5 - (10 if scale > 1 else 0)))
    assert cell.score.stderr == pytest.approx(scale * 1.5)
    assert "given in percent" in cell.score.notes


@pytest.mark.parametrize(("results", "said"), [({}, "holds no task"), (None, "is missing")])
def test_results_of_nothing_are_named(tmp_path: Path, results: object, said: str) -> None:
    write(tmp_path / f"results_{STAMP}.json", {**newest({}), "results": results})
    with pytest.raises(SmaugError, match=said):
        read_source(tmp_path)


def test_numbers_of_documents_are_no_headline(tmp_path: Path) -> None:
    """As evalchemy writes repeated evaluations; 95% of a standard normal within 1.96 errors."""
    entry = {"num_total": 30, "solved_avg": 9.3, "run_stats": [], "accuracy_avg": 0.31, "accuracy_std_err": 0.02,
             "num_repeat": 10}  # fmt: skip
    document = older({"AIME24": entry, "own": {"num_correct": 7.0}})
    write(tmp_path / "results.json", document)
    (table,) = score_paths([tmp_path]).comparison.all_tables
    assert dict(zip(table.columns, table.metrics, strict=True)) == {"AIME24": "accuracy_avg", "own": "num_correct"}
    cell = table.cells["org/model"][0]
    assert cell is not None
    assert (cell.score.value, cell.score.stderr, cell.score.n) == (31.0, 2.0, 30)


def test_groups_that_list_no_members_have_those_below_their_indent(tmp_path: Path) -> None:
    """As lm-eval 0.4.0 wrote: a group, its tasks with indented aliases, then a task by itself."""
    names = {"all": "all", "part": " - part", "one": "  - one", "two": "  - two", "three": " - three", "alone": "alone"}
    document = newest({name: {**accuracy(0.5), "alias": alias} for name, alias in names.items()}, n=None)
    del document["group_subtasks"]
    document["groups"] = {name: document["results"][name] for name in ("all", "part")}
    document["n-samples"] = {name: {"effective": 10} for name in ("one", "two", "three", "alone")}
    document["results"] = {name: {**entry, "alias": names[name]} for name, entry in document["results"].items()}
    write(tmp_path / "results.json", document)
    (results,) = read_source(tmp_path).results.values()
    members = {name: result.subtasks for name, result in results.items() if result.is_group}
    assert members == {"all": ("one", "two", "three"), "part": ("one", "two")}


@pytest.mark.parametrize(
    ("engine", "name"), [("gpt2", "gpt2"), ("org/model", "org/model"), ("hf-causal", "folder"), ("hf", "folder")]
)
def test_an_engine_that_is_a_model_names_it(tmp_path: Path, engine: str, name: str) -> None:
    write(tmp_path / "folder" / "a.json", older({"piqa": {"acc": 0.5}}, "", model=engine))
    assert list(read_source(tmp_path / "folder").results) == [name]
