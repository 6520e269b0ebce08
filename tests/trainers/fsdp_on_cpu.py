"""``python -m smaug_eval.trainers`` under FSDP2 on the CPU, for which accelerate has no configuration of its own."""

from __future__ import annotations

import sys
from typing import Any

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from smaug_eval.trainers.__main__ import main

_original = AcceleratorState.__init__


def _with_fsdp(self: AcceleratorState, *args: Any, **kwargs: Any) -> None:
    _original(self, *args, **kwargs)
    plugin = kwargs.get("fsdp_plugin") or self.__dict__.get("fsdp_plugin")
    if plugin is not None:
        self.fsdp_plugin = plugin
        self.distributed_type = DistributedType.FSDP


AcceleratorState.__init__ = _with_fsdp
sys.exit(main(sys.argv[1:]))
