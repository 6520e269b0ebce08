"""A plug-in: one entry in each table of the program, about the colours of things. See docs/extend.md."""
