"""Publishing on a Hub on loopback: what is sent, what is not sent twice, what a stranger reads there."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, ModelCard, constants, hf_hub_download
from safetensors.torch import load_file

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.reports.statements import average_statements
from smaug_eval.sharing.measured import read_run_to_share
from smaug_eval.sharing.publishing import prepare_publication, push
from tests.hub.fixtures import HubHere
from tests.sharing.shared_run import CARD, REVISION, write_run

WEIGHTS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.fixture
def shared_run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "animals")


@pytest.fixture
def ann(hub_here: HubHere, monkeypatch: pytest.MonkeyPatch) -> HubHere:
    """The Hub, with the token of a user in the environment."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # the storage takes no uploads
    hub_here.token(hub_here.hub.add_user("ann"))
    return hub_here


def test_a_dry_run_says_what_would_be_created_and_sent(ann: HubHere, shared_run: Path) -> None:
    found = smaug_eval.publish(shared_run, "dpop", "ann/animals", private=True, dry_run=True)
    assert (found.creates, found.private, found.commit) == (True, True, None)
    assert [each.path for each in found.to_send] == ["config.json", *WEIGHTS, "README.md", "report.html"]
    sizes = {each.path: each.size for each in found.files}
    checkpoint = shared_run / "train/dpop/checkpoint"
    assert all(sizes[name] == (checkpoint / name).stat().st_size for name in WEIGHTS)
    assert found.notes == ("the card names no licence: give --license",)
    assert not ann.hub.requests("^(POST|PUT)")
    with pytest.raises(KeyError):
        ann.hub.find("model", "ann/animals")


def test_a_checkpoint_with_card_and_report_is_published(ann: HubHere, shared_run: Path, tmp_path: Path) -> None:
    found = smaug_eval.publish(shared_run, "dpop", "ann/animals", private=True, license="apache-2.0")
    repository = ann.hub.find("model", "ann/animals")
    assert repository.private
    assert found.commit == repository.branches["main"]
    files = repository.find("main").files
    assert sorted(files) == sorted([".gitattributes", "config.json", *WEIGHTS, "README.md", "report.html"])
    for name in WEIGHTS:
        assert files[name].content == (shared_run / "train/dpop/checkpoint" / name).read_bytes()
    for name, file in files.items():
        for place in (str(tmp_path), str(Path.home()) + "/", str(Path.cwd())):
            assert place.encode() not in file.content, f"{name} names {place}"
    assert json.loads(files["config.json"].content)["_name_or_path"] == "base"
    assert (shared_run / "train/dpop/checkpoint/README.md").read_text() == CARD  # the run stays as it is

    card = ModelCard.load("ann/animals")
    assert card.data.license == "apache-2.0"
    assert (card.data.base_model, card.data.base_model_relation) == ("org/base", "finetune")
    assert card.data.datasets == ["org/pairs"]
    assert "dpop" in card.data.tags
    assert load_file(hf_hub_download("ann/animals", WEIGHTS[1]))["weight2"][5] == 7


def test_the_cards_results_are_the_hubs_own(ann: HubHere, shared_run: Path) -> None:
    smaug_eval.publish(shared_run, "dpop", "ann/animals")
    card = ModelCard.load("ann/animals")
    assert card.data.model_name == "animals"
    (result,) = card.data.eval_results
    assert (result.task_type, result.dataset_type, result.dataset_config) == ("text-generation", "org/animals", "main")
    assert (result.dataset_split, result.dataset_revision) == ("test", REVISION)
    assert result.dataset_args == {"num_few_shot": 3}
    assert (result.metric_type, result.metric_value) == ("acc", pytest.approx(75.0))
    assert result.metric_args["documents"] == 40
    # All 10 documents on which they differ go one way: 25 points more.
    assert result.metric_args["sentence"].startswith("dpop: +25.0 points against base, 95% interval +")
    assert result.metric_args["sentence"].endswith(": better")
    assert result.metric_args["sentence"] in card.text
    assert "A model trained on preference pairs with smaug-eval." in card.text


def test_sentences_of_averages_are_the_reports(shared_run: Path) -> None:
    from smaug_eval.sharing.measured import measured

    _, comparison = read_run_to_share(shared_run)
    said = [f"{each.model} {each.text}" for each in average_statements(comparison) if each.model == "dpop"]
    assert [each.sentence for each in measured(comparison, "dpop") if each.data is None] == said


def test_what_is_there_is_not_sent_again(ann: HubHere, shared_run: Path) -> None:
    first = smaug_eval.publish(shared_run, "dpop", "ann/animals")
    ann.hub.forget_requests()
    again = smaug_eval.publish(shared_run, "dpop", "ann/animals")
    assert again.to_send == []
    assert again.commit is None
    assert not ann.hub.requests("^(POST|PUT)")
    changed = smaug_eval.publish(shared_run, "dpop", "ann/animals", license="mit")
    assert [each.path for each in changed.to_send] == ["README.md"]
    assert changed.commit not in (None, first.commit)
    assert not ann.hub.requests("^PUT")


def test_an_interrupted_upload_goes_on(ann: HubHere, shared_run: Path) -> None:
    ann.hub.plan_fault("PUT /upload/", "wait", seconds=0.0)  # the first goes well
    fault = ann.hub.plan_fault("PUT /upload/", "reset", times=None)
    with pytest.raises(SmaugError, match="ann/animals on http"):
        smaug_eval.publish(shared_run, "dpop", "ann/animals")
    assert fault is not None
    assert sorted(ann.hub.find("model", "ann/animals").find("main").files) == [".gitattributes"]
    ann.hub.clear_faults()
    ann.hub.forget_requests()
    done = smaug_eval.publish(shared_run, "dpop", "ann/animals")
    assert done.commit is not None
    assert len(ann.hub.requests("PUT /upload/")) == 1  # of two: the first file had arrived
    assert len(ann.hub.find("model", "ann/animals").commits) == 2


@pytest.mark.parametrize("storage", ["closed", "silent", "out of order", "of another kind"])
def test_xets_storage_that_is_away_is_done_without(
    ann: HubHere, shared_run: Path, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hf_xet")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr("smaug_eval.common.hub_upload.PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        places = {"closed": "http://127.0.0.1:9", "silent": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        ann.hub.xet_url = places.get(storage)
        if storage == "out of order":
            ann.hub.plan_fault("xet-write-token", "status", times=None, code=503)
        notes: list[str] = []
        publication = prepare_publication(shared_run, "dpop", "ann/animals")
        start = time.monotonic()
        done = push(publication, on_note=notes.append)
        assert time.monotonic() - start < 60
    assert [each for each in notes if "Xet's storage cannot be used" in each and "over plain HTTP" in each]
    repository = ann.hub.find("model", "ann/animals")
    assert done.commit == repository.branches["main"]
    for name in WEIGHTS:
        assert repository.find("main").files[name].content == (shared_run / "train/dpop/checkpoint" / name).read_bytes()
    assert not constants.HF_HUB_DISABLE_XET


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("dpopp", "ann/animals"), "did you mean 'dpop'"),
        (("base", "ann/animals"), "trained no model 'base'"),
        (("dpop", "animals"), "not of the form ORGANISATION/NAME"),
    ],
)
def test_what_cannot_be_published(ann: HubHere, shared_run: Path, arguments: tuple[str, str], expected: str) -> None:
    with pytest.raises(SmaugError) as caught:
        smaug_eval.publish(shared_run, *arguments)
    assert expected in str(caught.value)
    assert not ann.hub.requests("^(POST|PUT)")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"repo": "ann/two words"}, "repo 'ann/two words': no name that the Hub takes"),
        ({"base_model": "org/base@main"}, "base_model 'org/base@main': no name that the Hub takes"),
        ({"license": "Apache 2.0"}, "license 'Apache 2.0': not the identifier of a licence"),
    ],
)
def test_what_the_hub_would_refuse_is_refused_before_it_is_asked(
    ann: HubHere, shared_run: Path, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(SmaugError) as caught:
        smaug_eval.publish(shared_run, "dpop", **{"repo": "ann/animals", **options})
    assert expected in str(caught.value)
    assert not ann.hub.requests("")


def test_what_should_be_private_never_goes_to_a_public_repository(ann: HubHere, shared_run: Path) -> None:
    ann.hub.add_model("ann/animals", {"README.md": "mine"}, writers={"ann"})
    for dry_run in (True, False):
        with pytest.raises(SmaugError, match="ann/animals exists and everybody can read it"):
            smaug_eval.publish(shared_run, "dpop", "ann/animals", private=True, dry_run=dry_run)
    assert not ann.hub.requests("^(POST|PUT)")
    assert smaug_eval.publish(shared_run, "dpop", "ann/animals", dry_run=True).private is False
    smaug_eval.publish(shared_run, "dpop", "ann/hidden", private=True)
    again = smaug_eval.publish(shared_run, "dpop", "ann/hidden", dry_run=True)
    assert (again.creates, again.private, again.to_send) == (False, True, [])


def test_without_a_token_or_the_right_nothing_is_sent(ann: HubHere, shared_run: Path) -> None:
    ann.token(None)
    with pytest.raises(SmaugError, match="no token to publish with"):
        smaug_eval.publish(shared_run, "dpop", "ann/animals")
    ann.hub.add_model("bob/animals", {"README.md": "his"}, writers={"bob"})
    ann.token(ann.hub.add_user("eve"))
    with pytest.raises(SmaugError) as caught:
        smaug_eval.publish(shared_run, "dpop", "bob/animals")
    assert "hf_" not in str(caught.value)
    assert ann.hub.find("model", "bob/animals").find("main").files["README.md"].content == b"his"


def test_an_unfinished_training_is_not_published(ann: HubHere, shared_run: Path) -> None:
    (shared_run / "train/dpop/finished.json").unlink()
    with pytest.raises(SmaugError, match="is not finished"):
        smaug_eval.publish(shared_run, "dpop", "ann/animals", dry_run=True)


def test_an_adapter_names_its_base_by_its_public_name(ann: HubHere, shared_run: Path, tmp_path: Path) -> None:
    adapter = shared_run / "train/dpop/adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": f"{tmp_path}/base", "r": 4}))
    (adapter / "adapter_model.safetensors").write_bytes(
        (shared_run / "train/dpop/checkpoint" / WEIGHTS[0]).read_bytes()
    )
    (adapter / "README.md").write_text(CARD.replace("base_model: org/base\n", ""))
    manifest = json.loads((shared_run / "manifest.json").read_text())
    (tmp_path / "base").mkdir()
    manifest["models"]["base"]["source"] = str(tmp_path / "base")
    (shared_run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SmaugError, match="by a folder of this machine"):
        smaug_eval.publish(shared_run, "dpop", "ann/adapter", weights="adapter")
    smaug_eval.publish(shared_run, "dpop", "ann/adapter", weights="adapter", base_model="org/base")
    files = ann.hub.find("model", "ann/adapter").find("main").files
    assert json.loads(files["adapter_config.json"].content)["base_model_name_or_path"] == "org/base"
    card = ModelCard.load("ann/adapter")
    assert (card.data.base_model, card.data.base_model_relation) == ("org/base", "adapter")
    assert (
        HfApi(endpoint=ann.hub.url).model_info("ann/adapter").sha
        == ann.hub.find("model", "ann/adapter").branches["main"]
    )
