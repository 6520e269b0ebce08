"""Find a model of a recipe: a checkpoint, an adapter beside the base that it names, or one beside a given base."""

from __future__ import annotations

from collections.abc import Collection

from smaug_eval.common.errors import SmaugError
from smaug_eval.models.adapter_files import adapter_settings
from smaug_eval.models.checkpoint import SCORING_USES, Checkpoint, locate, locate_adapter
from smaug_eval.models.quantised import Use


def locate_model(
    name: str,
    *,
    adapter: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    uses: Collection[Use] = (),
) -> Checkpoint:
    """Find a model by name, with an adapter beside it where there is one.

    Args:
        name: As of :func:`~smaug_eval.models.checkpoint.locate`, or a PEFT adapter, whose base is what it names.
        adapter: Folder or Hub id (``organisation/name`` or ``organisation/name@revision``) of an adapter to put beside
            ``name``; None for none.
        revision: Branch, tag or commit of ``name`` on the Hub.
        trust_remote_code: Whether Python code that comes with the base may run.
        uses: What it is to be used for.

    Raises:
        SmaugError: as of :func:`~smaug_eval.models.checkpoint.locate`; there is no such adapter, it is pickled, it
            names no base, or one of the uses takes whole weights alone.
    """
    if adapter is None:
        beside = all(use in SCORING_USES for use in uses)
        return locate(name, revision=revision, trust_remote_code=trust_remote_code, uses=uses, beside=beside)
    base = locate(name, revision=revision, trust_remote_code=trust_remote_code, uses=uses, beside=False)
    folder = locate_adapter(adapter)
    _refuse_other_uses(adapter, uses)
    return base.with_adapter(folder.resolve())


def base_warning(checkpoint: Checkpoint) -> str:
    """Return a warning for an adapter that names another base than the one it stands beside; empty where it does not.

    Folders are compared by their last part alone: PEFT writes the path that the base had where it was trained.
    """
    if checkpoint.adapter is None:
        return ""
    named = str(adapter_settings(checkpoint.adapter).get("base_model_name_or_path") or "")
    if not named or _last(named) in (_last(checkpoint.source), checkpoint.path.name.casefold()):
        return ""
    return (
        f"the adapter {checkpoint.adapter} names {named} as its base and is put beside {checkpoint.source}: scores "
        "mean little unless these are the same weights"
    )


def _refuse_other_uses(adapter: str, uses: Collection[Use]) -> None:
    if other := [use.value for use in uses if use not in SCORING_USES]:
        raise SmaugError(
            f"the adapter {adapter!r} is loaded beside its base, and {other[0]} takes whole weights",
            fix=f"merge it first: smaug-eval merge {adapter} --out FOLDER",
        )


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].casefold()
