"""List every reader of files that come from elsewhere, with valid examples of what it reads, for the fuzzers."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from benchmarks import fuzz_results as theirs
from benchmarks.fuzz_inputs import Family, as_json, byte_files, json_files, json_line_files
from smaug_eval.common.embedded import recipes_folder
from smaug_eval.common.files import canonical_json
from smaug_eval.leaderboard.published import TITLES

STAMP = "2026-11-22T13-43-28.721867"


@dataclass(frozen=True)
class Target:
    """Describe one reader under test.

    Attributes:
        inputs: The files it is given, some at a time.
        read: Gets an empty folder and the bytes; ends normally or in our own error.
        share: Of all inputs, in relation to the other targets; more where an input costs less.
    """

    inputs: Family
    read: Callable[[Path, bytes], object]
    share: float


def targets() -> dict[str, Target]:
    """Return every target by name."""
    return {
        "samples": Target(json_line_files(_SAMPLES), _read_samples, 1.5),
        "report": Target(json_files((_run(),)), _read_report, 0.01),
        "manifest": Target(json_files((_MANIFEST,)), _read_manifest, 0.5),
        "judgments": Target(json_line_files(_JUDGMENTS), _read_judgments, 1.5),
        "answers": Target(json_line_files((_ANSWER,)), _read_answers, 1.5),
        "questions": Target(json_line_files(_QUESTIONS), _read_questions, 1.0),
        "judge_replies": Target(byte_files(_REPLIES), _read_reply, 5.0),
        "journal": Target(json_line_files((_SCOPE, *_JOURNAL_LINES)), _read_journal, 1.0),
        "training_log": Target(json_line_files(_LOG_ROWS), _read_training, 0.5),
        "archive": Target(byte_files((_archive(),)), _read_archive, 0.15),
        "adapter": Target(json_files((_ADAPTER,)), _read_adapter, 1.0),
        "checkpoint": Target(json_files((_CHECKPOINT,)), _read_checkpoint, 0.7),
        "safetensors": Target(byte_files((_safetensors(),)), _read_safetensors, 0.5),
        "recipe": Target(_recipes(), _read_recipe, 0.15),
        "override": Target(byte_files((b"trainings.dpop.beta=0.1", b"model.path={a: [1, 2]}")), _read_override, 0.1),
        "launch": Target(byte_files((b"distributed_type: FSDP\nnum_processes: 2\n",)), _read_launch, 0.5),
        "pairs": Target(json_line_files(_PAIR_ROWS), _read_pairs, 4.0),
        "pairs_gz": Target(
            byte_files([gzip.compress(as_json(row) + b"\n", mtime=0) for row in _PAIR_ROWS]), _read_gz, 0.5
        ),
        "pairs_parquet": Target(_table_files(_as_parquet), _read_parquet, 0.5),
        "pairs_arrow": Target(_table_files(_as_arrow), _read_arrow, 0.5),
        "pairs_csv": Target(byte_files(_PAIR_TABLES), _read_csv, 2.0),
        "pairs_json": Target(json_files(({"rows": _PAIR_ROWS}, _PAIR_ROWS)), _read_json_pairs, 1.0),
        "pairs_saved": Target(json_files((_SAVED,)), _read_saved, 0.5),
        "pairs_zst": Target(byte_files([_as_zst(row) for row in _PAIR_ROWS]), _read_zst, 0.5),
        "pair_sources": Target(json_line_files(_SOURCE_ROWS), _read_pair_sources, 1.0),
        "results": Target(json_files((_results(),)), _read_results, 1.5),
        "others": Target(json_files(theirs.OTHERS), theirs.read_others, 0.1),
        "others_gz": Target(byte_files(theirs.compressed()), theirs.read_compressed, 0.5),
        "others_samples": Target(json_line_files(theirs.SAMPLES), theirs.read_samples, 0.2),
        "others_sample_lists": Target(json_files([[each] for each in theirs.SAMPLES]), theirs.read_samples, 0.2),
        "others_page": Target(json_files(theirs.OTHERS), theirs.read_page, 0.01),
        "verdicts": Target(json_files(theirs.OTHERS), theirs.read_verdicts, 0.3),
        "foreign": Target(json_files(theirs.FOREIGN), theirs.read_foreign, 1.0),
        "model_names": Target(byte_files(theirs.ARGUMENTS), theirs.read_arguments, 1.0),
    }


_RECIPE = {
    "name": "run",
    "model": {"path": "org/base", "dtype": "float32"},
    "pairs": {"p": {"source": "rows", "path": "p.jsonl", "holdout": 2}, "m": {"source": "mixture", "sets": {"p": 1}}},
    "trainings": {"dpop": {"loss": "dpop", "pairs": "p", "beta": 0.3, "lora": {"r": 8}, "launch": {"processes": 2}}},
    "evaluations": {"main": {"suite": "demo", "tasks": ["demo_arithmetic"], "engine_args": {"a": {"b": 1}}}},
    "mt_bench": {"d": {"questions": "demo", "judge": {"model": "gpt-4-0613", "mode": "single"}}},
    "report": {"baseline": "base"},
}
_PAIR_ROWS = (
    {"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5"},
    {"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
     "rejected": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "c"}]},
    {"prompt": "a", "chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
     "rejected": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "c"}]},
    {"system": "s", "question": "q", "chosen": "b", "rejected": "c"},
    {"system": "s", "prompt": "q", "chosen": "b", "rejected": "c", "source": "x"},
    {"input": {"messages": [{"role": "user", "content": "a"}]},
     "preferred_output": [{"role": "assistant", "content": "b"}],
     "non_preferred_output": [{"role": "assistant", "content": "c"}]},
)  # fmt: skip
_PAIR_TABLES = (
    b'prompt,chosen,rejected\n"2 + 2 =",4,5\n"a ""quoted"" one\nof two lines",b,c\n',
    b"instruction\tchosen_response\trejected_response\nq\tb\tc\n",
    b"\xef\xbb\xbfsystem,question,chosen,rejected\r\ns,q,b,c\r\n",
)
_SAVED = {"splits": {"splits": ["train"]}, "state": {"_data_files": [{"filename": "data.arrow"}], "_split": "train"}}
_SOURCE_ROWS = (
    {"query": "How many?", "response": "1 + 1 = 2. The answer is: 2", "original_question": "How many?",
     "type": "GSM_SV"},
    {"id": "Mercury_1", "question": "Why?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"},
    {"ind": 1, "activity_label": "x", "ctx_a": "He", "ctx_b": "sits", "ctx": "He sits", "endings": ["a", "b"],
     "label": "0", "source_id": "s", "split": "train", "split_type": "indomain"},
)  # fmt: skip
_SAMPLES = tuple(
    {"doc_id": 0, "doc": {"query": "Why?", "choices": ["a", "b"], "gold": 0}, "target": "0",
     "arguments": {"gen_args_0": {"arg_0": "Why?", "arg_1": " a"}, "gen_args_1": {"arg_0": "Why?", "arg_1": " b"}},
     "resps": responses, "filtered_resps": filtered, "filter": "none", "metrics": ["acc"], "doc_hash": "d",
     "prompt_hash": "p", "target_hash": "t", "acc": 1.0}
    for responses, filtered in (
        ([[["-1.5", "True"]], [["-2.5", "False"]]], [["-1.5", "True"], ["-2.5", "False"]]),
        ([["1 + 1 = 2\n#### 2"]], ["2"]),
    )
)  # fmt: skip
_MANIFEST = {
    "name": "run", "description": None, "created": "2026-11-22T10:00:00+00:00", "command": "smaug-eval demo",
    "packages": {"torch": "2.0"}, "python": "3.11", "hardware": {"cores": 2, "gpus": []}, "seeds": {"recipe": 42},
    "models": {"base": {"source": "org/base", "dtype": "float32", "sha256": "ab", "weights_bytes": 12}},
    "data": {"eval/base/main/arc_challenge": {"arc_challenge": "ab"}}, "warnings": ["w"],
    "stages": [{"name": "report", "status": "done", "seconds": 1.0, "finished": "2026-11-22T10:00:00+00:00"}],
    "recipe": _RECIPE,
}  # fmt: skip
_JUDGMENTS = (
    {"question_id": 81, "model": "m", "judge": ["gpt-4", "single-v1"], "user_prompt": "p", "judgment": "[[5]]",
     "score": 5, "turn": 1, "tstamp": 1.0, "smaug": {"repeat": 0, "replies": [{"served_by": "x"}]}},
    {"question_id": 81, "model_1": "a", "model_2": "b", "g1_winner": "model_1", "g2_winner": "tie",
     "judge": ["gpt-4", "pair-v2"], "g1_user_prompt": "", "g1_judgment": "", "g2_user_prompt": "", "g2_judgment": "",
     "turn": 2, "tstamp": 1.0},
)  # fmt: skip
_ANSWER = {"question_id": 81, "answer_id": "a", "model_id": "m", "choices": [{"index": 0, "turns": ["x", "y"]}],
           "tstamp": 1.0, "smaug": {"turns": [{"mark": "ok"}]}}  # fmt: skip
_QUESTIONS = (
    {"question_id": 81, "category": "writing", "turns": ["a?", "b?"], "reference": ["c"]},
    {"name": "single-v1", "type": "single", "system_prompt": "s", "prompt_template": "{question} {answer}",
     "output_format": "[[rating]]"},
)  # fmt: skip
_REPLIES = tuple(
    text.encode()
    for text in (
        "Good. Rating: [[7.5]]", "Rating: [8/10]", "[[A]] is better, not [[B]]", "Score is [3]\n", "[[１０]]",
        "[" * 40 + "5" + "]" * 40, "rating: " * 30 + "[[5]]", "**[[ rating: 9 out of 10 ]]**",
    )
)  # fmt: skip
_SCOPE = {"journal": 1, "scope": {"engine": "fuzz"}}
_JOURNAL_LINES = ({"answers": {"k": [-1.5, True]}}, {"settings": {"row_limits": [512, 65536]}})
_LOG_ROWS = (
    {"split": "train", "step": 1, "epoch": 0.1, "loss": 0.69, "log_ratios/chosen": 0.0, "seconds": 1.0},
    {"split": "eval", "step": 0, "loss": 0.69, "log_ratios/chosen": 0.0, "log_ratios/rejected": 0.0},
)
_ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 8, "target_modules": ["q_proj"]}
_CHECKPOINT = {
    "config": {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32", "hidden_size": 8},
    "index": {"metadata": {"total_size": 12}, "weight_map": {"w": "model.safetensors"}},
}


def _results() -> dict[str, Any]:
    return {
        "results": {
            "arc_challenge": {"alias": "arc_challenge", "acc,none": 0.5, "acc_stderr,none": 0.1, "sample_len": 2},
            "mmlu": {"alias": "mmlu", "acc,none": 0.25, "acc_stderr,none": "N/A"},
        },
        "group_subtasks": {"mmlu": ["mmlu_anatomy"], "arc_challenge": []},
        "versions": {"arc_challenge": 1.0},
        "n-shot": {"arc_challenge": 25},
        "n-samples": {"arc_challenge": {"original": 1172, "effective": 2}},
        "configs": {"arc_challenge": {"task": "arc_challenge"}},
        "config": {"model": "hf", "model_args": {"pretrained": "org/model"}, "limit": None, "random_seed": 0},
        "date": 1.7e9,
        "lm_eval_version": "0.4.13",
        "model_name": "org/model",
        "task_hashes": {"arc_challenge": "ab"},
    }


def _run() -> dict[str, Any]:
    """The files of a small run directory by their paths; a list holds lines."""
    files: dict[str, Any] = {"manifest.json": _MANIFEST}
    for model in ("base", "dpop"):
        folder = f"eval/{model}/main/arc_challenge"
        files[f"{folder}/results_{STAMP}.json"] = _results()
        files[f"{folder}/samples_arc_challenge_{STAMP}.jsonl"] = [
            _SAMPLES[0],
            {**_SAMPLES[0], "doc_id": 1, "doc_hash": "e"},
        ]
    files["train/dpop/log.jsonl"] = list(_LOG_ROWS)
    files["train/dpop/summary.json"] = {"name": "dpop", "loss": "dpop", "beta": 0.3, "steps": 1, "final": {"loss": 0.6}}
    files["mt-bench/d/model_judgment/m/gpt-4_single.jsonl"] = [_JUDGMENTS[0]]
    files["mt-bench/d/model_answer/m/m.jsonl"] = [_ANSWER]
    return files


def _recipes() -> Family:
    committed = [(recipes_folder() / name).read_bytes() for name in ("demo.yaml",)]
    return st.one_of(json_files((_RECIPE,)), byte_files((*committed, _FLOW_RECIPE)))


_FLOW_RECIPE = b"model: org/base\nx: &a {b: c}\npairs: {p: {<<: *a, source: rows, path: p.jsonl}}\n"


def _archive() -> bytes:
    columns = ["Model", "Average \u2b06\ufe0f", *TITLES, "Precision", "#Params (B)", "Model sha", "Flagged", "date"]
    row = ["org/m", *["50.0"] * 7, "bfloat16", "7.0", "abc", "True", "2024-01-01"]
    other = ["org/n", *["40.5"] * 7, "float16", "", "", "False", ""]
    return "\n".join(",".join(cells) for cells in (columns, row, other)).encode() + b"\n"


def _safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(12)


def _table_files(write: Callable[[Any], bytes]) -> Family:
    return st.one_of(json_files(_PAIR_ROWS, write), byte_files([write(row) for row in _PAIR_ROWS]))


def _as_parquet(row: Any) -> bytes:
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    try:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), stream)
    except (pyarrow.ArrowException, TypeError, ValueError, AttributeError, OverflowError):
        return b"PAR1"  # what parquet has no columns for
    return stream.getvalue()


def _as_arrow(row: Any) -> bytes:
    import pyarrow

    stream = io.BytesIO()
    try:
        table = pyarrow.Table.from_pylist([row])
        with pyarrow.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
    except (pyarrow.ArrowException, TypeError, ValueError, AttributeError, OverflowError):
        return b"ARROW1"  # what Arrow has no columns for
    return stream.getvalue()


def _as_zst(row: Any) -> bytes:
    import pyarrow

    return bytes(pyarrow.compress(as_json(row) + b"\n", codec="zstd", asbytes=True))


def _read_recipe(folder: Path, data: bytes) -> object:
    from smaug_eval.runs.recipe import recipe_as_dict
    from smaug_eval.runs.recipe_file import load_recipe

    return recipe_as_dict(load_recipe(_file(folder / "recipe.yaml", data)))


def _read_override(folder: Path, data: bytes) -> object:
    from smaug_eval.runs.recipe_file import load_recipe

    override = data.decode("utf-8", "surrogateescape")
    return load_recipe(_file(folder / "recipe.yaml", as_json(_RECIPE)), [override])


def _read_launch(folder: Path, data: bytes) -> object:
    from smaug_eval.trainers.launch import accelerate_settings

    return accelerate_settings(_file(folder / "fsdp.yaml", data))


def _read_pairs(folder: Path, data: bytes) -> object:
    from smaug_eval.trainers.pairs.read import pairs_of_file

    return pairs_of_file(_file(folder / "pairs.jsonl", data))


def _read_gz(folder: Path, data: bytes) -> object:
    from smaug_eval.trainers.pairs.read import pairs_of_file

    return pairs_of_file(_file(folder / "pairs.jsonl.gz", data))


def _read_parquet(folder: Path, data: bytes) -> object:
    from smaug_eval.trainers.pairs.read import pairs_of_file

    return pairs_of_file(_file(folder / "pairs.parquet", data))


def _read_arrow(folder: Path, data: bytes) -> object:
    from smaug_eval.trainers.pairs.read import pairs_of_file

    return pairs_of_file(_file(folder / "pairs.arrow", data))


def _read_zst(folder: Path, data: bytes) -> object:
    from smaug_eval.trainers.pairs.read import pairs_of_file

    return pairs_of_file(_file(folder / "pairs.jsonl.zst", data))


def _read_csv(folder: Path, data: bytes) -> object:
    from smaug_eval.trainers.pairs.read import pairs_of_file

    return pairs_of_file(_file(folder / ("pairs.tsv" if b"\t" in data else "pairs.csv"), data))


def _read_json_pairs(folder: Path, data: bytes) -> object:
    from smaug_eval.trainers.pairs.read import pairs_of_file

    return pairs_of_file(_file(folder / "pairs.json", data))


def _read_saved(folder: Path, data: bytes) -> object:
    """A folder of ``save_to_disk``: its two descriptions, beside one file of rows."""
    from smaug_eval.common.files import read_json
    from smaug_eval.trainers.pairs.files import row_files, rows_of

    parts = read_json(_file(folder / "parts.json", data))
    found = parts if isinstance(parts, dict) else {}
    saved = folder / "saved"
    _file(saved / "dataset_dict.json", as_json(found.get("splits")))
    _file(saved / "train" / "state.json", as_json(found.get("state")))
    _file(saved / "train" / "data.arrow", _as_arrow(_PAIR_ROWS[0]))
    return [list(rows_of(file)) for file in row_files(str(saved))]


def _read_pair_sources(folder: Path, data: bytes) -> None:
    from smaug_eval.common.errors import SmaugError
    from smaug_eval.runs.recipe_file import parse_recipe
    from smaug_eval.trainers.pairs.build import build_pairs

    file = _file(folder / "rows.jsonl", data)
    for source in ("metamath", "arc", "hellaswag", "rows"):
        settings = {"source": source, "path": str(file), "holdout": 1}
        config = parse_recipe({"name": "x", "model": "org/base", "pairs": {"p": settings}}).pairs["p"]
        try:
            build_pairs(config, data_root=None, out_dir=folder / source)
        except SmaugError:
            continue


def _read_results(folder: Path, data: bytes) -> object:
    from smaug_eval.results.sources import read_source

    source = read_source(_file(folder / f"results_{STAMP}.json", data))
    return [result.metrics for results in source.results.values() for result in results.values()]


def _read_samples(folder: Path, data: bytes) -> object:
    from smaug_eval.leaderboard.rescore import document_metrics, leaderboard_task
    from smaug_eval.reports.samples.documents import failure_counts, task_samples
    from smaug_eval.reports.samples.outcomes import task_rows

    file = _file(folder / f"samples_arc_challenge_{STAMP}.jsonl", data)
    task = task_rows("arc_challenge", [file, file], metric="acc,none")
    task_samples(task, task.rows)
    failure_counts(task)
    spec = leaderboard_task("arc_challenge")
    from smaug_eval.results.json_files import json_lines

    return spec and document_metrics(spec, json_lines(file))


def _read_report(folder: Path, data: bytes) -> object:
    from smaug_eval.common.files import read_json
    from smaug_eval.reports import build_report

    files = read_json(_file(folder / "files.json", data))
    run = folder / "run"
    for name, content in files.items() if isinstance(files, dict) else ():
        if name in _run():
            lines = content if isinstance(content, list) else [content]
            text = b"".join(as_json(line) + b"\n" for line in lines)
            _file(run / name, text)
    return [build_report([run], folder / f"report.{form}", format_=form) for form in ("html", "md", "json")]


def _read_manifest(folder: Path, data: bytes) -> object:
    from smaug_eval.results.sources import read_source

    _file(folder / "run" / "manifest.json", data)
    return read_source(folder / "run")


def _read_judgments(folder: Path, data: bytes) -> object:
    from smaug_eval.results.sources import read_source
    from smaug_eval.runs.mt_bench import score_mt_bench

    file = _file(folder / "gpt-4_single.jsonl", data)
    read_source(file)
    return score_mt_bench([file])


def _read_answers(folder: Path, data: bytes) -> object:
    from smaug_eval.mt_bench.judge.plan import load_answers
    from smaug_eval.results.sources import read_source

    file = _file(folder / "m.jsonl", data)
    read_source(file)
    return load_answers([file])


def _read_questions(folder: Path, data: bytes) -> object:
    from smaug_eval.mt_bench.files.question_files import load_question_set

    for name in ("question.jsonl", "judge_prompts.jsonl", "reference_answer/gpt-4.jsonl"):
        _file(folder / name, data)
    (folder / "judge_prompts.jsonl").write_bytes(b"\n".join(as_json(each) for each in _QUESTIONS[1:]) + b"\n")
    return load_question_set(folder)


def _read_reply(folder: Path, data: bytes) -> object:
    from smaug_eval.mt_bench.judge.parsing import fastchat_winner, read_judgment, strict_winner

    text = data.decode("utf-8", "surrogatepass" if data.isascii() else "replace")
    return read_judgment(text), fastchat_winner(text), strict_winner(text)


def _read_journal(folder: Path, data: bytes) -> None:
    from smaug_eval.common.files import sha256_of_text
    from smaug_eval.engines.journal import Journal

    name = sha256_of_text(canonical_json(_SCOPE))[:16]
    _file(folder / f"{name}.jsonl", data)
    journal = Journal(folder, {"engine": "fuzz"})
    journal.add({"new": [1]})
    journal.close()


def _read_training(folder: Path, data: bytes) -> object:
    from smaug_eval.results.sources import read_source

    _file(folder / "log.jsonl", data)
    _file(folder / "diagnostics.jsonl", data)
    return read_source(folder).trainings[0].last_diagnosis


def _read_archive(folder: Path, data: bytes) -> object:
    from smaug_eval.leaderboard.archive import archived_rows, read_archive

    archive = read_archive(_file(folder / "archive.csv", data))
    return archive.describe(), archived_rows(archive, "org/m")


def _read_adapter(folder: Path, data: bytes) -> object:
    from smaug_eval.trainers.merge import named_base

    _file(folder / "adapter_config.json", data)
    _file(folder / "adapter_model.safetensors", _safetensors())
    return named_base(folder)


def _read_checkpoint(folder: Path, data: bytes) -> object:
    from smaug_eval.common.files import read_json
    from smaug_eval.models.checkpoint import locate

    parts = read_json(_file(folder / "parts.json", data))
    found = parts if isinstance(parts, dict) else {}
    checkpoint = folder / "checkpoint"
    _file(checkpoint / "config.json", as_json(found.get("config")))
    _file(checkpoint / "model.safetensors.index.json", as_json(found.get("index")))
    _file(checkpoint / "tokenizer.json", b"{}")
    _file(checkpoint / "model.safetensors", _safetensors())
    return locate(str(checkpoint)).describe()


def _read_safetensors(folder: Path, data: bytes) -> object:
    from smaug_eval.models.checkpoint import locate

    _file(folder / "config.json", as_json(_CHECKPOINT["config"]))
    _file(folder / "tokenizer.json", b"{}")
    _file(folder / "model.safetensors", data)
    return locate(str(folder))


def _file(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def chosen_targets(names: Sequence[str]) -> dict[str, Target]:
    """Return some targets by name; all of them where none is named."""
    everything = targets()
    return {name: everything[name] for name in names} if names else everything
