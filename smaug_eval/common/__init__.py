"""Provide what every other room uses: files, errors, names, the Hub, the console and text."""
