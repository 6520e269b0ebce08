"""Data sets of the Hub: which files are read, at which commit, and what is refused."""

from __future__ import annotations

import gzip
import io
import socket
import zipfile
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.hub import read_split
from smaug_eval.common.hub_commits import NotReached, resolve_commit
from tests.hub.contents import Rows, card, json_lines, parquet, pushed
from tests.hub.fixtures import HubHere
from tests.hub.repositories import Content

NAME = "org/set"
NONSENSE = "deadbeef" * 5


def rows(letter: str, count: int = 3) -> list[dict[str, Any]]:
    return [{"text": f"{letter}{number}", "n": number} for number in range(count)]


def texts(revision: str | None = None, *, config: str = "default", split: str = "train") -> list[str]:
    return list(read_split(NAME, config, split, revision=revision)["text"])


def refused(revision: str | None = None, **options: str) -> str:
    with pytest.raises(SmaugError) as caught:
        texts(revision, **options)
    return str(caught.value)


@pytest.fixture
def commits(hub_here: HubHere) -> list[str]:
    """Two commits of a set, the second on ``main``; ``v1`` is the first."""
    first = hub_here.hub.add_dataset(NAME, pushed({"default": {"train": rows("a", 2)}}))
    first.tag("v1")
    second = hub_here.hub.commit(NAME, pushed({"default": {"train": rows("b", 3)}}))
    return [first.tags["v1"], second]


def test_every_name_of_a_commit_gives_its_rows(hub_here: HubHere, commits: list[str]) -> None:
    for revision in ("v1", commits[0], commits[0][:8]):
        assert texts(revision) == ["a0", "a1"]
    for revision in (None, "main", commits[1]):
        assert texts(revision) == ["b0", "b1", "b2"]


def test_offline_a_commit_is_itself_whatever_was_read_last(hub_here: HubHere, commits: list[str]) -> None:
    assert texts("v1") == ["a0", "a1"]
    assert texts() == ["b0", "b1", "b2"]
    hub_here.offline()
    hub_here.hub.forget_requests()
    assert texts(commits[0]) == texts("v1") == ["a0", "a1"]
    assert texts(commits[1]) == texts() == ["b0", "b1", "b2"]
    assert hub_here.hub.requests() == []


def test_offline_what_is_not_in_the_cache_is_refused_with_what_is(hub_here: HubHere, commits: list[str]) -> None:
    assert len(texts()) == 3
    hub_here.offline()
    for missing in (commits[0], NONSENSE):
        message = refused(missing)
        assert f"commit {missing} is not in the local Hub cache (which has {commits[1]})" in message
        assert "HF_HUB_OFFLINE is set" in message
        assert f"hf download {NAME} --repo-type dataset --revision {missing}" in message
    assert "which commit v1 is, is not in the local Hub cache" in refused("v1")
    hub_here.empty()
    assert f"data set {NAME!r}: not in the local Hub cache" in refused(commits[0])


def test_online_a_commit_that_does_not_exist_is_refused(hub_here: HubHere, commits: list[str]) -> None:
    assert len(texts()) == 3
    assert f"has no revision '{NONSENSE}'" in refused(NONSENSE)
    assert "has no revision 'v9'" in refused("v9")
    with pytest.raises(SmaugError, match="not on the Hub"):
        read_split("org/none", "default", "train")


@pytest.mark.parametrize("match", ["HEAD .*README", "HEAD .*parquet", "GET .*/tree/", "GET .*/files/"])
def test_one_failed_request_never_gives_other_rows(hub_here: HubHere, commits: list[str], match: str) -> None:
    assert len(texts()) == 3
    hub_here.new_process()
    hub_here.hub.plan_fault(match, "status", code=503)
    try:
        assert texts("v1") == ["a0", "a1"]  # where the client asks again
    except NotReached as error:
        assert "commit" in str(error)
        assert "HTTP 503" in str(error)


@pytest.mark.parametrize("kind", ["status", "reset", "drop"])
def test_a_branch_is_looked_up_again_after_a_failed_request(hub_here: HubHere, commits: list[str], kind: Any) -> None:
    fault = hub_here.hub.plan_fault("GET .*/revision/v1", kind)
    assert texts("v1") == ["a0", "a1"]
    assert fault.hits == 1


def test_a_closed_hub_is_no_reason_to_read_another_commit(hub_here: HubHere, commits: list[str]) -> None:
    assert len(texts("v1")) == 2
    assert len(texts(commits[0])) == 2
    hub_here.hub.close()
    hub_here.new_process()
    assert texts("v1") == ["a0", "a1"]
    assert f"(which has {commits[0]}), and the Hub cannot be reached (ConnectError)" in refused(commits[1])


def test_where_the_hub_does_not_answer_a_branch_stays_at_its_commit_which_is_said(
    hub_here: HubHere, commits: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert resolve_commit("dataset", NAME) == commits[1]
    moved = hub_here.hub.commit(NAME, pushed({"default": {"train": rows("c", 1)}}))
    hub_here.hub.plan_fault("GET /api/datasets", "status", times=None, code=503)
    assert resolve_commit("dataset", NAME) == commits[1]
    assert (
        f"the Hub does not answer (HTTP 503); continuing with the commit that main had when it last did: {commits[1]}"
        in (caplog.text)
    )
    hub_here.hub.clear_faults()
    assert resolve_commit("dataset", NAME, "main") == moved


def test_a_token_without_access_reads_nothing_else(hub_here: HubHere) -> None:
    hub = hub_here.hub
    ann, bob = hub.add_user("ann"), hub.add_user("bob")
    closed = hub.add_dataset(NAME, pushed({"default": {"train": rows("a")}}), private=True, readers={"ann"})
    first = closed.branches["main"]
    hub_here.token(ann)
    assert texts() == ["a0", "a1", "a2"]
    second = hub.commit(NAME, pushed({"default": {"train": rows("b")}}))
    hub_here.token(bob)
    assert "not on the Hub" in refused()
    assert f"{NAME!r}" in refused(second)
    assert texts(first) == ["a0", "a1", "a2"]  # it is this commit, and in the cache
    closed.private, closed.gated = False, True
    assert "is gated on the Hub" in refused(second)


TYPES = {"dataset_info": {"features": [{"name": "text", "dtype": "string"}, {"name": "n", "dtype": "string"}]}}


def zipped(name: str, text: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, text)
    return file.getvalue()


def layout(kind: str) -> dict[str, Content]:
    one, two = rows("a", 2), rows("b", 2)
    return {
        "card": {
            "README.md": card({"default": {"train": "x/*.parquet"}}),
            "x/1.parquet": parquet(one),
            "y/2.parquet": parquet(two),
        },
        "shards": {
            "data/train-00000-of-00002.parquet": parquet(one),
            "data/train-00001-of-00002.parquet": parquet(two),
        },
        "folders": {"train/0.jsonl": json_lines(one), "test/0.jsonl": json_lines(two)},
        "one file": {"data.jsonl": json_lines(one)},
        "names": {"my_train.csv": "text,n\na0,0\na1,1\n", "my_test.csv": "text,n\nb0,0\n"},
        "separator": {
            "README.md": '---\nconfigs:\n- config_name: default\n  data_files: t.csv\n  sep: ";"\n---\n',
            "t.csv": "text;n\na0;0\na1;1\n",
        },
        "types": {"README.md": f"---\n{yaml.safe_dump(TYPES)}---\n", "t.csv": "text,n\na0,01\na1,02\n"},
        "compressed": {"train.jsonl.gz": gzip.compress(json_lines(one).encode())},
        "archive": {"data.zip": zipped("inside.jsonl", json_lines(one))},
        "brackets": {"data/train-[1].jsonl": json_lines(one), "data/train-1.jsonl": json_lines(two)},
        "conversion": {"default/train/0000.parquet": parquet(one), "default/test/0000.parquet": parquet(two)},
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "card",
        "shards",
        "folders",
        "one file",
        "names",
        "separator",
        "types",
        "compressed",
        "archive",
        "brackets",
        "conversion",
    ],
)
def test_the_files_of_a_configuration_are_those_that_datasets_takes(
    hub_here: HubHere, kind: str, tmp_path: Path
) -> None:
    files = layout(kind)
    repository = hub_here.hub.add_dataset(NAME, files)
    found = read_split(NAME, "default", "train")
    oracle = datasets.load_dataset(NAME, "default", split="train", revision=repository.branches["main"])
    assert found.to_list() == oracle.to_list()
    assert found.features == oracle.features
    assert {"a0", "a1"} <= set(found["text"])
    hub_here.offline()
    assert read_split(NAME, "default", "train").to_list() == oracle.to_list()


def test_columns_have_the_types_that_the_card_states(hub_here: HubHere) -> None:
    label = {"name": "label", "dtype": {"class_label": {"names": {"0": "bad", "1": "good"}}}}
    text = f"---\n{yaml.safe_dump({'dataset_info': {'features': [label]}})}---\n"
    hub_here.hub.add_dataset(NAME, {"README.md": text, "train.jsonl": '{"label": 1}\n{"label": 0}\n'})
    found = read_split(NAME, "default", "train")
    assert found.features["label"].names == ["bad", "good"]
    assert list(found["label"]) == [1, 0]


def test_a_set_of_many_configurations_fetches_one(hub_here: HubHere) -> None:
    repository = hub_here.hub.add_dataset(
        NAME, pushed({name: {"train": rows(name), "test": rows("t")} for name in "abc"})
    )
    assert texts(config="b") == ["b0", "b1", "b2"]
    fetched = {request.target.split("?")[0] for request in hub_here.hub.requests("GET .*/files/")}
    commit = repository.find("main")
    assert commit is not None
    assert fetched == {
        f"/files/{commit.files[f'b/{split}-00000-of-00001.parquet'].sha256}" for split in ("train", "test")
    }
    assert "'d'" in refused(config="d")
    assert "a" in refused(config="d")
    assert "has no split 'dev': train, test" in refused(config="b", split="dev")
    assert texts(config="b", split="train[1:]") == ["b1", "b2"]


def test_nobody_but_the_hub_is_asked(hub_here: HubHere, commits: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    plain = socket.getaddrinfo

    def noted(host: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(str(host))
        return plain(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    texts()
    assert set(asked) <= {"127.0.0.1", "localhost"}
    assert asked


def test_each_split_is_read_once_in_a_process(hub_here: HubHere, commits: list[str]) -> None:
    texts(commits[0])
    asked = len(hub_here.hub.requests())
    assert asked <= 6  # the list, the card, and the file with its redirect
    texts(commits[0])
    assert len(hub_here.hub.requests()) == asked
    hub_here.new_process()
    texts(commits[0])
    assert len(hub_here.hub.requests()) == asked  # a cached commit needs no request


@pytest.mark.parametrize("times", [1, None])
@pytest.mark.parametrize("name", ["train.jsonl", "train.parquet"])
def test_what_was_damaged_on_its_way_is_fetched_again_or_refused(
    hub_here: HubHere, name: str, times: int | None
) -> None:
    one = [{"text": f"line {number}", "n": number} for number in range(50)]
    hub_here.hub.add_dataset(NAME, {name: json_lines(one) if name.endswith("l") else parquet(one)})
    fault = hub_here.hub.plan_fault("GET .*(train|/files/)", "corrupt", times=times)
    if times is None:
        assert f"{name} does not have the content that the Hub names it by" in refused()
        hub_here.hub.clear_faults()
    assert texts() == [row["text"] for row in one]
    assert fault.hits


def test_offline_a_damaged_file_is_refused_and_left_alone(hub_here: HubHere, commits: list[str]) -> None:
    texts(commits[0])
    (file,) = (hub_here.cache / "datasets--org--set" / "snapshots" / commits[0]).glob("default/*.parquet")
    whole = file.read_bytes()
    file.resolve().write_bytes(whole[:20] + b"?" + whole[21:])
    hub_here.offline()
    assert f"remove {file.resolve()} and fetch it again" in refused(commits[0])
    assert len(file.read_bytes()) == len(whole)
    hub_here.offline(False)
    assert texts(commits[0]) == ["a0", "a1"]
    assert file.read_bytes() == whole


def test_a_set_with_a_script_is_refused(hub_here: HubHere) -> None:
    repository = hub_here.hub.add_dataset(NAME, {"set.py": "print('run')\n", "train.jsonl": json_lines(rows("a"))})
    assert "made by a script (set.py), and scripts are not run" in refused()
    repository.commit(
        {"default/train/0000.parquet": parquet(rows("p"))},
        branch="refs/convert/parquet",
        delete={"set.py", "train.jsonl"},
    )
    assert texts("refs/convert/parquet") == ["p0", "p1", "p2"]


@pytest.mark.parametrize("outside", ["/etc/hostname", "../../../../../../../../etc/hostname"])
def test_a_card_cannot_name_files_of_this_machine(hub_here: HubHere, outside: str) -> None:
    text = f"---\nconfigs:\n- config_name: default\n  data_files: {outside}\n---\n"
    hub_here.hub.add_dataset(NAME, {"README.md": text, "train.jsonl": json_lines(rows("a"))})
    assert "hostname" in refused()


def test_more_or_fewer_rows_than_the_card_states_are_refused(hub_here: HubHere) -> None:
    files = {"train.jsonl": json_lines(rows("a", 3))}
    numbers: dict[str, dict[str, int]] = {"default": {"train": 4}}
    hub_here.hub.add_dataset(NAME, {"README.md": card({"default": {"train": "train.jsonl"}}, numbers), **files})
    assert "split train: 3 rows were read, its card states 4" in refused()


def cached_without_a_list(hub_here: HubHere) -> str:
    """A cache that another program has filled, file by file; returns the commit."""
    from huggingface_hub import hf_hub_download

    repository = hub_here.hub._repositories["dataset", NAME]
    commit = repository.branches["main"]
    for name in repository.commits[commit].files:
        hf_hub_download(NAME, name, repo_type="dataset", revision=commit)
    hub_here.offline()
    return commit


def test_a_cache_of_another_program_is_read_where_the_card_confirms_it(hub_here: HubHere) -> None:
    hub_here.hub.add_dataset(NAME, pushed({"default": {"train": rows("a")}}))
    assert texts(cached_without_a_list(hub_here)) == ["a0", "a1", "a2"]


def test_a_cache_that_may_lack_files_is_not_read(hub_here: HubHere) -> None:
    one: Rows = rows("a")
    hub_here.hub.add_dataset(NAME, {"train/0.jsonl": json_lines(one), "train/1.jsonl": json_lines(one)})
    commit = cached_without_a_list(hub_here)
    assert "the cache does not show whether split train is whole" in refused(commit)
    hub_here.offline(False)
    assert len(texts(commit)) == 6
