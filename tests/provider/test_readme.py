"""The table of providers in the README is that of the profiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchkit.emulator.dialects.providers import DIALECTS
from batchkit.provider.dialects import dialect_named, names
from batchkit.settings import load_settings
from tests.readmes import blocks

from .third_party import servers

if TYPE_CHECKING:
    import pytest

README = Path(__file__).parents[2] / "batchkit" / "provider" / "README.md"
#: The servers of third parties that ran workloads for a profile (``third_party``), with their packages and versions.
OTHERS_SERVERS = {
    "groq": servers.LLMOCK,
    "openai": servers.LLMOCK,
    "aibrix": servers.AIBRIX,
    "litellm": servers.LITELLM,
    "ogx": servers.OGX,
}
#: What was tried for other profiles, without success.
NOT_POSSIBLE = {
    "together": f"llmock {servers.LLMOCK.version} has no `/files/upload`",
    "mistral": f"llmock {servers.LLMOCK.version} names no file of answers",
    "vllm": "vLLM has no batch server, llm-d is not on the package index, SGLang was not tried: it needs the weights of a model",
}


def row(name: str) -> str:
    """Return a provider's row."""
    dialect = dialect_named(name)
    emulated = "yes" if name in DIALECTS else "as `openai`"
    size = f"{dialect.limits.max_lines:,} lines, {dialect.limits.max_bytes / 1e6:,.0f} MB"
    known = dialect.verified.removeprefix("documentation of ")
    title = f"`{name}`: {dialect.title}"
    package = OTHERS_SERVERS.get(name)
    tried = f"not possible: {NOT_POSSIBLE[name]}" if name in NOT_POSSIBLE else "none known"
    if package is not None:
        tried = f"{package.name} {package.version}"
    return f"| {title} | {emulated} | {tried} | nobody yet | {dialect.windows.described} | {size} | {known} |"


def test_the_readme_has_each_provider_with_its_limits_and_their_dates() -> None:
    """A changed profile changes its row; the table is on the first screen."""
    lines = README.read_text(encoding="utf-8").splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    assert begin < 10
    assert lines[begin + 1 : begin + 1 + len(names())] == [row(name) for name in names()]
    assert not lines[begin + 1 + len(names())]


def test_the_profile_in_the_readme_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be copied as it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BATCHKIT_BASE_URL", raising=False)
    (shown,) = blocks(README.read_text(encoding="utf-8"), "toml")
    (tmp_path / "batchkit.toml").write_text(shown.text)
    settings = load_settings()
    assert (settings.address, settings.dialect.limits.max_lines) == ("https://gpu.example/v1", 10_000)
