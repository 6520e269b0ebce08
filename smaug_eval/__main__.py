"""``python -m smaug_eval`` is the command ``smaug-eval``."""

from smaug_eval.cli import main

if __name__ == "__main__":
    main()
