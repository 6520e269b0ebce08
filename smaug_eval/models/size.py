"""Count the parameters of a checkpoint."""

from __future__ import annotations

import math
from pathlib import Path

_NUMBERS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


def checkpoint_billions(path: Path) -> float | None:
    """Return the parameters of a safetensors checkpoint in billions, from the shapes in its files' headers.

    None where there is no such checkpoint, where the file is an adapter's, or where weights are packed (quantised), as
    their shapes do not show it.
    """
    from safetensors import SafetensorError, safe_open

    count = 0
    for file in sorted(path.glob("*.safetensors")) if (path / "config.json").is_file() else []:
        try:
            with safe_open(file, framework="numpy") as tensors:
                slices = [tensors.get_slice(name) for name in tensors.keys()]  # noqa: SIM118  # not a mapping
                if any(each.get_dtype() not in _NUMBERS for each in slices if math.prod(each.get_shape()) > 1):
                    return None
                count += sum(math.prod(each.get_shape()) for each in slices)
        except (OSError, SafetensorError):
            return None
    return count / 1e9 if count else None
