"""List GPUs by name, with the figures of their makers' data sheets as we recall them; none was looked up."""

from __future__ import annotations

import re
from dataclasses import dataclass

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.suggest import nearest

RUNTIME_BYTES = 1.5e9
"""Of a GPU's memory that its driver, its libraries and their workspaces take: our assumption."""
USABLE = 0.95
"""Share of the rest that can be filled before fragments of freed memory stand in the way: our assumption."""
COMPUTE_SHARE = 0.4
"""Share of a GPU's peak FLOP/s that training and scoring reach: our assumption, for dense models of 7B and more."""
BANDWIDTH_SHARE = 0.6
"""Share of a GPU's memory bandwidth that writing answers reaches: our assumption."""

_MACHINE = re.compile(r"(?P<name>.+?)(?:\s*[x*]\s*(?P<count>\d{1,9}))?", re.IGNORECASE)

MOST_GPUS = 99_999


@dataclass(frozen=True)
class Gpu:
    """Describe one kind of GPU.

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
        _gpu("B300", 288, 2250, 8.0),
        _gpu("B200", 180, 2250, 8.0),
        _gpu("GB200", 186, 2500, 8.0),
        _gpu("H200", 141, 989, 4.8),
        _gpu("GH200", 96, 989, 4.0),
        _gpu("H100-80", 80, 989, 3.35),
        _gpu("H100-NVL", 94, 835, 3.9),
        _gpu("H100-PCIe", 80, 756, 2.0),
        _gpu("H800", 80, 989, 3.35),
        _gpu("H20", 96, 148, 4.0),
        _gpu("A100-80", 80, 312, 2.039),
        _gpu("A100-40", 40, 312, 1.555),
        _gpu("A800", 80, 312, 2.039),
        _gpu("MI355X", 288, 2500, 8.0),
        _gpu("MI325X", 256, 1307, 6.0),
        _gpu("MI300X", 192, 1307, 5.3),
        _gpu("MI250X", 128, 383, 3.2),
        _gpu("L40S", 48, 362, 0.864),
        _gpu("L40", 48, 181, 0.864),
        _gpu("A40", 48, 150, 0.696),
        _gpu("A30", 24, 165, 0.933),
        _gpu("A10", 24, 125, 0.6),
        _gpu("RTX-PRO-6000", 96, 503, 1.792),
        _gpu("RTX-6000-Ada", 48, 364, 0.96),
        _gpu("RTX-A6000", 48, 155, 0.768),
        _gpu("RTX-5090", 32, 210, 1.792),
        _gpu("RTX-4090", 24, 165, 1.008),
        _gpu("RTX-3090", 24, 71, 0.936),
        _gpu("L4", 24, 121, 0.3),
        _gpu("V100-32", 32, 125, 0.9),
        _gpu("V100-16", 16, 125, 0.9),
        _gpu("T4", 16, 65, 0.32),
    )
}
_ALIASES = {
    "h100": "H100-80",
    "h100sxm": "H100-80",
    "h100sxm5": "H100-80",
    "h10080": "H100-80",
    "h200sxm": "H200",
    "h200nvl": "H200",
    "a100": "A100-80",
    "a100sxm": "A100-80",
    "a100sxm480": "A100-80",
    "a100pcie": "A100-80",
    "a6000": "RTX-A6000",
    "6000ada": "RTX-6000-Ada",
    "4090": "RTX-4090",
    "5090": "RTX-5090",
    "3090": "RTX-3090",
    "v100": "V100-32",
    "a10g": "A10",
}
_MAKERS = re.compile(r"^(?:nvidia|amd|tesla|geforce|instinct)+|gb$|[\s_-]")


@dataclass(frozen=True)
class Machine:
    """Describe some GPUs of one kind.

    Attributes:
        gpu: Which.
        count: How many.
    """

    gpu: Gpu
    count: int

    @property
    def name(self) -> str:
        """Return the name as ``--gpu`` takes it."""
        return f"{self.gpu.name}x{self.count}"

    @property
    def usable(self) -> float:
        """Return the bytes of each GPU that a plan may fill."""
        return (self.gpu.memory - RUNTIME_BYTES) * USABLE


def parse_machine(text: str) -> Machine:
    """Parse GPUs written as ``H200x8``: a kind and, behind an x, how many; one if left out. Case is ignored.

    Raises:
        SmaugError: the form is another, or there is no such kind.
    """
    found = _MACHINE.fullmatch(text.strip())
    whole, name = _kind_of(text), found["name"] if found else text
    gpu, count = (whole, 1) if whole is not None else (_kind_of(name), int((found and found["count"]) or 1))
    if gpu is None:
        raise SmaugError(
            f"--gpu {text!r}: no such GPU{nearest(name, GPUS)}",
            fix=f"give a kind and a number, such as H200x8; kinds: {', '.join(GPUS)}",
        )
    if not 1 <= count <= MOST_GPUS:
        raise SmaugError(
            f"--gpu {text!r}: no such GPU: {count} of a kind cannot be",
            fix=f"give a number from 1, such as {gpu.name}x8",
        )
    return Machine(gpu, count)


def _kind_of(name: str) -> Gpu | None:
    """The GPU of a name, with or without its maker's; of names for several sizes the usual one."""
    plain = _plain(name)
    known = {_plain(each): gpu for each, gpu in GPUS.items()}
    alias = _ALIASES.get(plain)
    return known.get(plain) or (None if alias is None else GPUS[alias])


def _plain(name: str) -> str:
    while (shorter := _MAKERS.sub("", name.lower())) != name:
        name = shorter
    return name


def gpus_here() -> Machine | None:
    """Return the GPUs of this machine; None where there are none, or of a kind that is not in :data:`GPUS`."""
    import torch

    if not torch.cuda.is_available():
        return None
    gpu = gpu_of_device(torch.cuda.get_device_name(0), torch.cuda.get_device_properties(0).total_memory)
    return None if gpu is None else Machine(gpu, torch.cuda.device_count())


def gpu_of_device(device: str, memory: float) -> Gpu | None:
    """Return the kind of a GPU by its driver's name, such as ``NVIDIA A100-SXM4-80GB``; None where none is known.

    Args:
        device: The name.
        memory: Bytes, which tell kinds of one name apart.
    """
    words = set(re.split(r"[\s-]+", device.lower()))
    named: list[tuple[int, float, Gpu]] = []
    for name, gpu in GPUS.items():
        parts = [part for part in name.lower().split("-") if not (part.isdigit() and int(part) * 1e9 == gpu.memory)]
        if words.issuperset(parts):
            named.append((-len(parts), abs(gpu.memory - memory), gpu))
    return min(named, key=lambda each: each[:2])[2] if named else _kind_of(device)
