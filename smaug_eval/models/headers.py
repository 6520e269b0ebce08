"""Read names, shapes and types of a checkpoint's tensors from the headers of its files; no weight is read for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json

Header = tuple[list[int], torch.dtype]
"""Shape and type of a tensor."""
_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
_MISTRAL = "consolidated"  # a copy under Mistral's own names
_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def weight_files(path: Path, *, for_vllm: bool = False) -> list[Path]:
    """Return the files of weights that are read in a folder.

    transformers reads ``model.safetensors`` where it is there, else the shards of the index. vLLM reads the shards of
    the index where there is one, else every file.

    Args:
        path: The folder.
        for_vllm: Whether vLLM reads it.
    """
    index, single = path / _INDEX, path / _SINGLE
    if single.is_file() and not for_vllm:
        return [single]
    if not index.is_file():
        every = sorted(path.glob("*.safetensors"))
        return [file for file in every if not file.name.startswith(_MISTRAL)] or every
    content = read_json(index)
    names = content.get("weight_map", {}).values() if isinstance(content, Mapping) else ()
    return [path / name for name in sorted(set(map(str, names)))]


def headers(path: Path, *, for_vllm: bool = False) -> dict[str, Header]:
    """Return the shape and the type of every tensor.

    Args:
        path: The checkpoint's folder.
        for_vllm: Whether vLLM reads it.

    Raises:
        SmaugError: a file is damaged, or two of those that vLLM reads hold a tensor of the same name.
    """
    found: dict[str, Header] = {}
    holder: dict[str, Path] = {}
    for file in weight_files(path, for_vllm=for_vllm):
        try:
            with safe_open(file, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118  # not a mapping
                    if for_vllm and name in holder:
                        raise _twice(path, name, holder[name], file)
                    part = tensors.get_slice(name)
                    found[name] = (part.get_shape(), _TYPES.get(part.get_dtype(), torch.uint8))
                    holder[name] = file
        except (OSError, SafetensorError) as error:
            raise SmaugError(f"{file} is truncated or damaged: {error}", fix="fetch or copy the file again") from error
    return found


def refuse_two_copies(source: str, path: Path) -> None:
    """Refuse a folder with weights in one file and again in shards, of which vLLM reads others than transformers.

    Args:
        source: The model, as the user named it.
        path: Its folder.

    Raises:
        SmaugError: it is one.
    """
    single = path / _SINGLE
    if single.is_file() and single not in weight_files(path, for_vllm=True):
        raise SmaugError(
            f"model {source!r}: {path} holds weights in {_SINGLE} and in the shards of {_INDEX}; transformers "
            "reads the one, vLLM the others",
            fix="remove those that are not meant from a local copy, or use engine: torch, which reads the one file",
        )


def tensor(path: Path, name: str, *, for_vllm: bool = False) -> Tensor:
    """Read one tensor.

    Raises:
        KeyError: there is none of that name.
    """
    for file in weight_files(path, for_vllm=for_vllm):
        with safe_open(file, framework="pt") as tensors:
            if name in tensors.keys():  # noqa: SIM118  # not a mapping
                found: Tensor = tensors.get_tensor(name)
                return found
    raise KeyError(name)


def _twice(path: Path, name: str, one: Path, other: Path) -> SmaugError:
    return SmaugError(
        f"{path}: {one.name} and {other.name} both hold {name}, and vLLM reads both",
        fix=f"remove the file that is not meant from a local copy, or name the right one in {_INDEX}",
    )
