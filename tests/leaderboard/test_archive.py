"""Reading the archive, and ranks in it worked out by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from smaug_eval.cli import app
from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.archive import Archive, rank_of, read_archive, size_class, standing
from smaug_eval.leaderboard.published import PUBLISHED, SOURCE, TITLES
from smaug_eval.leaderboard.scores import ColumnScore, Score, SuiteScores
from smaug_eval.models.size import checkpoint_billions
from smaug_eval.results.standings import rank

HEADER = [
    "Model", "Average ⬆️", *TITLES, "Precision", "#Params (B)", "Model sha", "Flagged", "date",
]  # fmt: skip


def row(model: str, score: float | str, billions: int = 7, *, kept: str = "True", **other: Any) -> list[Any]:
    """A row whose six columns and average are all ``score``; ``kept`` is what the leaderboard wrote under "Flagged"."""
    average = other.get("average", score)
    return [model, average, *[score] * 6, "float16", billions, other.get("sha", "abc"), kept, other.get("date", "")]


ROWS = [
    row("a/top", 80, 70),
    row("a/high", 70),
    row("a/twice", 60, date="2024-01-01T00:00:00Z", sha="old"),
    row("a/twice", 50, date="2024-02-01T00:00:00Z", sha="new"),
    row("a/cheat", 65, kept="False"),
    row("a/mid", 50),
    row("a/small", 40, 0),
    row("a/broken", "", 7),
]


def write(path: Path, rows: list[list[Any]], header: list[str] = HEADER) -> Path:
    text = "".join(",".join(map(str, line)) + "\n" for line in [header, *rows])
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return read_archive(write(tmp_path / "archive.csv", ROWS))


@pytest.mark.parametrize("name", ["archive.csv", "archive.csv.gz"])
def test_rows_are_counted(tmp_path: Path, name: str) -> None:
    about = read_archive(write(tmp_path / name, ROWS)).describe()
    assert about == {
        "source": name,
        "rows": 8,
        "unusable_rows": 1,
        "flagged_rows": 1,
        "include_flagged": False,
        "repeated_rows": 1,
        "models": 5,  # top, high, twice, mid, small
        "largest_average_difference": 0.0,
        "wrong_averages": [],
    }
    assert read_archive(tmp_path / name).describe(include_flagged=True)["models"] == 6


def test_a_score_is_ranked_behind_all_higher_ones(archive: Archive) -> None:
    found = rank_of(Score(55.0, 5.0, 100, ("a note",), (45.0, 75.0)), "Average", archive.competitors())
    assert (found.rank, found.models) == (4, 5)  # behind 80, 70, 60
    assert (found.best, found.worst) == (2, 5)  # 75 is behind 80; 45 behind 80, 70, 60, 50
    assert found.percentile == pytest.approx(40.0)  # better than 50 and 40
    assert [(each.model, each.score) for each in found.above] == [("a/twice", 60.0), ("a/high", 70.0), ("a/top", 80.0)]
    assert [(each.model, each.score) for each in found.below] == [("a/mid", 50.0), ("a/small", 40.0)]
    assert found.not_comparable == ("a note",)


def test_flagged_models_count_only_on_request(archive: Archive) -> None:
    score = Score(62.0, None, 100)
    assert rank_of(score, "ARC", archive.competitors()).rank == 3
    with_flagged = rank_of(score, "ARC", archive.competitors(include_flagged=True))
    assert (with_flagged.rank, with_flagged.above[0].model) == (4, "a/cheat")
    assert (with_flagged.best, with_flagged.worst) == (None, None)


def test_ends_of_the_table(archive: Archive) -> None:
    first = rank_of(Score(90.0, None, 1), "Average", archive.competitors())
    assert (first.rank, first.above, first.percentile) == (1, (), 100.0)
    last = rank_of(Score(40.0, None, 1), "Average", archive.competitors())
    assert (last.rank, last.percentile) == (5, 0.0)  # a tie stands beside the archived model, not behind it
    nobody = rank_of(Score(40.0, None, 1), "Average", archive.competitors().iloc[:0])
    assert (nobody.rank, nobody.models, nobody.percentile) == (1, 0, None)


@pytest.mark.parametrize(
    ("billions", "name"),
    [
        (0.1, "?"), (0.99, "?"), (1.8, "~1.5"), (2.9, "~1.5"), (3, "~3"), (4.9, "~3"), (7.2, "~7"), (9.9, "~7"),
        (13, "~13"), (20.9, "~13"), (34, "~35"), (46.7, "~60"), (70.6, "~60"), (72, "70+"), (180, "70+"),
    ],
)  # fmt: skip
def test_size_classes_are_the_leaderboards(billions: float, name: str) -> None:
    assert size_class(billions) == name


def suite_scores(value: float, *, complete: bool = True, notes: tuple[str, ...] = ()) -> SuiteScores:
    titles = TITLES if complete else TITLES[:2]
    score = Score(value, 1.0, 100, notes, (value - 2, value + 2))
    columns = tuple(ColumnScore(title, "acc", score, {}, True) for title in titles)
    label = "average of six" if complete else "mean of 2 of 6 columns"
    return SuiteScores(v1.NAME, columns, TITLES[len(titles) :], score, label)


def test_a_standing_has_all_models_and_the_size_class(archive: Archive) -> None:
    own = standing(archive, suite_scores(55.0), model="me", billions=7.2)
    assert own.size_class == "~7"
    assert [(each.column, each.size_class) for each in own.ranks] == [
        *((column, None) for column in ("Average", *TITLES)),
        *((column, "~7") for column in ("Average", *TITLES)),
    ]
    assert [(each.rank, each.models) for each in own.ranks[::7]] == [(4, 5), (3, 3)]  # 7 B: high, twice, mid
    assert own.notes == ()


def test_an_incomplete_average_is_not_ranked(archive: Archive) -> None:
    own = standing(archive, suite_scores(55.0, complete=False, notes=("5 of 1,172 documents",)), model="me")
    assert [each.column for each in own.ranks] == ["ARC", "HellaSwag"]
    assert own.ranks[0].not_comparable == ("5 of 1,172 documents",)
    assert own.notes == (
        "the average is not ranked: mean of 2 of 6 columns",
        "not ranked by size: the model's size is unknown",
    )


def test_a_model_is_not_ranked_against_its_own_rows(archive: Archive) -> None:
    own = standing(archive, suite_scores(60.0), model="A/Twice")
    assert (own.ranks[0].rank, own.ranks[0].models, own.ranks[0].below[0].model) == (3, 4, "a/mid")


def test_wrong_averages_are_listed(tmp_path: Path) -> None:
    rows = [row("a/right", 50, average=50.01), row("a/wrong", 50, average=50.02)]
    about = read_archive(write(tmp_path / "archive.csv", rows)).describe()
    assert about["wrong_averages"] == [{"model": "a/wrong", "published": 50.02, "recomputed": 50.0}]
    assert about["largest_average_difference"] == 0.02


def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    header = ["Hellaswag" if name == "HellaSwag" else name for name in HEADER]
    with pytest.raises(SmaugError, match=r"archive.csv has no column 'HellaSwag'.*nearest .* 'Hellaswag'"):
        read_archive(write(tmp_path / "archive.csv", ROWS, header))


def test_an_odd_flag_is_named_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match="line 3: Flagged is 'maybe'"):
        read_archive(write(tmp_path / "archive.csv", [row("a/b", 50), row("a/c", 50, kept="maybe")]))


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b no gzip after all", b"\xff\xfe\x00"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "archive.csv.gz"
    file.write_bytes(content)
    with pytest.raises(SmaugError, match=r"archive.csv.gz (cannot be read|has no column)"):
        read_archive(file)
    with pytest.raises(SmaugError, match="cannot be read"):
        read_archive(tmp_path / "missing.csv")


def test_the_real_archive(shared: Path) -> None:
    archive = read_archive(shared / "leaderboard" / "open_llm_leaderboard_v1.csv.gz")
    about = archive.describe()
    assert (about["rows"], about["unusable_rows"], about["flagged_rows"]) == (7_169, 0, 109)
    assert about["wrong_averages"] == []  # the mean of six is within 0.01 on every row, no exceptions
    flagged = set(archive.rows[archive.rows["flagged"]]["model"])
    assert "Contamination/contaminated_proof_7b_v1.0" in flagged
    assert "abacusai/Smaug-72B-v0.1" not in flagged


def test_the_published_rows_are_the_archives(shared: Path) -> None:
    rows = read_archive(shared / "leaderboard" / "open_llm_leaderboard_v1.csv.gz").rows
    for published in PUBLISHED:
        (own,) = rows[(rows["model"] == published.model) & (rows["revision"] == published.revision)].to_dict("records")
        assert published.scores == {title: own[title] for title in TITLES}
        assert (published.average, published.precision) == (own["Average"], own["precision"])
        assert (published.date, published.source) == (own["date"][:10], SOURCE)


def test_lm_eval_results_are_ranked_with_their_marks(tmp_path: Path) -> None:
    entry = {"alias": "x", "sample_len": 5, "acc_norm,none": 0.4, "acc_norm_stderr,none": 0.2449}
    results = {
        "results": {"open_llm_v1_arc_challenge": entry},
        "model_name": "some/model",
        "config": {"model_num_parameters": 7_241_732_096},
    }
    (tmp_path / "results_2024-01-01.json").write_text(json.dumps(results))
    found = rank([tmp_path / "results_2024-01-01.json"], write(tmp_path / "archive.csv", ROWS))
    (own,) = found["standings"]
    assert (own["model"], own["billions"], own["size_class"]) == ("some/model", pytest.approx(7.24, abs=0.01), "~7")
    assert [(each["column"], each["rank"]) for each in own["ranks"]] == [("ARC", 5), ("ARC", 4)]
    assert own["ranks"][0]["not_comparable"] == ("5 of 1,172 documents",)


def test_sizes_come_from_the_headers_of_the_weights(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, 3, dtype=torch.bfloat16)}, tmp_path / "model-1.safetensors")
    save_file({"b": torch.zeros(4), "step": torch.tensor(1)}, tmp_path / "model-2.safetensors")
    assert checkpoint_billions(tmp_path) is None  # an adapter has no config.json
    (tmp_path / "config.json").write_text("{}")
    assert checkpoint_billions(tmp_path) == pytest.approx((2 * 3 + 4 + 1) / 1e9)
    save_file({"packed": torch.zeros(4, dtype=torch.int32)}, tmp_path / "model-3.safetensors")
    assert checkpoint_billions(tmp_path) is None  # eight weights of 4 bits in each number, or four of 8?
    (tmp_path / "model-3.safetensors").write_bytes(b"damaged")
    assert checkpoint_billions(tmp_path) is None


def test_the_verb_shows_published_rows_and_wants_an_archive_for_ranks(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["leaderboard", "--json"])
    rows = json.loads(shown.stdout)["published"]
    assert rows[0]["model"] == "abacusai/Smaug-72B-v0.1"
    assert (rows[0]["date"], rows[0]["source"], rows[0]["average"]) == ("2024-02-03", SOURCE, 80.48)
    refused = CliRunner().invoke(app, ["leaderboard", str(tmp_path)])
    assert isinstance(refused.exception, SmaugError)
    assert "--archive" in str(refused.exception)
    described = CliRunner().invoke(app, ["leaderboard", "--archive", str(write(tmp_path / "archive.csv", ROWS))])
    assert "8 rows, 5 models" in described.stdout
    assert "beyond 0.01: none" in " ".join(described.stdout.split())


def test_an_empty_flag_counts_as_none_and_a_short_line_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "archive.csv", [row("a/b", 50), row("a/c", 40, kept="")])
    path.write_text(path.read_text() + "a/short,\n")
    archive = read_archive(path)
    assert (archive.read, archive.unusable) == (3, 1)
    assert archive.rows["flagged"].tolist() == [False, False]


@pytest.mark.parametrize("rows", [[], [row("a/b", "n/a")], [row("a/b", 101)]])
def test_a_table_without_a_usable_row_ranks_nothing(tmp_path: Path, rows: list[list[Any]]) -> None:
    with pytest.raises(SmaugError, match=r"archive\.csv holds no row with a model and all scores from 0 to 100"):
        read_archive(write(tmp_path / "archive.csv", rows))


def test_a_parquet_table_is_refused_with_how_to_write_it(tmp_path: Path) -> None:
    pd.read_csv(write(tmp_path / "archive.csv", ROWS)).to_parquet(tmp_path / "archive.parquet")
    with pytest.raises(SmaugError, match="cannot be read") as error:
        read_archive(tmp_path / "archive.parquet")
    assert "pandas.read_parquet(FILE).to_csv(" in str(error.value.fix)
