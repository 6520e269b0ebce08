"""Show results as tables in the terminal."""
