"""The YAML files as lm-eval sees them, over a made-up mirror of the six benchmarks."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lm_eval import evaluate, simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from smaug_eval.common.hub import DATA_ROOT_VARIABLE
from smaug_eval.leaderboard import protocol, v1
from smaug_eval.leaderboard.benchmarks import mmlu as mmlu_benchmark
from smaug_eval.leaderboard.scores import suite_scores

FOLDER = v1.SUITE.folder


def made_up_mirror(root: Path) -> None:
    """Thirty rows to draw shots from and four to evaluate, for each benchmark."""

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        path = root / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path)

    def arc(n: int) -> dict[str, Any]:
        return {
            "question": f"Q{n}?",
            "choices": {"text": ["éé", "abc"], "label": ["A", "B"]},
            "answerKey": "AB"[n % 2],
        }

    def hellaswag(n: int) -> dict[str, Any]:
        return {
            "activity_label": "Run",
            "ctx_a": f"A{n}",
            "ctx_b": "he",
            "endings": ["w", "xx", "yyy", "z"],
            "label": str(n % 4),
        }

    def mmlu(n: int) -> dict[str, Any]:
        subject = list(mmlu_benchmark.TEST_ROWS)[n % 57]
        return {"question": f"Q{n}?", "subject": subject, "choices": ["a", "b", "c", "d"], "answer": n % 4}

    def truthfulqa(n: int) -> dict[str, Any]:
        return {
            "question": f"Q{n}?",
            "mc1_targets": {"choices": ["yes", "no!"], "labels": [1, 0]},
            "mc2_targets": {"choices": ["yes", "no!", "maybe"], "labels": [1, 0, 1]},
        }

    def winogrande(n: int) -> dict[str, Any]:
        return {"sentence": f"{n}: _ runs.", "option1": "Al", "option2": "Bob", "answer": "12"[n % 2]}

    def gsm8k(n: int) -> dict[str, Any]:
        return {"question": f"Q{n}?", "answer": f"It is {n % 2}.\n#### {n % 2}"}

    write("allenai/ai2_arc/ARC-Challenge/train", [arc(n) for n in range(30)])
    write("allenai/ai2_arc/ARC-Challenge/test", [arc(n) for n in range(4)])
    write("Rowan/hellaswag/default/train", [hellaswag(n) for n in range(30)])
    write("Rowan/hellaswag/default/validation", [hellaswag(n) for n in range(4)])
    write("cais/mmlu/all/dev", [mmlu(n) for n in range(5 * 57)])
    write("cais/mmlu/all/test", [mmlu(n) for n in range(4 * 57)])
    write("truthfulqa/truthful_qa/multiple_choice/validation", [truthfulqa(n) for n in range(4)])
    write("allenai/winogrande/winogrande_xl/train", [winogrande(n) for n in range(30)])
    write("allenai/winogrande/winogrande_xl/validation", [winogrande(n) for n in range(4)])
    write("openai/gsm8k/main/train", [gsm8k(n) for n in range(30)])
    write("openai/gsm8k/main/test", [gsm8k(n) for n in range(4)])


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mirror")
    made_up_mirror(root)
    return root


@pytest.fixture(scope="module")
def manager(mirror: Path) -> TaskManager:
    # "revision" stands for the model's arguments, which lm-eval merges into the metadata.
    return TaskManager(
        include_path=str(FOLDER), include_defaults=False, metadata={"data_root": str(mirror), "revision": "main"}
    )


@pytest.fixture(scope="module")
def tasks(manager: TaskManager) -> dict[str, Any]:
    loaded: dict[str, Any] = manager.load([v1.NAME])["tasks"]
    return loaded


def asked(instances: list[Instance]) -> Iterator[tuple[str, str]]:
    """lm-eval's requests in the form of ``protocol.requests``."""
    for instance in instances:
        context, continuation = instance.args
        yield (context, continuation if isinstance(continuation, str) else stops(continuation))


def stops(generation: dict[str, Any]) -> str:
    return json.dumps({"until": generation["until"]})


def test_index_holds_the_suite_and_nothing_else(manager: TaskManager) -> None:
    assert set(manager.all_subtasks) == set(v1.TASKS)
    assert set(manager.all_groups) == {"open_llm_v1", "open_llm_v1_mmlu"}
    assert set(v1.SUITE.lm_eval_tasks()) <= set(manager.all_tasks)


@pytest.mark.parametrize("name", sorted(v1.TASKS))
def test_lm_eval_asks_the_protocol_s_requests(name: str, tasks: dict[str, Any], mirror: Path) -> None:
    tasks[name].build_all_requests(limit=3)
    documents = v1.load_documents(name, mirror)[:3]
    expected = [pair for document in documents for pair in protocol.requests(v1.TASKS[name], document)]
    assert list(asked(tasks[name].instances)) == expected


def test_ranks_share_one_plan(tasks: dict[str, Any]) -> None:
    task = tasks["open_llm_v1_winogrande"]
    task.build_all_requests()
    together = list(asked(task.instances))
    apart = []
    for rank in range(2):
        task.build_all_requests(rank=rank, world_size=2)
        apart.append(list(asked(task.instances)))
    pairs = [together[start : start + 2] for start in range(0, len(together), 2)]
    assert apart[0] == pairs[0] + pairs[2]
    assert apart[1] == pairs[1] + pairs[3]


def test_generation_settings_are_the_specs(tasks: dict[str, Any]) -> None:
    generation = v1.GSM8K.generation
    assert generation is not None
    assert tasks[v1.GSM8K.name].config.generation_kwargs == {
        "until": list(generation.stops),
        "do_sample": False,
        "max_gen_toks": generation.max_new_tokens,
    }


def test_data_root_from_the_environment(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_ROOT_VARIABLE, str(mirror))
    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    (task,) = manager.load(["open_llm_v1_gsm8k"])["tasks"].values()
    assert [doc["doc"] for doc in task.eval_docs] == [
        document["doc"] for document in v1.load_documents("open_llm_v1_gsm8k", mirror)
    ]


LOG_LIKELIHOODS = {" éé": -3.0, " abc": -4.0, " yes": -1.0, " no!": -2.0, " maybe": -1.0}


class ByRule(LM):
    """Log-likelihoods by table; answers every worded problem with 1."""

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        return [(self.score(*request.args), False) for request in requests]

    def score(self, context: str, continuation: str) -> float:
        if context.endswith("Al"):  # Winogrande: the first option always wins
            return -1.0
        return LOG_LIKELIHOODS.get(continuation, -5.0)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        return [" It is 1.\n#### 1" for _ in requests]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        raise AssertionError("no task asks for this")


def test_metrics_end_to_end(manager: TaskManager) -> None:
    output = evaluate(ByRule(), manager.load([v1.NAME]), bootstrap_iters=1)
    assert output is not None
    results = output["results"]
    # "éé" is likelier, "abc" is likelier per character (-4/3 > -3/2), "éé" again per byte (-3/4).
    arc = {document["gold"] for document in results_documents(output, v1.ARC.name, "acc_norm", 1.0)}
    assert arc == {1}
    assert results[v1.ARC.name]["acc,none"] == results[v1.ARC.name]["acc_norm,none"] == 0.5
    # All endings are equally likely, so acc takes the first and acc_norm the longest, "yyy".
    assert {document["gold"] for document in results_documents(output, v1.HELLASWAG.name, "acc", 1.0)} == {0}
    assert {document["gold"] for document in results_documents(output, v1.HELLASWAG.name, "acc_norm", 1.0)} == {2}
    # yes : no! : maybe = e : 1 : e, and "maybe" stands behind the first false answer.
    e = 2.718281828459045
    assert results[v1.TRUTHFULQA.name]["mc1,none"] == 1.0
    assert results[v1.TRUTHFULQA.name]["mc2,none"] == pytest.approx(e / (2 * e + 1))
    assert {document["gold"] for document in results_documents(output, v1.WINOGRANDE.name, "acc", 1.0)} == {0}
    assert {document["gold"] for document in results_documents(output, v1.GSM8K.name, "acc", 1.0)} == {"1"}
    scores = suite_scores(v1.SUITE, results)
    values = {column.title: column.score.value for column in scores.columns}
    assert values["GSM8K"] == values["Winogrande"] == values["ARC"] == 50.0
    assert values["HellaSwag"] == values["MMLU"] == 25.0
    assert results["open_llm_v1_mmlu"]["acc,none"] == pytest.approx(0.25)
    # Four documents, two right: sample variance 1/3, standard error sqrt(1/12).
    assert scores.columns[0].score.stderr == pytest.approx(100 / 12**0.5)
    assert results["open_llm_v1_mmlu"]["acc_stderr,none"] == pytest.approx((scores.columns[2].score.stderr or 0) / 100)


def results_documents(output: Any, task: str, metric: str, value: float) -> list[dict[str, Any]]:
    """The documents of ``task`` whose ``metric`` is ``value``."""
    return [sample["doc"] for sample in output["samples"][task] if sample[metric] == value]


@pytest.mark.slow
def test_lm_eval_hf_reproduces_the_old_harness_s_log_likelihoods(shared: Path) -> None:
    """Two documents each of ARC (prompts longer than the context) and of an MMLU subject, in float32."""
    names = {"arc_challenge": "open_llm_v1_arc_challenge", "mmlu_anatomy": "open_llm_v1_mmlu_anatomy"}
    output = simple_evaluate(
        "hf",
        model_args={
            "pretrained": str(shared / "models" / "stories260K"),
            "dtype": "float32",
            "add_bos_token": False,
            "device": "cpu",
        },
        tasks=[*names.values(), "open_llm_v1_gsm8k", "open_llm_v1_truthfulqa"],
        task_manager=TaskManager(
            include_path=str(FOLDER), include_defaults=False, metadata={"data_root": str(shared / "data")}
        ),
        limit=2,
        batch_size=1,
    )
    assert output is not None
    with gzip.open(shared / "golden" / "scores_stories260K.json.gz", "rt") as file:
        golden = json.load(file)
    for key, name in names.items():
        for sample, expected in zip(output["samples"][name], golden[key], strict=False):
            assert sample["doc"]["doc"] == expected["doc"]
            ours = [float(response[0][0]) for response in sample["resps"]]
            assert ours == pytest.approx([value for value, _ in expected["results"]], abs=1e-4)
    titles = [column.title for column in suite_scores(v1.SUITE, output["results"]).columns]
    assert titles == ["ARC", "MMLU", "TruthfulQA", "GSM8K"]
