"""Served models answer MT-Bench as FastChat's gen_api_answer.py asks them, by real servers on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import smaug_eval
from smaug_eval.cli import app
from smaug_eval.cli.tables.run import print_plan
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import Incomplete, Interrupted, SmaugError
from smaug_eval.common.files import read_json
from smaug_eval.common.served.budget import BudgetSpent
from smaug_eval.common.served.client import JudgeRefused, JudgeUnreachable
from smaug_eval.mt_bench.answers import seed_of, summary
from smaug_eval.mt_bench.files.layout import read_settings
from smaug_eval.runs.recipe_file import parse_recipe
from tests.engines.served.server import serving
from tests.mt_bench.behaviours import Answer, Behaviour, Server, completion, refusal
from tests.mt_bench.conftest import write_lines

KEY = "sk-a-key-that-nobody-may-see"
CATEGORIES = ("writing", "stem", "math")
DEMO = embedded_path("demo-model")


def said(body: dict[str, Any]) -> str:
    """What the server answers: a text that depends on all it was told."""
    return f" {len(body['messages'])} messages, the last: {body['messages'][-1]['content']}\n"


def tell(number: int, body: dict[str, Any]) -> Answer:
    return completion(said(body))


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Behaviour], Server]]:
    monkeypatch.setenv("MODEL_KEY", KEY)
    servers: list[Server] = []

    def start(behave: Behaviour = tell) -> Server:
        servers.append(Server(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def asked(tmp_path: Path, question_folder: Path) -> Path:
    """Three questions of two turns."""
    lines = [
        {"question_id": n, "category": category, "turns": [f"First about {n}?", f"Then about {n}?"]}
        for n, category in enumerate(CATEGORIES, 1)
    ]
    write_lines(question_folder / "question.jsonl", lines)
    return question_folder


def reached(server: Server, **more: Any) -> dict[str, Any]:
    return {"base_url": server.base_url, "key_env": "MODEL_KEY", "backoff": 0.001, "attempts": 2, **more}


def answered(server: Server, questions: Path, out: Path, *, settings: Any = None, **engine_args: Any) -> Path:
    told = {"engine": "api", "engine_args": reached(server, **engine_args), **(settings or {})}
    return smaug_eval.answer_mt_bench("api:org/Tiny-1", out, questions=questions, **told)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def body(question: int, *messages: dict[str, str]) -> dict[str, Any]:
    """The request for a turn, in full."""
    turn = sum(message["role"] == "user" for message in messages)
    temperature = {"writing": 0.7, "stem": 0.1, "math": 0.0}[CATEGORIES[question - 1]]
    seed = {"seed": seed_of(42, question, turn)} if temperature else {}
    return {
        "model": "org/Tiny-1",
        "messages": list(messages),
        "max_tokens": 1024,
        "temperature": temperature,
        **seed,
    }


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def sorted_bodies(bodies: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(each, sort_keys=True) for each in bodies)


def test_both_turns_are_asked_as_messages_and_kept_in_fastchats_lines(
    serve: Any, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    file = answered(server, asked, tmp_path / "out")
    assert file == tmp_path / "out" / "model_answer" / "Tiny-1.jsonl"
    firsts = [body(n, user(f"First about {n}?")) for n in (1, 2, 3)]
    own = [f"1 messages, the last: First about {n}?" for n in (1, 2, 3)]
    seconds = [
        body(n, user(f"First about {n}?"), {"role": "assistant", "content": own[n - 1]}, user(f"Then about {n}?"))
        for n in (1, 2, 3)
    ]
    assert sorted_bodies(server.requests[:3]) == sorted_bodies(firsts)
    assert sorted_bodies(server.requests[3:]) == sorted_bodies(seconds)
    assert set(server.paths) == {"/v1/chat/completions"}
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    found = lines(file)
    assert [line["choices"] for line in found] == [
        [{"index": 0, "turns": [own[n - 1], f"3 messages, the last: Then about {n}?"]}] for n in (1, 2, 3)
    ]
    assert {line["model_id"] for line in found} == {"Tiny-1"}
    assert [line["smaug"]["temperature"] for line in found] == [0.7, 0.1, 0.0]
    settings = read_settings(file)
    assert (settings["template"], settings["system_prompt"], settings["dtype"]) == ("the server's own", None, "unknown")
    assert settings["served"] == {"base_url": server.base_url, "chat": True, "model": "org/Tiny-1"}
    printed = "".join(capsys.readouterr())
    assert KEY not in printed + "".join(each.read_text() for each in tmp_path.rglob("*") if each.is_file())
    answered(server, asked, tmp_path / "out")
    assert len(server.requests) == 6


def test_a_template_of_fastchat_gives_the_system_message_as_in_gen_api_answer(
    serve: Any, asked: Path, tmp_path: Path
) -> None:
    from fastchat.conversation import get_conv_template

    server = serve()
    file = answered(server, asked, tmp_path, settings={"chat_template": "chatgpt", "limit": 1})
    (turns,) = (line["choices"][0]["turns"] for line in lines(file))
    oracle = get_conv_template("chatgpt")
    for request, question, answer in zip(server.requests, ("First about 1?", "Then about 1?"), turns, strict=True):
        oracle.append_message(oracle.roles[0], question)
        oracle.append_message(oracle.roles[1], None)
        assert request["messages"] == oracle.to_openai_api_messages()
        oracle.update_last_message(answer)
    assert read_settings(file)["system_prompt"] == "You are a helpful assistant."
    other = {"chat_template": "chatgpt", "system_prompt": "Be brief.", "limit": 1}
    answered(server, asked, tmp_path, settings=other)
    assert server.requests[-1]["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_spent_budget_keeps_what_is_there_and_the_rest_alone_is_asked(
    serve: Any, asked: Path, tmp_path: Path
) -> None:
    server = serve()
    with pytest.raises(BudgetSpent, match="4 of 4 calls were made"):
        answered(server, asked, tmp_path, max_calls=4)
    assert len(lines(tmp_path / "model_answer" / "Tiny-1.turns")) == 4
    # Another limit and another pace are no other settings.
    file = answered(server, asked, tmp_path, max_calls=2, concurrency=1)
    assert len(server.requests) == len(set(sorted_bodies(server.requests))) == 6
    assert [len(line["choices"][0]["turns"]) for line in lines(file)] == [2, 2, 2]
    assert not list(tmp_path.rglob("*superseded*"))


def test_faults_that_pass_are_retried_and_a_server_that_is_down_loses_nothing(
    serve: Any, asked: Path, tmp_path: Path
) -> None:
    busy = refusal(429, "slow down", {"Retry-After": "0"})
    server = serve(lambda number, body: busy if number < 1 else tell(number, body))
    file = answered(server, asked, tmp_path / "one")
    assert len(server.requests) == 1 + 6
    server = serve(lambda number, body: tell(number, body) if number < 3 else refusal(503, "down"))
    with pytest.raises(JudgeUnreachable, match=r"the model org/Tiny-1 at .* does not answer: status 503: down"):
        answered(server, asked, tmp_path / "two")
    kept = lines(tmp_path / "two" / "model_answer" / "Tiny-1.turns")
    assert [turn["turn"] for turn in kept] == [1, 1, 1]
    server.behave, before = tell, len(server.requests)
    again = answered(server, asked, tmp_path / "two")
    assert {len(request["messages"]) for request in server.requests[before:]} == {3}
    assert len(server.requests) == before + 3
    assert [line["choices"] for line in lines(again)] == [line["choices"] for line in lines(file)]


def test_a_wrong_key_ends_it_at_once_and_is_not_told(serve: Any, asked: Path, tmp_path: Path) -> None:
    server = serve(lambda number, body: refusal(401, f"Incorrect API key provided: {KEY}", code="invalid_api_key"))
    with pytest.raises(JudgeRefused) as told:
        answered(server, asked, tmp_path)
    assert len(server.requests) == 1
    assert "environment variable MODEL_KEY" in str(told.value.fix)
    written = "".join(each.read_text() for each in tmp_path.rglob("*") if each.is_file())
    assert KEY not in str(told.value) + written


def test_cut_empty_thought_and_refused_answers_are_marked(serve: Any, asked: Path, tmp_path: Path) -> None:
    def behave(number: int, body: dict[str, Any]) -> Answer:
        text = body["messages"][-1]["content"]
        if text == "First about 1?":
            return completion("It is so, since", "length")
        if text == "Then about 1?":
            return completion({"role": "assistant", "content": None, "reasoning_content": "Well..."}, "length")
        if text == "First about 2?":
            return completion({"role": "assistant", "content": ""})
        if text == "First about 3?":
            return refusal(400, "The prompt was blocked by the content filter", code="content_filter")
        return completion("Fine.")

    server = serve(behave)
    first, second, third = lines(answered(server, asked, tmp_path))
    assert first["smaug"]["marks"] == ["truncated", "only thinking"]
    assert first["smaug"]["thinking"] == ["", "Well..."]
    assert second["smaug"]["marks"] == ["empty", "ok"]
    assert third["smaug"] == {**third["smaug"], "marks": ["failed", "failed"], "finish_reasons": ["refused", "refused"]}
    assert third["choices"][0]["turns"] == ["", ""]
    assert len(server.requests) == 5


def test_a_chat_that_leaves_less_room_than_the_longest_answer_ends_with_the_context(
    serve: Any, asked: Path, tmp_path: Path
) -> None:
    def vllm(number: int, body: dict[str, Any]) -> Answer:
        used = 40 * len(body["messages"])
        if used + body.get("max_tokens", 1) <= 1100:
            return tell(number, body)
        return refusal(
            400,
            f"'max_tokens' or 'max_completion_tokens' is too large: 1024. This model's maximum context length is 1100 "
            f"tokens and your request has {used} input tokens.",
        )

    server = serve(vllm)
    file = answered(server, asked, tmp_path, concurrency=1)
    assert [line["smaug"]["marks"] for line in lines(file)] == [["ok", "ok"]] * 3
    assert ["max_tokens" in request for request in server.requests] == [True] * 3 + [True, False] * 3


def test_a_temperature_that_the_server_refuses_is_left_out_and_recorded(
    serve: Any, asked: Path, tmp_path: Path
) -> None:
    other = refusal(400, "Unsupported value: 'temperature' does not support 0.7 with this model.", param="temperature")
    server = serve(lambda number, body: other if body.get("temperature") else tell(number, body))
    file = answered(server, asked, tmp_path, concurrency=1)
    assert [line["smaug"].get("left_out") for line in lines(file)] == [[["temperature"]] * 2] * 3
    assert summary(file)["warnings"] == ["Tiny-1: answers at the server's own temperature, as it takes no other: 6"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"chat_template": "plain"}, "chat_template plain: chat completions are put into the server's own template"),
        ({"chat_template": "vicuna_v9"}, "neither FastChat nor we have a template of that name"),
        ({"engine_args": {"chat": False}}, "plain completions need the model's tokenizer.*\n.*chat completions"),
        ({"engine_args": {"chat": False, "tokenizer": "/nowhere"}}, "engine_args.tokenizer: /nowhere cannot be loaded"),
        ({"engine_args": {"tokenizer": "org/x"}}, "engine_args.tokenizer does nothing for chat completions"),
        ({"engine_args": {"max_length": 9}}, "engine_args.max_length does nothing for chat completions"),
        ({"engine_args": {"max_gen_toks": 9}}, "max_gen_toks does nothing in MT-Bench"),
        ({"engine_args": {"timeot": 9}}, "engine_args.timeot: no such setting of engine api; did you mean 'timeout'"),
        ({"engine_args": {"api_key": KEY}}, "a key in a recipe would be recorded"),
        ({"engine_args": {"base_url": "here"}}, "is no http"),
        ({"engine_args": {"max_cost": 1}}, "max_cost needs the model's prices"),
        (
            {"engine_args": {"key_env": "NOT_SET", "base_url": "https://api.openai.com/v1"}},
            "the model's key is not set",
        ),
        ({"device": "cpu"}, "device does nothing where a server runs the model"),
        ({"batch_size": 4}, "batch_size does nothing where a server runs the model"),
        ({"engine": "torch"}, "is served, and engine torch needs its weights"),
    ],
)
def test_bad_combinations_are_refused_before_anything_is_asked(
    settings: dict[str, Any], words: str, asked: Path, tmp_path: Path
) -> None:
    told = {"engine": "api", **settings}
    told["engine_args"] = {"base_url": "http://127.0.0.1:1/v1", **settings.get("engine_args", {})}
    with pytest.raises(SmaugError, match=words) as error:
        smaug_eval.answer_mt_bench("api:tiny", tmp_path / "out", questions=asked, **told)
    assert KEY not in str(error.value)
    assert not (tmp_path / "out").exists()


SERVER = {"base_url": "http://127.0.0.1:1/v1"}


@pytest.mark.parametrize(
    ("models", "entry", "words"),
    [
        ({"theirs": "api:x"}, {}, r"mt_bench\.talk: a server runs theirs \(api:x\): set engine: api"),
        ({"mine": str(DEMO), "theirs": "api:x"}, {"served": {"their": SERVER}}, "'their' is none of the models"),
        ({"a": "api:x", "b": "api:y"}, {"engine": "api", "engine_args": {**SERVER, "model": "z"}}, "the same model"),
        ({"a": str(DEMO)}, {"engine": "api", "engine_args": SERVER}, r"mt_bench\.talk: engine api: what is .* called"),
        (
            {"mine": str(DEMO), "theirs": "api:x"},
            {"served": {"theirs": {**SERVER, "timeot": 1}}},
            r"mt_bench\.talk\.served\.theirs: engine_args\.timeot",
        ),
    ],
)
def test_recipes_whose_models_no_server_has_are_refused(
    models: dict[str, Any], entry: dict[str, Any], words: str, tmp_path: Path
) -> None:
    talk = {"questions": "demo", "chat_template": "tokenizer" if "served" not in entry else "zero_shot", **entry}
    with pytest.raises(SmaugError, match=words):
        smaug_eval.prepare({"name": "s", "models": models, "mt_bench": {"talk": talk}}, runs=tmp_path)


def test_a_training_has_no_server() -> None:
    raw: dict[str, Any] = {
        "name": "s",
        "model": "api:x",
        "pairs": {"made": {"source": "metamath", "path": "embedded:demo-arithmetic", "limit": 8}},
        "trainings": {"dpo": {"loss": "dpo", "steps": 1}},
    }
    asked = {"engine": "api", "engine_args": SERVER}
    with pytest.raises(SmaugError, match=r"mt_bench\.talk: dpo is trained in this run, and no server has it"):
        parse_recipe({**raw, "mt_bench": {"talk": {"questions": "demo", **asked}}})
    with pytest.raises(SmaugError, match=r"evaluations\.quick: dpo is trained in this run, and no server has it"):
        parse_recipe({**raw, "evaluations": {"quick": {"suite": "demo", **asked}}})
    training = {"loss": "dpo", "steps": 2, "evaluate": {"every": 1, "evaluations": ["quick"]}}
    quick = {"suite": "demo", "models": ["base"], **asked}
    with pytest.raises(SmaugError, match=r"trainings\.dpo\.evaluate\.evaluations: 'quick' asks a server \(api\)"):
        parse_recipe({**raw, "trainings": {"dpo": training}, "evaluations": {"quick": quick}})


def test_two_models_of_an_evaluation_have_two_names_on_the_server() -> None:
    quick = {"suite": "demo", "engine": "api", "engine_args": {**SERVER, "model": "x"}}
    raw = {"name": "s", "models": {"mine": "api:mine", "theirs": "api:theirs"}, "evaluations": {"quick": quick}}
    with pytest.raises(SmaugError, match=r"quick\.engine_args\.model: one name on the server for mine, theirs"):
        parse_recipe(raw)


@pytest.mark.parametrize("how", ["chat", "tokens", "text"])
def test_answers_are_those_of_the_same_weights_loaded_here(how: str, asked: Path, tmp_path: Path) -> None:
    sums = ["Anna has 3 apples and buys 4 more. How many apples does she have?", "And if she eats one?"]
    write_lines(asked / "question.jsonl", [{"question_id": 1, "category": "math", "turns": sums}])
    own = tmp_path / "own"
    shutil.copytree(DEMO, own)
    chat = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}{{ 'assistant:' }}"
    (own / "chat_template.jinja").write_text(chat)
    template = "plain" if how == "text" else "tokenizer"
    told: dict[str, Any] = {"questions": asked, "max_new_tokens": 24, "chat_template": template}
    here = smaug_eval.answer_mt_bench(own, tmp_path / "here", dtype="float32", engine="torch", device="cpu", **told)
    with serving() as server:
        server.tokenizer.chat_template = chat
        reach: dict[str, Any] = {"base_url": server.base_url}
        reach |= {} if how == "chat" else {"chat": False} | ({"tokenizer": str(own)} if how == "tokens" else {})
        there = smaug_eval.answer_mt_bench("api:demo", tmp_path / "there", engine="api", engine_args=reach, **told)
        sent = {type(each.get("prompt")) for each in server.requests}
    assert sent == {{"chat": type(None), "tokens": list, "text": str}[how]}
    (one,), (other,) = lines(here), lines(there)
    assert one["choices"] == other["choices"]
    assert one["smaug"]["marks"] == other["smaug"]["marks"]
    assert all(one["choices"][0]["turns"])


def test_tokens_leave_room_in_the_context(asked: Path, tmp_path: Path) -> None:
    with serving() as server:
        reach = {"base_url": server.base_url, "chat": False, "tokenizer": str(DEMO), "max_length": 30}
        told: dict[str, Any] = {"questions": asked, "chat_template": "plain", "limit": 1}
        file = smaug_eval.answer_mt_bench("api:demo", tmp_path, engine="api", engine_args=reach, **told)
        (request,) = server.requests
    assert request["max_tokens"] == 30 - len(request["prompt"]) > 0
    (line,) = lines(file)
    assert line["smaug"]["finish_reasons"] == ["length", "no room"]


def recipe(server: Server, **talk: Any) -> dict[str, Any]:
    """A local model and a served one, whose answers the demo's rule judges together."""
    told = {"questions": "demo", "chat_template": "zero_shot", "max_new_tokens": 8, "engine": "torch", "device": "cpu"}
    return {
        "name": "both",
        "models": {"mine": {"path": "embedded:demo-model", "dtype": "float32"}, "theirs": "api:big-1"},
        "mt_bench": {"talk": {**told, "judge": "demo", "limit": 3, "served": {"theirs": reached(server)}, **talk}},
    }


def test_a_served_model_and_one_of_ours_are_judged_together(
    serve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    pipeline = smaug_eval.prepare(recipe(server), runs=tmp_path)
    stage = "mt-bench/talk/model_answer/theirs"
    ((name, forecast),) = pipeline.requests().items()
    assert name == stage
    assert forecast.startswith("6 calls: about ")
    assert forecast.endswith("at most 48 to write")
    print_plan(pipeline)
    assert f"\n{stage}: {forecast}\n" in capsys.readouterr().out
    assert not server.requests
    run = pipeline.run().path
    assert len(server.requests) == 6
    assert {request["model"] for request in server.requests} == {"big-1"}
    assert {request["messages"][0]["role"] for request in server.requests} == {"system"}
    manifest = read_json(run / "manifest.json")
    message = server.requests[0]["messages"][0]["content"]
    assert manifest["conversations"]["talk"] == {
        "mine": {"template": "zero_shot", "system_message": None},
        "theirs": {
            "template": "the server's own",
            "system_message": message,
            "served": {"base_url": server.base_url, "chat": True, "model": "big-1"},
        },
    }
    scores = smaug_eval.score_mt_bench([run])
    assert {name: each["n"] for name, each in scores.items()} == {"mine": 6, "theirs": 6}
    assert "theirs" in (run / "report.html").read_text()
    assert pipeline.requests() == {}
    # How fast it is asked decides nothing.
    slower = recipe(server, served={"theirs": reached(server, concurrency=1, timeout=9)})
    assert smaug_eval.run(slower, runs=tmp_path).did == ()
    decided = smaug_eval.run(recipe(server, stop="decided", against="mine"), runs=tmp_path)
    assert "mt-bench/talk/decided" in decided.did
    assert len(server.requests) == 6
    assert KEY not in "".join(capsys.readouterr())
    assert all(KEY not in file.read_text(errors="replace") for file in run.rglob("*") if file.is_file())


def alone(server: Server, **more: Any) -> dict[str, Any]:
    """The served model alone, with the engine as for evaluations."""
    return recipe(server, models=["theirs"], served={}, engine="api", device=None, engine_args=reached(server, **more))


def test_a_stopped_run_asks_only_what_is_missing(serve: Any, tmp_path: Path) -> None:
    def stop_at_the_fifth(number: int, body: dict[str, Any]) -> Answer:
        if number == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return tell(number, body)

    server = serve(stop_at_the_fifth)
    told = alone(server)
    with pytest.raises(Interrupted, match="stopped during theirs answers demo dialogue"):
        smaug_eval.run(told, runs=tmp_path)
    kept = lines(tmp_path / "both" / "mt-bench/talk/model_answer/theirs" / "theirs.turns")
    assert 3 <= len(kept) <= 5
    before = len(server.requests)
    assert smaug_eval.prepare(told, runs=tmp_path).requests() != {}
    smaug_eval.run(told, runs=tmp_path)
    assert len(server.requests) == before + 6 - len(kept)


def test_an_incomplete_run_has_its_report_and_exit_code(serve: Any, tmp_path: Path) -> None:
    server = serve()
    told = alone(server, max_calls=2)
    with pytest.raises(Incomplete, match="the budget is spent"):
        smaug_eval.run(told, runs=tmp_path)
    assert (tmp_path / "both" / "report.html").is_file()
    assert smaug_eval.run(alone(server), runs=tmp_path).incomplete == ()
    assert len(server.requests) == 6


def test_the_command_line(serve: Any, asked: Path, tmp_path: Path) -> None:
    server = serve()
    out = tmp_path / "out"
    command = [
        "mt-bench",
        "answer",
        "api:org/Tiny-1",
        "--engine",
        "api",
        "--mt-bench-dir",
        str(asked),
        "--out",
        str(out),
    ]
    for key, value in {**reached(server), "price_in": 1, "price_out": 2}.items():
        command += ["--set", f"engine_args.{key}={value}"]
    planned = CliRunner().invoke(app, [*command, "--dry-run"])
    assert planned.exit_code == 0, planned.output
    # Questions of 14 signs are 4 tokens each, 8 with the line between them; a second turn is behind an answer of 1,024.
    assert "6 calls: about 3,108 tokens to read, at most 6,144 to write, at most 0.02\n" in planned.output
    assert not out.exists()
    assert not server.requests
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert len(server.requests) == 6
    assert done.output.endswith(f"answers: {out / 'model_answer' / 'Tiny-1.jsonl'}\n")
    again = CliRunner().invoke(app, [*command, "--dry-run"]).output
    assert "0 calls" in again
    assert "6 of 6 turns are answered already" in again
    short = CliRunner().invoke(app, [*command, "--set", "max_new_tokens=9", "--set", "engine_args.max_calls=1"])
    assert isinstance(short.exception, Incomplete)
    assert short.exception.exit_code == 5
