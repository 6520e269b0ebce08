"""lm-eval's own command line, with our models added: ``python -m smaug_eval.engines run --model smaug-torch ...``.

lm-eval knows no plug-ins; whoever calls it from Python imports :mod:`smaug_eval.engines.torch_engine` instead.
"""

from __future__ import annotations

from lm_eval.__main__ import cli_evaluate

import smaug_eval.engines.torch_engine  # noqa: F401  registers its model

if __name__ == "__main__":
    cli_evaluate()
