"""Suite lm_eval and several models in a run: what is recorded, refused, named, resumed, and told in the report."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import smaug_eval
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.names import distinct_names, with_revision
from smaug_eval.engines.pool import EnginePool
from smaug_eval.engines.shares import Share
from smaug_eval.runs.jobs import EvaluationJob, Workplace
from smaug_eval.runs.recipe import Recipe, recipe_as_dict
from smaug_eval.runs.recipe_file import load_recipe, parse_recipe
from tests.engines.served.server import serving
from tests.lm_eval_folder import rows, write_mirror, write_tasks

MODEL = "embedded:demo-model"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror, a folder of tasks, and a model whose weights were changed."""
    place = tmp_path_factory.mktemp("any_tasks")
    write_mirror(place / "data")
    write_tasks(place / "tasks")
    shutil.copytree(embedded_path(MODEL), place / "theirs")
    file = place / "theirs/model.safetensors"
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: value + 0.02 * torch.randn(value.shape, generator=generator) for name, value in load_file(file).items()
    }
    save_file(weights, file, metadata={"format": "pt"})
    return place


def recipe(place: Path, tasks: list[str], name: str = "any", **changed: Any) -> dict[str, Any]:
    evaluation = {
        "suite": "lm_eval",
        "tasks": tasks,
        "include_path": str(place / "tasks"),
        "engine": "torch",
        "device": "cpu",
        **changed.pop("evaluation", {}),
    }
    return {
        "name": name,
        "model": MODEL,
        "data_root": str(place / "data"),
        "evaluations": {"mine": evaluation},
        **changed,
    }


def message(content: dict[str, Any]) -> str:
    with pytest.raises(SmaugError) as error:
        parse_recipe(content)
    return error.value.message


class TestRecipe:
    """Keys and how they fit together."""

    @pytest.mark.parametrize(
        ("evaluation", "expected"),
        [
            ({"suite": "lm_eval"}, "tasks: name tasks, tags or groups of lm-eval"),
            ({"suite": "open_llm_v1", "num_fewshot": 3}, "num_fewshot: this key is for suite lm_eval"),
            ({"suite": "demo", "gen_kwargs": {"max_gen_toks": 3}}, "gen_kwargs: this key is for suite lm_eval"),
            (
                {"suite": "lm_eval", "tasks": ["piqa"], "fewshot_as_multiturn": True},
                "fewshot_as_multiturn does nothing without apply_chat_template",
            ),
            ({"suite": "lm_eval", "tasks": ["piqa"], "trust_task_code": True}, "trust_task_code is for the folder"),
            ({"suite": "lm_eval", "tasks": ["piqa"], "limit": 1.5}, "limit"),
            ({"suite": "lm_eval", "tasks": ["piqa"], "limit": 0}, "limit"),
            ({"suite": "lm_eval", "tasks": ["piqa"], "num_fewshot": -1}, "num_fewshot"),
        ],
    )
    def test_what_does_not_fit_is_named(self, evaluation: dict[str, Any], expected: str) -> None:
        text = message({"name": "x", "model": MODEL, "evaluations": {"e": evaluation}})
        assert "evaluations.e" in text
        assert expected in text

    def test_a_limit_is_a_number_or_a_share(self) -> None:
        for given, kept in ((8, 8), (8.0, 8), (0.25, 0.25)):
            evaluation = {"suite": "lm_eval", "tasks": ["piqa"], "limit": given}
            found = parse_recipe({"name": "x", "model": MODEL, "evaluations": {"e": evaluation}})
            assert repr(found.evaluations["e"].limit) == repr(kept)

    def test_gen_kwargs_as_on_lm_evals_command_line(self) -> None:
        evaluation = {"suite": "lm_eval", "tasks": ["piqa"], "gen_kwargs": "temperature=0.7,do_sample=True"}
        found = parse_recipe({"name": "x", "model": MODEL, "evaluations": {"e": evaluation}})
        assert found.evaluations["e"].gen_kwargs == {"temperature": 0.7, "do_sample": True}

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ({}, "model: this key is required, or models with a name for each"),
            ({"models": {"base": "org/x"}}, "models.base: this name means the model before training"),
            ({"models": {"a b": "org/x"}}, "the name 'a b' must be letters"),
            (
                {
                    "models": {"x": "org/x"},
                    "pairs": {"p": {"source": "rows", "path": "org/p"}},
                    "trainings": {"t": {"loss": "dpo"}},
                },
                "model: this key is required where something is trained",
            ),
            (
                {
                    "model": "org/b",
                    "models": {"t": "org/x"},
                    "pairs": {"p": {"source": "rows", "path": "org/p"}},
                    "trainings": {"t": {"loss": "dpo"}},
                },
                "models.t: a training has this name, too",
            ),
            (
                {"models": {"x": {"path": "org/x@v1", "revision": "v2"}}},
                "org/x@v1 names one revision, and 'v2' is given",
            ),
            ({"models": {"x": "org/x"}, "report": {"baseline": "y"}}, "report.baseline = 'y': no such model"),
            (
                {"models": {"x": "org/x"}, "evaluations": {"e": {"suite": "demo", "models": ["base"]}}},
                "evaluations.e.models: no model 'base'",
            ),
        ],
    )
    def test_models_that_do_not_fit(self, content: dict[str, Any], expected: str) -> None:
        assert expected in message({"name": "x", **content})

    def test_models_in_every_form(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        file = tmp_path / "r.yaml"
        file.write_text(
            "models:\n  mine: mine\n  theirs: org/name@v1\n  own: {path: org/other, dtype: float32}\n"
            "  beside: {base: org/base@abc, adapter: ./adapter}\n  alone: {adapter: org/adapter}\n"
            "evaluations: {e: {suite: demo}}\n"
        )
        found = load_recipe(file)
        specs = {name: (spec.path, spec.revision, spec.adapter, spec.dtype) for name, spec in found.models.items()}
        assert specs == {
            "mine": (str(tmp_path / "mine"), None, None, "auto"),
            "theirs": ("org/name", "v1", None, "auto"),
            "own": ("org/other", None, None, "float32"),
            "beside": ("org/base", "abc", str(tmp_path / "adapter"), "auto"),
            "alone": ("org/adapter", None, None, "auto"),
        }
        assert found.model_names == ["mine", "theirs", "own", "beside", "alone"]
        assert found.report.baseline == "mine"
        assert Recipe.model_validate(recipe_as_dict(found)) == found

    def test_a_folder_of_that_name_is_no_revision(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert with_revision("org/name@v1") == ("org/name", "v1")
        (tmp_path / "org/name@v1").mkdir(parents=True)
        assert with_revision("org/name@v1") == ("org/name@v1", None)

    def test_names_that_tell_paths_apart(self) -> None:
        assert distinct_names(["org/a", "org/b"]) == ["a", "b"]
        assert distinct_names(["runs/x/train/dpo/checkpoint", "runs/y/train/dpo/checkpoint/"]) == ["x-dpo", "y-dpo"]
        assert distinct_names(["org/a@v1", "org/a@v2", MODEL]) == ["a-v1", "a-v2", "demo-model"]
        assert distinct_names(["a/m", "./a/m"]) == ["a-m-1", "a-m-2"]


class TestChecks:
    """What is refused before anything is computed."""

    def prepared(self, tmp_path: Path, content: dict[str, Any]) -> Any:
        return smaug_eval.prepare(content, runs=tmp_path / "runs")

    def test_an_unknown_task_is_answered_by_lm_evals_names(self, place: Path, tmp_path: Path) -> None:
        with pytest.raises(SmaugError) as error:
            self.prepared(tmp_path, recipe(place, ["piqua"]))
        assert "'piqua'" in error.value.message
        assert "piqa" in str(error.value.fix)
        assert "truthfulqa" not in str(error.value.fix)

    def test_a_model_without_the_chat_template(self, place: Path, tmp_path: Path) -> None:
        content = recipe(place, ["own_blank"], evaluation={"apply_chat_template": True})
        with pytest.raises(SmaugError, match=r"evaluations.mine.apply_chat_template: .* no such chat template"):
            self.prepared(tmp_path, content).run()

    @pytest.mark.parametrize(
        ("template", "asked", "words"),
        [
            ("{{ messages[0].content }}", "tools", "has no such chat template: its only one has no name; set true"),
            ("{{ messages[0].nosuch.x }}", True, "has a chat template that fails: UndefinedError"),
            ("{% for", True, "has a chat template that fails: TemplateSyntaxError"),
        ],
    )
    def test_a_template_that_cannot_write_a_chat(
        self, template: str, asked: bool | str, words: str, place: Path, tmp_path: Path
    ) -> None:
        model = shutil.copytree(embedded_path(MODEL), tmp_path / "model")
        (model / "chat_template.jinja").write_text(template)
        content = recipe(place, ["own_blank"], evaluation={"apply_chat_template": asked}, model=str(model))
        with pytest.raises(
            SmaugError, match=r"evaluations.mine.apply_chat_template: the tokenizer of .*model "
        ) as told:
            self.prepared(tmp_path, content).run()
        assert words in told.value.message

    @pytest.mark.parametrize(
        ("evaluation", "words"),
        [
            ({"engine_args": {"max_length": "x"}}, "engine_args.max_length must be a whole number of tokens above 1"),
            ({"engine_args": {"max_length": 0}}, "engine_args.max_length must be a whole number of tokens above 1"),
            ({"engine_args": {"max_length": 3}}, r"an answer of \d+ tokens cannot be scored in a context of 3"),
            ({"tasks": ["own_generation"], "gen_kwargs": {"max_gen_toks": 5000}}, "leaves no room for a prompt"),
            ({"tasks": ["own_generation"], "gen_kwargs": {"nosuch": 1}}, "transformers cannot generate with these"),
        ],
    )
    def test_settings_that_the_model_cannot_take(
        self, evaluation: dict[str, Any], words: str, place: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(SmaugError, match=words) as error:
            self.prepared(tmp_path, recipe(place, ["own_choice"], evaluation={"limit": 1, **evaluation})).run()
        assert error.value.fix

    def test_a_text_without_words_is_no_division_by_zero(self, place: Path, tmp_path: Path) -> None:
        folder = write_tasks(tmp_path / "tasks", own_rolling={"doc_to_target": "{{''}}"})
        content = recipe(place, ["own_rolling"], evaluation={"include_path": str(folder), "limit": 1})
        with pytest.raises(SmaugError, match="cannot put the scores of own_rolling together: ZeroDivisionError"):
            self.prepared(tmp_path, content).run()

    def test_a_model_that_is_not_there_is_named(self, place: Path, tmp_path: Path) -> None:
        with pytest.raises(SmaugError, match=r"models.other: model './nowhere'"):
            self.prepared(tmp_path, recipe(place, ["own_blank"], models={"other": "./nowhere"}))

    def test_pairs_with_a_tasks_documents(self, place: Path, tmp_path: Path) -> None:
        pairs = [
            {"prompt": f"Tell me, {row['question'].lower()}", "chosen": "a cat", "rejected": "a dog"}
            for row in (*rows("test", 2), *rows("other", 30))
        ]
        file = tmp_path / "pairs.jsonl"
        file.write_text("\n".join(map(json.dumps, pairs)))
        content = recipe(
            place,
            ["own_choice"],
            pairs={"p": {"source": "rows", "path": str(file), "holdout": 2}},
            trainings={"t": {"loss": "dpo", "steps": 1}},
        )
        with pytest.raises(SmaugError, match=r"2 training pairs contain test documents of own_choice") as error:
            self.prepared(tmp_path, content).run()
        assert "allow_leaks: [own_choice]" in str(error.value.fix)
        content["pairs"]["p"]["allow_leaks"] = ["own_choice"]
        (leaks,) = [stage for stage in self.prepared(tmp_path, content).stages if stage.name == "leaks/p"]
        assert leaks.inputs["allow_leaks"] == ["own_choice"]

    def test_what_decides_a_stage_is_in_its_key(self, place: Path, tmp_path: Path) -> None:
        def key(**evaluation: Any) -> str:
            content = recipe(place, ["own_choice"], evaluation=evaluation)
            return str(self.prepared(tmp_path, content).stages[0].key)

        plain = key()
        assert plain == key(fewshot_seed=1234) == key(batch_size=2)
        changes: list[dict[str, Any]] = [
            *({"num_fewshot": 1}, {"fewshot_seed": 1}, {"limit": 3}, {"limit": 0.3}, {"system_instruction": "x"}),
            *({"gen_kwargs": {"max_gen_toks": 2}}, {"metadata": {"x": 1}}, {"add_bos_token": True}),
        ]
        assert len({plain, *(key(**change) for change in changes)}) == 1 + len(changes)


class TestServed:
    """Any task of a served model, which has no tokenizer here."""

    def content(self, place: Path, url: str, told: dict[str, Any], **evaluation: Any) -> dict[str, Any]:
        asked = {"engine": "api", "engine_args": {"base_url": url, **told}, "limit": 2, **evaluation}
        content = recipe(place, ["own_generation"], evaluation=asked, models={"theirs": "api:demo"})
        del content["evaluations"]["mine"]["device"], content["model"]
        return content

    def test_it_is_asked_as_it_is_and_in_chats(self, place: Path, tmp_path: Path) -> None:
        with serving() as server:
            path = smaug_eval.run(self.content(place, server.base_url, {}), runs=tmp_path / "plain").path
            assert {request["path"].rpartition("/v1")[2] for request in server.requests} == {"/completions"}
            content = self.content(place, server.base_url, {"chat": True}, apply_chat_template=True)
            server.requests.clear()
            smaug_eval.run(content, runs=tmp_path / "chat")
            roles = [[turn["role"] for turn in request["messages"]] for request in server.requests]
        assert roles == [["user", "assistant", "user"]] * 2  # one shot
        assert len(list(path.glob("eval/theirs/mine/own_generation/samples_*.jsonl"))) == 1

    def test_nobody_who_writes_the_chats(self, place: Path, tmp_path: Path) -> None:
        content = self.content(place, "http://127.0.0.1:9/v1", {}, apply_chat_template=True)
        with pytest.raises(SmaugError, match="nothing says who writes the chats of a served model") as error:
            smaug_eval.run(content, runs=tmp_path)
        assert "engine_args.chat: true" in str(error.value.fix)


@pytest.mark.slow
class TestRuns:
    """Whole runs."""

    def test_three_models_one_with_code_and_the_report(self, place: Path, tmp_path: Path) -> None:
        tasks = write_tasks(tmp_path / "tasks", ["own_choice", "own_group", "own_first", "own_last_word"])
        (tasks / "own_choice.yaml").open("a").write("process_docs: !function tools.docs\n")
        (tasks / "tools.py").write_text("def docs(rows):\n    return rows\n")
        content = {
            "name": "three",
            "models": {"mine": MODEL, "theirs": {"path": str(place / "theirs"), "dtype": "float32"}},
            "data_root": str(place / "data"),
            "evaluations": {
                "own": {
                    "suite": "lm_eval",
                    "tasks": ["own_group"],
                    "include_path": str(tasks),
                    "trust_task_code": True,
                    "limit": 0.5,
                    "engine": "torch",
                    "device": "cpu",
                },
                "demo": {"suite": "demo", "tasks": ["facts"], "limit": 4, "engine": "torch", "device": "cpu"},
            },
        }
        result = smaug_eval.run(content, runs=tmp_path / "runs")
        assert result.did[:2] == ("eval/mine/own/own_group", "eval/mine/demo/facts")
        manifest = json.loads((result.path / "manifest.json").read_text())
        assert list(manifest["models"]) == ["mine", "theirs"]
        assert manifest["models"]["mine"]["sha256"] != manifest["models"]["theirs"]["sha256"]
        told = "\n".join(manifest["warnings"])
        assert f"tasks own_group of {tasks} may run Python code of their own: the recipe sets trust_task_code" in told
        assert "the shots of own_choice are drawn document after document" in told
        assert "mean of its 3 single tasks, weighted by their documents" in told
        assert set(manifest["data"]["eval/mine/own/own_group"]) == {"own_choice", "own_first", "own_last_word"}
        (file,) = (result.path / "eval/mine/own/own_group").glob("results_*.json")
        assert json.loads(file.read_text())["n-samples"]["own_choice"] == {"original": 13, "effective": 7}
        frame = smaug_eval.scores(result.path)
        assert set(frame["model"]) == {"mine", "theirs"}
        page = result.report.read_text()
        assert "theirs" in page
        assert "own_group" in page
        again = smaug_eval.run(content, runs=tmp_path / "runs")
        assert again.did == ()

    def test_one_task_asked_in_two_ways_still_makes_a_report(self, place: Path, tmp_path: Path) -> None:
        content = recipe(place, ["own_choice"], models={"theirs": str(place / "theirs")})
        content["evaluations"]["zero"] = {**content["evaluations"]["mine"], "num_fewshot": 0}
        result = smaug_eval.run(content, runs=tmp_path)
        assert set(smaug_eval.scores(result.path)["model"]) == {
            *("base, 2 shots", "base, 0 shots", "theirs, 2 shots", "theirs, 0 shots")
        }
        assert result.report.is_file()

    def test_shares_then_nothing_is_left_to_compute(self, place: Path, tmp_path: Path) -> None:
        """As on a Ray cluster: jobs travel, each process answers its part, and the journal holds all of it."""
        content = recipe(place, ["own_group"], evaluation={"engine_args": {"row_tokens": 128}})
        pipeline = smaug_eval.prepare(content, runs=tmp_path / "runs")
        work = pickle.loads(pickle.dumps(pipeline.stages[0].work))  # noqa: S301
        assert isinstance(work, EvaluationJob)
        assert work.divisible
        workplace = Workplace(EnginePool(), pipeline.reporter, lambda: False)
        for number in range(2):
            work.perform_share(Share(number, 2), workplace)
        out, one = tmp_path / "out", tmp_path / "one"
        out.mkdir()
        summary = work.perform(out, workplace)
        assert summary["tokens"]["computed"] == 0
        workplace.pool.close()
        whole = smaug_eval.run({**content, "name": "whole"}, runs=one).path / "eval/base/mine/own_group"
        assert scores_in(out) == scores_in(whole)

    def test_eval_of_several_models(self, place: Path, tmp_path: Path) -> None:
        result = smaug_eval.evaluate(
            [MODEL, place / "theirs"],
            suite="lm_eval",
            tasks="own_blank",
            baseline=str(place / "theirs"),
            data_root=place / "data",
            include_path=str(place / "tasks"),
            limit=4,
            runs=tmp_path,
            engine="torch",
            device="cpu",
        )
        assert result.did[:2] == ("eval/demo-model/lm_eval/own_blank", "eval/theirs/lm_eval/own_blank")
        written = json.loads((result.path / "manifest.json").read_text())["recipe"]
        assert written["report"]["baseline"] == "theirs"
        with pytest.raises(SmaugError, match="baseline 'x' is none of the models"):
            smaug_eval.evaluate([MODEL, place / "theirs"], baseline="x")
        with pytest.raises(SmaugError, match="is given twice"):
            smaug_eval.evaluate([MODEL, MODEL])


def scores_in(folder: Path) -> dict[str, Any]:
    """Scores and every answer of an evaluation."""
    (file,) = folder.glob("results_*.json")
    found = {"results": json.loads(file.read_text())["results"]}
    for each in sorted(folder.glob("samples_*.jsonl")):
        name = each.name.rpartition("_")[0]
        found[name] = [json.loads(line) for line in each.read_text().splitlines()]
    return found
