"""Who may ask: no page of another site, no name of a stranger, and beyond this machine only who has the token."""

from __future__ import annotations

import http.client
import re

import pytest

from batchkit.errors import UsageError
from batchkit.settings import load_settings
from batchkit.view.server import ViewServer
from tests.view.conftest import serving


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:80", "", "localhost.evil", "[::1", "10.0.0.1:8766"]
)
def test_a_foreign_name_for_this_machine_is_refused(sqlite_view, host):
    """A site whose name was made to mean this machine (DNS rebinding) learns nothing."""
    reply = sqlite_view.get("/", {"Host": host})
    assert reply.status == 403
    assert "refused" in reply.text


@pytest.mark.parametrize("host", ["localhost:8766", "127.0.0.1:9000", "[::1]:8766", "LOCALHOST"])
def test_the_names_of_this_machine_are_served(sqlite_view, host):
    """The port may be another one: that of a tunnel."""
    assert sqlite_view.get("/", {"Host": host}).status == 200


def test_another_site_can_neither_read_nor_change(sqlite_view):
    """A change needs our origin and a token that only our pages hold; a script of another site cannot read."""
    fields = {"name": "x", "reviewer": "Ada", "tab": "a", "number": "1"}
    assert sqlite_view.get("/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}).status == 403
    assert sqlite_view.get("/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status == 200
    assert sqlite_view.post("/review/decide", {"Origin": "https://evil.example"}, **fields).status == 403
    assert sqlite_view.post("/review/decide", {"Origin": "null"}, **fields).status == 403
    assert sqlite_view.post("/review/decide", {"X-Batchkit-Change": "guessed"}, **fields).status == 403
    assert sqlite_view.ask("POST", "/review/decide", {}, "number=1").status == 403
    assert sqlite_view.post("/review/decide", **fields).status == 404


def test_every_answer_forbids_all_but_its_own_style_and_script(sqlite_view):
    """The policy names one style sheet and one script by their digests; nothing is kept, framed or guessed."""
    for path in ("/", "/nope", "/workload?name=x"):
        reply = sqlite_view.get(path)
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert "style=" not in re.sub(r"<style>.*?</style>", "", reply.text, flags=re.DOTALL)
        assert "http://" not in re.sub(r"<(style|script)>.*?</\1>", "", reply.text, flags=re.DOTALL)


def test_beyond_this_machine_the_address_has_a_token(sqlite_url, tmp_path):
    """Without it every page is refused; with it a cookie keeps it, and the address loses it."""
    with serving(tmp_path, sqlite_url, host="0.0.0.0") as view:  # noqa: S104 - what the test is about
        root = view.root.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - as above
        view.root = root
        token = view.server.url_of().partition("token=")[2]
        assert len(token) >= 32
        assert view.get("/").status == 403
        assert view.get("/", token=f"{token[:-1]}?").status == 403
        entered = view.get("/", token=token, q="x")
        assert (entered.status, entered.headers["location"]) == (303, "/?q=x")
        assert "HttpOnly" in entered.headers["set-cookie"]
        assert "SameSite=strict" in entered.headers["set-cookie"]
        cookie = entered.headers["set-cookie"].partition(";")[0]
        assert view.get("/", {"Cookie": cookie}).status == 200
        assert view.get("/", {"Cookie": cookie, "Host": "evil.example"}).status == 403
        assert view.ask("POST", "/review/skip", {"Origin": root}).status == 403


def test_an_address_in_use_is_named(sqlite_view, sqlite_url, tmp_path):
    """The message says what to do."""
    port = int(sqlite_view.root.rpartition(":")[2])
    settings = load_settings(home=tmp_path, database_url=sqlite_url)
    with (
        pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}") as caught,
        ViewServer(settings, port=port),
    ):
        pass
    assert "--port 0" in (caught.value.hint or "")


def test_a_flood_is_cut(sqlite_view):
    """A change of megabytes is not read, and long fields of an address are cut."""
    reply = sqlite_view.post("/review/decide", number="1", note="W" * 3_000_000)
    assert reply.status == 400
    assert sqlite_view.get("/", q="W" * 20_000).status == 200
    with pytest.raises((http.client.HTTPException, OSError)):
        sqlite_view.get("/", q="W" * 2_000_000)
