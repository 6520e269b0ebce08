"""A question set in FastChat's layout: questions, judge prompts and reference answers, checked before they are used.

``question.jsonl``, ``judge_prompts.jsonl`` (or one folder up, as in FastChat's own tree) and
``reference_answer/<model>.jsonl``. Source: fastchat/llm_judge at the commit of :mod:`smaug_eval.mt_bench.fetch`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

from smaug_eval.errors import SmaugError
from smaug_eval.files import canonical_json, sha256_of_text
from smaug_eval.mt_bench.lines import BYTE_ORDER_MARK, Line, read_lines

QUESTION_FILE = "question.jsonl"
PROMPT_FILE = "judge_prompts.jsonl"
REFERENCE_FOLDER = "reference_answer"

CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
"""MT-Bench's, in the order of its questions: ten each, from question 81."""

REFERENCE_CATEGORIES = frozenset({"math", "reasoning", "coding", "arena-hard-200"})
"""Categories whose judge is shown a reference answer (NEED_REF_CATS in FastChat's common.py)."""

REFERENCE_FILES = {"original": "gpt-4", "corrected": "gpt-4-1106-preview"}
"""Names for files of reference answers: FastChat's own, of which 13 of 30 are wrong (FastChat PR #3158), and those of
a later model, as SimPO's evaluation publishes them. Any other name is a file's own."""

OFFICIAL = {
    QUESTION_FILE: "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
    PROMPT_FILE: "fd283293406d024f44c174b094ef48031d0687a4682fd3a56b29b138f80281b6",
    f"{REFERENCE_FOLDER}/gpt-4.jsonl": "f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f",
    f"{REFERENCE_FOLDER}/gpt-4-1106-preview.jsonl": "fe030678a33dbbd3d729e7569375150b8830a53f5b11f820a75b630db317f56f",
}
"""SHA-256 of MT-Bench's files."""

_FIRST_QUESTION, _PER_CATEGORY = 81, 10
_FIELDS = {
    "single": {"question", "answer", "question_1", "question_2", "answer_1", "answer_2"},
    "pairwise": {
        "question", "question_1", "question_2", "answer_a", "answer_b",
        "answer_a_1", "answer_a_2", "answer_b_1", "answer_b_2",
    },
}  # fmt: skip
_REFERENCE_FIELDS = {"ref_answer_1", "ref_answer_2"}
_OUTPUT_FORMATS = {"single": "[[rating]]", "pairwise": "[[A]]"}

QuestionId = int | str
References = Mapping[QuestionId, tuple[str, ...]]


@dataclass(frozen=True)
class Question:
    """What a model is asked.

    Attributes:
        question_id: Its number, 81 to 160 in MT-Bench.
        category: Decides the temperature and whether the judge sees a reference answer.
        turns: One or two questions; the second is about the answer to the first.
        reference: Short answers that stand beside some questions; no prompt shows them.
    """

    question_id: QuestionId
    category: str
    turns: tuple[str, ...]
    reference: tuple[str, ...] | None = None

    @property
    def needs_reference(self) -> bool:
        return self.category in REFERENCE_CATEGORIES


@dataclass(frozen=True)
class JudgePrompt:
    """How a judge is asked.

    Attributes:
        name: Such as ``single-v1`` or ``pair-math-v1-multi-turn``.
        type: ``single`` or ``pairwise``.
        system_prompt: The system message.
        prompt_template: The user message, with fields in braces.
        output_format: ``[[rating]]`` or ``[[A]]``.
    """

    name: str
    type: str
    system_prompt: str
    prompt_template: str
    output_format: str


@dataclass(frozen=True)
class QuestionSet:
    """Everything that answering and judging need.

    Attributes:
        name: What a set that is not MT-Bench is called.
        questions: In the order of the file.
        judge_prompts: By name.
        references: Reference answers of each turn, by question.
        reference_name: ``original``, ``corrected``, or the stem of another file.
        fingerprint: Hexadecimal SHA-256 of the three files' content.
        official: Whether the three files are MT-Bench's.
    """

    name: str
    questions: tuple[Question, ...]
    judge_prompts: Mapping[str, JudgePrompt]
    references: References
    reference_name: str
    fingerprint: str
    official: bool

    @property
    def title(self) -> str:
        """What results are called: MT-Bench only where the three files are MT-Bench's own."""
        if self.official:
            return "MT-Bench" if self.reference_name == "original" else f"MT-Bench, {self.reference_name} references"
        squeezed = "".join(filter(str.isalnum, self.name.lower()))
        return "own questions" if "mtbench" in squeezed else self.name


def official_category(question_id: QuestionId) -> str | None:
    """The category of a question of MT-Bench by its number; None for numbers that are not MT-Bench's."""
    if not isinstance(question_id, int):
        return None
    place = question_id - _FIRST_QUESTION
    return CATEGORIES[place // _PER_CATEGORY] if 0 <= place < _PER_CATEGORY * len(CATEGORIES) else None


def load_question_set(folder: Path, references: str = "original", *, name: str | None = None) -> QuestionSet:
    """Read and check a question set.

    Args:
        folder: Holds the files.
        references: A key of ``REFERENCE_FILES``, or the stem of a file in ``reference_answer``.
        name: What to call a set that is not MT-Bench; the folder's name where None.

    Raises:
        SmaugError: a file is missing or malformed, or a question that needs a reference answer has none.
    """
    questions = load_questions(folder)
    prompts = load_judge_prompts(folder)
    answers = load_references(folder, references)
    for question in questions:
        if question.needs_reference and len(answers.get(question.question_id, ())) < len(question.turns):
            raise SmaugError(
                f"{reference_file(folder, references)}: question {question.question_id} ({question.category}) has no "
                f"reference answer for each of its {len(question.turns)} turns",
                fix="add it, or give the question a category that is judged without one",
            )
    files = {
        QUESTION_FILE: folder / QUESTION_FILE,
        PROMPT_FILE: prompt_file(folder),
        f"{REFERENCE_FOLDER}/{REFERENCE_FILES.get(references, references)}.jsonl": reference_file(folder, references),
    }
    hashes = {role: content_hash(path) for role, path in files.items()}
    return QuestionSet(
        name=name or folder.resolve().name,
        questions=tuple(questions),
        judge_prompts=prompts,
        references=answers,
        reference_name=next((name for name, stem in REFERENCE_FILES.items() if stem == references), references),
        fingerprint=sha256_of_text(canonical_json(hashes)),
        official=all(OFFICIAL.get(role) == found for role, found in hashes.items()),
    )


def load_questions(folder: Path) -> list[Question]:
    """The questions of ``question.jsonl``.

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
    """The prompts of ``judge_prompts.jsonl``, by name.

    Raises:
        SmaugError: the file is missing or malformed, or a template has a field that nothing fills.
    """
    prompts = {prompt.name: prompt for prompt in map(_judge_prompt, read_lines(prompt_file(folder)))}
    if not prompts:
        raise SmaugError(f"{prompt_file(folder)} has no prompt", fix="write the file again")
    return prompts


def load_references(folder: Path, name: str = "original") -> dict[QuestionId, tuple[str, ...]]:
    """Reference answers of each turn, by question; the last line about a question counts, as in FastChat.

    Raises:
        SmaugError: there is no such file (the message names those that are there), or a line is malformed.
    """
    answers = {}
    for line in read_lines(reference_file(folder, name)):
        choices = line.value("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            line.refuse("key 'choices' is not a list of objects")
        answers[question_id(line)] = Line(line.path, line.number, choices[0]).texts("turns")
    return answers


def prompt_file(folder: Path) -> Path:
    """Where a question set keeps its judge prompts: with the questions or, as in FastChat's tree, one folder up.

    Raises:
        SmaugError: there is none.
    """
    above = folder.resolve().parent / PROMPT_FILE
    return above if not (folder / PROMPT_FILE).is_file() and above.is_file() else _existing(folder / PROMPT_FILE)


def reference_file(folder: Path, name: str) -> Path:
    """The file of reference answers called ``name``.

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


def question_id(line: Line) -> QuestionId:
    """The question a line is about: a number, also where it was written as a text, or another text."""
    value = line.value("question_id")
    if isinstance(value, bool) or not isinstance(value, int | str):
        line.refuse(f"key 'question_id' is not a number or a text but {type(value).__name__}")
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19 else value


def content_hash(path: Path) -> str:
    """Hexadecimal SHA-256 of a text file, the same whether or not its line ends were turned into Windows ones."""
    return hashlib.sha256(path.read_bytes().removeprefix(BYTE_ORDER_MARK).replace(b"\r\n", b"\n")).hexdigest()


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise SmaugError(
            f"{path} is not there", fix="give a folder in FastChat's layout, or none to fetch MT-Bench from its home"
        )
    return path


def _question(line: Line) -> Question:
    turns = line.texts("turns")
    if len(turns) > 2:
        line.refuse(f"{len(turns)} turns; the judge prompts are for one or two")
    reference = line.texts("reference") if line.content.get("reference") else None
    return Question(question_id(line), line.text("category"), turns, reference)


def _judge_prompt(line: Line) -> JudgePrompt:
    prompt = JudgePrompt(
        line.text("name"),
        line.text("type"),
        line.text("system_prompt"),
        line.text("prompt_template"),
        line.text("output_format"),
    )
    if prompt.type not in _FIELDS:
        line.refuse(f"key 'type' is {prompt.type!r}, not single or pairwise")
    expected = _OUTPUT_FORMATS[prompt.type]
    if prompt.output_format != expected:
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
    if unknown := sorted(fields - _FIELDS[prompt.type] - _REFERENCE_FIELDS):
        line.refuse(f"key 'prompt_template' has the unknown field {unknown[0]!r}")
    return prompt
