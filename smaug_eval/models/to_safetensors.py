"""Convert pickled weights to safetensors: ``python -m smaug_eval.models.to_safetensors FOLDER``.

torch reads them with ``weights_only=True``: tensors and plain containers, nothing that runs. The pickles stay.
"""

from __future__ import annotations

import fnmatch
import json
import os
import pickle
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json, unwritable, write_json

PATTERNS = ("pytorch_model*.bin", "adapter_model.bin", "*.pt", "*.pth")
_INDEX = "pytorch_model.bin.index.json"


def conversion_command(folder: Path) -> str:
    """Return the command that converts a folder's weights."""
    return shlex.join(["python", "-m", "smaug_eval.models.to_safetensors", str(folder)])


def is_pickled(name: str) -> bool:
    """Check whether a file of that name holds pickled weights."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in PATTERNS)


def pickled_files(folder: Path) -> list[Path]:
    """Return the pickled weights in a folder."""
    return sorted({file for pattern in PATTERNS for file in folder.glob(pattern)})


def convert(folder: Path) -> list[Path]:
    """Write every pickled file of weights again as safetensors, and the index of several with the new names.

    Returns:
        The new files.

    Raises:
        SmaugError: there is nothing to convert, a file holds anything but named tensors, or the folder cannot be
            written.
    """
    found = pickled_files(folder)
    if not found:
        raise SmaugError(f"{folder} holds no pickled weights", fix=f"give a folder with one of {', '.join(PATTERNS)}")
    written = [_convert(file) for file in found]
    index = folder / _INDEX
    if index.is_file():
        names = {old.name: new.name for old, new in zip(found, written, strict=True)}
        content = read_json(index)
        weight_map = content.get("weight_map") if isinstance(content, Mapping) else None
        if not isinstance(weight_map, Mapping):
            raise SmaugError(f"{index} has no weight_map", fix="fetch the checkpoint again")
        write_json(
            folder / "model.safetensors.index.json",
            {**content, "weight_map": {name: names.get(file, file) for name, file in weight_map.items()}},
        )
    return written


def _convert(file: Path) -> Path:
    import torch
    from safetensors.torch import save_file

    try:
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise SmaugError(f"{file} holds more than tensors, or is damaged: {first}", fix="do not trust it") from error
    if not isinstance(loaded, Mapping) or not all(isinstance(part, torch.Tensor) for part in loaded.values()):
        raise SmaugError(f"{file} holds something else than named tensors", fix="save its state_dict alone")
    name = file.with_suffix(".safetensors").name
    target = file.with_name(name.replace("pytorch_model", "model", 1))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        # Copies, as tensors that share memory cannot be saved; transformers reads them as well.
        tensors = {str(name): tensor.detach().contiguous().clone() for name, tensor in loaded.items()}
        save_file(tensors, temporary, metadata={"format": "pt"})
        temporary.replace(target)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def main(arguments: list[str]) -> int:
    """Convert a folder; returns the exit code."""
    try:
        if len(arguments) != 1 or arguments[0].startswith("-"):
            raise SmaugError("one folder is needed", fix="python -m smaug_eval.models.to_safetensors FOLDER")
        print(json.dumps([str(file) for file in convert(Path(arguments[0]))], indent=2))
    except SmaugError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
