"""Any task of lm-eval as a suite: the numbers of lm-eval's own ``hf`` model, and what is refused before it starts."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.pool import EnginePool, LoadedEngine
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.leaderboard.evaluate import evaluate_column
from smaug_eval.leaderboard.lm_eval import loading, task_index
from smaug_eval.leaderboard.lm_eval.catalog import list_tasks, manager_of
from smaug_eval.leaderboard.lm_eval.settings import TaskSettings
from smaug_eval.leaderboard.lm_eval.suite import LmEvalSuite, lm_eval_suite
from smaug_eval.leaderboard.lm_eval_data import reading_at
from smaug_eval.leaderboard.suite_data import data_fingerprints
from smaug_eval.runs.jobs import EvaluationJob
from tests.lm_eval_folder import TASKS, rows, write_mirror, write_tasks

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
ASKED = {
    "plain": TaskSettings(),
    "chat": TaskSettings(
        num_fewshot=1,
        fewshot_seed=7,
        gen_kwargs={"max_gen_toks": 5, "until": ["."]},
        apply_chat_template=True,
        system_instruction="Answer in few words.",
        fewshot_as_multiturn=False,
    ),
}
NAMES = ["own_generation", "own_group", "own_rolling", "own_blank", "own_scored_shots"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror, a folder of tasks, and the demo's model with a chat template."""
    place = tmp_path_factory.mktemp("lm_eval")
    write_mirror(place / "data")
    write_tasks(place / "tasks")
    shutil.copytree(embedded_path("embedded:demo-model"), place / "model")
    (place / "model/chat_template.jinja").write_text(TEMPLATE)
    return place


@pytest.fixture(scope="module")
def pool() -> EnginePool:
    return EnginePool()


def suite_of(place: Path, names: list[str], settings: TaskSettings | None = None, **changed: Any) -> LmEvalSuite:
    given = {**vars(settings or TaskSettings()), "include_path": place / "tasks", **changed}
    return lm_eval_suite(names, TaskSettings(**given), data_root=place / "data", commits={})


def ours(place: Path, pool: EnginePool, suite: LmEvalSuite, task: str, out: Path, **options: Any) -> dict[str, Any]:
    engine = pool.get(EngineSpec("torch", place / "model", "float32", device="cpu", add_bos_token=None))
    return evaluated(engine, suite, task, place / "data", out, **options)


def evaluated(
    engine: LoadedEngine, suite: LmEvalSuite, task: str, data: Path, out: Path, limit: float | None = None
) -> dict[str, Any]:
    (column,) = suite.select([task])
    out.mkdir()
    evaluate_column(engine, suite, column, data_root=data, out_dir=out, report=lambda *_: None, limit=limit)
    (file,) = out.glob("results_*.json")
    found = json.loads(file.read_text())
    found["samples"] = {
        path.name.removeprefix("samples_").rpartition("_")[0]: [json.loads(line) for line in path.open()]
        for path in out.glob("samples_*.jsonl")
    }
    return dict(found)


def theirs(place: Path, task: str, settings: TaskSettings, **options: Any) -> dict[str, Any]:
    with reading_at(place / "data", {}):
        found = simple_evaluate(
            model=HFLM(str(place / "model"), dtype="float32", device="cpu", batch_size=4),
            tasks=[task],
            task_manager=TaskManager(include_path=str(place / "tasks"), include_defaults=False),
            num_fewshot=settings.num_fewshot,
            fewshot_random_seed=settings.fewshot_seed,
            gen_kwargs=dict(settings.gen_kwargs) or None,
            apply_chat_template=settings.apply_chat_template,
            system_instruction=settings.system_instruction,
            fewshot_as_multiturn=settings.fewshot_as_multiturn is not False,
            **options,
        )
    return dict(found)


def log_likelihoods(samples: Mapping[str, list[dict[str, Any]]]) -> dict[tuple[str, int, str], list[float]]:
    return {
        (task, row["doc_id"], row["filter"]): [float(each[0]) for each in row["filtered_resps"]]
        for task, found in samples.items()
        for row in found
        if isinstance(row["filtered_resps"][0], list | tuple)
    }


@pytest.mark.slow
@pytest.mark.parametrize("asked", list(ASKED))
@pytest.mark.parametrize("task", NAMES)
def test_the_numbers_are_those_of_lm_eval_s_hf(
    asked: str, task: str, place: Path, pool: EnginePool, tmp_path: Path
) -> None:
    settings, options = ASKED[asked], {"limit": 0.6 if task == "own_group" else None}
    own = ours(place, pool, suite_of(place, [task], settings), task, tmp_path / "out", **options)
    reference = theirs(place, task, settings, **options)
    compare(own, reference)


def compare(own: dict[str, Any], reference: dict[str, Any]) -> None:
    """The same metrics, log-likelihoods and prompts."""
    assert own["results"].keys() == reference["results"].keys()
    for name, values in reference["results"].items():
        numbers = {key: value for key, value in values.items() if isinstance(value, float)}
        assert {key: own["results"][name][key] for key in numbers} == pytest.approx(numbers, rel=1e-4)
    found, expected = log_likelihoods(own["samples"]), log_likelihoods(reference["samples"])
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert found[key] == pytest.approx(values, abs=1e-4)
    asked_of = {name: [row["arguments"] for row in found] for name, found in reference["samples"].items()}
    for name, arguments in asked_of.items():
        prompts = [[next(iter(each.values())) for each in row["arguments"].values()] for row in own["samples"][name]]
        assert prompts == [[each[0] for each in row] for row in arguments]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["arc_challenge", "winogrande", "mmlu_anatomy", "gsm8k"])
def test_lm_evals_own_tasks_with_a_tokenizer_that_adds_a_bos(
    task: str, shared: Path, pool: EnginePool, tmp_path: Path
) -> None:
    """From the mirror, with Llama's tokenizer: prompts begin with a BOS token, as in lm-eval's ``hf``."""
    model, data = shared / "models/stories260K", shared / "data"
    settings = TaskSettings(num_fewshot=1, gen_kwargs={"max_gen_toks": 4} if task == "gsm8k" else {})
    suite = lm_eval_suite([task], settings, data_root=data, commits={})
    engine = pool.get(EngineSpec("torch", model, "float32", device="cpu", add_bos_token=None))
    assert engine.watch.lm.tok_encode("a")[0] == engine.watch.lm.tokenizer.bos_token_id
    own = evaluated(engine, suite, task, data, tmp_path / "out", limit=4)
    with reading_at(data, {}):
        reference = simple_evaluate(
            model=HFLM(str(model), dtype="float32", device="cpu", batch_size=4),
            tasks=[task],
            task_manager=manager_of(None),
            num_fewshot=1,
            gen_kwargs=dict(settings.gen_kwargs) or None,
            limit=4,
        )
    compare(own, dict(reference))


def test_documents_have_a_fixed_order_whatever_the_limit(place: Path, pool: EnginePool, tmp_path: Path) -> None:
    suite = suite_of(place, ["own_choice"])
    few = ours(place, pool, suite, "own_choice", tmp_path / "few", limit=3)
    share = ours(place, pool, suite, "own_choice", tmp_path / "share", limit=0.2)  # of 13, rounded up
    assert few["samples"]["own_choice"] == share["samples"]["own_choice"]
    assert [row["doc"]["question"] for row in few["samples"]["own_choice"]] == [
        row["question"] for row in rows("test", 3)
    ]


def test_a_tasks_own_repeats_are_different_texts_the_same_in_each_run(
    place: Path, pool: EnginePool, tmp_path: Path
) -> None:
    """``repeats: 3`` in a task's YAML; lm-eval's own filters then choose among the three."""
    drawn = {"until": ["\n"], "max_gen_toks": 6, "do_sample": True, "temperature": 1.5}
    kept = [{"name": "one", "filter": [{"function": "take_first_k", "k": 3}, {"function": "take_first"}]}]
    changed = {"repeats": 3, "generation_kwargs": drawn, "filter_list": kept}
    folder = write_tasks(tmp_path / "tasks", ["own_generation"], own_generation=changed)
    suite = suite_of(place, ["own_generation"], include_path=folder)
    found = [ours(place, pool, suite, "own_generation", tmp_path / f"out{n}", limit=4)["samples"] for n in range(2)]
    assert found[0] == found[1]
    texts = [row["resps"][0] for row in found[0]["own_generation"]]
    assert [len(each) for each in texts] == [3] * 4
    assert len({text for each in texts for text in each}) > 8  # of 12


def test_options_that_a_task_shuffles_are_shuffled_once(place: Path, pool: EnginePool, tmp_path: Path) -> None:
    """As GPQA does, by Python's own generator: prompt, answer and score are of one order, the same in each run."""
    folder = write_tasks(tmp_path / "tasks", ["own_choice"], own_choice={"doc_to_text": "{{question}} {{choices}}"})
    with (folder / "own_choice.yaml").open("a") as file:
        file.write("process_docs: !function tools.docs\n")
    (folder / "tools.py").write_text(
        "import random\n"
        "def shuffled(row):\n"
        "    order = random.sample([0, 1], 2)\n"
        "    return {'choices': [row['choices'][each] for each in order], 'label': order.index(row['label'])}\n"
        "def docs(rows):\n"
        "    return rows.map(shuffled)\n"
    )
    settings = TaskSettings(include_path=folder, trust_task_code=True)
    prints, found = [], []
    for number in range(2):
        random.seed(number + 7)
        suite = lm_eval_suite(["own_choice"], settings, data_root=place / "data", commits={})
        prints.append(data_fingerprints(suite.columns[0], suite, place / "data"))
        found.append(ours(place, pool, suite, "own_choice", tmp_path / f"out{number}"))
    assert prints[0] == prints[1]
    assert found[0]["samples"] == found[1]["samples"]
    orders = set()
    for row in found[0]["samples"]["own_choice"]:
        prompt = row["arguments"]["gen_args_0"]["arg_0"]
        assert prompt.endswith(f"{row['doc']['question']} {row['doc']['choices']}")
        best = max(range(2), key=lambda place: float(row["filtered_resps"][place][0]))
        assert row["acc"] == float(best == row["doc"]["label"])
        orders.add(row["doc"]["choices"][0].startswith("a little"))
    assert orders == {True, False}


def test_a_tag_and_a_pattern_are_their_tasks_and_a_group_brings_its_own(place: Path) -> None:
    assert [each.task for each in suite_of(place, ["own_tag"]).columns] == ["own_choice", "own_first"]
    assert [each.task for each in suite_of(place, ["own_[cf]*"]).columns] == ["own_choice", "own_first"]
    both = suite_of(place, ["own_tag", "own_group", "own_rolling"])
    assert [each.task for each in both.columns] == ["own_group", "own_rolling"]
    assert [leaf.name for leaf in both.columns[0].leaves] == ["own_choice", "own_first", "own_last_word"]


def test_a_task_asked_in_two_ways_is_refused(place: Path, tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "tasks", own_group={"num_fewshot": 1})
    settings = TaskSettings(include_path=folder)
    with pytest.raises(SmaugError, match="'own_choice' of lm-eval is in own_group and in own_choice"):
        lm_eval_suite(["own_group", "own_choice"], settings, data_root=place / "data", commits={})


def test_fingerprints_follow_documents_and_definitions(place: Path, tmp_path: Path) -> None:
    suite = suite_of(place, ["own_choice"])
    again = suite_of(place, ["own_choice"])
    (column,), (other,) = suite.columns, again.columns
    own = data_fingerprints(column, suite, place / "data")
    assert own == data_fingerprints(other, again, place / "data")
    assert suite.definition(column) == again.definition(other)
    moved = write_tasks(tmp_path / "elsewhere")
    settings = TaskSettings(include_path=moved)
    third = lm_eval_suite(["own_choice"], settings, data_root=place / "data", commits={})
    assert third.definition(third.columns[0]) == suite.definition(column)
    mirror = write_mirror(tmp_path / "data", {"train": 9, "test": 12})
    fewer = lm_eval_suite(["own_choice"], settings, data_root=mirror, commits={})
    assert data_fingerprints(fewer.columns[0], fewer, mirror) != own
    (moved / "own_choice.yaml").write_text((moved / "own_choice.yaml").read_text().replace("Answer:", "A:"))
    changed = lm_eval_suite(["own_choice"], settings, data_root=place / "data", commits={})
    assert changed.definition(changed.columns[0]) != suite.definition(column)


def test_an_unknown_name_is_answered_by_lm_eval_s_names(place: Path) -> None:
    with pytest.raises(SmaugError, match="no task, tag or group called 'mmlu_por'") as error:
        suite_of(place, ["mmlu_por"])
    assert "mmlu_pro" in str(error.value.fix)
    assert "gsm8k, " not in str(error.value.fix)
    with pytest.raises(SmaugError) as own:
        suite_of(place, ["own_chioce"])
    assert str(own.value.fix).startswith("there is own_choice")


def test_broken_yaml_is_named_where_a_task_is_missing(place: Path, tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "tasks", ["own_first"])
    (folder / "own_choice.yaml").write_text("task: own_choice\n  output_type: [")
    with pytest.raises(SmaugError, match="called 'own_choice'") as error:
        lm_eval_suite(["own_choice"], TaskSettings(include_path=folder), data_root=place / "data", commits={})
    assert "own_choice.yaml, line 2: not valid YAML" in str(error.value.fix)


def test_data_that_the_mirror_lacks_are_named(place: Path, tmp_path: Path) -> None:
    settings = TaskSettings(include_path=place / "tasks")
    with pytest.raises(SmaugError, match=r"does not hold org/animals \(default\)"):
        lm_eval_suite(["own_choice"], settings, data_root=tmp_path, commits={})


def test_a_folder_that_is_not_there(place: Path, tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match=r"include_path: .*nowhere is not a folder"):
        lm_eval_suite(["x"], TaskSettings(include_path=tmp_path / "nowhere"), data_root=None, commits={})
    with pytest.raises(SmaugError, match=r"holds no \*\.yaml"):
        lm_eval_suite(["x"], TaskSettings(include_path=tmp_path), data_root=None, commits={})


class TestCode:
    """Code in a user's folder."""

    def folder(self, tmp_path: Path, text: str) -> Path:
        folder = write_tasks(tmp_path / "tasks", ["own_choice"])
        file = folder / "own_choice.yaml"
        file.write_text(file.read_text() + text)
        ran = tmp_path / "ran"
        (folder / "tools.py").write_text(f"open({str(ran)!r}, 'w').close()\ndef docs(rows):\n    return rows\n")
        return folder

    def load(self, place: Path, folder: Path, *, trusted: bool = False) -> LmEvalSuite:
        settings = TaskSettings(include_path=folder, trust_task_code=trusted)
        return lm_eval_suite(["own_choice"], settings, data_root=place / "data", commits={})

    def test_a_function_is_refused_by_name_and_runs_where_it_is_trusted(self, place: Path, tmp_path: Path) -> None:
        folder = self.folder(tmp_path, "process_docs: !function tools.docs\n")
        line = len((folder / "own_choice.yaml").read_text().splitlines())
        with pytest.raises(SmaugError, match=rf"own_choice.yaml, line {line}: !function tools.docs") as error:
            self.load(place, folder)
        assert "trust_task_code: true" in str(error.value.fix)
        assert not (tmp_path / "ran").exists()
        suite = self.load(place, folder, trusted=True)
        assert (tmp_path / "ran").exists()
        assert suite.code() == ["own_choice"]
        before = suite.definition(suite.columns[0])
        (folder / "tools.py").write_text("def docs(rows):\n    return rows.select(range(2))\n")
        changed = self.load(place, folder, trusted=True)
        assert changed.definition(changed.columns[0]) != before

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("doc_to_text: !function os.system\n", "!function os.system"),
            ("class: !function tools.docs\n", "!function tools.docs"),
            ("include: [more.yaml]\n", "!function tools.docs"),
            ("fewshot_config: {process_docs: !function tools.docs}\n", "!function tools.docs"),
            ("metric_list: [{metric: some/space, aggregation: mean, higher_is_better: true}]\n", "metric some/space"),
            ("metric_list: [{metric: acc, hf_evaluate: true}]\n", "metric acc"),
            ("dataset_path: pandas\n", "unpickles"),
        ],
    )
    def test_every_way_to_run_code_is_refused(self, text: str, what: str, place: Path, tmp_path: Path) -> None:
        folder = self.folder(tmp_path, "")
        own = (folder / "own_choice.yaml").read_text().splitlines()
        key = text.partition(":")[0]
        kept, drop = [], False
        for line in own:  # the key that is given anew
            drop = line.startswith(f"{key}:") or (drop and line[:1] in ("-", " "))
            kept += [] if drop else [line]
        (folder / "own_choice.yaml").write_text("\n".join(kept) + "\n" + text)
        (folder / "more.yaml").write_text("process_docs: !function tools.docs\n")
        with pytest.raises(SmaugError, match="would run code that is not lm-eval's own") as error:
            self.load(place, folder)
        assert what in error.value.message
        assert not (tmp_path / "ran").exists()

    def test_code_that_comes_after_the_check_is_not_run(
        self, place: Path, tmp_path: Path, pool: EnginePool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whenever lm-eval reads the files again: another time in this process, while it loads, while it scores."""
        folder = self.folder(tmp_path, "")
        file, clean = folder / "own_choice.yaml", (folder / "own_choice.yaml").read_bytes()
        code = b"process_docs: !function tools.docs\n"
        suite = self.load(place, folder)

        def changed() -> None:
            file.write_bytes(clean + code)

        changed()
        with pytest.raises(SmaugError, match=r"own_choice.yaml has changed since it was checked; it may hold code"):
            ours(place, pool, suite, "own_choice", tmp_path / "out")
        with pytest.raises(SmaugError, match="would run code that is not lm-eval's own"):  # nothing is remembered
            self.load(place, folder)
        file.write_bytes(clean)
        checked = loading.refuse_code
        monkeypatch.setattr(loading, "refuse_code", lambda *given, **named: (checked(*given, **named), changed()))
        with pytest.raises(SmaugError, match="has changed since it was checked"):
            self.load(place, folder)
        assert not (tmp_path / "ran").exists()
        monkeypatch.undo()
        file.write_bytes(clean)
        (folder / "more.yaml").write_bytes(code)
        file.write_bytes(b"<<: {include: more.yaml}\n" + clean)  # lm-eval merges first, and includes then
        with pytest.raises(SmaugError, match=r"more.yaml was not among the files that were checked"):
            self.load(place, folder)
        assert not (tmp_path / "ran").exists()

    def test_a_stage_is_not_scored_by_other_files_than_it_was_planned_with(self, place: Path, tmp_path: Path) -> None:
        folder = write_tasks(tmp_path / "tasks", ["own_choice"])
        engine = EngineSpec("torch", place / "model", device="cpu", add_bos_token=None)
        settings = TaskSettings(include_path=folder)
        suite = lm_eval_suite(["own_choice"], settings, data_root=place / "data", commits={})
        job = EvaluationJob(
            *("lm_eval", "own_choice", 2, place / "data", engine, tmp_path),
            settings=settings,
            definition=suite.definition(suite.columns[0]),
        )
        assert job._column()[1].task == "own_choice"
        with (folder / "own_choice.yaml").open("a") as file:
            file.write("description: Other.\n")
        with pytest.raises(SmaugError, match="define task 'own_choice' have changed since this run began"):
            job._column()

    def test_a_template_cannot_reach_python(self, place: Path, tmp_path: Path) -> None:
        mark = tmp_path / "mark"
        reach = f"{{{{ cycler.__init__.__globals__.os.system('touch {mark}') }}}}{{{{question}}}}"
        folder = write_tasks(tmp_path / "tasks", ["own_choice"], own_choice={"doc_to_text": reach})
        with pytest.raises(SmaugError, match=r"cannot be loaded \(.*own_choice.yaml\): SecurityError"):
            self.load(place, folder)
        assert not mark.exists()

    def test_lm_eval_s_own_functions_need_no_trust(self, place: Path) -> None:
        from smaug_eval.leaderboard.lm_eval.task_code import read_definition

        definition = read_definition("mmlu_pro", manager_of(None))
        assert definition.code == ()
        assert "utils.py" in {file.name for file in definition.files}

    def test_what_runs_a_model_s_programs_is_refused(self, place: Path, tmp_path: Path) -> None:
        folder = write_tasks(tmp_path / "tasks", ["own_choice"], own_choice={"unsafe_code": True})
        with pytest.raises(SmaugError, match="runs programs that a model wrote"):
            self.load(place, folder, trusted=True)
        with pytest.raises(SmaugError, match="'humaneval' runs programs that a model wrote"):  # nothing is fetched
            lm_eval_suite(["humaneval"], TaskSettings(), data_root=place / "data", commits={})


class TestHazards:
    """What lm-eval does in silence is named."""

    def told(self, place: Path, task: str, **settings: Any) -> str:
        return "\n".join(suite_of(place, [task], **settings).hazards())

    def test_drawn_shots(self, place: Path) -> None:
        assert "shots of own_choice are drawn document after document" in self.told(place, "own_choice")
        assert self.told(place, "own_first") == ""
        assert self.told(place, "own_choice", num_fewshot=0) == ""

    def test_shots_from_the_scored_documents(self, place: Path, tmp_path: Path) -> None:
        told = self.told(place, "own_scored_shots")
        assert "does not leave a document out of its own shots: own_scored_shots (13 of 13 scored" in told
        folder = write_tasks(tmp_path / "tasks", ["own_choice"], own_choice={"fewshot_split": "test"})
        settings = TaskSettings(include_path=folder)
        suite = lm_eval_suite(["own_choice"], settings, data_root=place / "data", commits={})
        assert "without the document itself: own_choice (13 of 13" in "\n".join(suite.hazards())

    def test_a_document_is_truly_among_its_own_shots(self, place: Path, pool: EnginePool, tmp_path: Path) -> None:
        """The oracle of the hazard: some prompt holds its own question twice."""
        found = ours(place, pool, suite_of(place, ["own_scored_shots"]), "own_scored_shots", tmp_path / "out")
        prompts = [row["arguments"]["gen_args_0"]["arg_0"] for row in found["samples"]["own_scored_shots"]]
        questions = [row["doc"]["question"] for row in found["samples"]["own_scored_shots"]]
        twice = [prompt for prompt, question in zip(prompts, questions, strict=True) if prompt.count(question) == 2]
        assert twice

    def test_weights_of_a_group(self, place: Path, tmp_path: Path) -> None:
        told = self.told(place, "own_group")
        assert "mean of its 3 single tasks, weighted by their documents (acc); a limit changes the weights" in told
        folder = write_tasks(tmp_path / "tasks", own_group={"aggregate_metric_list": None})
        settings = TaskSettings(include_path=folder)
        suite = lm_eval_suite(["own_group"], settings, data_root=place / "data", commits={})
        assert "gives the group no score of its own, only its 3 tasks" in "\n".join(suite.hazards())

    def test_sampled_answers(self, place: Path) -> None:
        told = self.told(place, "own_generation", gen_kwargs={"do_sample": True, "temperature": 0.7}, num_fewshot=0)
        assert "the answers of own_generation are sampled" in told


def test_what_identifies_a_document(place: Path) -> None:
    names = ["own_choice", "own_blank", "own_last_word", "own_rolling"]
    suite = suite_of(place, names)
    found = {}
    for column in suite.columns:
        leaf = column.leaves[0]
        _, documents = suite.rows(leaf)
        found[column.task] = leaf.form.identity(documents[0])
    question = "What did child number 0 of the test group see in the garden after lunch?"
    assert found["own_choice"] == ([f"Question: {question}\nAnswer:", question], "a cat")
    assert found["own_blank"][0][0] == "The test story 0 says that a cat was in the garden all day long."
    text = "Once upon a time the cat number 0 met a dog in the garden. They played and played."
    assert found["own_last_word"] == ([text.rpartition(" ")[0]], "played.")
    assert found["own_rolling"] == ([text], "")


def test_the_index_of_lm_evals_names_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the user's cache, until a file changes; what is damaged there is made again."""
    folder = write_tasks(tmp_path / "own", ["own_choice", "own_first", "own_group"])
    monkeypatch.setattr(task_index, "own_folder", folder.resolve)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def names() -> dict[str, tuple[str, Path | None, frozenset[str]]]:
        task_index.own_index.cache_clear()
        found = task_index.own_index()
        return {name: (each.kind.name, each.yaml_path, frozenset(each.tags)) for name, each in found.items()}

    try:
        first = names()
        assert first.keys() == {"own_choice", "own_first", "own_group", "own_tag"}
        assert first["own_tag"] == ("TAG", None, frozenset({"own_choice", "own_first"}))
        built = []
        real = task_index.index_of
        monkeypatch.setattr(task_index, "index_of", lambda folder: built.append(folder) or real(folder))
        assert names() == first
        assert not built
        (kept,) = (tmp_path / "cache/smaug-eval").iterdir()
        kept.write_text(kept.read_text()[:50])
        assert names() == first
        assert len(built) == 1
        write_tasks(folder, ["own_rolling"])
        assert names().keys() == {*first, "own_rolling"}
        assert len(built) == 2
    finally:
        task_index.own_index.cache_clear()


def test_the_list_of_tasks(place: Path) -> None:
    own = {each["name"]: each for each in list_tasks("OWN_", place / "tasks")}
    assert own["own_choice"] == {
        "name": "own_choice",
        "kind": "task",
        "output": "multiple_choice",
        "dataset": "org/animals",
        "shots": 2,
        "source": "own_choice.yaml",
    }
    assert own.keys() >= TASKS.keys()
    assert (own["own_tag"]["kind"], own["own_tag"]["dataset"]) == ("tag", "2 tasks")
    assert (own["own_group"]["kind"], own["own_group"]["dataset"]) == ("group", "3 members")
    assert [each["name"] for each in list_tasks("arc_eas*")] == ["arc_easy"]
    assert "mmlu_pro" in {each["name"] for each in list_tasks("mmlu_p")}
    with pytest.raises(SmaugError, match="called 'nosuchword'"):
        list_tasks("nosuchword")


def test_what_goes_wrong_in_a_task_names_it(place: Path, pool: EnginePool, tmp_path: Path) -> None:
    """lm-eval's own words are ``AssertionError: Answer is not a string! : [0, 1]``, in a traceback."""
    folder = write_tasks(tmp_path / "tasks", ["own_choice"])
    file = folder / "own_choice.yaml"
    task = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**task, "doc_to_target": [0, 1]}))
    suite = suite_of(place, ["own_choice"], include_path=folder)
    with pytest.raises(
        SmaugError, match="task 'own_choice' of lm-eval cannot make its prompts: AssertionError"
    ) as told:
        ours(place, pool, suite, "own_choice", tmp_path / "out")
    assert "num_fewshot" in str(told.value.fix)
