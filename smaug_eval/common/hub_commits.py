"""Resolve revisions of Hub repositories to commits, and fetch their files into the cache.

``datasets`` and ``huggingface_hub`` continue with what is in their caches where the Hub does not answer, the former
with whatever commit was read last. Here a branch or a tag may go back to the commit it had when the Hub last
answered, with a warning; a commit is read as that commit or not at all.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from glob import escape
from pathlib import Path
from urllib.parse import quote

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.hub_cache import (
    HubFile,
    cached_commits,
    cached_listing,
    cached_reference,
    forget,
    is_commit,
    is_intact,
    keep_listing,
    keep_reference,
    matches,
    matching_files,
    snapshot_folder,
)
from smaug_eval.common.hub_download import Damaged, Transfer
from smaug_eval.common.hub_errors import (
    WORDS,
    Kind,
    LoginPage,
    NotReached,
    cause_of,
    endpoint,
    has_token,
    is_offline,
)
from smaug_eval.common.hub_requests import get_json, is_silent, listing, retried
from smaug_eval.common.suggest import nearest

__all__ = [
    "CARD_FILES",
    "Kind",
    "NotReached",
    "cached_commits",
    "exactly",
    "fetch_files",
    "is_commit",
    "list_files",
    "resolve_commit",
    "snapshot_folder",
]

log = logging.getLogger(__name__)

_NAMED = 3
_ASKED_SECONDS = 5.0

CARD_FILES = ("README.md", ".huggingface.yaml", "dataset_infos.json")
"""What describes a data set: its configurations, the columns and the numbers of rows."""


class _Silent(Exception):
    """The Hub did not answer a moment ago, and is not asked again for what the cache has."""


def resolve_commit(kind: Kind, hub_id: str, revision: str | None = None) -> str:
    """Resolve a revision to a commit; where the Hub does not answer, to the commit that was resolved last.

    The latter is logged as a warning, unless ``HF_HUB_OFFLINE`` asks for it.

    Args:
        kind: ``model`` or ``dataset``.
        hub_id: ``organisation/name``.
        revision: Branch, tag, or commit, which is returned as it is; ``main`` if None.

    Raises:
        NotReached: the Hub does not answer, and what the revision meant is not in the cache either.
        SmaugError: there is no such repository or revision, or this token may not read it.
    """
    if revision is not None and is_commit(revision):
        return revision
    _check_name(kind, hub_id)
    known = cached_reference(kind, hub_id, revision)
    try:
        commit = _asked_commit(kind, hub_id, revision, cached=known is not None)
    except Exception as error:  # the HTTP client, huggingface_hub and JSON raise many kinds
        cause = cause_of(error)
        if known is None or not (cause.no_answer or isinstance(error, _Silent)):
            raise failure(kind, hub_id, revision, error) from error
        commit = known
        if not is_offline():
            log.warning(
                "%s %s: the Hub does not answer (%s); continuing with the commit that %s had when it last did: %s",
                WORDS[kind],
                hub_id,
                "asked a moment ago" if isinstance(error, _Silent) else cause.text,
                revision or "main",
                commit,
            )
    if not is_commit(commit):
        raise SmaugError(
            f"{WORDS[kind]} {hub_id!r}: {revision or 'main'} is {commit[:80]!r}, which is no commit",
            fix="check HF_ENDPOINT, or remove the data set or model from the Hub cache (hf cache rm)",
        )
    return commit


def list_files(kind: Kind, hub_id: str, commit: str) -> list[str] | None:
    """List the paths of all files of a commit, from the cache or the Hub.

    None where the cache holds files of the commit, but no list of them that says whether they are all, and the Hub does
    not answer.

    Raises:
        NotReached: the Hub does not answer, and nothing of the commit is in the cache.
        SmaugError: there is no such repository or commit, or this token may not read it.
    """
    found = _listed(kind, hub_id, commit)
    return None if found is None else sorted(file.path for file in found)


def fetch_files(
    kind: Kind,
    hub_id: str,
    commit: str,
    patterns: Sequence[str],
    *,
    revision: str | None = None,
    quiet: bool = False,
) -> Path:
    """Fetch the files of a commit that match, and return their folder in the cache.

    What is in the cache is not asked for again. Every file is compared with the digest that the Hub names it by; one
    that was damaged on its way is fetched once more.

    Args:
        kind: ``model`` or ``dataset``.
        hub_id: ``organisation/name``.
        commit: The commit's full id.
        patterns: As the shell writes them; see :func:`exactly` for one file.
        revision: What the user calls the commit, for messages.
        quiet: Draw no progress bar.

    Raises:
        KeyboardInterrupt: the user stopped it; what arrived is kept.
        NotReached: a file is not in the cache, and the Hub does not answer.
        SmaugError: the commit cannot be read, or a file arrives damaged.
    """
    folder = snapshot_folder(kind, hub_id, commit)
    files = _listed(kind, hub_id, commit, revision)
    for damaged in [file for file in matching_files(folder, patterns) if not is_intact(file)]:
        name = damaged.relative_to(folder).as_posix()
        if is_offline() or files is None:
            raise SmaugError(
                f"{WORDS[kind]} {hub_id!r}: {name} does not have the content that the Hub names it by",
                fix=f"remove {damaged.resolve()} and fetch it again on a machine with network",
            )
        forget(damaged)
    if files is not None:
        _fetch(kind, hub_id, commit, [file for file in files if matches(file.path, patterns)], revision, quiet=quiet)
    return folder


def exactly(path: str) -> str:
    """Return the pattern that only this file matches."""
    return escape(path)


def failure(kind: Kind, hub_id: str, revision: str | None, error: Exception, commit: str | None = None) -> SmaugError:
    """Return the error that the user reads about a failed request.

    Args:
        kind: ``model`` or ``dataset``.
        hub_id: What was asked for.
        revision: As the user names it.
        error: Of a client library.
        commit: The commit, where it is known.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, SmaugError):
        return error
    what, page = f"{WORDS[kind]} {hub_id!r}", f"{endpoint()}/{'datasets/' if kind == 'dataset' else ''}{hub_id}"
    if isinstance(error, Damaged):
        return SmaugError(
            f"{what}: {error} does not have the content that the Hub names it by",
            fix="fetch it on another network, or without HF_ENDPOINT: something on the way changes files",
        )
    if isinstance(error, GatedRepoError):
        if has_token():
            fix = (
                f"ask for access at {page} as the user of HF_TOKEN, and wait until it is granted; a fine-grained token"
            )
            return SmaugError(f"{what} is gated on the Hub, and this token has no access", fix=f"{fix} must allow it")
        return SmaugError(f"{what} is gated on the Hub", fix=f"accept its licence at {page} and set HF_TOKEN")
    if isinstance(error, RevisionNotFoundError):
        return SmaugError(
            f"{what} has no revision {revision!r}{_near_revision(kind, hub_id, revision)}",
            fix=f"give a branch, tag or commit that is listed at {page}/tree/main",
        )
    if isinstance(error, RepositoryNotFoundError):
        here = "no such folder here and no such model on the Hub" if kind == "model" else "not on the Hub"
        token = "HF_TOKEN of a user who may read it" if has_token() else "HF_TOKEN"
        return SmaugError(f"{what}: {here}", fix=f"check the spelling; a private {WORDS[kind]} needs {token}")
    if (cause := cause_of(error)).no_answer or isinstance(error, _Silent):
        return _not_reached(kind, hub_id, revision, error, commit)
    return SmaugError(f"{what} cannot be fetched from the Hub: {cause.text}", fix=cause.fix)


def _asked_commit(kind: Kind, hub_id: str, revision: str | None, *, cached: bool) -> str:
    """The commit that a revision means, as the Hub says.

    Raises:
        Exception: of a client library.
    """
    _refuse_silence(cached)
    address = f"{endpoint()}/api/{kind}s/{hub_id}"
    if revision is not None:
        address += f"/revision/{quote(revision, safe='')}"
    found, _ = retried(f"{WORDS[kind]} {hub_id}", lambda seconds: get_json(address, seconds), cached=cached)
    commit = found.get("sha") if isinstance(found, dict) else None
    if not isinstance(commit, str):
        raise LoginPage("the Hub's answer names no commit")
    if is_commit(commit):
        keep_reference(kind, hub_id, revision, commit)
    return commit


def _listed(kind: Kind, hub_id: str, commit: str, revision: str | None = None) -> list[HubFile] | None:
    """The files of a commit; None where nobody tells which they are, but some are in the cache."""
    found = cached_listing(kind, hub_id, commit)
    if found is not None:
        return found
    _check_name(kind, hub_id)
    cached = snapshot_folder(kind, hub_id, commit).is_dir()
    try:
        _refuse_silence(cached)
        entries = listing(kind, hub_id, commit, cached=cached)
        files = [HubFile.of_entry(entry) for entry in entries]
    except Exception as error:
        from huggingface_hub.errors import RevisionNotFoundError

        if cached and not isinstance(error, RevisionNotFoundError | SmaugError):
            return None
        raise failure(kind, hub_id, revision or commit, error, commit) from error
    keep_listing(kind, hub_id, commit, entries)
    return files


def _fetch(
    kind: Kind, hub_id: str, commit: str, files: Sequence[HubFile], revision: str | None, *, quiet: bool
) -> None:
    folder = snapshot_folder(kind, hub_id, commit)
    missing = [file for file in files if not (folder / file.path).exists()]
    if not missing:
        return
    if is_offline():
        raise _not_reached(kind, hub_id, revision, None, commit)
    try:
        Transfer(kind, hub_id, commit, quiet=quiet).fetch(missing)
    except Exception as error:
        raise failure(kind, hub_id, revision or commit, error, commit) from error


def _refuse_silence(cached: bool) -> None:
    if is_offline():
        from huggingface_hub.errors import OfflineModeIsEnabled

        raise OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
    if cached and is_silent():
        raise _Silent


def _check_name(kind: Kind, hub_id: str) -> None:
    """Refuse a name that the Hub cannot have, before it becomes a path or an address."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(hub_id)
    except HFValidationError as error:
        here = "no such folder here and no such model on the Hub" if kind == "model" else "not on the Hub"
        raise SmaugError(f"{WORDS[kind]} {hub_id!r}: {here}", fix="check the spelling: ORGANISATION/NAME") from error


def _near_revision(kind: Kind, hub_id: str, revision: str | None) -> str:
    """What to suggest in the place of a revision; nothing where the Hub does not tell."""
    try:
        found, _ = get_json(f"{endpoint()}/api/{kind}s/{hub_id}/refs", _ASKED_SECONDS)
        names = [str(each["name"]) for group in ("branches", "tags") for each in found.get(group, [])]
    except Exception:  # it only would have helped
        return ""
    return nearest(str(revision), names) if names else ""


def _not_reached(
    kind: Kind, hub_id: str, revision: str | None, error: Exception | None, commit: str | None
) -> NotReached:
    cause = None if error is None or isinstance(error, _Silent) else cause_of(error)
    why = f"the Hub cannot be reached ({'asked a moment ago' if cause is None else cause.text})"
    why = "HF_HUB_OFFLINE is set" if is_offline() else why
    known = cached_commits(kind, hub_id)
    others = [each for each in known if each != commit]
    if not known:
        lacks = "not in the local Hub cache"
        lacks = f"no such folder, {lacks}" if kind == "model" else lacks
    elif commit is not None:
        lacks = f"commit {commit} is {'not whole' if commit in known else 'not'} in the local Hub cache"
    else:
        lacks = f"which commit {revision or 'main'} is, is not in the local Hub cache"
    held = f" (which has {', '.join(others[:_NAMED])})" if others else ""
    command = f"hf download {hub_id}" + (" --repo-type dataset" if kind == "dataset" else "")
    command += f" --revision {commit or revision}" if commit or revision else ""
    check = "check the path, or " if kind == "model" and not known else ""
    first = f"fetch it first on a machine with network ({command})"
    if is_offline() or cause is None:
        fix = f"{first}, or unset HF_HUB_OFFLINE" if is_offline() else first
    else:
        fix = f"{cause.fix}; or {first}"
    return NotReached(f"{WORDS[kind]} {hub_id!r}: {lacks}{held}, and {why}", fix=check + fix)
