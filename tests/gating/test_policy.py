"""A gate's policy: what is refused, naming file, line and key, and what the words stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.gating.policy import DEFAULT_POLICY, read_policy
from tests.results.others import STAMP, accuracy, newest, write


def policy(folder: Path, text: str) -> Path:
    file = folder / "policy.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "requirements:\n  - colum: ARC\n    is: better\n",
            "line 2: requirements.0.colum = 'ARC': unknown key; did you",
        ),
        (
            "requirements:\n  - column: ARC\n",
            "line 2: requirements.0: one of is, at_least, .* says what is required; there is none",
        ),
        ("requirements:\n  - is: better\n", "requirements.0: one of average, column, .* says of what; there is none"),
        ("requirements:\n  - column: ARC\n    average: all\n    is: better\n", "there are average and column"),
        ("requirements:\n  - column: ARC\n    is: better\n    at_least: 3\n", "there are is and at_least"),
        (
            "requirements:\n  - column: ARC\n    is: bettr\n",
            "line 3: requirements.0.is = 'bettr': unknown; did you mean 'better'",
        ),
        ("requirements:\n  - column: ARC\n    at_least: much\n", "line 3: requirements.0.at_least = 'much'"),
        ("requirements:\n  - column: ARC\n    at_least: .nan\n", "requirements.0.at_least = nan"),
        (
            "requirements:\n  - column: ARC\n    not_worse_by_more_than: -1\n",
            "not_worse_by_more_than = -1: .*greater than 0",
        ),
        (
            "requirements:\n  - average: open_llm_v9\n    is: better\n",
            "line 2: requirements.0.average: 'open_llm_v9' is no suite; did you",
        ),
        ("requirements:\n  - column: ARC\n    suite: arc\n    is: better\n", "requirements.0.suite: 'arc' is no suite"),
        (
            "requirements:\n  - average: all\n    suite: open_llm_v1\n    is: better\n",
            "suite means something with column only",
        ),
        (
            "requirements:\n  - column: ARC\n    except: [ARC]\n    is: better\n",
            "except means something with column: all only",
        ),
        (
            "requirements:\n  - column: ARC\n    is: better\n    must_detect: 3\n",
            "must_detect means something with is: not worse",
        ),
        (
            "requirements:\n  - column: ARC\n    is: better\n    confident: true\n",
            "confident means something with at_least or",
        ),
        ("requirements: []\n", "line 1: requirements = \\[\\]"),
        ("name: x\n", "requirements: this key is required"),
        ("- column: ARC\n", "a policy is a mapping with the key requirements"),
        ("requirements: [\n", "line 2: not valid YAML"),
        ("requirements:\n  - column: ARC\n    column: MMLU\n", "line 3: .*given twice"),
    ],
)  # fmt: skip
def test_a_bad_policy_names_file_line_and_key(tmp_path: Path, text: str, words: str) -> None:
    file = policy(tmp_path, text)
    with pytest.raises(SmaugError, match=words) as caught:
        read_policy(file)
    assert str(file) in caught.value.message
    assert caught.value.fix
    assert caught.value.exit_code == 2


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match="cannot be read"):
        read_policy(tmp_path / "nowhere.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SmaugError, match="not UTF-8"):
        read_policy(tmp_path / "binary")


def test_a_column_that_nobody_knows_is_refused_and_one_not_measured_is_not(tmp_path: Path) -> None:
    for folder in ("old", "new"):
        write(tmp_path / folder / f"results_{STAMP}.json", newest({"own_task": accuracy(0.5)}, model=f"org/{folder}"))
    text = "requirements:\n  - {column: own_task, at_least: 1}\n  - {column: GSMK8, at_least: 1}\n"
    file = policy(tmp_path, text)
    with pytest.raises(SmaugError, match=r"policy.yaml: requirements\.1: column 'GSMK8' is none .*mean 'GSM8K'"):
        smaug_eval.gate(tmp_path / "new", tmp_path / "old", policy=file)
    known = smaug_eval.gate(
        tmp_path / "new", tmp_path / "old", policy={"requirements": [{"column": "GSM8K", "at_least": 1}]}
    )
    assert known.exit_code == 5


def test_the_default_policy_is_what_the_page_says() -> None:
    text = (Path(__file__).parents[2] / "docs/gate.md").read_text()
    blocks = [part.partition("```")[0] for part in text.split("```yaml\n")[1:]]
    policies = [yaml.safe_load(block) for block in blocks if block.startswith(("name:", "requirements:"))]
    assert len(policies) >= 2
    checked = [read_policy(each) for each in policies]
    assert checked[0].requirements == DEFAULT_POLICY.requirements


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["requirements", "column", "average", "is", "at_least", "name"]), inner)
        ),
        max_leaves=12,
    )
)
def test_whatever_a_policy_holds_it_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, raw: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(yaml.safe_dump(raw, allow_unicode=False), encoding="utf-8")
    try:
        assert read_policy(file).requirements
    except SmaugError as error:
        assert "any.yaml" in error.message
