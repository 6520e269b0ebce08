"""Generate results of other programs and versions for the fuzzers, and list the readers that meet them."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.fuzz_inputs import as_json

_FIELDS: dict[str, Any] = {
    "doc": {"passage": "p", "q": "Why?"}, "target": "1", "doc_hash": "d", "prompt_hash": "p", "target_hash": "t",
}  # fmt: skip
_CHOICE = {
    "doc_id": 0, "arguments": {"gen_args_0": {"arg_0": "Why?", "arg_1": " a"}}, "resps": [[["-1.5", "True"]]],
    "filtered_resps": [["-1.5", "True"]], "filter": "none", "metrics": ["acc"], "acc": 1.0, **_FIELDS,
}  # fmt: skip
_TEXT = {
    "doc_id": 0, "arguments": [["Q: <think>\n", {"until": ["\n"], "max_gen_toks": 8}]],
    "resps": [["<think> 1 + 1 = 2"]],
    "filtered_resps": ["[invalid]"], "filter": "strict", "metrics": ["exact_match"], "exact_match": 0.0, **_FIELDS,
}  # fmt: skip
_ROLLING = {
    "doc_id": 0, "arguments": [["Once"]], "resps": [[-12.5]], "filtered_resps": [-12.5],
    "metrics": ["word_perplexity"], "word_perplexity": [-12.5, 4], **_FIELDS,
}  # fmt: skip
_LABELS = {**_CHOICE, "metrics": ["f1"], "f1": [1, 0]}


def _twice(row: Mapping[str, Any], **other: Any) -> list[dict[str, Any]]:
    return [dict(row), {**row, "doc_id": 1, "doc_hash": "e", **other}]


SAMPLES = (_CHOICE, _TEXT, _ROLLING, _LABELS)
"""A document of each kind of task."""


def newest(model: str = "org/model") -> dict[str, Any]:
    """Return lm-eval 0.4.9's results of tasks of no suite, a group among them, with samples inside."""
    return {
        "results": {
            "quiz": {"alias": "quiz", "acc,none": 0.5, "acc_stderr,none": "0.5"},
            "gen": {"alias": "gen", "exact_match,strict": 0.0, "exact_match_stderr,strict": "N/A"},
            "story": {"alias": "story", "word_perplexity,none": 22.76, "word_perplexity_stderr,none": "N/A"},
            "both": {"alias": "both", "acc,none": 0.5},
        },
        "group_subtasks": {"both": ["quiz"]},
        "higher_is_better": {"quiz": {"acc": True}},
        "configs": {"gen": {"metric_list": [{"metric": "exact_match", "aggregation": "mean"}], "num_fewshot": 0}},
        "versions": {"quiz": 1.0},
        "n-shot": {"quiz": 0},
        "n-samples": {"quiz": {"original": 10, "effective": 2}},
        "config": {"model": "hf", "model_args": f"pretrained={model},dtype=float16", "limit": 2, "gen_kwargs": "a=1"},
        "chat_template": "{{ x }}",
        "date": 1.7e9,
        "total_evaluation_time_seconds": "12.5",
        "pretty_env_info": "GPU 0: NVIDIA H200",
        "samples": {"quiz": _twice(_CHOICE, acc=0.0), "gen": _twice(_TEXT), "story": _twice(_ROLLING)},
    }


_OLDER = {
    "results": {
        "hendrycksTest-anatomy": {"acc": 0.3, "acc_stderr": 0.04, "acc_norm": 0.3, "acc_norm_stderr": 0.04},
        "truthfulqa_mc": {"mc1": 0.2, "mc2": 0.4, "mc2_stderr": 0.01},
        "wikitext": {"word_perplexity": 20.5},
    },
    "versions": {"hendrycksTest-anatomy": 0, "truthfulqa_mc": 1},
    "config": {"model": "gpt2", "model_args": "pretrained=org/old,revision=step1", "num_fewshot": [5, 0, 0],
               "limit": None},
}  # fmt: skip
_ARCHIVED = {
    "config_general": {"model_name": "openai-community/gpt2", "model_sha": "ab", "model_dtype": "torch.float16",
                       "max_samples": "null", "model_size": "1.5 GB"},
    "results": {"harness|arc:challenge|25": {"acc_norm": 0.22, "acc_norm_stderr": 0.01}, "all": {"acc_norm": 0.22},
                "leaderboard|gsm8k|5|0": {"qem": 0.1}},
    "versions": {"harness|arc:challenge|25": 0},
    "config_tasks": {"lighteval|gsm8k": {"effective_num_docs": 3, "original_num_docs": 1319}},
}  # fmt: skip
_SECOND = {
    "results": {
        "leaderboard_ifeval": {"prompt_level_strict_acc,none": 0.5, "inst_level_strict_acc,none": 0.6},
        "leaderboard_mmlu_pro": {"acc,none": 0.3, "acc_stderr,none": 0.01},
        "leaderboard_musr_murder_mysteries": {"acc_norm,none": 0.5},
    },
    "n-samples": {"leaderboard_mmlu_pro": {"original": 12032, "effective": 12032}},
    "config": {"model_args": {"pretrained": "org/second"}},
}
OTHERS = (newest(), _OLDER, _ARCHIVED, _SECOND)
"""Results files of several programs."""

FOREIGN: tuple[Any, ...] = (
    {"eval": {"task": "x"}, "plan": {}, "results": {"scores": []}, "stats": {}, "status": "success"},
    {"adapter_spec": {}, "scenario_spec": {}},
    [{"name": {"name": "exact_match"}, "count": 1}],
    {"0": {"origin_prompt": "a", "prediction": "b"}},
    {"harness|arc:challenge|25": {"acc_norm": 0.5}},
    [_CHOICE],
    {"accuracy": 50.0, "details": {}},
)
"""Files of which no results are read."""

ARGUMENTS = (
    b"pretrained=org/m,dtype=float16,revision=main", b"base_url=http://x/v1,model=m,custom={'a': [1, 2]}",
    b"engine=davinci", b"/models/org--m/final", b"pretrained=org/m,load_in_4bit=True,peft=org/a",
)  # fmt: skip


def read_others(folder: Path, data: bytes) -> object:
    """Read a results file of any name, through to its tables; two of them make differences."""
    from smaug_eval.results.scored import score_paths

    _file(folder / "in" / "theirs.json", data)
    _file(folder / "in" / "second.json", as_json(newest("org/other")))
    found = score_paths([folder / "in"])
    return found.as_list(), found.notes


def read_verdicts(folder: Path, data: bytes) -> object:
    """Read a results file against a published row."""
    from smaug_eval.results.reproduced import judge_results

    return judge_results([_file(folder / "theirs.json", data)], against="openai-community/gpt2")


def read_compressed(folder: Path, data: bytes) -> object:
    """Read a results file in gzip."""
    from smaug_eval.results.sources import read_source

    return read_source(_file(folder / "results.json.gz", data)).results


def read_samples(folder: Path, data: bytes) -> object:
    """Read the samples of tasks of no suite: their index, answers, groups, and parts of scores."""
    import numpy as np

    from smaug_eval.results.answers import answer_flaws
    from smaug_eval.results.clusters import cluster_labels
    from smaug_eval.results.documents import logged
    from smaug_eval.results.fitting import misfit, readable
    from smaug_eval.results.sources import read_source

    document = newest()
    del document["samples"]
    _file(folder / "results_x.json", as_json(document))
    for task in document["results"]:
        _file(folder / f"samples_{task}_x.jsonl", data)
    found: list[object] = []
    for result in read_source(folder).results["org/model"].values():
        if readable(result) is None and result.samples is not None:
            metric = result.metrics[0].key
            found += [misfit(result), answer_flaws(result, metric), logged(result.samples, metric)]
            found.append(cluster_labels(result.samples, np.arange(1)))
    return found


def read_foreign(folder: Path, data: bytes) -> object:
    """Read a file of another kind."""
    from smaug_eval.results.sources import read_source

    return read_source(_file(folder / "x.json", data)).results


def read_arguments(folder: Path, data: bytes) -> object:
    """Return what names a model, as text."""
    from smaug_eval.results.names import model_of, short_names

    text = data.decode("utf-8", "surrogatepass" if data.isascii() else "replace")
    documents = ({"config": {"model_args": text}}, {"model_name": text}, {"config_general": {"model_name": text}})
    return short_names([str(model_of(document, folder / "x.json")) for document in documents])


def read_page(folder: Path, data: bytes) -> object:
    """Read a page of two results files in every format."""
    from smaug_eval.reports import build_report

    _file(folder / "in" / "theirs.json", data)
    _file(folder / "in" / "second.json", as_json(newest("org/other")))
    return [build_report([folder / "in"], folder / f"r.{form}", format_=form) for form in ("html", "md", "json")]


def compressed() -> list[bytes]:
    """Return the results files in gzip."""
    return [gzip.compress(as_json(each), mtime=0) for each in OTHERS]


def _file(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
