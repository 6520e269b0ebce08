"""The Hub on loopback itself: what the real clients make of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub.fixtures import HubHere
from tests.hub.server import Hub

FILES: dict[str, str | bytes] = {
    "README.md": "# A set\n",
    "data/a.jsonl": '{"n": 1}\n',
    "weights.safetensors": b"\x01" * 5000,
}


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def test_revisions_are_branches_tags_ids_and_their_beginnings(hub_here: HubHere) -> None:
    set_ = hub_here.hub.add_dataset("org/set", FILES)
    first = set_.branches["main"]
    set_.tag("v1")
    second = hub_here.hub.commit("org/set", {"data/a.jsonl": '{"n": 2}\n'}, message="two")
    other = set_.commit({"data/b.jsonl": "{}\n"}, branch="refs/convert/parquet")
    api = HfApi(endpoint=hub_here.hub.url)
    asked = {"main": second, "v1": first, first: first, first[:9]: first, "refs/convert/parquet": other}
    found = {revision: api.dataset_info("org/set", revision=revision).sha for revision in asked}
    assert found == asked
    assert api.dataset_info("org/set").sha == second
    with pytest.raises(RevisionNotFoundError):
        api.dataset_info("org/set", revision="nowhere")
    refs = api.list_repo_refs("org/set", repo_type="dataset")
    assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v1", first)]
    assert read(hf_hub_download("org/set", "data/a.jsonl", repo_type="dataset", revision="v1")) == b'{"n": 1}\n'
    assert read(hf_hub_download("org/set", "data/a.jsonl", repo_type="dataset")) == b'{"n": 2}\n'


def test_a_listing_comes_page_by_page(hub_here: HubHere) -> None:
    hub_here.hub.page_size = 2
    hub_here.hub.add_model("org/model", FILES)
    api = HfApi(endpoint=hub_here.hub.url)
    listed = {each.path: each for each in api.list_repo_tree("org/model", recursive=True)}
    assert sorted(listed) == ["README.md", "data", "data/a.jsonl", "weights.safetensors"]
    weights: Any = listed["weights.safetensors"]
    assert (weights.size, weights.lfs.size) == (5000, 5000)
    assert api.list_repo_files("org/model") == ["README.md", "data/a.jsonl", "weights.safetensors"]
    assert [each.path for each in api.get_paths_info("org/model", ["README.md", "none"])] == ["README.md"]


def test_large_files_come_from_the_second_address_which_gets_no_token(hub_here: HubHere) -> None:
    hub = hub_here.hub
    hub.add_model("org/model", FILES)
    hub_here.token(hub.add_user("ann"))
    folder = Path(snapshot_download("org/model"))
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == set(FILES)
    assert (folder / "weights.safetensors").read_bytes() == FILES["weights.safetensors"]
    (blob,) = (path for path in (folder.parents[1] / "blobs").iterdir() if path.stat().st_size == 5000)
    assert blob.name == hub._repositories["model", "org/model"].find("main").files["weights.safetensors"].sha256  # type: ignore[union-attr]
    assert hub.requests("weights", host="hub")[0].token is not None
    assert {request.token for request in hub.requests(host="cdn")} == {None}
    (address,) = {request.target for request in hub.requests(host="cdn")}
    assert httpx2.get(f"{hub.cdn_url}{address}", headers={"Range": "bytes=10-19"}).content == b"\x01" * 10
    assert httpx2.get(f"{hub.cdn_url}{address[:-4]}beef").status_code == 403


def test_who_may_read_what(hub_here: HubHere) -> None:
    hub = hub_here.hub
    ann, bob = hub.add_user("ann"), hub.add_user("bob")
    hub.add_model("org/private", FILES, private=True, readers={"ann"})
    hub.add_model("org/gated", FILES, gated=True, readers={"ann"})

    def download(name: str, token: str | bool) -> bytes:
        hub_here.empty()
        return read(hf_hub_download(name, "README.md", token=token, cache_dir=hub_here.home / str(token)))

    assert download("org/private", ann) == download("org/gated", ann) == b"# A set\n"
    for token in (False, bob):
        with pytest.raises(RepositoryNotFoundError):
            download("org/private", token)
        with pytest.raises(GatedRepoError):
            download("org/gated", token)
        assert HfApi(endpoint=hub.url, token=token).model_info("org/gated").gated == "auto"
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        HfApi(endpoint=hub.url, token=f"{bob}x").model_info("org/gated")
    assert HfApi(endpoint=hub.url).whoami(ann)["name"] == "ann"
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download("org/gated", "none", token=ann)


def test_faults_go_wrong_as_often_as_planned(hub: Hub) -> None:
    hub.add_model("org/model", FILES)
    address = f"{hub.url}/api/models/org/model"
    busy = hub.plan_fault("GET /api/models", "status", times=2, code=429, retry_after=7)
    answers = [httpx2.get(address) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert (answers[0].headers["Retry-After"], busy.hits) == ("7", 2)
    hub.plan_fault("GET /api", "reset")
    with pytest.raises(httpx2.ReadError):
        httpx2.get(address)
    hub.plan_fault("GET /api", "drop")
    with pytest.raises(httpx2.RemoteProtocolError):
        httpx2.get(address)
    hub.plan_fault("README", "portal")
    assert "<html>" in httpx2.get(f"{hub.url}/org/model/resolve/main/README.md").text
    hub.plan_fault("GET /api", "wait", seconds=0.4)
    started = time.monotonic()
    assert httpx2.get(address).status_code == 200
    assert time.monotonic() - started >= 0.4
    assert [request.status for request in hub.requests("GET /api")] == [429, 429, 200, 0, 0, 200]


@pytest.mark.parametrize(("kind", "error"), [("cut", httpx2.RemoteProtocolError), ("cut-reset", httpx2.ReadError)])
def test_a_body_that_ends_too_early(hub: Hub, kind: Any, error: type[Exception]) -> None:
    hub.add_model("org/model", FILES)
    hub.plan_fault("/files/", kind, bytes=100)
    address = f"{hub.url}/org/model/resolve/main/weights.safetensors"
    with pytest.raises(error):
        httpx2.get(address, follow_redirects=True)
    assert httpx2.get(address, follow_redirects=True).content == FILES["weights.safetensors"]


def test_damage_keeps_the_length(hub: Hub) -> None:
    hub.add_model("org/model", FILES)
    hub.plan_fault("/files/", "corrupt", at=0)
    address = f"{hub.url}/org/model/resolve/main/weights.safetensors"
    assert httpx2.get(address, follow_redirects=True).content == b"\x00" + b"\x01" * 4999


def test_the_address_is_gone_when_it_is_closed() -> None:
    with Hub() as hub:
        address = hub.url
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(address)


def test_uploads_and_who_may_make_them(hub_here: HubHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # the storage takes no uploads
    hub = hub_here.hub
    ann, bob = hub.add_user("ann"), hub.add_user("bob")
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "README.md").write_text("# Mine\n")
    (tmp_path / "up" / "w.safetensors").write_bytes(b"\x02" * 3000)
    api = HfApi(endpoint=hub.url, token=ann)
    api.create_repo("ann/model", private=True)
    with pytest.raises(HfHubHTTPError, match="already created"):
        api.create_repo("ann/model")
    pushed = api.upload_folder(repo_id="ann/model", folder_path=tmp_path / "up")
    assert api.model_info("ann/model").sha == pushed.oid == hub.find("model", "ann/model").branches["main"]
    assert len(hub.requests("PUT /upload/", host="cdn")) == 1
    assert read(hf_hub_download("ann/model", "w.safetensors", token=ann)) == b"\x02" * 3000
    api.upload_folder(repo_id="ann/model", folder_path=tmp_path / "up", commit_message="again")
    assert len(hub.requests("PUT /upload/", host="cdn")) == 1  # it is there
    api.delete_file("w.safetensors", "ann/model")
    assert sorted(api.list_repo_files("ann/model")) == [".gitattributes", "README.md"]
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=hub.url, token=bob).upload_folder(repo_id="ann/model", folder_path=tmp_path / "up")
    hub.find("model", "ann/model").private = False
    with pytest.raises(HfHubHTTPError, match="write access"):
        HfApi(endpoint=hub.url, token=bob).upload_folder(repo_id="ann/model", folder_path=tmp_path / "up")


def test_a_renamed_repository_redirects(hub_here: HubHere) -> None:
    hub_here.hub.add_model("org/old", FILES)
    hub_here.hub.rename("org/old", "org/new")
    assert HfApi(endpoint=hub_here.hub.url).model_info("org/old").id == "org/new"
    assert read(hf_hub_download("org/old", "weights.safetensors")) == FILES["weights.safetensors"]


def test_xets_own_client_reads_its_storage(hub_here: HubHere, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hf_xet")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    content = bytes(range(256)) * 1000
    hub_here.hub.add_model("org/xet", {"model.safetensors": content}, xet=True)
    assert read(hf_hub_download("org/xet", "model.safetensors")) == content
    assert len(hub_here.hub.requests("GET /xorbs/")) == 1
    assert not hub_here.hub.requests("GET /files/")


def test_a_slow_answer_is_whole(hub: Hub) -> None:
    hub.add_model("org/model", FILES)
    hub.plan_fault("/files/", "slow", bytes=1000, seconds=0.05)
    started = time.monotonic()
    address = f"{hub.url}/org/model/resolve/main/weights.safetensors"
    assert httpx2.get(address, follow_redirects=True).content == FILES["weights.safetensors"]
    assert time.monotonic() - started >= 0.2
