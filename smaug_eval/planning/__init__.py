"""What a recipe will take, before anything is loaded: memory of every GPU, steps, tokens, and hours of each stage."""
