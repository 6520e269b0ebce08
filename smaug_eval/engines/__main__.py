"""Run lm-eval's own command line with our models: ``python -m smaug_eval.engines run --model smaug-torch ...``.

lm-eval knows no plug-ins; a caller from Python imports :mod:`smaug_eval.engines.torch_engine` or
:mod:`smaug_eval.engines.vllm_engine` instead.
"""

from __future__ import annotations

from lm_eval.__main__ import cli_evaluate
from lm_eval.api.registry import model_registry

# Imported when asked for: loading vLLM takes seconds, and it need not be installed.
model_registry.register("smaug-torch", target="smaug_eval.engines.torch_engine:TorchEngine")
model_registry.register("smaug-vllm", target="smaug_eval.engines.vllm_engine:VllmEngine")

if __name__ == "__main__":
    cli_evaluate()
