"""A study's report: planted effects are found and said in exact words, and where there are none, nothing is claimed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from benchmarks import batching_page as batching
from benchmarks import remedies_page as remedies
from benchmarks.batching_page import page as batching_page
from benchmarks.remedies_page import page as remedies_page
from benchmarks.study_page import page as study_page
from smaug_eval.common.errors import SmaugError
from smaug_eval.reports import build_report
from smaug_eval.reports.study.answers import StudyAnswer, StudyFinding, contradictions
from smaug_eval.reports.study.distance import curve_places, curves
from smaug_eval.reports.study.pairs import arm_matrices
from smaug_eval.reports.study.positions import after_edit_table
from smaug_eval.reports.study.questions import findings
from smaug_eval.reports.study.tables import arms_table, trainings_table
from smaug_eval.results.comparison import compare
from smaug_eval.results.frame import scores
from smaug_eval.results.sources import read_source
from smaug_eval.results.study import StudyResults
from smaug_eval.stats import Values

FACTS, PRONOUNS = "demo_facts", "demo_pronouns"
EDITS = {"low": 1, "edits-4": 4, "edits-16": 16, "high": 30}
OFFSETS = list(range(-16, 33))
ITEMS = 24
SPREAD = np.tile([-0.5, 0.5], ITEMS // 2)
"""Half a nat to either side. Where seeds are alike the interval is the mean ± 2.0687 * sqrt(0.25 / 23) = ± 0.2157."""
OTHER_SPREAD = np.repeat([-0.5, 0.5], ITEMS // 2)
FACTORS = {"low": 1.0, "edits-4": 0.5, "edits-16": 0.0, "high": 0.2}
"""Of the spread on each set."""
CURVE = ["low", "edits-4", "edits-16"]


class Effect(NamedTuple):
    """What a training does: to preferred answers by set (nats), to rejected ones, and to right answers (of 80)."""

    chosen: Mapping[str, float]
    rejected: float = -9.0
    right: int = 40
    spread: Values = SPREAD


DPO = Effect({"low": -3.0, "edits-4": -2.0, "edits-16": -1.0, "high": -0.5}, right=30)
DPOP = Effect({"low": 0.5, "edits-4": 0.4, "edits-16": 0.3, "high": 0.2}, -4.0, right=60, spread=OTHER_SPREAD)
PAPER = {"dpo": DPO, "dpop": DPOP}


def held_out(pair_set: str, effect: Effect) -> list[dict[str, Any]]:
    """A tenth of the change lies at the first token that differs, the rest after it."""
    return [
        {
            "pair": f"item{number:03d}", "edit_distance": EDITS[pair_set] / 40, "edits": EDITS[pair_set],
            "chosen_tokens": 40, "common": 10, "chosen": value, "rejected": effect.rejected, "chosen_before": 0.0,
            "chosen_at": 0.1 * value, "chosen_after": 0.9 * value, "reference_chosen": -20.0,
        }
        for number, value in enumerate(map(float, effect.chosen[pair_set] + FACTORS[pair_set] * effect.spread))
    ]  # fmt: skip


def diagnosis(mean: float) -> dict[str, Any]:
    policy = [-0.4 + (mean / 30 if offset > 0 else 0.0) for offset in OFFSETS]
    after = {"pairs": ITEMS, "reference": -0.4, "policy": policy[-1]}
    profile = {"offsets": OFFSETS, "pairs": [ITEMS] * len(OFFSETS), "reference": [-0.4] * len(OFFSETS)}
    return {"step": 8, "profile": {**profile, "policy": policy, "after_edit": after}, "buckets": []}


def samples(right: int, metric: str) -> list[dict[str, Any]]:
    return [
        {
            "doc_id": number, "doc": {}, "target": "0", "arguments": {"gen_args_0": {"arg_0": "q", "arg_1": "a"}},
            "resps": [[[-1.0, False]]], "filtered_resps": [["-1.0", "False"]], "filter": "none", "metrics": [metric],
            "doc_hash": f"d{number}", "prompt_hash": f"p{number}", "target_hash": f"t{number}",
            metric: float(number < right),
        }
        for number in range(80)
    ]  # fmt: skip


def write_study(
    run: Any,
    effects: Mapping[str, Effect],
    *,
    questions: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (1, 2, 3),
    drift: float = 0.0,
    evaluated: bool = True,
) -> Path:
    """A run directory in which every seed is alike but for ``drift``: nats to either side of the middle one."""
    arms = {
        arm: {"loss": arm.partition("-")[0], "beta": 0.3, "sets": list(effect.chosen)}
        for arm, effect in effects.items()
    }
    grid = [(arm, name, seed) for seed in seeds for arm, effect in effects.items() for name in effect.chosen]
    names = [f"{arm}.{pair_set}.s{seed}" for arm, pair_set, seed in grid]
    study = {"seeds": list(seeds), "arms": arms, "questions": dict(questions or {"curve": CURVE})}
    run.manifest(
        recipe={"pairs": {name: {} for name in EDITS}, "study": study, "trainings": {name: {} for name in names}},
        stages=[{"name": f"train/{name}", "status": "done"} for name in names],
        warnings=[
            f"{names[1]}: step 8 of 8: DPO made the preferred answers less likely",
            f"{names[0]}: cut off",
            "the disk is full",
        ],
        models={name: {"source": name} for name in ("base", *names)} if evaluated else {},
    )
    if evaluated:
        evaluate(run, "base", 40)
    for name, (arm, pair_set, seed) in zip(names, grid, strict=True):
        effect, shift = effects[arm], drift * (seeds.index(seed) - (len(seeds) - 1) / 2)
        moved = effect._replace(chosen={key: value + shift for key, value in effect.chosen.items()})
        mean = moved.chosen[pair_set]
        run.training(name, {"eval": [(1, 0.0, 0.0), (8, mean, effect.rejected)]}, {"loss": "dpo", "steps": 8})
        folder = run.path / "train" / name
        lines(folder / "held_out.jsonl", held_out(pair_set, moved))
        lines(folder / "diagnostics.jsonl", [diagnosis(mean)])
        if evaluated:
            evaluate(run, name, effect.right)
    return Path(run.path)


def evaluate(run: Any, model: str, right: int) -> None:
    for task, metric in ((FACTS, "acc_norm"), (PRONOUNS, "acc")):
        run.evaluation(model, {task: right / 80}, metric=metric, n=80, samples=samples(right, metric))


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def study_of(path: Path) -> StudyResults:
    found = compare([read_source(path)], title=None, baseline=None).study
    assert found is not None
    return found


def answers(path: Path) -> list[str]:
    return [finding.answer.value for finding in findings(study_of(path))]


def finding(path: Path, place: int) -> StudyFinding:
    return findings(study_of(path))[place]


def test_the_page_sets_few_models_side_by_side_and_a_table_all(run: Any) -> None:
    path = write_study(run, PAPER)
    shown = compare([read_source(path)], title=None, baseline=None).models
    trained = sum(len(effect.chosen) for effect in PAPER.values()) * 3
    assert list(shown) == ["base", "dpo.low.s1", "dpop.low.s1"]
    assert scores([path]).model.nunique() == 1 + trained


def test_the_papers_effects_are_found(run: Any) -> None:
    assert answers(write_study(run, PAPER)) == ["supported"] * 4


def test_sentences_say_what_the_numbers_say(run: Any) -> None:
    lowered, prevented, scores, distance = findings(study_of(write_study(run, PAPER)))
    assert lowered.sentence == (
        "After dpo on low, the preferred answers of held-out pairs are 3.00 nats less likely than before the training "
        "(95% interval [−3.22, −2.78], p < 0.001; 24 items, 3 seeds)."
    )
    # The differences of the items are 0, 1 and -1: ± 2.0687 * sqrt(0.5 / 23) = ± 0.3050.
    assert prevented.sentence == (
        "dpop leaves the preferred answers 3.50 nats more likely than dpo does (95% interval [+3.19, +3.81], p < "
        "0.001; 24 items, 3 seeds); against the reference they rose by 0.50 nats [+0.28, +0.72]; its margin rose by "
        "4.50 nats [+4.28, +4.72]; it grew in 100% of the pairs."
    )
    # 30 of 80 documents turn from wrong to right on both tasks: 100 * sqrt(0.375 * 0.625 / 79 / 2) * 1.9751 = 7.61.
    assert scores.sentence == (
        "On the average of 2 (demo), models of dpop on low score 37.5 points higher than those of dpo: 75.0 against "
        "37.5 (95% interval [+29.9, +45.1], p < 0.001; 160 items, 3 seeds)."
    )
    # A quarter of the last set's mean less a quarter of the first's, so that the interval is ± 0.2157 / 4.
    assert distance.sentence == (
        "The change of preferred answers is the lower the fewer tokens differ: with every doubling of them, that after "
        "dpo moves by +0.50 nats (95% interval [+0.45, +0.55], p < 0.001; 24 items, 3 seeds): from −3.00 nats a pair "
        "at 1.0 token apart (low) to −1.00 at 16.0 tokens apart (edits-16)."
    )


def test_seeds_that_disagree_widen_the_interval(run: Any) -> None:
    (test, *_) = finding(write_study(run, PAPER, drift=1.0), 0).tests
    assert test.contrast.seeds_part == pytest.approx((1 / 3, 2.0))
    assert test.contrast.items_part.variance == pytest.approx(0.25 / 23)
    # sqrt(0.3333 + 0.0109) times (0.3333 * 4.3027 + 0.0109 * 2.0687) / 0.3442.
    assert test.interval_words == "[−5.48, −0.52]"


def test_the_contrary_is_said_where_the_data_say_it(run: Any) -> None:
    effects = {
        "dpo": Effect({"low": 0.8, "edits-4": 0.4, "edits-16": 0.2}, right=60),
        "dpop": Effect({"low": -0.8, "edits-4": -0.4, "edits-16": -0.2}, right=30, spread=OTHER_SPREAD),
    }
    assert answers(write_study(run, effects)) == ["not supported"] * 4


@pytest.mark.parametrize("drift", [0.0, 0.4])
@pytest.mark.parametrize("shape", ["curve", "equal sets"])
def test_a_null_study_ends_inconclusive_everywhere(run: Any, drift: float, shape: str) -> None:
    again = {"dpo": DPO, "dpo-again": DPO}
    asked: dict[str, Any] = {"remedy": "dpo-again", "before": "dpo-again"}
    asked |= {"curve": CURVE} if shape == "curve" else {"low": "low", "high": "low"}
    path = write_study(run, again, questions=asked, drift=drift)
    assert answers(path) == ["inconclusive"] * 4
    lowered, prevented, scores, _ = findings(study_of(path))
    assert "exactly as likely as after dpo-again" in lowered.sentence
    assert "exactly as likely as dpo does" in prevented.sentence
    assert "score exactly as high as those of dpo" in scores.sentence


def test_one_seed_proves_nothing(run: Any) -> None:
    path = write_study(run, PAPER, seeds=(1,))
    assert answers(path) == ["inconclusive"] * 4
    assert "95% interval over items alone [−3.22, −2.78]; 24 items, 1 seed" in finding(path, 0).sentence
    assert all("There is one seed" in " ".join(each.remarks) for each in findings(study_of(path)))


def test_of_one_seed_adjusting_is_not_blamed(run: Any) -> None:
    """There is no p value to adjust: what keeps a narrow interval from counting is that there is one seed."""
    effects = {**PAPER, "dpo-slight": Effect({"low": -0.25}), "dpop-slight": Effect({"low": 0.4}, spread=OTHER_SPREAD)}
    lowered, prevented, scores, _ = found = findings(study_of(write_study(run, effects, seeds=(1,))))
    assert lowered.tests[0].outcome_shown == "inconclusive (below 0 over the items of one seed)"
    assert "Other settings of dpo: not shown to lower them with one seed: dpo-slight." in lowered.remarks
    assert "Other settings of dpop: not shown to be above dpo with one seed: dpop-slight." in prevented.remarks
    assert "against the reference they rose by 0.50 nats [+0.28, +0.72], which with one seed may be chance" in (
        prevented.sentence
    )
    assert any(remark.startswith("dpo is, with one seed, not shown to differ from") for remark in scores.remarks)
    words = [
        *(test.outcome_shown for each in found for test in each.tests),
        *(r for each in found for r in each.remarks),
    ]
    assert not [each for each in words if "unadjusted" in each or "once adjusted" in each]


def test_an_arm_whose_models_are_not_all_evaluated_is_said_to_be_left_out(run: Any) -> None:
    path = write_study(run, {**PAPER, "ipo": Effect({"low": -1.0}, -2.0, right=35)})
    assert not [remark for remark in finding(path, 2).remarks if "ipo" in remark]
    shutil.rmtree(path / "eval" / "ipo.low.s2" / "main" / FACTS)
    told = "ipo: not compared on demo, since not all models of it were evaluated on what the others were."
    assert told in finding(path, 2).remarks
    assert not [test for test in finding(path, 2).tests if "ipo" in test.name]


def test_scores_do_not_reach_beyond_their_scale(run: Any) -> None:
    """Two seeds far apart: Student's t with one degree of freedom would reach below 0 and above 100."""
    path = write_study(run, PAPER, seeds=(1, 2))
    evaluate(run, "dpop.low.s2", 0)
    rows = {row[0]: row[1] for row in finding(path, 2).tables[0].rows}
    assert rows["dpop"] == "37.5 [0.0, 100.0]"


def test_preventing_takes_the_reference_and_the_margin(run: Any, write_run: Callable[[str], Any]) -> None:
    sinking = DPOP._replace(chosen=dict.fromkeys(DPOP.chosen, -1.0))
    assert answers(write_study(run, {"dpo": DPO, "dpop": sinking}))[1] == "not supported"
    shrinking = DPOP._replace(rejected=2.0)
    assert answers(write_study(write_run("margin"), {"dpo": DPO, "dpop": shrinking}))[1] == "not supported"
    unsure = DPOP._replace(chosen=dict.fromkeys(DPOP.chosen, 0.1))
    path = write_study(write_run("unsure"), {"dpo": DPO, "dpop": unsure})
    assert answers(path)[1] == "supported"
    told = "Whether dpop leaves the preferred answers above or below the reference is not determined: [−0.12, +0.32]."
    assert told in finding(path, 1).remarks


def test_a_remedy_of_a_fall_that_is_not_shown_says_so(run: Any, write_run: Callable[[str], Any]) -> None:
    told = "That dpo lowers the preferred answers is itself not shown (−3.00 nats"
    assert any(each.startswith(told) for each in finding(write_study(run, PAPER, drift=4.0), 1).remarks)
    assert not any(told in each for each in finding(write_study(write_run("clear"), PAPER), 1).remarks)


def test_baselines_and_ablations_stand_beside_the_verdict(run: Any) -> None:
    effects = {
        **PAPER,
        "ipo": Effect({"low": -1.0}, -2.0, right=35),
        "sft": Effect({"low": 1.5}, 1.6, right=70, spread=-SPREAD),
        "dpo-beta-1.0": Effect({"low": -4.0}),
        "dpop-lambda-5": Effect({"low": 0.4}, -4.0),
    }
    lowered, prevented, scores, _ = findings(study_of(write_study(run, effects)))
    assert lowered.remarks[:3] == [
        "Other settings of dpo: lower them, too: dpo-beta-1.0.",
        "Baselines that lower the preferred answers: ipo (−1.00) nats.",
        "Baselines that raise the preferred answers: sft (+1.50) nats.",
    ]
    assert [row[0] for row in lowered.tables[0].rows] == list(effects)
    assert lowered.tables[0].rows[0] == (
        "dpo", "−3.00 [−3.22, −2.78]", "0.00", "−0.30 [−0.32, −0.28]", "−2.70 [−2.89, −2.51]", "100%"
    )  # fmt: skip
    assert (
        "sft leaves the preferred answers more likely than dpop does (+1.00 nats); its margin grew in 50% of the "
        "pairs, that of dpop in 100%." in prevented.remarks
    )
    assert "sft scores higher than dpop on the average of 2 (demo): +12.5 points [+7.3, +17.7]." in scores.remarks
    # Those that do not decide are adjusted together.
    first, *others = lowered.tests
    assert first.adjusted_p == first.contrast.p_value
    raw = [test.contrast.p_value for test in others]
    assert [test.adjusted_p for test in others] == pytest.approx(multipletests(raw, method="holm")[1].tolist())


def test_any_two_arms_are_compared_and_adjusted_together(run: Any, tmp_path: Path) -> None:
    effects = {**PAPER, "ipo": Effect(DPO.chosen, right=62), "sft": Effect(DPOP.chosen, right=61)}
    path = write_study(run, effects, drift=0.02)
    matrices = {each.title: each for each in arm_matrices(study_of(path))}
    scores_on_low = matrices["average of 2 (demo) in percent, trained on low"]
    assert scores_on_low.means == {"dpo": "37.5", "dpop": "75.0", "ipo": "77.5", "sft": "76.2", "base": "50.0"}
    assert len(scores_on_low.tests) == 10
    for each in matrices.values():
        p_values = [test.contrast.p_value for test in each.tests.values()]
        expected = multipletests(p_values, method="holm")[1]
        assert [test.adjusted_p for test in each.tests.values()] == pytest.approx(list(expected), abs=1e-12)
    apart = scores_on_low.of("dpop", "dpo")
    back = scores_on_low.of("dpo", "dpop")
    assert apart is not None
    assert back is not None
    assert apart.contrast.estimate == pytest.approx(37.5)
    assert apart.contrast.interval is not None
    assert back.contrast.estimate == -apart.contrast.estimate
    assert back.contrast.interval == (-apart.contrast.interval[1], -apart.contrast.interval[0])
    assert (apart.outcome_words, back.outcome_words) == ("above 0", "below 0")
    assert back.adjusted_p == apart.adjusted_p
    answers_on_low = matrices["Log-ratio of held-out preferred answers in nats, trained on low"]
    likelier = answers_on_low.of("dpop", "dpo")
    assert likelier is not None
    assert likelier.contrast.estimate == pytest.approx(3.5)

    out = build_report([path], tmp_path / "study.json", format_="json")
    pairs = json.loads(out.read_text())["study"]["pairs"]
    assert [each["title"] for each in pairs] == list(matrices)
    (cell,) = (each for each in pairs[0]["pairs"] if (each["arm"], each["other"]) == ("dpop", "dpo"))
    assert cell["adjusted_p"] == apart.adjusted_p
    text = build_report([path], tmp_path / "study.md", format_="md").read_text()
    assert "### Any two arms" in text
    assert f"▲ +37.5 {apart.interval_words}, {apart.p_words}, above 0" in text.replace("\\", "")


def test_what_adjusting_decides_is_said_to_be(run: Any) -> None:
    """-0.25 ± 0.2157 leaves out 0 (p = 0.025), which does not outlast Holm's method over seven tests."""
    null = Effect({"low": 0.0}, right=40)
    effects = {
        **PAPER,
        "dpo-slight": Effect({"low": -0.25}),
        "dpo-null": null,
        **{f"ipo-{number}": null for number in range(4)},
    }
    lowered, *_ = findings(study_of(write_study(run, effects)))
    (slight,) = (test for test in lowered.tests if test.name == "dpo-slight on low")
    assert slight.interval_words == "[−0.47, −0.03]"
    assert slight.adjusted_p is not None
    assert 0.1 < slight.adjusted_p < 0.2
    assert (slight.outcome_words, slight.outcome_shown) == ("inconclusive", "inconclusive (below 0 unadjusted)")
    assert (
        "Other settings of dpo: not shown to lower them once adjusted for all tests: dpo-slight; "
        "not shown to lower them: dpo-null." in lowered.remarks
    )


def test_tokens_before_the_edit_that_move_are_held_against_the_paper(run: Any) -> None:
    path = write_study(run, PAPER)
    for file in path.glob("train/dpo.low.*/held_out.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        lines(file, [row | {"chosen_before": 0.5 * row["chosen"], "chosen_after": 0.4 * row["chosen"]} for row in rows])
    assert (
        "Against the paper's account, in which the tokens before the edit cancel, they move as well, and not a little: "
        "−1.50 nats a pair [−1.61, −1.39], 50% of the whole." in finding(path, 0).remarks
    )


def test_views_of_the_distance_that_disagree_are_said_to(run: Any) -> None:
    growing = {"low": -1.0, "edits-4": -2.0, "edits-16": -3.0}
    found = finding(write_study(run, {"dpo": Effect(growing), "dpop": DPOP}), 3)
    assert found.answer is StudyAnswer.NOT_SUPPORTED
    assert found.remarks[0] == (
        "The answer depends on what is counted. dpo, per pair: it falls with them (slope −0.50 nats per doubling, "
        "[−0.55, −0.45]). dpo, by each token that differs: the change rises with the tokens that differ (slope +0.20 "
        "nats per token, [+0.15, +0.26])."
    )


def test_a_drop_at_large_distance_is_held_against_the_paper(run: Any) -> None:
    assert (
        "Against the paper's account, in which small edit distances are to blame, dpo lowers the preferred answers on "
        "high (75% of the tokens differ, 30.0 a pair) as well: −0.50 nats, [−0.54, −0.46]."
        in finding(write_study(run, PAPER), 3).remarks
    )


def test_sets_of_other_problems_are_not_paired(run: Any) -> None:
    path = write_study(run, PAPER, questions={"curve": ["low", "high"]})
    for file in path.glob("train/*.high.*/held_out.jsonl"):
        file.write_text(file.read_text().replace("item", "other"))
    found = finding(path, 3)
    assert found.tests[0].contrast.items == 2 * ITEMS
    assert "high holds other problems than low: there, more than the edit distance differs." in found.remarks


def test_wrong_choices_of_one_question_are_one_item(run: Any) -> None:
    path = write_study(run, PAPER, evaluated=False)
    for file in path.glob("train/*.low.*/held_out.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        again = [row | {"pair": f"{row['pair']}-2", "rejected": row["rejected"] - 1} for row in rows]
        lines(file, [*rows, *again])
    (test, *_) = finding(path, 0).tests
    assert test.contrast.items == ITEMS
    assert finding(path, 1).tests[2].contrast.estimate == pytest.approx(5.0)


def test_what_is_not_there_yet_is_not_answered(run: Any) -> None:
    path = write_study(run, {"dpo": DPO}, evaluated=False)
    assert answers(path) == ["supported", "not measured", "not measured", "supported"]
    assert finding(path, 1).sentence == "There are no held-out pairs of dpop on low yet."
    assert finding(path, 2).sentence == "dpo and dpop on low were not evaluated on the same documents."


def test_scores_are_held_against_the_model_before_the_training(run: Any) -> None:
    effects = {"dpo": DPO._replace(right=50), "dpop": DPOP._replace(right=30)}
    # 10 of 80 documents on each of two tasks: 12.5 points ± 1.9751 * 100 * sqrt(0.125 * 0.875 / 79 / 2).
    assert finding(write_study(run, effects), 2).remarks[-2:] == [
        "Against the paper's account, dpo improves on the model before the training: 62.5 against 50.0 on the average "
        "of 2 (demo), [+7.3, +17.7].",
        "Against the paper's account, dpop falls behind the model before the training: 37.5 against 50.0 on the "
        "average of 2 (demo), [−17.7, −7.3].",
    ]


def test_contradictions_are_gathered(run: Any) -> None:
    sinking = {"dpo": DPO, "dpop": DPOP._replace(chosen=dict.fromkeys(DPOP.chosen, -1.0))}
    claim, remark = contradictions(findings(study_of(write_study(run, sinking))))
    assert claim.startswith("On the same pairs dpop leaves the preferred answers more likely than dpo does")
    assert claim.endswith(" Not so here.")
    assert remark.startswith("Against the paper's account, in which small edit distances are to blame")


def test_models_evaluated_on_other_prompts_are_not_compared(run: Any) -> None:
    path = write_study(run, PAPER)
    for file in path.glob(f"eval/dpop.low.s2/*/{FACTS}/samples_*.jsonl"):
        file.write_text(file.read_text().replace('"prompt_hash": "p', '"prompt_hash": "q'))
    found = finding(path, 2)
    assert found.sentence.startswith("On the Pronouns, models of dpop")
    assert any(remark.startswith("Facts is not compared: ") for remark in found.remarks)


def test_the_curve_is_by_tokens_that_differ(run: Any) -> None:
    study = study_of(write_study(run, PAPER, questions={"curve": CURVE[::-1]}))
    assert [place[:2] for place in curve_places(study)] == [("low", 1.0), ("edits-4", 4.0), ("edits-16", 16.0)]
    assert {curve.arm: [each.estimate for each in curve.changes] for curve in curves(study)} == {
        "dpo": pytest.approx([-3.0, -2.0, -1.0]),
        "dpop": pytest.approx([0.5, 0.4, 0.3]),
    }


def labelled(rows: Sequence[Mapping[str, Any]], *, in_pair: bool | None) -> list[dict[str, Any]]:
    """The completions of pairs as a training of single completions writes them; None as before they were rejoined."""
    told = {} if in_pair is None else {"in_pair": in_pair}
    return [
        {"completion": name, "label": label, "tokens": 40, "log_ratio": row[side], "reference": -20.0, **told}
        for row in rows
        for side, label, name in (("chosen", True, row["pair"]), ("rejected", False, f"wrong {row['pair']}"))
    ]


def test_an_arm_of_single_completions_is_compared_as_the_pairs_that_they_were(run: Any) -> None:
    """KTO on pairs: its file has each completion, and then each pair."""
    path = write_study(run, {**PAPER, "kto": DPOP}, drift=0.02)
    for file in path.glob("train/kto.*/held_out.jsonl"):
        pairs = [json.loads(line) for line in file.read_text().splitlines()]
        lines(file, [*labelled(pairs, in_pair=True), *pairs])
    study = study_of(path)
    assert study.missing == []
    assert [each.held_out for each in study.of("kto", "low")] == [each.held_out for each in study.of("dpop", "low")]
    lowered, prevented, _, distance = findings(study)
    (table,) = lowered.tables
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["kto"] == rows["dpop"]
    assert "kto less dpo" in [test.name for test in prevented.tests]
    assert "kto: slope of the change" in [test.name for test in distance.tests]


def test_what_single_completions_do_not_have_is_not_available(run: Any) -> None:
    """Unpaired rows: the desirable ones fall by 3 nats, or rise by a half; the others have no partner."""
    effects = {"kto": DPO, "kto-strong": DPOP}
    asked = {"subject": "kto", "remedy": "kto-strong", "low": "low", "high": "high"}
    path = write_study(run, effects, questions=asked)
    for file in path.glob("train/*/held_out.jsonl"):
        lines(file, labelled([json.loads(line) for line in file.read_text().splitlines()], in_pair=False))
    for file in path.glob("train/*/diagnostics.jsonl"):
        lines(file, [{"step": 8, "warning": None}])
    study = study_of(path)
    assert study.missing == []
    lowered, prevented, scored, distance = found = findings(study)
    assert [each.answer.value for each in found] == ["supported", "not available", "supported", "not available"]
    assert lowered.sentence == (
        "After kto on low, the preferred answers of held-out pairs are 3.00 nats less likely than before the training "
        "(95% interval [−3.22, −2.78], p < 0.001; 24 items, 3 seeds)."
    )
    assert lowered.tables[0].rows == [
        ("kto", "−3.00 [−3.22, −2.78]", "n/a", "n/a", "n/a", "100%"),
        ("kto-strong", "+0.50 [+0.28, +0.72]", "n/a", "n/a", "n/a", "0%"),
    ]
    assert prevented.sentence == (
        "The held-out rows of kto-strong on low are single completions without pairs, and so no margin."
    )
    assert prevented.tables[0].rows == [
        ("kto", "−3.00 [−3.22, −2.78]", "−9.00", "n/a", "n/a"),
        ("kto-strong", "+0.50 [+0.28, +0.72]", "−4.00", "n/a", "n/a"),
    ]
    assert "score 37.5 points higher than those of kto" in scored.sentence
    assert distance.sentence == "The held-out rows of kto are single completions without an edit distance."
    (low,) = (row for row in arms_table(study).rows if row[0] == "kto on low")
    assert low[3:] == ("−3.00 ± 0.10", "−9.00", "n/a", "100%")
    (first,) = (row for row in trainings_table(study).rows if row[0] == "kto.low.s1")
    assert first == ("kto.low.s1", "8", "48", "−3.00", "−9.00", "n/a", "100%")
    assert after_edit_table(study) is None


def test_undesirable_completions_alone_are_measured_but_have_no_preferred_answers(run: Any) -> None:
    path = write_study(run, {**PAPER, "kto": DPO}, questions={"low": "low", "high": "high"}, evaluated=False)
    for file in path.glob("train/kto.low.*/held_out.jsonl"):
        rows = labelled([json.loads(line) for line in file.read_text().splitlines()], in_pair=False)
        lines(file, [row for row in rows if not row["label"]])
        file.with_name("diagnostics.jsonl").write_text("")
    study = study_of(path)
    assert study.missing == []
    lowered, prevented, *_ = findings(study)
    assert lowered.tables[0].rows[-1] == ("kto", "n/a", "n/a", "n/a", "n/a", "n/a")
    assert prevented.tables[0].rows[-1] == ("kto", "n/a", "−9.00", "n/a", "n/a")
    assert not [test for test in (*lowered.tests, *prevented.tests) if "kto" in test.name]
    after = after_edit_table(study)
    assert after is not None
    assert after.rows[-1] == ("kto", "n/a", "−0.42 [−0.42, −0.42]", "")
    low, _ = remedies_page(path).split("## Trained on high")
    assert "| kto | n/a | n/a | n/a | n/a | not measured | not measured |" in low


def test_completions_of_an_older_run_lack_their_pairs(run: Any) -> None:
    """What such a file has, the preferred answers, is compared with pairs of the same names."""
    path = write_study(run, {**PAPER, "kto": DPOP})
    for file in path.glob("train/kto.*/held_out.jsonl"):
        lines(file, labelled([json.loads(line) for line in file.read_text().splitlines()], in_pair=None))
    _, prevented, _, distance = findings(study_of(path))
    (apart,) = (test for test in prevented.tests if test.name == "kto less dpo")
    assert (apart.contrast.items, apart.interval_words) == (ITEMS, "[+3.19, +3.81]")
    assert prevented.tables[0].rows[-1] == ("kto", "+0.50 [+0.28, +0.72]", "−4.00", "n/a", "n/a")
    by_edit = {row[0]: row[1:] for row in distance.tables[1].rows}
    assert by_edit["kto"][:-1] == ("n/a",) * 3
    assert "n/a" not in by_edit["dpop"]
    file = path / "train" / "kto.low.s1" / "held_out.jsonl"
    file.write_text(file.read_text().replace('"log_ratio": -4.0', '"log_ratio": null', 1))
    with pytest.raises(SmaugError, match=r"kto\.low\.s1/held_out\.jsonl, line 2: expected a name under completion"):
        study_of(path)


def test_a_broken_line_is_named(run: Any) -> None:
    path = write_study(run, PAPER, evaluated=False)
    file = path / "train" / "dpop.low.s2" / "held_out.jsonl"
    file.write_text(file.read_text().replace('"rejected": -4.0', '"rejected": "x"', 1))
    with pytest.raises(SmaugError, match=r"dpop\.low\.s2/held_out\.jsonl, line 1: expected a name and finite numbers"):
        study_of(path)


def test_the_page_begins_with_the_verdicts_and_leads_to_the_numbers(run: Any, page: Callable[..., Any]) -> None:
    built = page(write_study(run, {**PAPER, "<b>sft": Effect({"low": 0.9}, 1.0)}))
    assert "<b>" not in built.html
    assert "<b>sft.low.s1" in built.text
    keys = [attributes.get("id") for tag, attributes in built.elements if tag == "section"]
    assert keys[:7] == ["study", "rq1", "rq2", "rq3", "rq4", "positions", "arm-pairs"]
    assert "headline" not in keys
    assert len(re.findall(r"supported (?:Does|Is) ", built.text)) == 4
    assert "27 trainings: 3 arms (losses and settings) on 4 pair sets, 3 seeds." in built.text
    ids = {attributes.get("id") for _, attributes in built.elements}
    links = [str(attributes.get("href")) for tag, attributes in built.elements if tag == "a"]
    assert "#training-dpo.low.s1" in links
    assert {link[1:] for link in links if link.startswith("#")} <= ids
    assert built.row("reference", "−0.40")[-1] == "−0.37"
    assert built.row("dpo", "−0.50 [−0.50, −0.50]", "−0.42 [−0.42, −0.42]")[-1] == "−1.82"
    charts = [attributes for tag, attributes in built.elements if tag == "svg" and attributes.get("role") == "img"]
    assert all(attributes.get("aria-labelledby") for attributes in charts)


def test_panels_of_single_models_show_one_training_of_each_arm(run: Any, page: Callable[..., Any]) -> None:
    built = page(write_study(run, PAPER))
    chips = [attributes for tag, attributes in built.elements if attributes.get("class") == "chip"]
    assert len(chips) == 3
    assert "base, dpo.low.s1, dpop.low.s1" in built.text
    (scores,) = compare([read_source(run.path)], title=None, baseline=None).tables
    assert list(scores.cells) == ["base", "dpo.low.s1", "dpop.low.s1"]
    assert "2 warnings of single trainings: see the manifest under Provenance." in built.text
    assert "the disk is full" in built.text
    assert built.text.count("made the preferred answers less likely") == built.text.count("DPO made the preferred")


def test_another_baseline_can_be_asked_for(run: Any) -> None:
    found = compare([read_source(write_study(run, PAPER))], title=None, baseline="dpop.high.s3")
    assert list(found.models) == ["dpop.high.s3", "base", "dpo.low.s1", "dpop.low.s1"]


def test_markdown_and_json_hold_the_findings(run: Any, tmp_path: Path) -> None:
    path = write_study(run, PAPER)
    text = build_report([path], tmp_path / "report.md", format_="md").read_text()
    assert "### RQ4: Is it worse where fewer tokens differ?" in text
    assert "**What contradicts the paper**" in text
    row = r"| **dpo on low** | −3.00 nats | \[−3.22, −2.78\] | p \< 0.001 | 24 | 3 | below 0 |"
    assert row in text
    found = json.loads(build_report([path], tmp_path / "report.json", format_="json").read_text())
    questions = found["study"]["findings"]
    assert [each["verdict"] for each in questions] == ["supported"] * 4
    assert questions[0]["tests"][0]["estimate"] == pytest.approx(-3.0)
    assert questions[0]["trainings"] == ["dpo.low.s1", "dpo.low.s2", "dpo.low.s3"]
    assert found["schema"] == 1


def test_the_documentations_page_is_made_from_the_run(run: Any, write_run: Callable[[str], Any]) -> None:
    path = write_study(run, PAPER)
    manifest = path / "manifest.json"
    content = json.loads(manifest.read_text())
    content["stages"] = [{"name": "a", "status": "done", "seconds": 61.0}, {"name": "b", "status": "started"}]
    content |= {
        "hardware": {"cores": 2, "platform": "Linux-x86_64-glibc", "gpus": []},
        "updated": "2026-11-23T01:02:03",
    }
    manifest.write_text(json.dumps(content))
    text = study_page(path)
    assert text.splitlines()[2:4] == [
        "`smaug-eval run study`, 2026-11-23, on 2 cores",
        "(x86_64, no GPU) that others shared: 1 min 1 s in 1 finished stages. This page was",
    ]
    assert "### RQ1: Does dpo lower the preferred answers?" in text
    assert "had not finished" not in text
    (path / "train" / "dpo.low.s1" / "held_out.jsonl").unlink()
    assert "**The run had not finished when this page was written" in study_page(path)
    plain = write_run("plain").manifest().evaluation("base", {FACTS: 0.5}, metric="acc_norm").path
    with pytest.raises(SmaugError, match="is no study"):
        study_page(plain)


def test_the_page_of_the_remedies_tells_those_that_keep_from_those_that_do_not(run: Any) -> None:
    """DPO lowers by 3 nats; of two remedies one raises by half a nat, the other, of which more was claimed, falls."""
    falls = Effect({"low": -2.0, "high": -0.4}, right=40, spread=OTHER_SPREAD)
    path = write_study(
        run,
        {"dpo": DPO, "dpop": DPOP, "nca": falls},
        questions={"low": "low", "high": "high"},
    )
    found = {each.arm: each for each in remedies.tests_on(study_of(path), "low")}
    assert list(found) == ["dpop", "nca"]
    assert found["dpop"].kept.contrast.estimate == pytest.approx(0.5)  # type: ignore[union-attr]
    assert found["dpop"].more_than_subject.contrast.estimate == pytest.approx(3.5)  # type: ignore[union-attr]
    assert found["dpop"].margin.contrast.estimate == pytest.approx(4.5 - 6.0)  # type: ignore[union-attr]
    assert found["dpop"].score.contrast.estimate == pytest.approx(100 * 30 / 80)  # type: ignore[union-attr]
    assert found["nca"].score_above_base.contrast.estimate == pytest.approx(0.0)  # type: ignore[union-attr]
    for column in ("kept", "more_than_subject", "margin"):
        tests = [getattr(each, column) for each in found.values()]
        raw = [test.contrast.p_value for test in tests]
        assert [test.adjusted_p for test in tests] == pytest.approx(multipletests(raw, method="holm")[1])
    text = remedies_page(path)
    low, _ = text.split("## Trained on high")
    assert "- Kept the preferred answers: dpop." in low
    assert "- Preferred answers, less those before the training: above 0: dpop; below 0: nca; not shown: none." in low
    assert "- Preferred answers, less those after dpo: above 0: dpop and nca; below 0: none; not shown: none." in low
    assert "- Margin of these: above 0: dpop; below 0: none; not shown: none." in low
    assert "- Margin of these, less that of dpo: above 0: none; below 0: dpop; not shown: none." in low
    assert "- Scores, less those of dpo: above 0: dpop and nca; below 0: none; not shown: none." in low
    assert "- Scores, less those of the base: above 0: dpop; below 0: none; not shown: nca." in low
    assert re.search(r"- dpop: a penalty .* So here: \+0\.50 nats less the reference", low)
    assert re.search(r"- nca: the likelihood .* Against the literature: −2\.00 nats less the reference", low)
    assert "| dpop | +0.50 " in low
    assert "| dpo | −3.00 " in low, "the subject's own figures"
    assert "is not shown here" not in low


def test_the_page_of_the_remedies_leaves_open_what_few_seeds_do_not_decide(
    run: Any, write_run: Callable[[str], Any]
) -> None:
    """Seeds lie 4 nats apart: DPO's fall of 3 nats and what a remedy gains on it are chance as far as is known."""
    path = write_study(run, PAPER, questions={"low": "low", "high": "high"}, drift=4.0)
    low, _ = remedies_page(path).split("## Trained on high")
    assert re.search(
        r"Change of the preferred answers after dpo: −3\.00 nats \(.*\), inconclusive\. That dpo lowers", low
    )
    assert "- Preferred answers, less those before the training: above 0: none; below 0: none; not shown: dpop." in low
    assert "- Kept the preferred answers: none." in low
    assert "Margin of these" not in low
    assert "Not decided here: +0.50 nats" in low
    one = remedies_page(write_study(write_run("one"), PAPER, questions={"low": "low", "high": "high"}, seeds=(1,)))
    assert "interval over items alone" in one
    assert "above 0: dpop" not in one, "one seed shows nothing"


def test_the_page_of_the_remedies_tells_what_failed(run: Any) -> None:
    effects = {**PAPER, "nca": DPOP}
    path = write_study(run, effects, questions={"low": "low", "high": "high"}, evaluated=False)
    (path / "train" / "dpop.low.s1" / "held_out.jsonl").unlink()
    for name in [f"nca.low.s{seed}" for seed in (1, 2, 3)] + [f"dpo.high.s{seed}" for seed in (1, 2, 3)]:
        (path / "train" / name / "held_out.jsonl").unlink()
    text = remedies_page(path)
    low, high = text.split("## Trained on high")
    assert re.search(r"\*\*7 of 36 trainings are missing \(.* and others\): this is a part\.\*\*", low)
    assert "since a training failed or has not run: dpop (2 of 3 seeds) and nca (0 of 3 seeds)." in low
    assert "- Kept the preferred answers: dpop." in low
    assert "nca:" not in low
    assert "- Scores, less those of dpo: not measured." in low
    assert "dpo was not measured on high: no loss can be compared with it." in high
    assert "Kept" not in high.split("## How to read this")[0]


ORDERS = {"subject": "pairs", "remedy": "question", "before": "base", "low": "low", "high": "low"}
"""The questions of recipes/study-batching.yaml on this file's sets."""


def test_the_page_of_the_batching_tells_what_the_order_of_the_pairs_changes(run: Any) -> None:
    """Drawn by question the preferred answers end 3.5 nats higher, the margin 1.5 lower; the scores are alike."""
    path = write_study(run, {"pairs": DPO._replace(right=40), "question": DPOP._replace(right=40)}, questions=ORDERS)
    tests = {test.name: test for test in batching.tests_of(study_of(path))}
    assert list(tests) == ["preferred answers", "margin", "benchmark score"]
    assert tests["preferred answers"].contrast.estimate == pytest.approx(3.5)
    assert tests["margin"].contrast.estimate == pytest.approx((0.5 + 4.0) - (-3.0 + 9.0))
    assert tests["benchmark score"].contrast.estimate == pytest.approx(0.0)
    raw = [test.contrast.p_value for test in tests.values() if test.contrast.p_value is not None]
    assert [test.adjusted_p for test in tests.values() if test.contrast.p_value is not None] == pytest.approx(
        multipletests(raw, method="holm")[1]
    )
    text = batching_page(path)
    assert text.startswith("# Pairs drawn one by one, or question by question\n")
    assert "written by `python -m benchmarks.batching_page runs/" in text
    assert (
        "Trained on low, the arm `question` (`batching: question`) was held against `pairs`\n"
        "(`batching: pairs`) in preferred answers, margin and benchmark score. "
        "A difference shows in: preferred answers and margin.\n" in text
    )
    # The differences of the items are 0, 1 and -1: ± 2.0687 * sqrt(0.5 / 23) = ± 0.3050.
    assert r"| preferred answers | +3.50 nats | \[+3.19, +3.81\] | p \< 0.001 |" in text
    assert r"| margin | −1.50 nats | \[−1.81, −1.19\] | p \< 0.001 |" in text
    assert "| benchmark score | 0.0 points | n/a | n/a |" in text
    assert r"| pairs | −3.00 \[−3.22, −2.78\] | +6.00 \[+5.78, +6.22\] |" in text
    assert r"| question | +0.50 \[+0.28, +0.72\] | +4.50 \[+4.28, +4.72\] |" in text
    assert "missing" not in text


def test_the_page_of_the_batching_leaves_open_what_is_not_shown_and_says_what_is_missing(
    run: Any, write_run: Callable[[str], Any]
) -> None:
    """Seeds lie 4 nats apart and the arms half a nat: chance, as far as is known."""
    near = {"pairs": DPO._replace(right=40), "question": Effect({"low": -2.5}, -8.5, 44, OTHER_SPREAD)}
    path = write_study(run, near, questions=ORDERS)
    for seed, shift in ((1, 2.0), (3, -2.0)):
        file = path / "train" / f"question.low.s{seed}" / "held_out.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        lines(file, [row | {"chosen": row["chosen"] + shift, "rejected": row["rejected"] + shift} for row in rows])
    text = batching_page(path)
    assert "A difference shows in: benchmark score.\n" in text, "4 of 80 documents on both tasks, in all seeds"
    (line,) = (each for each in text.splitlines() if each.startswith("| preferred answers |"))
    assert line.startswith("| preferred answers | +0.50 nats | ")
    again = {"pairs": DPO, "question": DPO._replace(spread=OTHER_SPREAD)}
    path = write_study(write_run("again"), again, questions=ORDERS, evaluated=False)
    (path / "train" / "question.low.s2" / "held_out.jsonl").unlink()
    text = batching_page(path)
    assert "in preferred answers and margin. A difference is not shown in any of them.\n" in text
    assert "**1 of 24 trainings are missing: this is a part.**" in text
    assert "benchmark score" not in text
    for file in path.glob("train/question.low.*/held_out.jsonl"):
        file.unlink()
    text = batching_page(path)
    assert "On low, the arms `question` and `pairs` have nothing in common that was measured." in text
    assert "A difference" not in text
    plain = write_run("plain").manifest().evaluation("base", {FACTS: 0.5}, metric="acc_norm").path
    with pytest.raises(SmaugError, match="is no study") as refused:
        batching_page(plain)
    assert "make study-batching" in str(refused.value.fix)


def test_two_runs_side_by_side_are_no_study(run: Any, write_run: Callable[[str], Any]) -> None:
    first, second = write_study(run, PAPER), write_study(write_run("second"), PAPER)
    assert compare([read_source(first), read_source(second)], title=None, baseline=None).study is None
