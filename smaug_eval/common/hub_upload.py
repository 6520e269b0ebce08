"""Send files to the Hub through Xet's storage where it answers, and over plain HTTP where it does not.

``hf_xet`` retries for minutes, in silence, where its storage is away. Whether it is there is therefore asked in seconds
before; where an upload to it fails after that, it is done again over plain HTTP, which every repository accepts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from smaug_eval.common.hub_errors import endpoint, reason, status_of

PATIENCE = 5.0
"""Seconds in which Xet's storage has to answer."""
_REFUSED = (401, 403)

Result = TypeVar("Result")


class Uploader:
    """Send files to one repository.

    Args:
        repo: Its id.
        on_note: Receives what a reader should know.
    """

    def __init__(self, repo: str, on_note: Callable[[str], None]) -> None:
        self._repo = repo
        self._on_note = on_note
        self._is_plain: bool | None = None

    def do(self, upload: Callable[[], Result]) -> Result:
        """Call something that uploads files with ``huggingface_hub``; a second time where Xet's storage fails.

        Raises:
            Exception: whatever the upload over plain HTTP raises, or the Hub's refusal.
        """
        if self._is_plain is None:
            self._is_plain = self._without_xet(_why_not(self._repo))
        if not self._is_plain:
            try:
                return upload()
            except Exception as error:
                if status_of(error) in _REFUSED:
                    raise
                self._is_plain = self._without_xet(reason(error))
        with _plain_http():
            return upload()

    def _without_xet(self, why: str | None) -> bool:
        if why:
            self._on_note(f"Xet's storage cannot be used ({why}): files are sent over plain HTTP")
        return why is not None


def _why_not(repo: str) -> str | None:
    """Say why Xet's storage cannot be used: nothing to say where it is switched off, None where it answers."""
    from huggingface_hub.file_download import is_xet_available
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    if not is_xet_available():
        return ""
    route = f"{endpoint()}/api/models/{repo}/xet-write-token/main"
    session = get_session()
    try:
        token = session.get(route, headers=build_hf_headers(library_name="smaug-eval"), timeout=PATIENCE)
        hf_raise_for_status(token)
        storage = token.headers.get("X-Xet-Cas-Url")
        if not storage:
            return "the Hub does not say where it is"
        answer = session.get(storage, timeout=PATIENCE)
    except Exception as error:
        return reason(error)
    return f"it answers with status {answer.status_code}" if answer.status_code >= 500 else None


@contextmanager
def _plain_http() -> Iterator[None]:
    """Have ``huggingface_hub`` upload without ``hf_xet``."""
    from huggingface_hub import constants

    before = constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before
