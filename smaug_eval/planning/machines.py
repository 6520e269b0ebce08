"""GPUs by name, with the figures of their makers' data sheets as we recall them; none was looked up."""

from __future__ import annotations

import re
from dataclasses import dataclass

from smaug_eval.errors import SmaugError
from smaug_eval.suggest import nearest

RUNTIME_BYTES = 1.5e9
"""Of a GPU's memory that its driver, its libraries and their workspaces take: our assumption."""
USABLE = 0.95
"""Share of the rest that can be filled before fragments of freed memory stand in the way: our assumption."""
COMPUTE_SHARE = 0.4
"""Share of a GPU's peak FLOP/s that training and scoring reach: our assumption, for dense models of 7B and more."""
BANDWIDTH_SHARE = 0.6
"""Share of a GPU's memory bandwidth that writing answers reaches: our assumption."""

_MACHINE = re.compile(r"(?P<name>.+?)(?:x(?P<count>[1-9]\d{0,4}))?", re.IGNORECASE)


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU.

    Attributes:
        name: As ``--gpu`` takes it.
        memory: Bytes, decimal gigabytes as on the data sheet.
        flops: Dense bfloat16 FLOP/s at its peak, without sparsity.
        bandwidth: Bytes/s of its memory.
    """

    name: str
    memory: float
    flops: float
    bandwidth: float


def _gpu(name: str, gigabytes: float, teraflops: float, terabytes_per_second: float) -> Gpu:
    return Gpu(name, gigabytes * 1e9, teraflops * 1e12, terabytes_per_second * 1e12)


GPUS = {
    gpu.name: gpu
    for gpu in (
        _gpu("B200", 180, 2250, 8.0),
        _gpu("H200", 141, 989, 4.8),
        _gpu("H100-80", 80, 989, 3.35),
        _gpu("H100-PCIe", 80, 756, 2.0),
        _gpu("A100-80", 80, 312, 2.039),
        _gpu("A100-40", 40, 312, 1.555),
        _gpu("MI300X", 192, 1307, 5.3),
        _gpu("L40S", 48, 362, 0.864),
        _gpu("RTX-A6000", 48, 155, 0.768),
        _gpu("RTX-4090", 24, 165, 1.008),
        _gpu("L4", 24, 121, 0.3),
    )
}


@dataclass(frozen=True)
class Machine:
    """Some GPUs of one kind.

    Attributes:
        gpu: Which.
        count: How many.
    """

    gpu: Gpu
    count: int

    @property
    def name(self) -> str:
        """As ``--gpu`` takes it."""
        return f"{self.gpu.name}x{self.count}"

    @property
    def usable(self) -> float:
        """Bytes of each GPU that a plan may fill."""
        return (self.gpu.memory - RUNTIME_BYTES) * USABLE


def parse_machine(text: str) -> Machine:
    """GPUs as ``H200x8`` names them: a kind and, behind an x, how many; one if left out. Case is ignored.

    Raises:
        SmaugError: the form is another, or there is no such kind.
    """
    kinds = {name.lower(): gpu for name, gpu in GPUS.items()}
    if text.lower() in kinds:
        return Machine(kinds[text.lower()], 1)
    found = _MACHINE.fullmatch(text)
    name = found["name"] if found else text
    if found is None or name.lower() not in kinds:
        raise SmaugError(
            f"--gpu {text!r}: no such GPU{nearest(name, GPUS)}",
            fix=f"give a kind and a number, such as H200x8; kinds: {', '.join(GPUS)}",
        )
    return Machine(kinds[name.lower()], int(found["count"] or 1))
