"""A served model is scored as one that is loaded here, by a real server on loopback; what cannot be is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

import smaug_eval
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import Incomplete, SmaugError
from smaug_eval.common.files import read_json
from smaug_eval.engines.build import build_engine
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.engines.served.client import NoLogLikelihoods
from smaug_eval.engines.served.echo import Echoed, NoEcho, behind, read_echo
from smaug_eval.engines.served.settings import api_settings
from smaug_eval.leaderboard.chance import chance_notes
from smaug_eval.models.checkpoint import locate
from smaug_eval.models.quantised import Use
from tests.engines.served.server import Server, serving

DEMO = str(embedded_path("demo-model"))
KEY = "sk-a-key-that-nobody-may-see"
PAIRS = [
    ("Anna has 3 apples.", " She buys 4 more."),
    ("Anna has 3 apples. ", "She eats one."),
    ("One two", " three"),
    ("One two", " four"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture(autouse=True)
def fresh(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_KEY", KEY)
    server.form, server.busiest = "lists", 0
    server.faults.clear()
    server.requests.clear()


def engine(server: Server, **more: Any) -> Any:
    told = {"base_url": server.base_url, "key_env": "MODEL_KEY", "backoff": 0.001, "attempts": 4, "timeout": 60}
    return build_engine(EngineSpec("api", Path("api:demo"), engine_args=told | more))


def scored(lm: Any, pairs: list[tuple[str, str]] = PAIRS) -> list[tuple[float, bool]]:
    return list(lm.loglikelihood([Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)], True))


def written(lm: Any, *contexts: str, **settings: Any) -> list[str]:
    told = {"until": ["\n"], "max_gen_toks": 8, **settings}
    return list(
        lm.generate_until([Instance("generate_until", {}, (text, told), n) for n, text in enumerate(contexts)], True)
    )


@pytest.fixture(scope="module")
def local() -> Any:
    """Oracle: lm-eval's own model on the same weights."""
    return build_engine(EngineSpec("hf", Path(DEMO), "float32", 1, "cpu"))


@pytest.mark.parametrize("form", ["lists", "objects"])
@pytest.mark.parametrize("tokenizer", [DEMO, None], ids=["tokens", "text"])
def test_log_likelihoods_are_those_of_the_weights(server: Server, local: Any, form: str, tokenizer: str | None) -> None:
    server.form = form
    found, expected = scored(engine(server, tokenizer=tokenizer)), scored(local)
    assert [pair[0] for pair in found] == pytest.approx([pair[0] for pair in expected], abs=1e-4)
    assert [pair[1] for pair in found] == [pair[1] for pair in expected]
    sent = {type(request["prompt"]) for request in server.requests}
    assert sent == {list if tokenizer else str}
    assert server.keys == {f"Bearer {KEY}"}


def test_rolling_log_likelihoods_and_generations_are_those_of_the_weights(server: Server, local: Any) -> None:
    lm = engine(server, tokenizer=DEMO, max_length=34)
    text = Instance("loglikelihood_rolling", {}, ("Anna has 3 apples and buys 4 more. " * 6,), 0)
    local._max_length = lm.max_length
    try:
        assert lm.loglikelihood_rolling([text], True) == pytest.approx(
            local.loglikelihood_rolling([text], True), abs=1e-3
        )
    finally:
        local._max_length = None
    for told in ({"tokenizer": DEMO}, {}):
        assert written(engine(server, **told), "One two", "Anna has") == written(local, "One two", "Anna has")


def test_a_tasks_own_repeats_are_asked_one_by_one(server: Server) -> None:
    told = {"until": ["\n"], "max_gen_toks": 4, "do_sample": True, "temperature": 0.5}
    lm = engine(server)
    lm.generate_until([Instance("generate_until", {}, ("One two", told), 0, ("task", 0, 3))] * 3, True)
    assert [request["temperature"] for request in server.requests] == [0.5] * 3
    assert len({request["seed"] for request in server.requests}) == 3
    server.requests.clear()
    written(lm, *["One two"] * 3, do_sample=False)
    assert ["seed" in request for request in server.requests] == [False]


def test_chat(server: Server) -> None:
    lm = engine(server, chat=True)
    chat = lm.apply_chat_template([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One two"}])
    (answer,) = written(lm, chat)
    (plain,) = written(lm, "One two")
    assert answer == plain != ""
    sent = [request["messages"] for request in server.requests]
    assert sent == [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One two"}],
        [{"role": "user", "content": "One two"}],
    ]
    with pytest.raises(SmaugError, match="log-likelihoods of a chat"):
        scored(lm, [(chat, " three")])


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ("ignores echo", "the server did not repeat the prompt: 1 tokens came back for"),
        ("no logprobs", "the response holds no log-probabilities"),
        ("refuses echo", "Only no echo is supported"),
        ("refuses echo 500", "Only no echo is supported"),  # llama.cpp's server
        ("same", "the same answer is as likely behind two contexts"),
        ("chat only", "Not Found"),
    ],
)
@pytest.mark.parametrize("tokenizer", [DEMO, None], ids=["tokens", "text"])
def test_a_server_without_log_likelihoods_is_refused(
    server: Server, form: str, why: str, tokenizer: str | None
) -> None:
    if (form, tokenizer) == ("ignores echo", None):
        why = "did not repeat the prompt|do not end with the answer"
    server.form = form
    lm = engine(server, tokenizer=tokenizer)
    with pytest.raises(NoLogLikelihoods, match=why) as told:
        scored(lm)
    assert "vLLM" in str(told.value.fix)
    # The probe's, before anything is scored; a slow machine may send one again.
    assert len({json.dumps(request, sort_keys=True) for request in server.requests}) <= 2


def test_faults_that_pass_are_retried_and_finished_answers_are_kept(server: Server, tmp_path: Path) -> None:
    lm = engine(server, tokenizer=DEMO, concurrency=3)
    lm.keep_journal(tmp_path)
    server.faults += [(429, {"Retry-After": "0"}), (503, {}), (500, {})]
    whole = scored(lm)
    asked = len(server.requests)
    assert asked == 3 + 2 + len(PAIRS)
    assert 1 < server.busiest <= 3
    lm.close_journal()
    again = engine(server, tokenizer=DEMO)
    again.keep_journal(tmp_path)
    assert scored(again) == whole
    assert len(server.requests) == asked
    assert KEY not in "".join(file.read_text(errors="replace") for file in tmp_path.rglob("*") if file.is_file())


def test_the_budget_ends_the_work(server: Server, tmp_path: Path) -> None:
    lm = engine(server, tokenizer=DEMO, max_calls=4, concurrency=1)
    lm.keep_journal(tmp_path)
    with pytest.raises(Incomplete, match="the budget is spent: 4 of 4 calls were made"):
        scored(lm)
    lm.close_journal()
    again = engine(server, tokenizer=DEMO)
    again.keep_journal(tmp_path)
    assert len(scored(again)) == len(PAIRS)
    assert len(server.requests) == 2 + len(PAIRS) + 2  # the probe twice, nothing else


def test_a_server_that_is_down_is_told(server: Server) -> None:
    with pytest.raises(Incomplete, match=r"the model demo at http://127.0.0.1:9/v1 does not answer"):
        engine(server, base_url="http://127.0.0.1:9/v1")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"api_key": KEY}, "a key in a recipe would be recorded"),
        ({"base_url": f"http://a:{KEY}@localhost/v1"}, "holds a user name or password"),
        ({"base_url": "localhost"}, "is no http"),
        ({"concurency": 3}, "no such setting of engine api.*concurrency"),
        ({"base_url": "https://api.openai.com/v1", "key_env": "NOT_SET"}, "the model's key is not set"),
        ({"max_cost": 1.0}, "max_cost needs the model's prices"),
    ],
)
def test_wrong_settings_are_refused_without_a_request(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SmaugError, match=message) as told:
        api_settings({"base_url": "http://localhost:1/v1"} | changed)
    assert KEY not in told.value.message


def test_a_served_model_has_no_weights_here() -> None:
    found = locate("api:org/model", uses=[Use.API])
    assert found.describe()["architecture"] == "served"
    assert found.sha256 != locate("api:other").sha256
    with pytest.raises(SmaugError, match="is served, and engine torch needs its weights"):
        locate("api:org/model", uses=[Use.TORCH])


def test_a_recipe_with_a_served_model(server: Server, tmp_path: Path) -> None:
    told = {"base_url": server.base_url, "tokenizer": DEMO, "key_env": "MODEL_KEY"}
    tasks = {"suite": "demo", "tasks": ["facts"], "limit": 4}
    plan = {"name": "s", "model": "api:demo", "evaluations": {"demo": {**tasks, "engine": "api", "engine_args": told}}}
    done = smaug_eval.run(plan, runs=tmp_path)
    here = {
        "name": "h",
        "model": {"path": DEMO, "dtype": "float32"},
        "evaluations": {"demo": {**tasks, "engine": "hf", "device": "cpu"}},
    }
    other = smaug_eval.run(here, runs=tmp_path)

    def samples(path: Path) -> list[Any]:
        (file,) = (path / "eval/base/demo/facts").glob("samples_*.jsonl")
        return [json.loads(line)["resps"] for line in file.read_text().splitlines()]

    def numbers(rows: list[Any]) -> list[float]:
        return [float(choice[0][0]) for row in rows for choice in row]

    assert numbers(samples(done.path)) == pytest.approx(numbers(samples(other.path)), abs=1e-3)
    assert read_json(done.path / "manifest.json")["models"]["base"]["source"] == "api:demo"
    assert all(KEY not in file.read_text(errors="replace") for file in done.path.rglob("*") if file.is_file())


# Reading responses


def test_where_tokens_of_an_answer_begin() -> None:
    tokens = [Echoed(text, -1.0, True) for text in ("<s>", "One", " two", " th", "ree")]
    assert [token.text for token in behind(tokens, " three")] == [" th", "ree"]
    assert [token.text for token in behind(tokens, "wo three")] == [" two", " th", "ree"]
    with pytest.raises(NoEcho, match="do not end with"):
        behind(tokens, " four")


@pytest.mark.parametrize(
    "content",
    [None, {}, {"choices": []}, {"choices": [{"logprobs": None}]}, {"choices": [{"logprobs": {"tokens": 3}}]},
     {"choices": [{"logprobs": {"tokens": ["a", "b"], "token_logprobs": [None, 0.5], "top_logprobs": [None, {}]}}]},
     {"choices": [{"logprobs": {"tokens": ["a", "b"], "token_logprobs": [None, None], "top_logprobs": [None, {}]}}]},
     {"choices": [{"logprobs": {"content": [3, 4]}}]}],
)  # fmt: skip
def test_what_is_no_echo_is_refused(content: Any) -> None:
    with pytest.raises(NoEcho):
        read_echo(content, 2)


def test_scores_of_guessing_are_flagged() -> None:
    def rows(right: int, of: int, choices: int = 4) -> list[dict[str, Any]]:
        return [{"doc_id": n, "acc": float(n < right), "resps": [[]] * choices} for n in range(of)]

    choice = {"t": {"output_type": "multiple_choice"}}
    # 400 guesses among four: 100 right, with a standard deviation of sqrt(400 * 3 / 16) = 8.66; 1.96 of it are 16.97.
    assert math.isclose(math.sqrt(400 * 3 / 16), 8.66, abs_tol=0.001)
    (note,) = chance_notes(choice, {"t": rows(116, 400)})
    assert "at the level of guessing (29.0% of 400 questions, by chance 25.0%)" in note
    assert chance_notes(choice, {"t": rows(118, 400)}) == []
    assert chance_notes(choice, {"t": rows(10, 99)}) == []
    assert chance_notes({"t": {"output_type": "generate_until"}}, {"t": rows(0, 400)}) == []
