"""Plan what a recipe will take, before anything is loaded: memory of every GPU, steps, tokens, hours of each stage."""
