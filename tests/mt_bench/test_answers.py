"""Answering by FastChat's protocol, with generators whose every word is known, and with the demo's model."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from smaug_eval.common.embedded import embedded_path
from smaug_eval.engines.generation import Generation, Sampling
from smaug_eval.mt_bench.answers import (
    Answerer,
    AnswerSettings,
    answer_questions,
    seed_of,
    summary,
    temperature,
)
from smaug_eval.mt_bench.files.questions import CATEGORIES, Question
from smaug_eval.mt_bench.files.record_files import read_answers
from smaug_eval.mt_bench.templates import Template, load_template

MODEL = embedded_path("demo-model")
SETTINGS = AnswerSettings("tiny", "abc", "own questions", "def", "plain", None, 42, 1024, "torch", "float32")
QUESTIONS = [
    Question(81, "writing", ("Write.", "Write more.")),
    Question(111, "math", ("Add.", "Add more.")),
    Question(5, "stem", ("Only one.",)),
]


@cache
def demo_tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL)


class Letters:
    """A template whose tokens are bytes, for processes that are to start quickly."""

    name, stop, stop_token_ids = "letters", (), ()

    def text(self, questions: Sequence[str], answers: Sequence[str]) -> str:
        return "\n".join(f"Question: {text}" for text in (*questions, *answers))

    def prompt(self, questions: Sequence[str], answers: Sequence[str]) -> list[int]:
        return list(self.text(questions, answers).encode())

    def finished(self, text: str) -> str:
        return text.strip()


class Scripted:
    """A generator that writes what ``say`` says of the prompt's text, and remembers what it was asked."""

    def __init__(self, say: Callable[[str, Sampling], Generation], decode: Callable[..., str] | None = None) -> None:
        self.say = say
        self.decode = decode or demo_tokenizer().decode
        self.batches: list[list[tuple[str, Sampling]]] = []

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        samplings: Sequence[Sampling],
        on_done: Callable[[int, Generation], None] | None = None,
    ) -> list[Generation]:
        texts = [self.decode(prompt) for prompt in prompts]
        self.batches.append(list(zip(texts, samplings, strict=True)))
        done = {}
        for index in reversed(range(len(texts))):  # in any order
            done[index] = self.say(texts[index], samplings[index])
            if on_done is not None:
                on_done(index, done[index])
        return [done[index] for index in range(len(texts))]


def echo(text: str, sampling: Sampling) -> Generation:
    return Generation(f" {text.count('Question:')} of {len(text)} ", 7, "stop")


def answer(
    generator: Scripted, folder: Path, *, context: int = 1024, template: Template | None = None, **settings: Any
) -> dict[str, Any]:
    notices = settings.pop("notices", [])
    return answer_questions(
        lambda: Answerer(generator, context),
        template or load_template("plain", MODEL),
        settings.pop("questions", QUESTIONS),
        AnswerSettings(**{**vars(SETTINGS), **settings}),
        folder,
        report=lambda done, total, note: None,
        notice=notices.append,
    )


def without_times(file: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("answer_id", "tstamp")} for line in lines]


def test_all_first_turns_then_all_second_turns_on_the_models_own_answers(tmp_path: Path) -> None:
    generator = Scripted(lambda text, sampling: Generation(f" About {text[-14:-8]}! ", 5, "stop"))
    found = answer(generator, tmp_path)
    first, second = generator.batches
    assert [text for text, _ in first] == [
        "Question: Write.\nAnswer:",
        "Question: Add.\nAnswer:",
        "Question: Only one.\nAnswer:",
    ]
    assert [text for text, _ in second] == [
        "Question: Write.\nAnswer: About Write.!\n\nQuestion: Write more.\nAnswer:",
        "Question: Add.\nAnswer: About : Add.!\n\nQuestion: Add more.\nAnswer:",
    ]
    result = found.pop("result")
    assert found == {"turns": {"ok": 5}, "tokens": 25, "warnings": []}
    (file,) = tmp_path.glob("*.jsonl")
    answers = [[line["question_id"], line["choices"]] for line in without_times(file)]
    text = json.dumps(answers, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert result == hashlib.sha256(text.encode()).hexdigest()


def test_temperatures_are_fastchats() -> None:
    from fastchat.llm_judge.common import temperature_config

    for category in (*CATEGORIES, *temperature_config, "anything else"):
        assert temperature(category) == temperature_config.get(category, 0.7)


def test_every_turn_has_its_own_seed_whatever_is_beside_it(tmp_path: Path) -> None:
    generator = Scripted(echo)
    answer(generator, tmp_path)
    samplings = [sampling for batch in generator.batches for _, sampling in batch]
    assert [sampling.temperature for sampling in samplings] == [0.7, 0.0, 0.1, 0.7, 0.0]
    assert {sampling.max_new_tokens for sampling in samplings} == {1024}
    assert {sampling.stop for sampling in samplings} == {("\n\n",)}
    seeds = [sampling.seed for sampling in samplings]
    assert len(set(seeds)) == 5
    assert seeds[3] == seed_of(42, 81, 2)
    assert seed_of(42, 81, 2) == 0xD771AEC9  # the first 32 bits of sha256 of "[42,81,2]"
    alone = Scripted(echo)
    answer(alone, tmp_path / "alone", questions=QUESTIONS[:1])
    assert [sampling.seed for batch in alone.batches for _, sampling in batch] == [seeds[0], seeds[3]]


def test_the_file_is_fastchats(tmp_path: Path) -> None:
    answer(Scripted(echo), tmp_path)
    from fastchat.llm_judge.common import load_model_answers

    loaded = load_model_answers(str(tmp_path))["tiny"]
    assert list(loaded) == [81, 111, 5]
    assert loaded[111]["choices"] == [{"index": 0, "turns": ["1 of 22", "2 of 59"]}]
    assert loaded[5]["choices"][0]["turns"] == ["1 of 27"]
    assert loaded[81]["model_id"] == "tiny"
    assert len({line["answer_id"] for line in loaded.values()}) == 3
    assert loaded[81]["smaug"] == {
        "template": "plain",
        "temperature": 0.7,
        "seeds": [seed_of(42, 81, 1), seed_of(42, 81, 2)],
        "marks": ["ok", "ok"],
        "tokens": [7, 7],
        "finish_reasons": ["stop", "stop"],
    }
    assert sorted(file.name for file in tmp_path.iterdir()) == ["tiny.jsonl", "tiny.settings.json"]


def test_empty_cut_off_and_missing_answers_are_marked(tmp_path: Path) -> None:
    said = {
        "Write.": Generation("  ", 3, "stop"),
        "Write more.": Generation("On and on", 1024, "length"),
        "Add.": Generation("x" * 3000, 9, "stop"),
        "Only one.": Generation("", 1024, "length"),
    }
    generator = Scripted(lambda text, sampling: said[text.rpartition("Question: ")[2].removesuffix("\nAnswer:")])
    found = answer(generator, tmp_path)
    records = read_answers([tmp_path / "tiny.jsonl"])
    assert [(record.turns, record.smaug["marks"]) for record in records] == [
        (("", "On and on"), ["empty", "truncated"]),
        (("x" * 3000, ""), ["ok", "failed"]),
        (("",), ["empty"]),
    ]
    assert records[1].smaug["finish_reasons"] == ["stop", "no room"]
    assert found["turns"] == {"empty": 2, "truncated": 1, "ok": 1, "failed": 1}
    assert len(found["warnings"]) == 3
    assert "ERROR" not in (tmp_path / "tiny.jsonl").read_text()


def test_without_a_first_answer_there_is_no_second(tmp_path: Path) -> None:
    generator = Scripted(echo)
    long = Question(1, "math", ("word " * 400, "And?"))
    answer(generator, tmp_path, questions=[long], context=300)
    (record,) = read_answers([tmp_path / "tiny.jsonl"])
    assert record.smaug["marks"] == ["failed", "failed"]
    assert generator.batches == []


def test_an_answer_that_begins_with_a_stop_text_is_kept_whole_as_by_fastchat(tmp_path: Path) -> None:
    whole = "### A heading\n\n### Another"

    def say(text: str, sampling: Sampling) -> Generation:
        ends = [whole.find(stop) for stop in sampling.stop if stop in whole]
        return Generation(whole[: min(ends)] if ends else whole, 9, "stop")

    generator = Scripted(say)
    answer(generator, tmp_path, template=load_template("zero_shot", MODEL), questions=QUESTIONS[:1])
    (record,) = read_answers([tmp_path / "tiny.jsonl"])
    assert record.turns == (whole, whole)
    stops = [[sampling.stop for _, sampling in batch] for batch in generator.batches]
    assert stops == [[("###",)], [()], [("###",)], [()]]
    seeds = [batch[0][1].seed for batch in generator.batches]
    assert seeds[0] == seeds[1] != seeds[2] == seeds[3]


def test_what_is_answered_is_not_answered_again(tmp_path: Path) -> None:
    answer(Scripted(echo), tmp_path)
    before = (tmp_path / "tiny.jsonl").read_bytes()

    def loaded_for_nothing() -> Answerer:
        raise AssertionError

    template = load_template("plain", MODEL)
    options = {"report": lambda *_: None, "notice": lambda _: None}
    found = answer_questions(loaded_for_nothing, template, QUESTIONS, SETTINGS, tmp_path, **options)
    assert found["turns"] == {"ok": 5}
    assert (tmp_path / "tiny.jsonl").read_bytes() == before


def test_other_settings_set_the_old_answers_aside(tmp_path: Path) -> None:
    answer(Scripted(echo), tmp_path)
    before = (tmp_path / "tiny.jsonl").read_bytes()
    notices: list[str] = []
    generator = Scripted(echo)
    answer(generator, tmp_path, system_prompt="Be kind.", notices=notices)
    assert len(generator.batches) == 2
    (old,) = tmp_path.glob("tiny.jsonl.superseded-*")
    assert old.read_bytes() == before
    assert "made with other settings" in notices[0]


def test_a_stop_between_turns_loses_nothing(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop_at_second_turn(text: str, sampling: Sampling) -> Generation:
        if "Add more" in text:
            raise Stopped
        return echo(text, sampling)

    with pytest.raises(Stopped):
        answer(Scripted(stop_at_second_turn), tmp_path)
    assert not (tmp_path / "tiny.jsonl").exists()
    with (tmp_path / "tiny.turns").open("a") as file:
        file.write('{"question_id": 111, "turn": 2, "te')  # torn by a crash
    generator = Scripted(echo)
    answer(generator, tmp_path)
    assert [[text[-22:] for text, _ in batch] for batch in generator.batches] == [
        ["n: Write more.\nAnswer:", "ion: Add more.\nAnswer:"]
    ]
    answer(Scripted(echo), tmp_path / "whole")
    assert without_times(tmp_path / "tiny.jsonl") == without_times(tmp_path / "whole" / "tiny.jsonl")


SLOW = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_answers import Letters, Scripted, answer, echo
from smaug_eval.mt_bench.files.questions import Question
def slow(text, sampling):
    time.sleep(float(sys.argv[3]))
    return echo(text, sampling)
generator = Scripted(slow, lambda prompt: bytes(prompt).decode())
questions = [Question(n, "stem", (f"{n}?", "Why?")) for n in range(40)]
answer(generator, Path(sys.argv[1]), template=Letters(), questions=questions)
"""


def test_sigkill_while_answering(tmp_path: Path) -> None:
    def command(folder: str, seconds: float) -> list[str]:
        return [sys.executable, "-c", SLOW, str(tmp_path / folder), str(Path(__file__).parent), str(seconds)]

    turns = tmp_path / "killed" / "tiny.turns"
    process = subprocess.Popen(command("killed", 0.02))
    deadline = time.monotonic() + 300
    while not (turns.exists() and turns.read_text().count("\n") >= 50):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 50 <= turns.read_text().count("\n") < 80
    subprocess.run(command("killed", 0), check=True)
    generator = Scripted(echo, lambda prompt: bytes(prompt).decode())
    questions = [Question(n, "stem", (f"{n}?", "Why?")) for n in range(40)]
    answer(generator, tmp_path / "whole", template=Letters(), questions=questions)
    assert without_times(tmp_path / "killed" / "tiny.jsonl") == without_times(tmp_path / "whole" / "tiny.jsonl")
    names = [sorted(file.name for file in (tmp_path / folder).iterdir()) for folder in ("killed", "whole")]
    assert names[0] == names[1]


def test_a_summary_of_foreign_answers_is_empty(tmp_path: Path) -> None:
    file = tmp_path / "other.jsonl"
    file.write_text('{"question_id": 1, "choices": [{"index": 0, "turns": ["a"]}]}\n')
    assert summary(file).items() >= {"turns": {}, "tokens": 0, "warnings": []}.items()
