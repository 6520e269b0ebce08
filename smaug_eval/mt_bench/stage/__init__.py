"""Prepare one ``mt_bench`` entry of a recipe: check it, have its models answer, and have a judge judge."""
