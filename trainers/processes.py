"""Coordinate the processes that train together: how many there are, which is the main one, and how they agree."""

from __future__ import annotations

import os

import torch
from accelerate import PartialState
from torch import distributed


def process_count() -> int:
    """Return the processes of this training; 1 until the process group is there, and without a launcher."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def process_index() -> int:
    """Return the number of this process; 0 is the main one, the only one that writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def weights_are_sharded() -> bool:
    """Return whether the launcher set up FSDP or DeepSpeed, so that no process holds the whole model."""
    return any(os.environ.get(f"ACCELERATE_USE_{name}", "").lower() in ("1", "true") for name in ("FSDP", "DEEPSPEED"))


def any_process(flag: bool) -> bool:
    """Return whether ``flag`` is true in some process. Every process must call it, and all get the same answer."""
    if process_count() == 1:
        return flag
    total = torch.tensor(int(flag), device=PartialState().device)
    distributed.all_reduce(total)
    return bool(total)


def wait_for_all() -> None:
    """Wait until every process is here."""
    if process_count() > 1:
        PartialState().wait_for_everyone()
