"""Measure the peak memory of this process, or of its GPU."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import platform
from collections.abc import Callable
from pathlib import Path

import torch


def forget_peak(device: str) -> None:
    """Count the peak from here."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        gc.collect()
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)  # what the allocator holds on to would hide new needs
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux only


def peak(device: str) -> int:
    """Return most bytes held since :func:`forget_peak`; on a CPU by the whole process, libraries included."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else status("VmHWM")


def held(device: str) -> int:
    """Return the bytes held now."""
    return torch.cuda.memory_allocated() if device == "cuda" else status("VmRSS")


def peak_above(device: str, work: Callable[[], object]) -> float:
    """Return the MiB that some work holds, at most, beyond what is held before."""
    forget_peak(device)
    before = held(device)
    work()
    return (peak(device) - before) / 2**20


def status(key: str) -> int:
    """Return bytes from the kernel's account of this process.

    A child's ``ru_maxrss`` starts at its parent's, and is no such account.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def cpu_name() -> str:
    """Return the processor's name, where Linux gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())
