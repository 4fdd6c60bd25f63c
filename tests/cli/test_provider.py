"""``provider list`` and ``provider check``: what they print, and their exit codes."""

from __future__ import annotations

from pathlib import Path

from batchkit.emulator.faults import batches, calls
from batchkit.provider.dialects import names


def test_the_list_has_every_provider(batchkit):
    """With address, key, windows, limits, and how these are known; in JSON too."""
    ended = batchkit("provider", "list")
    assert ended.code == 0
    parts = ("https://api.openai.com/v1", "MISTRAL_API_KEY", "24h to 168h", "5,000,000 lines", "kept 30 days")
    for part in (*names(), *parts, "kept 1 day", "kept: not known"):
        assert part in ended.out
    listed = {one["name"]: one for one in batchkit("provider", "list", "--json").json["providers"]}
    assert tuple(listed) == names()
    assert listed["together"]["max_bytes"] == 100_000_000
    assert [listed[name]["results_kept_days"] for name in ("groq", "mistral", "kimi")] == [30, 1, None]


def test_a_server_like_its_profile_is_exit_code_0(batchkit, open_emulator):
    """Every row says so, and a sentence below the table."""
    emulator = open_emulator()
    ended = batchkit("provider", "check", "--yes", "--wait", "5")
    assert ended.code == 0, ended
    assert "as the profile says" in ended.out
    assert f"Groq at {emulator.base_url} does what its profile says" in ended.err
    assert "8 questions of the documentation not answered: --all shows them" in ended.err
    assert [upload for upload in emulator.ledger().uploads if not upload.deleted] == []


def test_a_server_that_differs_is_exit_code_3(batchkit, open_emulator):
    """The table shows both sides; JSON has the corrections."""
    open_emulator(batches.RenameStatus(status="completed", shown="odd"))
    ended = batchkit("provider", "check", "--yes", "--wait", "0.1")
    assert ended.code == 3
    assert "differs from its profile in 1 of" in ended.err
    found = batchkit("provider", "check", "--yes", "--wait", "0.1", "--json")
    assert (found.code, found.json["corrections"]) == (3, {"statuses": {"odd": None}})


def test_a_server_that_cannot_be_used_is_exit_code_2(batchkit, open_emulator, monkeypatch):
    """A plan without batches, no key, nobody to ask, a file that is there: the reason and what to do."""
    open_emulator(calls.PlanGate())
    gated = batchkit("provider", "check", "--free")
    assert gated.code == 2
    assert "cannot be used: " in gated.err
    assert "hint: the free plan has no Batch API" in gated.err
    unasked = batchkit("provider", "check")
    assert (unasked.code, "--free leaves them out" in unasked.err) == (2, True)
    Path("there.toml").write_text("")
    for words, reason in (
        (("--provider", "openai", "--save", "there.toml"), "there.toml exists"),
        (("--save", "new.toml"), "no profile that could be saved"),
    ):
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        refused = batchkit("provider", "check", "--free", *words)
        assert (refused.code, reason in refused.err) == (2, True)
    monkeypatch.delenv("GROQ_API_KEY")
    monkeypatch.delenv("BATCHKIT_API_KEY", raising=False)
    assert batchkit("provider", "check", "--free").code == 2


def test_what_a_check_cannot_answer_is_shown_on_request(batchkit, open_emulator):
    """With the reason; machines always get it."""
    open_emulator()
    short = batchkit("provider", "check", "--free")
    assert "not answered by this check" not in short.out
    whole = batchkit("provider", "check", "--free", "--all")
    for part in ("not answered by this check", "why", "shortest window", "leave out --free", "--audio"):
        assert part in whole.out
    assert "--all" not in whole.err
    found = batchkit("provider", "check", "--free", "--json").json
    assert len(found["unanswered"]) == 9
    assert "x-request-id" in {entry["what"] for entry in found["facts"] if entry["verdict"] == "noted"}
