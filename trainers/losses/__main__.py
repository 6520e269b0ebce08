"""Print docs/losses.md, the table of all losses: ``python -m smaug_eval.trainers.losses > docs/losses.md``."""

from __future__ import annotations

from smaug_eval.trainers.losses.describe import losses_page

if __name__ == "__main__":
    print(losses_page(), end="")
