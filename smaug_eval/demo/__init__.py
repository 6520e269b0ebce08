"""Provide the embedded demo: a small closed world, its task data and a tiny base model trained on its text.

Everything is made by committed, seeded scripts: ``python -m smaug_eval.demo.write_data`` writes the task data,
``python -m smaug_eval.demo.train_base`` the model.
"""

from __future__ import annotations

from pathlib import Path

MODEL_DIR = Path(__file__).parent / "model"
"""The embedded base model, an ordinary Hugging Face checkpoint."""
