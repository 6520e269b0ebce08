"""Run any task, tag or group of lm-eval, and YAML of the user's own."""
