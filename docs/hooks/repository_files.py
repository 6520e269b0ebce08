"""Put files of the repository into the site: some as pages, others because a page links to them.

A page links to such a file as it does on GitHub, relative to its own folder: ``../benchmarks/results/chaos.json``.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

PAGES = {"security.md": "SECURITY.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Pages of the site that are files at the top of the repository."""
FOLDER = "repository"
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def target(link: str, page: str) -> str:
    """Return the path in the repository that a link of a page leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(PAGES.get(page, f"docs/{page}")), link))


def place(path: str) -> str:
    """Return where the site has a file of the repository."""
    page = next((page for page, source in PAGES.items() if source == path), None)
    return page or (path.removeprefix("docs/") if path.startswith("docs/") else f"{FOLDER}/{path}.txt")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from the top of the repository, and every file that a page links to."""
    root = Path(config.config_file_path).parent
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(root / source).read_text(encoding="utf-8")))
    for page in list(files.documentation_pages()):
        for match in LINK.finditer(page.content_string):
            path = target(match[2], page.src_uri)
            if "://" not in match[2] and (root / path).is_file() and place(path) not in files.src_uris:
                files.append(File.generated(config, place(path), content=(root / path).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point links of a page at where the site has the files."""
    here = posixpath.dirname(page.file.src_uri) or "."

    def pointed(match: re.Match[str]) -> str:
        path = target(match[2], page.file.src_uri)
        if "://" in match[2] or place(path) not in files.src_uris:
            return match[0]
        anchor = match[3] or "" if place(path).endswith(".md") else ""
        return f"{match[1]}{posixpath.relpath(place(path), here)}{anchor}{match[4]}"

    return LINK.sub(pointed, markdown)
