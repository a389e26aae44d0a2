"""What the documents say of the project: links lead somewhere, and every command and every setting is told of."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer

from orchestration.cli import app
from resources.settings import PREFIX, AzureStorage, Settings

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*(ROOT / name for name in ("README.md", "CHANGELOG.md", "benchmarks/README.md")), *ROOT.glob("docs/**/*.md")]
)
SOURCES = ("assets", "dashboard", "emulator", "generator", "orchestration", "resources")

_PAGE = re.compile(r"\bdocs/[\w/-]+\.md\b")
_CODE = re.compile(r"^(```+).*?^\1", re.MULTILINE | re.DOTALL)
_CODE_SPAN = re.compile(r"(`+)(?:(?!\1).)+\1")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_LINK = re.compile(r"\]\((<[^>]*>|[^()\s]*(?:\([^()]*\)[^()\s]*)*)(?: +\"[^\"]*\")?\)")
_LINK_TEXT = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


def without_code(text: str) -> str:
    return _CODE_SPAN.sub("", _CODE.sub("", text))


def links(text: str) -> Iterator[str]:
    """Where links and pictures lead, without those to other servers."""
    targets = (target.strip("<>") for target in _LINK.findall(without_code(text)))
    return (target for target in targets if not _ELSEWHERE.match(target))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to headings: a heading that is there already gets a number behind it."""
    found, seen = set[str](), Counter[str]()
    for heading in _HEADING.findall(_CODE.sub("", text)):
        plain = _LINK_TEXT.sub(r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return found


@cache
def anchors_of(page: Path) -> set[str]:
    return anchors(page.read_text(encoding="utf-8"))


def problem(page: Path, link: str) -> str | None:
    """Why a link of a page leads nowhere."""
    path, _, anchor = unquote(link).partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.is_relative_to(ROOT) or not target.exists():
        return f"{link}: there is no such file"
    if anchor and (target.suffix != ".md" or anchor not in anchors_of(target)):
        return f"{link}: there is no such heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    found = [problem(page, link) for link in links(page.read_text(encoding="utf-8"))]
    assert [each for each in found if each] == []


def test_anchors_are_those_of_github():
    text = "# Alerts wait, or not\n## `rules` of [one](x.md)\n## Two: a_b – c\n## Again\n```\n# no\n```\n## Again\n"
    assert anchors(text) == {"alerts-wait-or-not", "rules-of-one", "two-a_b--c", "again", "again-1"}


def test_links_are_found_and_code_is_not():
    text = '![a](a.png) [b](b.md#c "d") `[e](e.md)` [f](https://f.example) [g](#g) [h](h_(1).md)\n```\n[i](i.md)\n```\n'
    assert list(links(text)) == ["a.png", "b.md#c", "#g", "h_(1).md"]


@pytest.mark.parametrize("link", ["docs/none.md", "#none", "docs/alarms.md#none", "LICENSE#licence", "../README.md"])
def test_a_link_that_leads_nowhere_is_recognised(link):
    assert problem(ROOT / "README.md", link)


def test_pages_that_the_code_names_are_there():
    sources = [file for folder in SOURCES for file in (ROOT / folder).rglob("*.py")]
    named = {name for file in sources for name in _PAGE.findall(file.read_text(encoding="utf-8"))}
    assert "docs/operations.md" in named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def commands(command: object, name: str = "pulselake") -> Iterator[str]:
    """The commands that can be called, by their whole names."""
    parts: dict[str, object] = getattr(command, "commands", {})
    if not parts or getattr(command, "invoke_without_command", False):
        yield name
    for part, of_it in parts.items():
        yield from commands(of_it, f"{name} {part}")


def named_singly(row: re.Match[str]) -> str:
    return " ".join(f"`pulselake poll {system}`" for system in row[1].split("\\|"))


def test_every_command_stands_in_the_table_of_commands():
    page = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    # One row tells of all systems whose accounts are polled.
    page = re.sub(r"`pulselake poll ((?:\w+\\\|)+\w+)", named_singly, page)
    known = set(commands(typer.main.get_command(app)))
    assert "pulselake rules set" in known
    assert [each for each in sorted(known) if not re.search(rf"`{each}(?=[` \[])", page)] == []


def test_every_setting_stands_in_the_example():
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    names = {field.alias or f"{PREFIX}{name.upper()}" for name, field in Settings.model_fields.items()}
    names |= {f"AZURE_STORAGE_{name.upper()}" for name in AzureStorage.model_fields}
    assert [name for name in sorted(names) if not re.search(rf"^#{name}=", example, re.MULTILINE)] == []
