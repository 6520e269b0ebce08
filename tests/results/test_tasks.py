"""Tasks of no suite: metric, direction, unit, interval, test and verdict, held against other libraries' numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score, matthews_corrcoef

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.columns import PERCENT, PLAIN
from smaug_eval.leaderboard.scores import Score
from smaug_eval.results.differences import Difference
from smaug_eval.results.metrics import Metric, chosen_metrics, headline, higher_is_better, unit_of
from smaug_eval.results.scored import score_paths
from smaug_eval.results.tables import ScoreCell, ScoreTable
from tests.results.others import STAMP, accuracy, lines, newest, sample, write

MODELS = ("org/base", "org/tuned")


def model(
    folder: Path, name: str, tasks: Mapping[str, Mapping[str, Any]], samples: Mapping[str, Any] = {}, **more: Any
) -> None:
    """A results file with samples beside it."""
    home = folder / name.replace("/", "__")
    write(home / f"results_{STAMP}.json", newest(tasks, model=name, **more))
    for task, rows in samples.items():
        write(home / f"samples_{task}_{STAMP}.jsonl", lines(rows))


def two_models(
    folder: Path, values: Sequence[Sequence[object]], metric: str, scores: Sequence[float], **more: Any
) -> ScoreCell:
    """The cell of a model beside the baseline's, of a task ``mine`` with samples of both."""
    documents = more.pop("documents", None)
    for name, own, score in zip(MODELS, values, scores, strict=True):
        rows = [
            sample(number, value, metric, **({"doc": documents[number]} if documents else {}))
            for number, value in enumerate(own)
        ]
        model(folder, name, {"mine": accuracy(score, math.nan, f"{metric},none")}, {"mine": rows}, n=len(own), **more)
    return cell(folder)


def table(folder: Path, **options: Any) -> ScoreTable:
    (found,) = score_paths([folder], **options).others
    return found


def cell(folder: Path, title: str = "mine", name: str = MODELS[1]) -> ScoreCell:
    shown = table(folder)
    found = shown.cells[name][shown.columns.index(title)]
    assert found is not None
    return found


def apart(found: ScoreCell) -> Difference:
    assert found.difference is not None, found.why_not
    return found.difference


def test_right_and_wrong_answers_have_mcnemars_test(tmp_path: Path) -> None:
    """8 gained, 3 lost of 60: by hand 100 x 5 / 60 points; p is the exact binomial test's."""
    base = [0.0] * 8 + [1.0] * 3 + [1.0] * 29 + [0.0] * 20
    tuned = [1.0] * 8 + [0.0] * 3 + [1.0] * 29 + [0.0] * 20
    found = two_models(tmp_path, (base, tuned), "acc", (32 / 60, 37 / 60))
    difference = apart(found)
    assert found.score.value == pytest.approx(100 * 37 / 60)
    assert difference.points == pytest.approx(100 * 5 / 60)
    assert (difference.gained, difference.lost, difference.n) == (8, 3, 60)
    assert difference.p_value == pytest.approx(stats.binomtest(3, 11).pvalue)
    assert "McNemar" in difference.test
    low, high = stats.binomtest(37, 60).proportion_ci(method="wilson")
    assert found.score.interval == pytest.approx((100 * low, 100 * high))


def test_values_between_have_a_paired_t_interval_and_sign_flips(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    base = generator.uniform(0, 1, 12)
    tuned = np.clip(base + generator.normal(0.05, 0.1, 12), 0, 1)
    difference = apart(two_models(tmp_path, (base.tolist(), tuned.tolist()), "f1_like", (base.mean(), tuned.mean())))
    ends = stats.ttest_rel(tuned, base).confidence_interval()
    assert difference.interval == pytest.approx((100 * ends.low, 100 * ends.high), rel=1e-6)
    flipped = stats.permutation_test(
        (tuned - base,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert difference.p_value == pytest.approx(flipped.pvalue, abs=1e-9)
    assert "sign" in difference.test


def test_documents_about_one_passage_count_as_one(tmp_path: Path) -> None:
    """Ten passages with four questions that move alike: the standard error is the passages', not the questions'."""
    shifts = np.random.default_rng(1).normal(0.0, 0.2, 10).repeat(4)
    base = np.full(40, 0.5)
    passages = [{"passage_id": f"p{number // 4}", "question": str(number)} for number in range(40)]
    scores = (0.5, float((base + shifts).mean()))
    values = (base.tolist(), (base + shifts).tolist())
    clustered = apart(two_models(tmp_path / "c", values, "f1_like", scores, documents=passages))
    alone = apart(two_models(tmp_path / "a", values, "f1_like", scores))
    by_passage = stats.ttest_1samp(shifts[::4], 0.0).confidence_interval()
    assert clustered.interval == pytest.approx((100 * by_passage.low, 100 * by_passage.high), rel=0.1)
    assert alone.interval is not None
    assert clustered.interval is not None
    assert np.ptp(clustered.interval) > 1.5 * np.ptp(alone.interval)


def test_totals_have_an_unpaired_z_test(tmp_path: Path) -> None:
    for name, score, error in zip(MODELS, (0.5, 0.56), (0.02, 0.025), strict=True):
        model(tmp_path, name, {"mine": accuracy(score, error)}, n=400)
    difference = apart(cell(tmp_path))
    both = math.hypot(2.0, 2.5)
    assert difference.points == pytest.approx(6.0)
    assert difference.interval == pytest.approx((6 - 1.959964 * both, 6 + 1.959964 * both))
    assert difference.p_value == pytest.approx(2 * stats.norm.sf(6 / both))
    assert "independent" in difference.test


def test_p_values_are_holms_over_the_tasks_of_a_model(tmp_path: Path) -> None:
    from statsmodels.stats.multitest import multipletests

    apart_by = (0.12, 0.07, 0.05, 0.001)
    for name, sign in zip(MODELS, (0, 1), strict=True):
        tasks = {f"t{place}": accuracy(0.5 + sign * gap, 0.02) for place, gap in enumerate(apart_by)}
        model(tmp_path, name, tasks, n=600)
    cells = [cell(tmp_path, f"t{place}") for place in range(4)]
    raw = [2 * stats.norm.sf(100 * gap / math.hypot(2, 2)) for gap in apart_by]
    assert [apart(each).p_value for each in cells] == pytest.approx(raw)
    _, adjusted, _, _ = multipletests(raw, method="holm")
    assert [apart(each).adjusted_p for each in cells] == pytest.approx(list(adjusted))
    assert [apart(each).verdict.outcome.value for each in cells] == ["better", "better", "inconclusive", "inconclusive"]
    assert raw[2] > 0.05 or adjusted[2] > 0.05


@pytest.mark.parametrize(
    ("metric", "recorded", "verdict"),
    [
        ("acc", None, "worse"), ("perplexity", None, "better"), ("word_perplexity", None, "better"),
        ("bits_per_byte", None, "better"), ("mae", None, "better"), ("wer", None, "better"), ("brier", None, "better"),
        ("exact_match", None, "worse"), ("bleu", None, "worse"), ("llm_judge", None, "worse"),
        ("acc", False, "better"), ("perplexity", True, "worse"), ("frobs", True, "worse"), ("frobs", False, "better"),
        ("frobs", None, "lower"),
    ],
)  # fmt: skip
def test_the_direction_is_the_file_s_else_that_of_known_metrics(
    tmp_path: Path, metric: str, recorded: bool | None, verdict: str
) -> None:
    more = {} if recorded is None else {"higher_is_better": {"mine": {metric: recorded}}}
    for name, score in zip(MODELS, (0.9, 0.4), strict=True):
        model(tmp_path, name, {"mine": accuracy(score, 0.01, f"{metric},none")}, n=400, **more)
    assert apart(cell(tmp_path)).verdict.outcome.value == verdict
    (column,) = table(tmp_path).described
    assert column.higher_is_better is (
        recorded if recorded is not None else {"better": False, "worse": True}.get(verdict)
    )


def test_direction_of_the_task_s_own_configuration(tmp_path: Path) -> None:
    listed = [{"metric": "frobs", "higher_is_better": False}]
    document = newest({"mine": accuracy(0.5, metric="frobs,none")}, configs={"mine": {"metric_list": listed}})
    write(tmp_path / "r.json", document)
    assert [column.higher_is_better for column in table(tmp_path).described] == [False]


@pytest.mark.parametrize(
    ("metric", "values", "unit"),
    [
        ("acc", [0.5, 1.0], PERCENT), ("acc_norm", [0.5], PERCENT), ("exact_match", [0.2], PERCENT),
        ("exact_match", [42.0], PLAIN), ("acc", [0.5, 55.0], PLAIN), ("bleu", [0.57], PLAIN), ("bleu", [30.0], PLAIN),
        ("word_perplexity", [0.9], PLAIN), ("mae", [0.3], PLAIN), ("llm_judge", [0.9], PLAIN), ("f1", [0.4], PERCENT),
        ("bleu_acc", [0.3], PERCENT), ("rouge1_diff", [-0.2], PLAIN), ("pct_stereotype", [0.6], PERCENT),
    ],
)  # fmt: skip
def test_units(metric: str, values: list[float], unit: object) -> None:
    assert unit_of(metric, values) == unit


def test_known_metrics_of_both_directions_and_unknown_ones() -> None:
    lower = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "mae", "mse", "rmse", "wer", "cer",
             "ter", "brier_score", "loss", "ppl", "bpb", "ece", "mean_absolute_error")  # fmt: skip
    higher = ("acc", "acc_norm", "exact_match", "f1", "mc1", "mc2", "bleu", "rougeL", "chrf", "mcc", "em", "pass@1",
              "prompt_level_strict_acc", "inst_level_loose_acc", "multiple_choice_grade", "qem")  # fmt: skip
    assert {name: higher_is_better(name, {}) for name in lower} == dict.fromkeys(lower, False)
    assert {name: higher_is_better(name, {}) for name in higher} == dict.fromkeys(higher, True)
    assert higher_is_better("pct_stereotype", {}) is None
    assert higher_is_better("likelihood_diff", {}) is None


@given(st.text(max_size=60))
def test_any_name_of_a_metric_has_an_answer(name: str) -> None:
    assert higher_is_better(name, {}) in {True, False, None}
    assert unit_of(name, [0.5]) in {PERCENT, PLAIN}


def test_the_headline_is_the_task_s_own_first_metric_and_filter() -> None:
    metrics = [Metric("acc_norm", "none", 0.5, 0.1), Metric("exact_match", "strict", 0.3, 0.1),
               Metric("exact_match", "flexible", 0.4, 0.1), Metric("acc", "none", 0.6, 0.1)]  # fmt: skip
    assert headline(metrics) == metrics[0]
    assert headline(metrics, ["exact_match", "acc"]) == metrics[1]
    assert headline([metrics[0]._replace(value=math.nan), metrics[3]]) == metrics[3]
    assert headline([]) is None


@pytest.mark.parametrize(
    ("given_", "title", "value"),
    [
        ((), "exact_match (strict)", 30.0),
        (("exact_match,flexible",), "exact_match (flexible)", 40.0),
        (("mine=acc",), "acc", 60.0),
        (("other=acc", "acc"), "acc", 60.0),
        (("frobs",), "exact_match (strict)", 30.0),  # which the task does not have
    ],
)
def test_a_metric_can_be_named(tmp_path: Path, given_: Sequence[str], title: str, value: float) -> None:
    entry = accuracy(0.3, metric="exact_match,strict") | accuracy(0.4, metric="exact_match,flexible") | accuracy(0.6)
    write(tmp_path / "r.json", newest({"mine": entry}))
    shown = table(tmp_path, metrics=given_)
    assert shown.metrics == (title,)
    (found,) = shown.cells["org/model"]
    assert found is not None
    assert found.score.value == pytest.approx(value)


def test_an_infinite_number_is_none_and_no_page_ends_at_it(tmp_path: Path) -> None:
    """The perplexity of a model that diverged, beside a model's that did not; on the leaderboard it counts as 0."""
    for name, value in (("fine", 12.0), ("diverged", math.inf)):
        entries = {"wikitext": {"word_perplexity,none": value, "word_perplexity_stderr,none": "N/A"},
                   "arc_challenge": {"acc_norm,none": value / 48, "acc_norm_stderr,none": 0.1}}  # fmt: skip
        write(tmp_path / name / "results.json", newest(entries, model=f"org/{name}", shots=25))
    page = smaug_eval.report([tmp_path / "fine", tmp_path / "diverged"], tmp_path / "page.json", format_="json")
    found = json.loads(page.read_text())
    assert any("shown as n/a: wikitext (word_perplexity)" in text for text in found["warnings"])
    assert any("counted as 0 in the scores, as on the leaderboard: arc" in text for text in found["warnings"])
    arc = smaug_eval.scores([tmp_path]).set_index(["model", "column"])["score"]
    assert (arc["org/fine", "ARC"], arc["org/diverged", "ARC"]) == (25.0, 0.0)


def test_no_interval_is_called_conservative(tmp_path: Path) -> None:
    """A perplexity of totals alone has none: nothing says how far it would vary."""
    for name, value in (("old", 10.0), ("new", 12.0)):
        entries = {"wikitext": {"word_perplexity,none": value, "word_perplexity_stderr,none": "N/A"}}
        write(tmp_path / name / "results.json", newest(entries, model=f"org/{name}"))
    page = smaug_eval.report([tmp_path / "old", tmp_path / "new"], tmp_path / "page.md", format_="md").read_text()
    assert "12 against 10 (no interval: nothing says how far the scores would vary)." in page
    assert "conservative" not in page


def test_a_metric_that_stands_for_nothing_and_a_task_without_a_number_are_said(tmp_path: Path) -> None:
    entries = {"mine": accuracy(0.6), "arc_challenge": accuracy(0.5, metric="acc_norm,none"),
               "words": {"acc,none": "high"}}  # fmt: skip
    write(tmp_path / "r.json", newest(entries))
    given_ = ["frobs", "min=acc", "mine=acc", "arc_challenge=acc_norm", "acc"]
    notes = score_paths([tmp_path], metrics=given_).notes
    assert [note for note in notes if "--metric" in note] == [
        "--metric frobs changes nothing: no task has this metric; there is acc, acc_norm",
        "--metric min=acc changes nothing: there is no task min; did you mean 'mine'",
        "--metric arc_challenge=acc_norm changes nothing: arc_challenge is a suite's task, and the suite says which "
        "metric counts",
    ]
    assert "without a number: words" in notes
    page = smaug_eval.report([tmp_path], tmp_path / "page.md", format_="md", metrics=given_).read_text()
    assert "without a number: words." in page
    assert "--metric frobs changes nothing" in page


@pytest.mark.parametrize("text", ["", "task=", "=acc", "a=b="])
def test_a_metric_that_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(SmaugError, match="no metric"):
        chosen_metrics([text])


def config(metric: str, aggregation: str) -> dict[str, Any]:
    listed = [{"metric": metric, "aggregation": aggregation, "higher_is_better": True}]
    return {"configs": {"mine": {"metric_list": listed}}}


def test_perplexity_by_words_is_resampled_from_its_parts(tmp_path: Path) -> None:
    """lm-eval logs (log-likelihood, words) of each document; the score is exp of minus the ratio of the sums."""
    generator = np.random.default_rng(3)
    words = generator.integers(20, 90, 40)
    likelihoods = [-words * generator.normal(4.0, 0.2, 40), -words * generator.normal(3.9, 0.2, 40)]
    parts = [[[float(a), int(b)] for a, b in zip(own, words, strict=True)] for own in likelihoods]
    scores = [math.exp(-own.sum() / words.sum()) for own in likelihoods]
    found = two_models(tmp_path, parts, "word_perplexity", scores)
    difference = apart(found)
    other = stats.bootstrap(
        (likelihoods[1], likelihoods[0], words),
        lambda a, b, c, axis=-1: np.exp(-a.mean(axis) / c.mean(axis)) - np.exp(-b.mean(axis) / c.mean(axis)),
        paired=True, vectorized=True, method="percentile", rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert difference.points == pytest.approx(scores[1] - scores[0])
    assert difference.interval == pytest.approx(tuple(other), abs=0.03 * (other.high - other.low))
    assert "paired bootstrap of documents" in difference.test
    assert difference.higher_is_better is False
    assert found.score.interval is not None


CLASSES = np.random.default_rng(5)
GOLD = CLASSES.integers(0, 3, 80)
PREDICTED = [np.where(CLASSES.random(80) < share, GOLD, CLASSES.integers(0, 3, 80)) for share in (0.4, 0.9)]


@pytest.mark.parametrize(
    ("metric", "score", "name"),
    [
        ("f1", lambda gold, found: f1_score(gold, found, average="macro"), "macro F1"),
        ("f1", lambda gold, found: f1_score(gold, found, average="weighted"), "weighted F1"),
        ("f1", lambda gold, found: f1_score(gold, found, average="micro"), "micro F1"),
        ("mcc", matthews_corrcoef, "Matthews' correlation"),
    ],
)
def test_scores_of_classes_are_resampled_from_their_tables(
    tmp_path: Path, metric: str, score: Callable[[Any, Any], float], name: str
) -> None:
    parts = [[[int(a), int(b)] for a, b in zip(GOLD, own, strict=True)] for own in PREDICTED]
    scores = [float(score(GOLD, own)) for own in PREDICTED]
    found = two_models(tmp_path, parts, metric, scores, **config(metric, "my_own_f1"))
    difference = apart(found)
    unit = found.difference.unit.scale if found.difference else 1
    assert difference.points == pytest.approx(unit * (scores[1] - scores[0]))
    assert name in difference.test
    draws = np.random.default_rng(2).integers(0, 80, (150, 80))
    drawn = [unit * (score(GOLD[rows], PREDICTED[1][rows]) - score(GOLD[rows], PREDICTED[0][rows])) for rows in draws]
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert difference.interval == pytest.approx((low, high), abs=0.25 * (high - low))
    assert difference.verdict.outcome.value == "better"


WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "house", "and", "then", "left", "came"]


def test_scores_of_translations_are_sacrebleus(tmp_path: Path) -> None:
    import sacrebleu

    generator = np.random.default_rng(4)
    gold = [" ".join(generator.choice(WORDS, 12)) for _ in range(30)]
    found = []
    for share in (0.6, 0.9):
        texts = [" ".join(w if generator.random() < share else "fish" for w in text.split()) for text in gold]
        found.append(texts)
    for metric, score in (
        ("bleu", sacrebleu.corpus_bleu),
        ("ter", sacrebleu.corpus_ter),
        ("chrf", sacrebleu.corpus_chrf),
    ):
        parts = [[[[a], b] for a, b in zip(gold, own, strict=True)] for own in found]
        scores = [score(own, [gold]).score for own in found]
        home = tmp_path / metric
        difference = apart(two_models(home, parts, metric, scores, **config(metric, metric)))
        assert difference.points == pytest.approx(scores[1] - scores[0], rel=1e-4)
        assert metric in difference.test.lower()
        draws = np.random.default_rng(2).integers(0, 30, (80, 30))
        drawn = [score([found[1][i] for i in rows], [[gold[i] for i in rows]]).score
                 - score([found[0][i] for i in rows], [[gold[i] for i in rows]]).score for rows in draws]  # fmt: skip
        low, high = np.percentile(drawn, [2.5, 97.5])
        assert difference.interval == pytest.approx((low, high), abs=0.3 * (high - low))


def test_parts_that_do_not_give_the_score_are_no_parts_of_it(tmp_path: Path) -> None:
    """Results of another evaluation than the samples: only the totals are compared, and the page says why."""
    parts = [[[-100.0, 20], [-120.0, 30], [-90.0, 25]] for _ in MODELS]
    found = two_models(tmp_path, parts, "word_perplexity", (17.0, 19.0))
    assert apart(found).interval is None
    assert apart(found).word == "not tested"


GROUP = {"group_subtasks": {"both": ["one", "two"], "one": [], "two": []}}


def grouped(folder: Path, name: str, one: list[float], two: list[float], value: float, **more: Any) -> None:
    tasks = {"both": accuracy(value, 0.02), "one": accuracy(float(np.mean(one))), "two": accuracy(float(np.mean(two)))}
    rows = {task: [sample(n, v, **more) for n, v in enumerate(own)] for task, own in (("one", one), ("two", two))}
    model(folder, name, tasks, rows, n={"one": len(one), "two": len(two)}, **GROUP)


def test_a_group_stands_as_lm_eval_weighs_it_and_as_a_plain_mean(tmp_path: Path) -> None:
    """10 of 20 and 60 of 60: weighted by documents 70 of 80, plainly (50 + 100) / 2."""
    grouped(tmp_path, MODELS[0], [1.0, 0.0] * 10, [1.0] * 60, 70 / 80)
    shown = table(tmp_path)
    assert shown.columns == ("both", "both, plain mean", "one", "two")
    values = [found.score.value for found in shown.cells[MODELS[0]] if found is not None]
    assert values == pytest.approx([87.5, 75.0, 50.0, 100.0])
    assert shown.labels["both"] == "2 tasks, weighted by documents"
    assert shown.labels["both, plain mean"] == "2 tasks, plain mean"


def test_a_group_is_decided_by_its_members(tmp_path: Path) -> None:
    """Both members compare, document by document, though only one model's files name a chat template."""
    grouped(tmp_path, MODELS[0], [1.0, 0.0] * 10, [1.0] * 20, 0.75)
    grouped(tmp_path, MODELS[1], [1.0, 1.0] * 10, [1.0] * 20, 1.0)
    path = tmp_path / MODELS[1].replace("/", "__") / f"results_{STAMP}.json"
    import json

    document = json.loads(path.read_text())
    write(path, {**document, "chat_template": "{{ messages }}", "chat_template_sha": "0" * 64})
    difference = apart(cell(tmp_path, "both"))
    assert difference.points == pytest.approx(25.0)
    assert (difference.gained, difference.lost, difference.n) == (10, 0, 40)
    assert difference.p_value == pytest.approx(stats.binomtest(0, 10).pvalue)


def test_a_group_with_a_member_that_does_not_compare_says_which(tmp_path: Path) -> None:
    grouped(tmp_path, MODELS[0], [1.0, 0.0] * 10, [1.0] * 20, 0.75)
    grouped(tmp_path, MODELS[1], [1.0, 1.0] * 10, [1.0] * 20, 1.0, prompt_hash="other")
    found = cell(tmp_path, "both")
    assert found.difference is None
    assert str(found.why_not).startswith("one: ")


def test_samples_that_are_cut_replace_nothing_and_are_said(tmp_path: Path) -> None:
    """75 and 78 of 100 documents, samples of the first 3 alone."""
    for name, score in zip(MODELS, (0.75, 0.78), strict=True):
        entry = {"gsm8k": accuracy(score, 0.04, "exact_match,strict-match")}
        rows = [sample(number, 1.0, "exact_match", filter="strict-match") for number in range(3)]
        model(tmp_path, name, entry, {"gsm8k": rows}, n=100, shots=5)
    scored = score_paths([tmp_path])
    assert [views.columns[0].v1.value for views in scored.views] == [75.0, 78.0]
    assert [views.columns[0].v1.n for views in scored.views] == [100, 100]
    notes = " ".join(scored.views[0].columns[0].v1.notes)
    assert "the samples hold 3 of 100 documents: scored as reported" in notes
    (shown,) = scored.comparison.tables
    (found,) = shown.cells[MODELS[1]]
    assert found is not None
    assert (found.score.n, apart(found).gained) == (100, None)


def test_samples_of_another_evaluation_are_said(tmp_path: Path) -> None:
    rows = [sample(number, 0.0) for number in range(4)]
    model(tmp_path, MODELS[0], {"mine": accuracy(0.75)}, {"mine": rows})
    model(tmp_path, MODELS[1], {"mine": accuracy(0.5)}, {"mine": [sample(n, float(n < 2)) for n in range(4)]})
    found = cell(tmp_path)
    assert found.reference is not None
    assert found.reference.value == 75.0
    assert apart(found).gained is None  # not paired
    page = smaug_eval.report([tmp_path], tmp_path / "page.md", format_="md").read_text()
    assert "give acc 0, the results 0.75" in page


def test_the_frame_has_every_task(tmp_path: Path) -> None:
    for name, score in zip(MODELS, (0.5, 0.9), strict=True):
        model(
            tmp_path,
            name,
            {"mine": accuracy(score, 0.02), "ppl_task": accuracy(9 * score, 0.1, "perplexity,none")},
            n=400,
        )
    frame = smaug_eval.scores([tmp_path], baseline=MODELS[0])
    shown = ["column", "unit", "score", "delta", "higher_is_better", "verdict"]
    assert frame[frame["model"] == MODELS[1]][shown].values.tolist() == [
        ["mine", "%", 90.0, pytest.approx(40.0), True, "better"],
        ["ppl_task", "", pytest.approx(8.1), pytest.approx(3.6), False, "worse"],
    ]  # fmt: skip


def test_a_value_with_nothing_beside_it_is_shown_as_that(tmp_path: Path) -> None:
    write(tmp_path / "r.json", newest({"mine": {"frobs,none": 12.5, "frobs_stderr,none": "N/A"}}, n=None))
    (found,) = table(tmp_path).cells["org/model"]
    assert found is not None
    assert found.score == Score(12.5, None, None, found.score.notes, None)
