"""Read question sets in FastChat's layout: questions, judge prompts and reference answers."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import canonical_json, sha256_of_text
from smaug_eval.mt_bench.files.lines import BYTE_ORDER_MARK, JsonLine, read_lines
from smaug_eval.mt_bench.files.questions import (
    CATEGORIES,
    OFFICIAL,
    OUTPUT_FORMATS,
    PROMPT_FILE,
    QUESTION_FILE,
    REFERENCE_CATEGORIES,
    REFERENCE_FILES,
    REFERENCE_FOLDER,
    JudgePrompt,
    Question,
    QuestionId,
    QuestionSet,
    Selection,
    question_id,
    select,
)

_FIELDS = {
    "single": re.compile(r"question|answer|(?:question|answer|ref_answer)_[1-9]\d?"),
    "pairwise": re.compile(r"question|answer_[ab]|(?:question|answer_[ab]|ref_answer)_[1-9]\d?"),
}
_TURN_KEYS = ("turns", "questions", "prompts", "prompt", "history")
_REFERENCE_KEYS = ("reference", "references")
_UNUSED = ("system", "system_prompt")


def load_question_set(
    folder: Path, references: str = "original", *, name: str | None = None, selection: Selection | None = None
) -> QuestionSet:
    """Read and check a question set.

    Args:
        folder: Holds the files.
        references: A key of ``REFERENCE_FILES``, or the stem of a file in ``reference_answer``; not read where no
            question is judged with a reference answer and there is none.
        name: What to call a set that is not MT-Bench; the folder's name where None.
        selection: Which part of it to take, and how; all if None.

    Raises:
        SmaugError: a file is missing or malformed, or a question that needs a reference answer has none.
    """
    questions = load_questions(folder)
    prompts = load_judge_prompts(folder)
    known = tuple(REFERENCE_CATEGORIES) if selection is None else selection.reference_categories
    needed = {question.category for question in questions} & set(REFERENCE_CATEGORIES if known is None else known)
    has_references = bool(needed) or (folder / REFERENCE_FOLDER).is_dir()
    answers = load_references(folder, references) if has_references else {}
    files = {QUESTION_FILE: folder / QUESTION_FILE, PROMPT_FILE: prompt_file(folder)}
    if has_references:
        role = f"{REFERENCE_FOLDER}/{REFERENCE_FILES.get(references, references)}.jsonl"
        files[role] = reference_file(folder, references)
    hashes = {role: content_hash(path) for role, path in files.items()}
    stem = next((name for name, stem in REFERENCE_FILES.items() if stem == references), references)
    whole = QuestionSet(
        name=name or folder.resolve().name,
        questions=tuple(questions),
        judge_prompts=prompts,
        references=answers,
        reference_name=stem if has_references else "no",
        fingerprint=sha256_of_text(canonical_json(hashes)),
        official=has_references and all(OFFICIAL.get(role) == found for role, found in hashes.items()),
        notes=tuple(_notes(folder, questions)),
    )
    found = select(whole, selection or Selection())
    for question in found.questions:
        if question.needs_reference and len(answers.get(question.question_id, ())) < len(question.turns):
            raise SmaugError(
                f"{reference_file(folder, references)}: question {question.question_id} ({question.category}) has no "
                f"reference answer for each of its {len(question.turns)} turns",
                fix="add it, or name the categories that are judged with one (reference_categories; none for no "
                "category)",
            )
    return found


def _notes(folder: Path, questions: Sequence[Question]) -> Iterator[str]:
    """What a reader of a question set must be told."""
    unused = Counter(key for line in read_lines(folder / QUESTION_FILE) for key in _UNUSED if line.content.get(key))
    for key, number in unused.items():
        yield f"{QUESTION_FILE}: key {key!r} of {number} questions is not used: FastChat's protocol has none"
    known = {*CATEGORIES, *REFERENCE_CATEGORIES}
    for category in dict.fromkeys(question.category for question in questions):
        if category not in known and category.lower() in known:
            yield (
                f"{QUESTION_FILE}: category {category!r} is not {category.lower()!r} to FastChat: its temperature is "
                "the one of unknown categories, and it is judged without reference answers"
            )


def load_questions(folder: Path) -> list[Question]:
    """Load the questions of ``question.jsonl``.

    Raises:
        SmaugError: the file is missing, empty or malformed, or a number stands twice.
    """
    questions: dict[QuestionId, Question] = {}
    for line in read_lines(_existing(folder / QUESTION_FILE)):
        question = _question(line)
        if question.question_id in questions:
            line.refuse(f"question {question.question_id} stands twice")
        questions[question.question_id] = question
    if not questions:
        raise SmaugError(f"{folder / QUESTION_FILE} has no question", fix="write the file again")
    return list(questions.values())


def load_judge_prompts(folder: Path) -> dict[str, JudgePrompt]:
    """Load the prompts of ``judge_prompts.jsonl``, by name.

    Raises:
        SmaugError: the file is missing or malformed, or a template has a field that nothing fills.
    """
    prompts = {prompt.name: prompt for prompt in map(_judge_prompt, read_lines(prompt_file(folder)))}
    if not prompts:
        raise SmaugError(f"{prompt_file(folder)} has no prompt", fix="write the file again")
    return prompts


def load_references(folder: Path, name: str = "original") -> dict[QuestionId, tuple[str, ...]]:
    """Load the reference answers of each turn, by question; the last line about a question counts, as in FastChat.

    Raises:
        SmaugError: there is no such file (the message names those that are there), or a line is malformed.
    """
    answers = {}
    for line in read_lines(reference_file(folder, name)):
        choices = line.value("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            line.refuse("key 'choices' is not a list of objects")
        answers[question_id(line)] = JsonLine(line.path, line.number, choices[0]).texts("turns")
    return answers


def prompt_file(folder: Path) -> Path:
    """Find the judge prompts of a question set: with the questions or, as in FastChat's tree, one folder up.

    Raises:
        SmaugError: there is none.
    """
    above = folder.resolve().parent / PROMPT_FILE
    return above if not (folder / PROMPT_FILE).is_file() and above.is_file() else _existing(folder / PROMPT_FILE)


def reference_file(folder: Path, name: str) -> Path:
    """Find the file of reference answers called ``name``.

    Raises:
        SmaugError: there is none; the message names those that are there.
    """
    stem = REFERENCE_FILES.get(name, name)
    files = {path.stem: path for path in sorted((folder / REFERENCE_FOLDER).glob("*.jsonl"))}
    if stem not in files:  # looked up, never joined to a path: a name with ".." finds nothing
        here = ", ".join(files) or "nothing"
        raise SmaugError(
            f"there are no reference answers {name!r} ({stem}.jsonl) in {folder / REFERENCE_FOLDER}: {here}",
            fix="choose one of these, or add the file",
        )
    return files[stem]


def content_hash(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a text file.

    It is the same whether or not line ends were turned into Windows ones.
    """
    return hashlib.sha256(path.read_bytes().removeprefix(BYTE_ORDER_MARK).replace(b"\r\n", b"\n")).hexdigest()


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise SmaugError(
            f"{path} is not there", fix="give a folder in FastChat's layout, or none to fetch MT-Bench from its home"
        )
    return path


def _question(line: JsonLine) -> Question:
    """A question in FastChat's form, or with the keys of others: MT-Bench-101's ``history``, LogicKor's."""
    key = next((key for key in _TURN_KEYS if key in line.content), _TURN_KEYS[0])
    value = line.value(key)
    turns: tuple[str, ...]
    own: tuple[str, ...] | None = None
    if key == "history":
        turns, own = _history(line, value)
    elif isinstance(value, str) and key == "prompt":
        turns = (value,)
    elif isinstance(value, list) and value and all(isinstance(turn, Mapping) for turn in value):
        turns = JsonLine(line.path, line.number, {key: [turn.get("content") for turn in value]}).texts(key)
    else:
        turns = line.texts(key)
    given = next((line.content[name] for name in _REFERENCE_KEYS if line.content.get(name)), None)
    reference = tuple(map(str, given)) if isinstance(given, list) and any(each is not None for each in given) else own
    category = line.text("category") if "category" in line.content or "task" not in line.content else line.text("task")
    return Question(question_id(line), category, turns, reference)


def _history(line: JsonLine, value: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The user's turns of a dialogue, and the answers that stand beside them."""
    turns = value if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value) else None
    if turns is None or not all(isinstance(each.get("user"), str) for each in turns):
        line.refuse("key 'history' is not a list of {user, bot}")
    return tuple(each["user"] for each in turns), tuple(str(each.get("bot", "")) for each in turns)


def _judge_prompt(line: JsonLine) -> JudgePrompt:
    prompt = JudgePrompt(
        line.text("name"),
        line.text("type"),
        line.text("system_prompt"),
        line.text("prompt_template"),
        line.text("output_format"),
    )
    if prompt.type not in _FIELDS:
        line.refuse(f"key 'type' is {prompt.type!r}, not single or pairwise")
    expected = OUTPUT_FORMATS[prompt.type]
    if prompt.output_format != expected and prompt.output_format in OUTPUT_FORMATS.values():
        line.refuse(f"key 'output_format' is {prompt.output_format!r}; {prompt.type} prompts have {expected}")
    try:
        # A field such as {answer.__class__} would reach into objects: only plain names may stand in braces.
        fields = {
            name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            for _, name, spec, conversion in Formatter().parse(prompt.prompt_template)
            if name is not None
        }
    except ValueError as error:
        line.refuse(f"key 'prompt_template': {error}", fix="write {{ and }} for braces that are text")
    if unknown := sorted(field for field in fields if not _FIELDS[prompt.type].fullmatch(field)):
        line.refuse(f"key 'prompt_template' has the unknown field {unknown[0]!r}")
    return prompt
