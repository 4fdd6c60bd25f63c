"""Reads READMEs: blocks of code, commands in prose and tables, links and their anchors."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FRONT = ROOT / "README.md"
_FOLDERS = ("batchkit", "flows", "migrations", "tests")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SEPARATORS = {";", "&", "&&", "|"}


@dataclass(frozen=True)
class Block:
    """One fenced block: its language and its text, which ends with a newline."""

    language: str
    text: str


def readmes() -> list[Path]:
    """Return every README of the repository, the root's first."""
    return [FRONT, *sorted(path for folder in _FOLDERS for path in (ROOT / folder).rglob("README.md"))]


def name_of(readme: Path) -> str:
    """Return the path from the root, with slashes."""
    return readme.relative_to(ROOT).as_posix()


def blocks(text: str, language: str | None = None) -> list[Block]:
    """Return the fenced blocks in order, all or those of one language."""
    found = [Block(*match.groups()) for match in _FENCE.finditer(text)]
    return [block for block in found if language in {None, block.language}]


def prose(text: str) -> str:
    """Return the text outside fenced blocks."""
    return _FENCE.sub("", text)


def inline_commands(text: str) -> list[str]:
    """Return the commands between backticks in prose and tables; a pipe is returned as it is written."""
    found = re.findall(r"`((?:zcat [^`]*)?batchkit [^`]+)`", prose(text))
    return [command.replace("\\|", "|") for command in found]


def table(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the table whose first line starts with ``heading``, without that line and the line of dashes."""
    lines = text[text.index(f"\n{heading}") + 1 :].splitlines()
    rows = []
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def code(cell: str) -> list[str]:
    """Return the texts between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def links(text: str) -> list[str]:
    """Return the targets of all links."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(text)))


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings: in lower case, without punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def simple_commands(line: str) -> list[list[str]]:
    """Split a shell line into simple commands, each a list of arguments; comments are left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if word in _SEPARATORS:
            commands.append([])
        else:
            commands[-1].append(word)
    return [words for words in commands if words]
