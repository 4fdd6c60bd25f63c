"""Every rule of the linter is on, including the security rules, and each exception has a reason in words."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SUPPRESSION = re.compile(r"#\s*(?:noqa|type: ignore|nosec|pragma)\b(?P<rest>.*)")
_WITH_REASON = re.compile(r"(?::\s*[A-Z]+[0-9]+(?:,\s*[A-Z]+[0-9]+)*\s+-\s+\S|\[[a-z-]+(?:,\s*[a-z-]+)*\]\s*#\s*\S)")


def suppressions(*folders):
    """Return the lines that turn a rule off, as ``path:line`` and the text after the marker."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                found = _SUPPRESSION.search(line)
                if found and path != Path(__file__):
                    yield f"{path.relative_to(ROOT)}:{number}: {line.strip()}", found["rest"]


def test_every_exception_in_the_code_names_its_rule_and_its_reason():
    """There is no blanket ``noqa`` and none without a reason; the linter itself finds unnecessary ones."""
    found = list(suppressions("batchkit", "flows", "migrations", "tests"))
    assert found
    assert [line for line, rest in found if not _WITH_REASON.match(rest)] == []


def test_all_rules_are_on_and_each_exception_in_the_settings_has_its_reason():
    """No family of rules is turned off as a whole, and the security rules only in the tests."""
    text = (ROOT / "pyproject.toml").read_text()
    lint = tomllib.loads(text)["tool"]["ruff"]["lint"]
    assert lint["select"] == ["ALL"]
    ignored = {place: rules for place, rules in lint["per-file-ignores"].items() if place != "tests/**"}
    everywhere = [*lint["ignore"], *(rule for rules in ignored.values() for rule in rules)]
    assert [rule for rule in everywhere if re.fullmatch(r"S[0-9]*", rule)] == []
    section = text[text.index("[tool.ruff.lint]") : text.index("[tool.ruff.lint.pydocstyle]")]
    assert [line for line in section.splitlines() if re.search(r'"[A-Z]+[0-9]*"', line) and "#" not in line] == [
        'select = ["ALL"]'
    ]
