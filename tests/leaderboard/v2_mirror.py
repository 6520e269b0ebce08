"""A made-up mirror of the second leaderboard's data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from smaug_eval.leaderboard import v2
from smaug_eval.leaderboard.benchmarks import bbh


def write_mirror(root: Path) -> Path:
    """Write three rows to evaluate, or as many as say something, for each task; returns ``root``."""

    def write(hub_id: str, config: str, split: str, rows: list[dict[str, Any]]) -> None:
        path = root / hub_id / config / f"{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path)

    for name, prompts in bbh.PROMPTS.items():
        choices = prompts["choices"]
        answers = (choices[0], choices[-1], "none of them")
        rows = [{"input": f"Is it {name} {number}?", "target": answer} for number, answer in enumerate(answers)]
        write("SaylorTwift/bbh", name, "test", rows)
    options = [["red", " blue"], ["one", "two", "three"], [f"n{n}" for n in range(10)]]
    asked = [
        {"question": f"Which {n}?", "options": own, "answer": "ABJ"[n], "answer_index": 0, "src": "x"}
        for n, own in enumerate(options)
    ]
    write("TIGER-Lab/MMLU-Pro", "default", "test", asked)
    write("TIGER-Lab/MMLU-Pro", "default", "validation", [asked[n % 3] for n in range(7)])
    story = {"narrative": "Ann left.\n\nBob stayed {here}.", "question": "Who?", "answer_index": 1}
    for name in ("murder_mysteries", "object_placements", "team_allocation"):
        row = {**story, "choices": "['Ann', \"Bob's\"]", "answer_choice": "Bob's"}
        write("TAUR-Lab/MuSR", "default", name, [row])
    hard = {
        "Question": "What is it?\n",
        "Correct Answer": " right [title]one ",
        "Incorrect Answer 1": "wrong  [2,3]one",
        "Incorrect Answer 2": "bad",
        "Incorrect Answer 3": None,
    }
    for name in ("main", "extended", "diamond"):
        write("Idavidrein/gpqa", f"gpqa_{name}", "train", [{**hard, "Question": f"{name} {n}?\n"} for n in range(3)])
    problems = [
        {"problem": f"Find {n}.", "level": level, "type": "t", "solution": f"It is $\\boxed{{\\frac{{{n}}}{{7}}}}$."}
        for n, level in enumerate(("Level 5", "Level 4", "Level 5"))
    ]
    for leaf in v2.SUITE.columns[2].leaves:
        write("DigitalLearningGmbH/MATH-lighteval", leaf.evaluated.config, "test", problems)
    wishes = [
        {"key": 1, "prompt": "Say it without commas.", "instruction_id_list": ["punctuation:no_comma"],
         "kwargs": [{"num_words": None, "relation": None}]},
        {"key": 2, "prompt": "Say it in four words, without commas.",
         "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
         "kwargs": [{"num_words": None, "relation": None}, {"num_words": 4, "relation": "at least"}]},
    ]  # fmt: skip
    write("wis-k/instruction-following-eval", "default", "train", wishes)
    return root
