"""The pages of docs/reference that are written from the code are what the code says now."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import BaseModel
from typer.main import get_command

import smaug_eval
from benchmarks import reference_pages
from smaug_eval.cli import app
from smaug_eval.runs.recipe import Recipe
from tests.blocks import ROOT, navigation

REFERENCE = ROOT / "docs/reference"


@pytest.mark.parametrize("name", reference_pages.PAGES)
def test_a_page_is_what_the_code_declares(name: str) -> None:
    written = (REFERENCE / name).read_text(encoding="utf-8")
    assert written == reference_pages.PAGES[name](), "run python -m benchmarks.reference_pages"


def models(kind: Any, seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """Return the classes that read the parts of a recipe: those that its fields name, and theirs."""
    parts = getattr(kind, "__args__", ())
    if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
        seen.add(kind)
        parts = [field.annotation for field in kind.model_fields.values()]
    for part in parts:
        models(part, seen)
    return seen


def test_every_part_of_a_recipe_has_a_section() -> None:
    described = {config for _, config, _ in reference_pages.SECTIONS}
    found = models(Recipe, set())
    assert len(found) >= 15
    assert found <= described


def test_every_key_is_described() -> None:
    lacking = [
        f"{config.__name__}.{name}"
        for _, config, _ in reference_pages.SECTIONS
        for name, field in config.model_fields.items()
        if not field.description
    ]
    assert lacking == []


def test_every_verb_and_option_is_on_the_page() -> None:
    text = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    verbs = list(reference_pages._verbs(get_command(app)))
    assert len(verbs) >= 20
    for name, verb in verbs:
        assert re.search(rf"^###+ `smaug-eval [\w -]*{re.escape(name)}`$", text, re.MULTILINE), name
        for parameter in verb.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert f"`{option}" in text or f", {option}" in text, option


def test_every_public_function_is_on_the_page() -> None:
    text = (REFERENCE / "python.md").read_text(encoding="utf-8")
    assert {name for name in smaug_eval.__all__ if f"| `smaug_eval.{name}` |" not in text} == set()
    places = re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)
    assert {place.rpartition(".")[2] for place in places} >= set(smaug_eval.__all__)


def test_a_type_reads_as_a_user_would_write_it() -> None:
    text = (REFERENCE / "recipe.md").read_text(encoding="utf-8")
    assert "| `beta` | number |" in text
    assert "| `falsify` | integer or `all` | `1` |" in text
    assert "| `trust_remote_code` | true or false | `false` |" in text
    assert "| `name` | text | required |" in text
    assert "| `learning_rate` | number | `1e-06` |" in text


def test_every_page_of_the_navigation_is_there() -> None:
    at_the_top = {"security.md", "contributing.md", "changelog.md"}  # put there by docs/hooks
    named = navigation()
    assert len(named) == len(set(named)) > 30
    assert [page for page in named if page not in at_the_top and not (ROOT / "docs" / page).is_file()] == []


def test_readme_fits_on_a_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_links_of_readme_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert len(links) > 40
    for link in links:
        path, _, anchor = link.partition("#")
        assert (ROOT / path).is_file(), link
        text = (ROOT / path).read_text(encoding="utf-8") if anchor else ""
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in headings}
        assert not anchor or anchor in slugs, link
