"""Run the command ``smaug-eval`` as ``python -m smaug_eval``."""

from smaug_eval.cli import main

if __name__ == "__main__":
    main()
