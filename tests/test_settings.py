"""Settings: their sources, the contents of ``batchkit.toml``, and the position of a mistake in it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit import settings_sources
from batchkit.errors import ConfigurationError
from batchkit.provider.groq.dialect import GROQ
from batchkit.settings import Settings, load_settings, origins_of_settings
from batchkit.settings_file import SettingsFile

ELSEWHERE = "https://llm.example.org/v1"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in a folder two levels below the one where a test writes its file."""
    work = tmp_path / "project" / "data" / "march"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    monkeypatch.setattr(settings_sources, "_warned", set())
    return tmp_path / "project"


def write(folder, text):
    """Write the settings file of a project; return its path."""
    path = folder / "batchkit.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(**flags):
    """Load invalid settings; return the lines of the error."""
    with pytest.raises(ConfigurationError) as raised:
        load_settings(**flags)
    assert raised.value.exit_code == 2
    assert raised.value.hint
    return raised.value.message.splitlines()


def key_of(settings):
    """Return the key of settings that have one."""
    assert settings.api_key is not None
    return settings.api_key.get_secret_value()


def test_flags_override_the_environment_which_overrides_dotenv_which_overrides_the_file(folder, monkeypatch):
    """Each source supplies what the sources before it do not set."""
    file = write(folder, "[batchkit]\ntransfers = 1\nmax_attempts = 1\nhttp_attempts = 1\nmax_expiries = 1\n")
    Path(".env").write_text("BATCHKIT_TRANSFERS=2\nBATCHKIT_MAX_ATTEMPTS=2\nBATCHKIT_HTTP_ATTEMPTS=2\n")
    monkeypatch.setenv("BATCHKIT_TRANSFERS", "3")
    monkeypatch.setenv("BATCHKIT_MAX_ATTEMPTS", "3")
    settings = load_settings(transfers=4, poll_interval_seconds=None)
    found = (settings.transfers, settings.max_attempts, settings.http_attempts, settings.max_expiries)
    assert found == (4, 3, 2, 1)
    assert origins_of_settings({"transfers": 4}, GROQ) == {
        "transfers": "a flag",
        "max_attempts": "the environment",
        "http_attempts": ".env",
        "max_expiries": f"{file}:5",
    }


def test_without_a_file_the_defaults_apply():
    """There is no file and no variable."""
    assert load_settings() == Settings()
    assert origins_of_settings({}, GROQ) == {}


def test_only_the_nearest_file_counts(folder):
    """Files are not combined; one in the working directory is named without its folder."""
    write(folder, "[batchkit]\ntransfers = 3\nmax_attempts = 3\n")
    Path("batchkit.toml").write_text("[batchkit]\ntransfers = 5\n")
    settings = load_settings()
    assert (settings.transfers, settings.max_attempts) == (5, 5)
    assert origins_of_settings({}, GROQ) == {"transfers": "batchkit.toml:2"}


def test_relative_paths_start_in_the_folder_of_the_file(folder, monkeypatch):
    """Absolute paths and addresses are unchanged; ``~`` is the user's home, because no shell expands it."""
    write(folder, '[batchkit]\nhome = "work"\nshared_folder = "/mnt/all"\ndatabase_url = "sqlite:///db/results.db"\n')
    settings = load_settings()
    assert settings.home == folder / "work"
    assert settings.shared_folder == Path("/mnt/all")
    assert settings.resolved_database_url == f"sqlite:///{folder}/db/results.db"
    write(folder, '[batchkit]\ndatabase_url = "sqlite:///:memory:"\n')
    assert load_settings().database_url == "sqlite:///:memory:", "its refusal is the store's"
    write(folder, '[batchkit]\nhome = "~/work"\ndatabase_url = "sqlite:////data/results.db"\n')
    monkeypatch.setenv("HOME", "/home/somebody")
    settings = load_settings()
    assert settings.home == Path("/home/somebody/work")
    assert settings.database_url == "sqlite:////data/results.db"


def test_notifications_have_their_own_table(folder, monkeypatch):
    """Its keys are settings too, so the environment overrides them; the address is not shown."""
    write(folder, '[notify]\nurl = "https://hooks.example.org/T1/secret-part"\nformat = "slack"\n')
    settings = load_settings()
    assert (settings.notify_url, settings.notify_format) == ("https://hooks.example.org/T1/secret-part", "slack")
    assert "secret-part" not in f"{settings} {settings!r}"
    monkeypatch.setenv("BATCHKIT_NOTIFY_URL", "https://other.example.org/")
    assert load_settings().notify_url == "https://other.example.org/"


WRONG = """\
transfers = 3
[batchkit]
widnow = "24h"
window = "one day"
shard_lines = [
  1,
]
max-window = "7d"
BATCHKIT_HOME = "x"
notify_format = "slack"
poll_interval_seconds = -1
[notify]
url = "ftp://hooks.example.org/secret-part"
fromat = "json"
[notfy]
"""


def test_every_mistake_is_reported_with_its_line(folder):
    """Unknown tables and keys come with the nearest name, wrong values with the reason; all at once, in the file's order."""
    file = write(folder, WRONG)
    lines = refusal()
    said = dict(line.removeprefix(f"{file}:").split(": ", 1) for line in lines)
    assert list(said) == ["1", "3", "4", "5", "8", "9", "10", "11", "13", "14", "15"]
    assert said["1"] == "transfers does not belong here: write transfers below [batchkit]"
    assert said["3"] == "there is no setting 'widnow'; did you mean 'window'?"
    assert said["4"].startswith("window: a completion window is written in hours or days")
    assert said["5"].startswith("shard_lines: ")
    assert "did you mean 'max_window'?" in said["8"]
    assert "did you mean 'home'?" in said["9"]
    assert said["10"] == "notify_format does not belong here: write format below [notify]"
    assert said["11"].startswith("poll_interval_seconds: ")
    assert said["13"].startswith("url: write an address")
    assert "did you mean 'format'?" in said["14"]
    assert "did you mean 'notify'?" in said["15"]
    assert "secret-part" not in "".join(lines)


def test_the_file_is_checked_even_if_another_source_overrides_it(folder, monkeypatch):
    """The author of a mistake sees it at once, and not a later user whose variable is missing."""
    file = write(folder, '[batchkit]\ntransfers = "many"\n')
    monkeypatch.setenv("BATCHKIT_TRANSFERS", "3")
    assert refusal(transfers=3)[0].startswith(f"{file}:2: transfers: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[batchkit]\nwindow = 24h\n", ":2:"),
        (b'[batchkit]\nwindow = """\n24h\n', ":3: not valid TOML"),
        (b"[batchkit]\nhome = 1\nhome = 2\n", ":3:"),
        (b"batchkit = 3\n", ":1: batchkit is a table: write its entries below [batchkit]"),
        (b"[[batchkit]]\nhome = 'x'\n", ":1: batchkit is a table"),
        (b"[batchkit]\nhome = '\xff'\n", " is not text in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_parsed_has_a_position(folder, text, said):
    """The error has the line and column of the invalid TOML."""
    path = folder / "batchkit.toml"
    path.write_bytes(text)
    (line,) = refusal()
    assert line.startswith(f"{path}{said}")


@pytest.mark.parametrize(
    "entry",
    [
        'api_key = "gsk_needle"',
        'GROQ_API_KEY = "gsk_needle"',
        'BATCHKIT_API_KEY = "gsk_needle"',
        'database_url = "postgresql+psycopg://me:gsk_needle@host/name"',
        'database_url = "postgresql://host/name?user=me&password=gsk_needle"',
        'database_url = "postgresql://me@host/name?sslpassword=gsk_needle"',
        'spool_url = "sftp://me:gsk_needle@host/folder"',
        'spool_url = "az://box/folder?sas_token=gsk_needle"',
        'base_url = "https://me:gsk_needle@host/v1"',
    ],
)
def test_the_file_may_hold_no_secret(folder, entry):
    """The file may be shared. The error says where else to put the secret, and does not repeat it."""
    file = write(folder, f"[batchkit]\ntransfers = 3\n{entry}\n")
    (line,) = refusal()
    assert line.startswith(f"{file}:3: ")
    assert "this file must not hold a" in line
    assert "in the environment or in .env" in line
    assert "needle" not in line


@pytest.mark.parametrize(
    "entry",
    [
        'database_url = "postgresql+psycopg://me@host:5432/name?connect_timeout=3"',
        'spool_url = "s3://bucket/folder"',
        'task_runner_address = "tcp://host:8786"',
    ],
)
def test_addresses_without_a_password_may_be_in_the_file(folder, entry):
    """Ports and options are no secrets."""
    write(folder, f"[batchkit]\n{entry}\n")
    name, value = entry.replace('"', "").split(" = ")
    assert getattr(load_settings(), name) == value


def test_the_files_address_never_gets_the_key_of_groq(folder, monkeypatch):
    """The author of the file chose the address: it gets only a key that was set for it, wherever that key is set."""
    file = write(folder, f'[batchkit]\nbase_url = "{ELSEWHERE}"\n')
    assert load_settings().base_url == ELSEWHERE, "without a key there is nothing to protect"
    monkeypatch.setenv("GROQ_API_KEY", "gsk_groqs")
    (line,) = refusal()
    assert line.startswith(f"{file}:2: GROQ_API_KEY is a key for Groq")
    assert "gsk_groqs" not in line
    Path(".env").write_text("BATCHKIT_API_KEY=its_own\n")
    settings = load_settings()
    assert (settings.base_url, key_of(settings)) == (ELSEWHERE, "its_own")
    monkeypatch.setenv("BATCHKIT_API_KEY", "its_new")
    assert key_of(load_settings()) == "its_new"
    assert key_of(load_settings(api_key="given")) == "given"


@pytest.mark.parametrize(
    "address", ["http://api.groq.com/openai/v1", "https://api.groq.com@evil.example/v1", "https://[api.groq.com/v1"]
)
def test_an_address_that_resembles_groqs_is_another(folder, monkeypatch, address):
    """It is unencrypted, has Groq's name before the @, or is no address at all."""
    write(folder, f'[batchkit]\nbase_url = "{address}"\n')
    monkeypatch.setenv("GROQ_API_KEY", "gsk_groqs")
    assert "a key for Groq" in refusal()[0]


def test_an_address_from_a_flag_or_variable_is_the_users_own_choice(folder, monkeypatch):
    """A flag or a variable overrides the file, for the key too; Groq's own address is always Groq's."""
    write(folder, f'[batchkit]\nbase_url = "{ELSEWHERE}"\n')
    monkeypatch.setenv("GROQ_API_KEY", "gsk_groqs")
    assert key_of(load_settings(base_url="https://third.example/v1")) == "gsk_groqs"
    monkeypatch.setenv("BATCHKIT_BASE_URL", "https://third.example/v1")
    assert key_of(load_settings()) == "gsk_groqs"
    monkeypatch.delenv("BATCHKIT_BASE_URL")
    write(folder, '[batchkit]\nbase_url = "https://api.groq.com/openai/v1"\n')
    assert key_of(load_settings()) == "gsk_groqs"


def test_an_unknown_variable_is_reported_once_with_the_nearest_name(monkeypatch, caplog):
    """A misspelt setting would silently have no effect; variables of other programs are left alone."""
    monkeypatch.setenv("BATCHKIT_WINDWO", "48h")
    monkeypatch.setenv("BATCHKIT_QQQ", "1")
    monkeypatch.setenv("BATCHKIT_TRANSFERS", "3")
    monkeypatch.setenv("BATCHKITX", "1")
    Path(".env").write_text("BATCHKIT_HOEM=x\nOTHERS=1\nBATCHKIT_API_KEY=k\n")
    with caplog.at_level(logging.WARNING, "batchkit"):
        load_settings()
        load_settings()
    assert sorted(record.getMessage() for record in caplog.records) == [
        "BATCHKIT_HOEM in .env is not a batchkit setting and has no effect; did you mean BATCHKIT_HOME?",
        "BATCHKIT_QQQ in the environment is not a batchkit setting and has no effect",
        "BATCHKIT_WINDWO in the environment is not a batchkit setting and has no effect; did you mean BATCHKIT_WINDOW?",
    ]


def test_a_variable_with_a_wrong_value_is_named(monkeypatch):
    """The error has the variable; a flag is named by its setting alone."""
    monkeypatch.setenv("BATCHKIT_LEASE_SECONDS", "soon")
    assert "lease_seconds (BATCHKIT_LEASE_SECONDS in the environment): " in refusal()[0]
    assert refusal(lease_seconds="soon")[0].startswith("a setting is wrong: lease_seconds: ")


KEYS = st.sampled_from(["home", "window", "transfers", "spool_url"])
FORMS = {
    "plain": '{key} = "{value}"',
    "quoted key": "'{key}' = '{value}'",
    "several lines": '{key} = """\n{value}\n\n"""',
    "with a comment": '{key}   =   "{value}"  # = [x]\n',
    "list": "{key} = [\n  1, # one\n\n  2,\n]",
}


@given(
    st.lists(st.tuples(KEYS, st.sampled_from(sorted(FORMS))), unique_by=lambda entry: entry[0]),
    st.lists(st.sampled_from(["", "# [notify]", "# home = 1"]), min_size=8, max_size=8),
)
def test_the_line_of_an_entry_is_its_first_line(entries, between):
    """This holds for every spelling of an entry and for comments around it; text within values is no entry."""
    lines = ["[batchkit]"]
    begins = {}
    for (key, form), extra in zip(entries, between, strict=False):
        lines += [extra]
        begins[key] = len(lines) + 1
        lines += FORMS[form].format(key=key, value="home = 3").split("\n")
    places: dict[str, tuple[str, ...]] = {key: ("batchkit", key) for key in begins}
    file = SettingsFile(Path("f"), "\n".join(lines), {}, {}, places)
    assert {key: file.place_of(key) for key in begins} == {key: f"f:{line}" for key, line in begins.items()}


def test_no_file_can_set_a_command(folder, monkeypatch):
    """The file may have another author: the command must be a flag or a variable."""
    for text in ('[batchkit]\non_finish = "rm -r x"\n', '[notify]\non-finish = "rm -r x"\n'):
        write(folder, text)
        with pytest.raises(ConfigurationError, match="must not hold a command: set BATCHKIT_ON_FINISH"):
            load_settings()
    write(folder, "")
    monkeypatch.setenv("BATCHKIT_ON_FINISH", "mail -s 'batchkit secret-part' me")
    settings = load_settings()
    assert settings.on_finish == "mail -s 'batchkit secret-part' me"
    assert "secret-part" not in f"{settings} {settings!r}"


def test_windows_and_sizes_are_those_of_the_provider(folder, monkeypatch):
    """What the provider does not take is refused with the place that says it; by default its own values apply."""
    file = write(folder, '[provider]\nname = "openai"\n[batchkit]\nwindow = "48h"\n')
    monkeypatch.setenv("BATCHKIT_SHARD_LINES", "50001")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert f"window ({file}:4): 48h is no window of OpenAI, which has 24h" in str(caught.value)
    assert "shard_lines (BATCHKIT_SHARD_LINES in the environment): 50,001 is too many" in str(caught.value)
    assert load_settings(provider="groq", shard_lines=50_000).window == "48h"
    with pytest.raises(ConfigurationError, match="no provider 'opneai'; did you mean 'openai'"):
        load_settings(provider="opneai")


def test_each_provider_has_a_key_and_an_address_of_its_own(monkeypatch):
    """The address of the environment belongs to its provider; a flag that names another one leaves it."""
    monkeypatch.setenv("GROQ_API_KEY", "groqs")
    monkeypatch.setenv("OPENAI_API_KEY", "openais")
    monkeypatch.setenv("BATCHKIT_API_KEY", "of some server")
    monkeypatch.setenv("BATCHKIT_BASE_URL", "http://127.0.0.1:1/v1")
    assert key_of(load_settings()) == "groqs"
    assert load_settings().address == "http://127.0.0.1:1/v1"
    found = load_settings(provider="openai")
    assert (key_of(found), found.address) == ("openais", "https://api.openai.com/v1")
    assert load_settings(provider="openai", base_url="http://127.0.0.1:2/v1").address == "http://127.0.0.1:2/v1"
    own = load_settings(provider="vllm", base_url="http://127.0.0.1:3/v1")
    assert key_of(own) == "of some server"
    with pytest.raises(ConfigurationError, match="no address of its own"):
        _ = load_settings(provider="vllm").address
