"""A provider of the user's own: OpenAI's shape at any address, and what differs in ``batchkit.toml``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from batchkit.errors import ConfigurationError
from batchkit.provider.dialect import AuthStyle, ListStyle
from batchkit.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MINE = """\
[provider]
name = "mine"
base_url = "https://gpu.example/v1"

[provider.profile]
max_lines = 10_000
windows = [1, 48]
one_model = false
listing = "page"
auth = "api-key"
endpoints = ["/v1/chat/completions", "/v1/embeddings"]
statuses = { done = "completed" }
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that writes the settings file of the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BATCHKIT_PROVIDER", raising=False)
    monkeypatch.delenv("BATCHKIT_BASE_URL", raising=False)

    def to_file(text: str) -> None:
        (tmp_path / "batchkit.toml").write_text(text)

    return to_file


def key_of(**flags: Any) -> str | None:
    """Return the key of the settings."""
    key = load_settings(**flags).api_key
    return None if key is None else key.get_secret_value()


def test_custom_works_by_flags_alone(write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """It has OpenAI's shape, and its key is in a variable of batchkit's."""
    write("")
    monkeypatch.setenv("BATCHKIT_API_KEY", "its own")
    monkeypatch.setenv("OPENAI_API_KEY", "another's")
    found = load_settings(provider="custom", base_url="http://127.0.0.1:9/v1")
    assert (found.address, key_of(provider="custom")) == ("http://127.0.0.1:9/v1", "its own")
    assert (found.dialect.limits.max_lines, found.dialect.windows.described) == (50_000, "24h")
    with pytest.raises(ConfigurationError, match="the custom provider has no address of its own"):
        _ = load_settings(provider="custom").address


def test_a_profile_changes_what_it_names(write: Callable[[str], None]) -> None:
    """Everything else is as OpenAI's reference has it."""
    write(MINE)
    settings = load_settings(shard_lines=10_000, max_window="48h")
    dialect = settings.dialect
    assert (dialect.name, dialect.title, settings.address) == ("mine", "mine", "https://gpu.example/v1")
    assert (dialect.limits.max_lines, dialect.limits.max_bytes) == (10_000, 200_000_000)
    assert (dialect.windows.described, dialect.rules.has_one_model) == ("1h to 48h", False)
    assert (dialect.api.listing, dialect.key.auth) == (ListStyle.PAGE, AuthStyle.API_KEY)
    assert dialect.statuses == {"done": "completed"}
    assert dialect.verified == "a profile of your own"
    with pytest.raises(ConfigurationError, match="10,001 is too many: a file of mine has at most 10,000"):
        load_settings(shard_lines=10_001)


def test_a_profile_corrects_that_of_a_known_provider(write: Callable[[str], None]) -> None:
    """Its shape, its address and its other values stay; a provider without a profile cannot be changed."""
    write('[provider]\nname = "mistral"\n[provider.profile]\nmax_lines = 7\n')
    dialect = load_settings().dialect
    assert (dialect.limits.max_lines, dialect.api.batches_path) == (7, "/batch/jobs")
    assert dialect.base_url == "https://api.mistral.ai/v1"
    write('[provider]\nname = "groq"\n[provider.profile]\nmax_lines = 7\n')
    with pytest.raises(ConfigurationError, match="Groq has no profile that could be changed"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[provider.profile]\nmax_line = 7\n", "2: a profile has no 'max_line'; did you mean 'max_lines'"),
        ("[provider.profile]\n\nmax_lines = 0\n", "3: max_lines: Input should be greater than 0"),
        ("[provider.profile]\nwindows = [48, 24]\n", "2: windows: write the shortest window first"),
        ('[provider.profile]\nstatuses = { done = "odd" }\n', "2: done: Input should be"),
        ('[provider.profile]\nbase_url = "https://x"\n', "2: base_url does not belong here: write it below [provider]"),
        (
            '[provider.profile]\nkey_variable = "MY_KEY"\n',
            "2: key_variable: the key of a server of your own is in BATCH",
        ),
        ('[provider]\nnam = "x"\n', "2: there is no setting 'nam'; did you mean 'name'"),
        ('[provider]\napi_key = "x"\n', "2: api_key: this file must not hold a key"),
        ('[batchkit]\nprovider = "openai"\n', "2: provider does not belong here: write name below [provider]"),
        (
            '[batchkit]\nbase_url = "x"\n[provider]\nbase_url = "y"\n',
            "4: base_url is given twice: batchkit.toml:2 has it",
        ),
        ("[provider]\nprofile = 3\n", "2: profile: Input should be"),
    ],
)
def test_a_mistake_is_told_with_its_line(write: Callable[[str], None], text: str, reason: str) -> None:
    """Unknown entries with the nearest name; nothing is sent."""
    write(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert f"batchkit.toml:{reason}" in caught.value.message
    assert caught.value.message.count("\n") == 0


def test_what_the_file_says_holds_for_its_own_provider_only(
    write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another provider of a flag or of the environment has its own address and profile; the same one keeps them."""
    write(MINE)
    flag = load_settings(provider="openai")
    assert (flag.dialect.limits.max_lines, flag.address) == (50_000, "https://api.openai.com/v1")
    monkeypatch.setenv("BATCHKIT_PROVIDER", "kimi")
    assert load_settings().address == "https://api.moonshot.ai/v1"
    monkeypatch.setenv("BATCHKIT_BASE_URL", "https://third.example/v1")
    assert load_settings(provider="mine").address == "https://gpu.example/v1"
    monkeypatch.delenv("BATCHKIT_BASE_URL")
    monkeypatch.setenv("BATCHKIT_PROVIDER", "mine")
    assert (load_settings().address, load_settings().dialect.limits.max_lines) == ("https://gpu.example/v1", 10_000)


def test_no_key_but_its_own_goes_to_an_address_of_the_file(
    write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file may have another author."""
    for name in ("OPENAI_API_KEY", "MISTRAL_API_KEY", "GROQ_API_KEY"):
        monkeypatch.setenv(name, "secret of another")
    write(MINE)
    assert key_of() is None
    write('[provider]\nname = "mistral"\nbase_url = "https://gpu.example/v1"\n')
    with pytest.raises(ConfigurationError, match="MISTRAL_API_KEY is a key for Mistral, but base_url names another"):
        load_settings()
    monkeypatch.setenv("BATCHKIT_API_KEY", "its own")
    assert key_of() == "its own"
    write('[provider]\nname = "mistral"\n')
    monkeypatch.delenv("BATCHKIT_API_KEY")
    assert key_of() == "secret of another"
