"""Show documents with the answers of several models side by side."""
