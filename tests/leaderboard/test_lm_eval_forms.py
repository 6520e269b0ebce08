"""The suite ``lm_eval`` beside lm-eval's own ``hf``, on every form that a task can have and on three models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import transformers
from lm_eval import simple_evaluate
from lm_eval.api import metrics
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from smaug_eval.common.embedded import embedded_path
from smaug_eval.engines.pool import EnginePool
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.leaderboard.evaluate import evaluate_column
from smaug_eval.leaderboard.lm_eval.settings import TaskSettings
from smaug_eval.leaderboard.lm_eval.suite import lm_eval_suite
from tests.lm_eval_forms import ASKED, FORMS, GROUPS, SIZES, write_forms

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<' + message['role'] + '> ' + message['content'] }}"
    "{% if not loop.last or add_generation_prompt %}{{ '\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant> ' }}{% endif %}"
)
SETTINGS = {
    "demo": TaskSettings(),
    "stories260K": TaskSettings(num_fewshot=1, fewshot_seed=7, system_instruction="You know all animals."),
    "qwen3": TaskSettings(
        gen_kwargs={"max_gen_toks": 6},
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        system_instruction="You know all animals.",
    ),
}
FEWER_DRAWS = 20
Samples = Mapping[str, list[dict[str, Any]]]


class Both(NamedTuple):
    """The results and samples of the suite, and those of ``hf``."""

    model: str
    ours: Mapping[str, Any]
    theirs: Mapping[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_forms(tmp_path_factory.mktemp("forms") / "tasks")


@pytest.fixture(scope="module", autouse=True)
def _aside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tables of the documents go into a folder of the test's; standard errors are drawn in this process."""
    real = metrics.bootstrap_stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        patch.setattr(metrics, "bootstrap_stderr", lambda f, xs, iters: real(f, xs, min(iters, FEWER_DRAWS)))
        patch.setenv("DISABLE_MULTIPROC", "1")
        yield


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.xdist_group(f"forms {name}")) for name in SETTINGS]
)
def both(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Every form asked of one model by the suite, column after column, and by ``hf`` in one call."""
    place = tmp_path_factory.mktemp(request.param)
    model = model_of(request, place / "model")
    settings = TaskSettings(**{**vars(SETTINGS[request.param]), "include_path": folder, "trust_task_code": True})
    return Both(request.param, suite_answers(model, settings, place), hf_answers(model, settings))


def model_of(request: pytest.FixtureRequest, place: Path) -> Path:
    if request.param == "stories260K":
        return Path(request.getfixturevalue("shared")) / "models/stories260K"
    demo = embedded_path("embedded:demo-model")
    if request.param == "demo":
        return demo
    place.mkdir()
    for file in demo.glob("tokenizer*"):
        shutil.copy(file, place)
    (place / "chat_template.jinja").write_text(TEMPLATE)
    random_qwen3(place)
    return place


def random_qwen3(place: Path) -> None:
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=len(transformers.AutoTokenizer.from_pretrained(place)),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = transformers.Qwen3ForCausalLM(config)
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and "head" not in name and "embed" not in name:
            weight.data.mul_(4)  # attention far from uniform
    model.save_pretrained(place)


def suite_answers(model: Path, settings: TaskSettings, place: Path) -> dict[str, Any]:
    suite = lm_eval_suite(ASKED, settings, data_root=None, commits={})
    engine = EnginePool().get(EngineSpec("torch", model, "float32", device="cpu", add_bos_token=None))
    found: dict[str, Any] = {"results": {}, "samples": {}, "n-shot": {}}
    for column in suite.columns:
        out = place / column.task
        out.mkdir()
        evaluate_column(engine, suite, column, data_root=None, out_dir=out, report=lambda *_: None, limit=None)
        (file,) = out.glob("results_*.json")
        results = json.loads(file.read_text())
        assert not found["results"].keys() & results["results"].keys()
        for key in ("results", "n-shot"):
            found[key] |= results[key]
        for path in out.glob("samples_*.jsonl"):
            task = path.name.removeprefix("samples_").rpartition("_")[0]
            found["samples"][task] = [json.loads(line) for line in path.open(encoding="utf-8")]
    return found


def hf_answers(model: Path, settings: TaskSettings) -> dict[str, Any]:
    return dict(
        simple_evaluate(
            model=HFLM(str(model), dtype="float32", device="cpu", batch_size=4),
            tasks=list(ASKED),
            task_manager=TaskManager(include_path=str(settings.include_path), include_defaults=False),
            num_fewshot=settings.num_fewshot,
            fewshot_random_seed=settings.fewshot_seed,
            gen_kwargs=dict(settings.gen_kwargs) or None,
            apply_chat_template=settings.apply_chat_template,
            system_instruction=settings.system_instruction,
            fewshot_as_multiturn=settings.fewshot_as_multiturn is not False,
        )
    )


def test_there_are_more_than_twenty_forms_of_every_output() -> None:
    assert len(FORMS) >= 20
    outputs = [config["output_type"] for config in FORMS.values()]
    assert {each: outputs.count(each) for each in set(outputs)} == {
        "multiple_choice": 10,
        "loglikelihood": 2,
        "loglikelihood_rolling": 2,
        "generate_until": 8,
    }


@pytest.mark.slow
def test_all_forms_and_groups_are_answered(both: Both) -> None:
    assert both.ours["results"].keys() == both.theirs["results"].keys() == {*FORMS, *GROUPS}
    assert both.ours["samples"].keys() == both.theirs["samples"].keys() == {*FORMS}
    assert both.ours["n-shot"] == both.theirs["n-shot"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FORMS, *GROUPS])
def test_metrics_are_those_of_hf(name: str, both: Both) -> None:
    ours, theirs = both.ours["results"][name], both.theirs["results"][name]
    assert ours.keys() == theirs.keys()
    numbers = {key: value for key, value in theirs.items() if isinstance(value, int | float)}
    assert len(numbers) > 1
    assert {key: ours[key] for key in numbers} == pytest.approx(numbers, rel=1e-4, nan_ok=True)
    assert {key: ours[key] for key in theirs.keys() - numbers} == {key: theirs[key] for key in theirs.keys() - numbers}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_prompts_answers_and_scores_of_each_document_are_those_of_hf(form: str, both: Both) -> None:
    ours, theirs = by_document(both.ours["samples"], form), by_document(both.theirs["samples"], form)
    assert ours.keys() == theirs.keys()
    expected = FORMS[form].get("test_split") or FORMS[form]["validation_split"]
    assert len({document for document, _ in ours}) == (3 if form == "form_code" else SIZES[expected])
    for key, row in theirs.items():
        found = ours[key]
        arguments = [list(each.values()) for each in found["arguments"].values()]
        assert arguments == json.loads(json.dumps(row["arguments"]))
        for name in ("doc", "doc_hash", "prompt_hash", "target_hash", "metrics"):
            assert found[name] == row[name], name
        for name in ("resps", "filtered_resps", *row["metrics"]):
            assert_same(found[name], row[name])


def by_document(samples: Samples, form: str) -> dict[tuple[int, str], dict[str, Any]]:
    return {(row["doc_id"], row["filter"]): row for row in samples[form]}


def assert_same(found: Any, expected: Any) -> None:
    """Numbers to 1e-4 (of a text of a thousand tokens to what float32 holds), everything else as it is written."""
    if isinstance(expected, np.ndarray):  # written as NumPy prints it
        assert [float(each) for each in found.strip("[]").split()] == pytest.approx(expected, abs=1e-4)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, float):
        assert float(found) == pytest.approx(expected, abs=1e-4, rel=1e-6, nan_ok=True)
    else:  # lm-eval writes what a model answered as text
        assert str(found) == str(expected)
