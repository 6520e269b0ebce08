"""Define what a training is told: one record for the recipe, for the processes of a training, and for the trainer."""

from __future__ import annotations

import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json
from smaug_eval.models.checkpoint import locate
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.layout import LAUNCH_FOLDER
from smaug_eval.trainers.pairs.config import ChesKeys


class ReferenceModel(BaseModel):
    """Name a reference that is not what the training starts from.

    Attributes:
        name: What to call it.
        path: Folder of its weights and tokenizer.
        sha256: Digest of the weights, and of the adapter's; None to find it out when the training begins.
        adapter: Folder of a PEFT adapter beside the weights; None for none.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    path: Path
    sha256: str | None = None
    adapter: Path | None = None


class TrainingSpec(BaseModel):
    """Say what to train and how, as data that can be a JSON file; paths are relative to the current directory.

    Attributes:
        config: The training's settings, under the names recipes use; its own ``seed``, if set, takes precedence.
        name: Name of the training.
        model_path: Folder of the model that the training starts from: safetensors weights and tokenizer.
        dtype: ``float32`` or ``bfloat16``.
        train_file: Pairs as ``{"prompt", "chosen", "rejected"}`` JSON lines.
        eval_file: Held-out pairs in the same form; None or an empty file for none.
        out_dir: Receives ``checkpoint/`` (and ``adapter/`` for LoRA), ``log.jsonl``, ``tensorboard/``,
            ``diagnostics.jsonl`` and ``held_out.jsonl`` (:mod:`smaug_eval.trainers.held_out`), ``summary.json``,
            ``finished.json`` last of all, and ``resume/`` while unfinished.
        seed: Seed of the order of the pairs and of a fresh adapter.
        model_sha256: Digest of that model's weights, and of the start adapter's: the key of the saved reference
            log-probabilities. None to find it out when the training begins, of a model that is still to be made.
        base: Name of the base model for the model card; its folder's name if None.
        reference_dir: Where ``reference-*.safetensors`` are kept; trainings of one base on the same pairs that share it
            score the reference once. ``out_dir`` if None.
        trust_remote_code: Whether Python code that came with the base model may run.
        date: The day that chat templates take for today; None for today. A training that was begun keeps its own.
        processes_asked: How many processes a launch asked for; None where nothing did.
        base_source: The base model as the user named it, which the adapter's configuration repeats: Hub id or path.
        base_revision: Its commit on the Hub; None for a base from elsewhere.
        start_adapter: Folder of a PEFT adapter of the model, which is trained further; None for a fresh one, or none.
        reference: The reference, where it is another model than the start.
        ches: Which training pairs to keep by the model that the training starts from; None for all.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    config: TrainingConfig
    name: str
    model_path: Path
    dtype: str
    train_file: Path
    eval_file: Path | None = None
    out_dir: Path
    seed: int
    model_sha256: str | None
    base: str | None = None
    reference_dir: Path | None = None
    trust_remote_code: bool = False
    date: datetime.date | None = None
    processes_asked: int | None = None
    base_source: str | None = None
    base_revision: str | None = None
    start_adapter: Path | None = None
    reference: ReferenceModel | None = None
    ches: ChesKeys | None = None

    def with_digests(self) -> TrainingSpec:
        """Return the specification with the digests of models that were still to be made when it was written.

        Raises:
            SmaugError: one of the models is not there.
        """

        def found(path: Path, adapter: Path | None) -> str:
            model = locate(str(path), trust_remote_code=self.trust_remote_code)
            return (model if adapter is None else model.with_adapter(adapter)).sha256

        changed: dict[str, object] = {}
        if self.model_sha256 is None:
            changed["model_sha256"] = found(self.model_path, self.start_adapter)
        if self.reference is not None and self.reference.sha256 is None:
            digest = found(self.reference.path, self.reference.adapter)
            changed["reference"] = self.reference.model_copy(update={"sha256": digest})
        return self.model_copy(update=changed)

    @property
    def folder(self) -> Path:
        """Return the folder in which the caller and the processes exchange files."""
        return self.out_dir / LAUNCH_FOLDER


def read_spec(path: Path) -> TrainingSpec:
    """Read a specification.

    Raises:
        SmaugError: the file is missing, is not JSON, or has a wrong, missing or unknown key.
    """
    try:
        return TrainingSpec.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise SmaugError(
            f"{path}: {key}: {first['msg']}", fix="see smaug_eval.trainers.spec.TrainingSpec for its keys"
        ) from error
