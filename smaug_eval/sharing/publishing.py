"""Send a trained model to the Hub (publish it): checkpoint, model card with the results, and report."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from smaug_eval.common.digests import sha256_of_file
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.hub_errors import NotReached, cause_of, endpoint, has_token, is_offline
from smaug_eval.common.hub_upload import Uploader
from smaug_eval.common.suggest import nearest
from smaug_eval.models.adapter_files import ADAPTER_CONFIG, base_of
from smaug_eval.reports import build_report
from smaug_eval.results.json_files import mapping
from smaug_eval.results.layout import ADAPTER_FOLDER, CHECKPOINT_FOLDER, FINISHED_FILE, training_stage
from smaug_eval.results.sources import Source
from smaug_eval.sharing.card import CARD, CardFacts, base_on_hub, card_text, trained_on
from smaug_eval.sharing.measured import read_run_to_share
from smaug_eval.sharing.places import Places, places_of

REPORT = "report.html"
SENT_ALONE = 1 << 20
"""Bytes from which on a file is sent before the commit; smaller ones come with it."""
_SMALL = 10 << 20
"""Bytes up to which the Hub may keep a file in git itself, and names it as git does."""
_TEXTS = (".json", ".md", ".txt", ".jinja", ".html", ".yaml", ".yml", ".py")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_WEIGHTS_KINDS = {"merged": CHECKPOINT_FOLDER, "adapter": ADAPTER_FOLDER}

Result = TypeVar("Result")


@dataclass(frozen=True)
class SharedFile:
    """Describe a file of the repository.

    Attributes:
        path: In the repository.
        size: Bytes.
        sha256: Of its content.
        blob_id: Git's name of its content, by which the Hub knows small files.
        local: The file on this machine; None where ``content`` is sent in its place.
        content: What is sent: a text without paths of this machine.
        is_there: Whether the repository has it already.
    """

    path: str
    size: int
    sha256: str
    blob_id: str
    local: Path | None = None
    content: bytes | None = field(default=None, repr=False)
    is_there: bool = False


@dataclass(frozen=True)
class Publication:
    """Hold what is, or would be, published.

    Attributes:
        repo: Id of the repository.
        url: Its address.
        private: Whether it is private.
        creates: Whether the repository is made.
        files: All of its files that come from here.
        notes: What a reader should know.
        commit: Id of the commit; None where nothing was to be sent, or this is a dry run.
    """

    repo: str
    url: str
    private: bool
    creates: bool
    files: tuple[SharedFile, ...]
    notes: tuple[str, ...] = ()
    commit: str | None = None

    @property
    def card(self) -> str:
        """Return the model card."""
        return next((each.content or b"" for each in self.files if each.path == CARD), b"").decode()

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        files = [
            {"path": each.path, "bytes": each.size, "sha256": each.sha256, "is_there": each.is_there}
            for each in self.files
        ]
        return {
            "repo": self.repo,
            "url": self.url,
            "private": self.private,
            "creates": self.creates,
            "files": files,
            "notes": list(self.notes),
            "commit": self.commit,
        }

    @property
    def to_send(self) -> list[SharedFile]:
        """Return the files that the repository does not have."""
        return [each for each in self.files if not each.is_there]


def prepare_publication(
    run: Path,
    model: str,
    repo: str,
    *,
    private: bool = False,
    weights: str | None = None,
    license_: str | None = None,
    base_model: str | None = None,
    ask_hub: bool = True,
) -> Publication:
    """Find out what publishing a model would send; nothing is created or sent.

    Args:
        run: The run directory.
        model: A training of the run.
        repo: ``ORGANISATION/NAME``.
        private: Whether a repository that is made is private; one that is there must be.
        weights: ``merged`` or ``adapter``; what was evaluated if None.
        license_: Identifier of the licence, such as ``apache-2.0``; as the checkpoint's card says if None.
        base_model: The base's id on the Hub, where the run names it by a folder.
        ask_hub: Whether the Hub is asked what it has already.

    Raises:
        SmaugError: the run has no such finished training, an adapter's base has no public name, a repository that
            should be private is public, or the Hub refuses.
    """
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise SmaugError(f"--repo {repo!r}: not of the form ORGANISATION/NAME", fix="for example --repo me/my-model")
    _check_name("--repo", repo)
    if base_model is not None:
        _check_name("--base-model", base_model)
    if license_ is not None and not _LICENCE.fullmatch(license_):
        raise SmaugError(
            f"--license {license_!r}: not the identifier of a licence",
            fix="give the Hub's own, in small letters, such as apache-2.0, cc-by-4.0 or other",
        )
    source, comparison = read_run_to_share(run)
    folder = _weights_folder(source, run, model, weights)
    places = places_of([source])
    written = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else f"# {model}\n"
    base = base_model or base_on_hub(source, _metadata(written))
    is_adapter = (folder / ADAPTER_CONFIG).is_file()
    if is_adapter and base is None:
        raise SmaugError(
            f"the adapter of {model} names its base by a folder of this machine, where nobody else finds it",
            fix="name the base on the Hub with --base-model ORGANISATION/NAME, or publish --weights merged",
        )
    facts = CardFacts(
        repo.partition("/")[2], license_, base, "adapter" if is_adapter else "finetune", trained_on(source, model)
    )
    card = card_text(source, comparison, model, written, facts)
    files = [*_checkpoint_files(folder, places, base if is_adapter else None), _text_file(CARD, card, places)]
    files.append(_text_file(REPORT, _report(run, comparison.baseline), places))
    notes = [] if license_ or "license" in _metadata(written) else ["the card names no licence: give --license"]
    if base is None:
        notes.append("the card names no base model: the run names it by a folder; give --base-model")
    nothing: tuple[bool | None, Mapping[str, str]] = (None, {})
    is_private, there = _there(repo) if ask_hub else nothing
    if private and is_private is False:
        raise SmaugError(
            f"{repo} exists and everybody can read it: --private makes new repositories private, no others",
            fix="make it private in its settings on the Hub, give another name, or leave --private out",
        )
    if not ask_hub:
        notes.append("the Hub was not asked what it has: HF_HUB_OFFLINE is set")
    checked = [_known(each, there) for each in files]
    is_new = is_private is None
    return Publication(
        repo, f"{endpoint()}/{repo}", private if is_new else bool(is_private), is_new, tuple(checked), tuple(notes)
    )


def _check_name(option: str, name: str) -> None:
    """Refuse what the Hub takes for no repository's name, before it is asked."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise SmaugError(
            f"{option} {name!r}: no name that the Hub takes",
            fix="use letters, digits, '-', '_' and '.', no '-' or '.' at either end, and at most 96 characters",
        ) from error


def push(
    publication: Publication, *, on_note: Callable[[str], None] = lambda note: None, bars: bool = False
) -> Publication:
    """Create the repository, and send what it does not have, as one commit.

    Large files are sent first, one after the other: what arrived before an interruption is not sent again. They go to
    Xet's storage where it answers, else over plain HTTP.

    Args:
        publication: As :func:`prepare_publication` found it.
        on_note: Receives what is being sent.
        bars: Whether uploads draw progress bars.

    Raises:
        SmaugError: there is no token, the Hub refuses, or the connection breaks off; the same call goes on.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils import disable_progress_bars

    if is_offline():
        raise SmaugError("HF_HUB_OFFLINE is set, and publishing asks the Hub", fix="unset it, or give --dry-run")
    if not has_token():
        raise SmaugError("there is no token to publish with", fix="set HF_TOKEN to a token that may write")
    if not bars:
        disable_progress_bars()
    api = HfApi(endpoint=endpoint())
    if publication.creates:
        _asked(
            publication.repo,
            lambda: api.create_repo(publication.repo, private=publication.private, exist_ok=True),
        )
    additions = [
        CommitOperationAdd(path_in_repo=each.path, path_or_fileobj=each.local or each.content or b"")
        for each in publication.to_send
    ]
    if not additions:
        return publication
    repo, uploader = publication.repo, Uploader(publication.repo, on_note)
    for file, addition in zip(publication.to_send, additions, strict=True):
        if file.local is not None and file.size >= SENT_ALONE:
            on_note(f"sending {file.path} ({file.size / 1e6:,.1f} MB)")
            _asked(repo, partial(uploader.do, partial(api.preupload_lfs_files, repo, [addition])))
    message = f"Upload {repo.partition('/')[2]} with smaug-eval"
    done = _asked(repo, lambda: uploader.do(lambda: api.create_commit(repo, additions, commit_message=message)))
    return replace(publication, commit=done.oid)


def _weights_folder(source: Source, run: Path, model: str, weights: str | None) -> Path:
    """The folder to publish: what was evaluated, or what is asked for."""
    folder = run / training_stage(model)
    trained = [each.name for each in source.trainings]
    if model not in trained:
        raise SmaugError(f"{run} trained no model {model!r}{nearest(model, trained)}", fix="name one of its trainings")
    if not (folder / FINISHED_FILE).is_file():
        raise SmaugError(f"the training {model} of {run} is not finished", fix="run it to its end first")
    if weights is not None and weights not in _WEIGHTS_KINDS:
        raise SmaugError(f"--weights {weights!r}: unknown{nearest(weights, _WEIGHTS_KINDS)}")
    summary = next((each.summary for each in source.trainings if each.name == model), None) or {}
    evaluated = mapping(summary).get("evaluated")
    chosen = _WEIGHTS_KINDS[weights] if weights else evaluated if isinstance(evaluated, str) else CHECKPOINT_FOLDER
    found = folder / chosen
    if not found.is_dir():
        raise SmaugError(f"{model} has no {chosen}/", fix=f"there is {', '.join(_present(folder))}")
    return found


def _present(folder: Path) -> list[str]:
    return [name for name in _WEIGHTS_KINDS.values() if (folder / name).is_dir()]


def _metadata(card: str) -> Mapping[str, Any]:
    from huggingface_hub import ModelCard

    try:
        return ModelCard(card, ignore_metadata_errors=True).data.to_dict()
    except (ValueError, TypeError):
        return {}


def _checkpoint_files(folder: Path, places: Places, base: str | None) -> Iterator[SharedFile]:
    """The files of a checkpoint or adapter: texts without paths, and an adapter's base by its public name."""
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if not file.is_file() or name == CARD or any(part.startswith(".") for part in name.split("/")):
            continue
        if name == ADAPTER_CONFIG and base is not None:
            settings = json.loads(file.read_text(encoding="utf-8"))
            if base_of(settings)[0] != base:
                settings |= {"base_model_name_or_path": base, "revision": None}
            yield _text_file(name, json.dumps(settings, indent=2, ensure_ascii=False) + "\n", places)
        elif file.suffix in _TEXTS and places.left_in(text := file.read_text(encoding="utf-8", errors="replace")):
            yield _text_file(name, text, places)
        else:
            yield SharedFile(name, file.stat().st_size, sha256_of_file(file), _blob_id(file), local=file)


def _text_file(path: str, text: str, places: Places) -> SharedFile:
    content = places.hide(text).encode()
    return SharedFile(path, len(content), hashlib.sha256(content).hexdigest(), _git_id(content), content=content)


def _blob_id(file: Path) -> str:
    """Git's name of a small file; large ones are known by their SHA-256."""
    return "" if file.stat().st_size > _SMALL else _git_id(file.read_bytes())


def _git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _report(run: Path, baseline: str | None) -> str:
    with tempfile.TemporaryDirectory() as folder:
        out = build_report([run], Path(folder) / REPORT, baseline=baseline)
        return out.read_text(encoding="utf-8")


def _there(repo: str) -> tuple[bool | None, Mapping[str, str]]:
    """Whether the repository is private, None where it is still to be made; its files with their contents' names."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    def listed() -> tuple[bool | None, Mapping[str, str]]:
        api = HfApi(endpoint=endpoint())
        try:
            entries = api.list_repo_tree(repo, recursive=True)
            files = (each for each in entries if isinstance(each, RepoFile))
            names = {each.path: each.blob_id if each.lfs is None else each.lfs.sha256 for each in files}
            return bool(api.model_info(repo).private), names
        except RepositoryNotFoundError:
            return None, {}

    return _asked(repo, listed)


def _known(file: SharedFile, there: Mapping[str, str]) -> SharedFile:
    name = there.get(file.path)
    return replace(file, is_there=name is not None and name in (file.sha256, file.blob_id))


def _asked(repo: str, call: Callable[[], Result]) -> Result:
    """Do a request; what goes wrong becomes an error with a remedy."""
    try:
        return call()
    except SmaugError:
        raise
    except Exception as error:
        cause = cause_of(error)
        kind = NotReached if cause.passes else SmaugError
        raise kind(f"{repo} on {endpoint()}: {cause.text}", fix=cause.fix) from error
