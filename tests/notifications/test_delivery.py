"""How events reach their targets: with retries, within a time limit, at least once, and without any secret."""

from __future__ import annotations

import logging
import os
import time

import pytest
from sqlalchemy import select

from batchkit.files import jsonl
from batchkit.notifications.delivery import Delivery
from batchkit.notifications.targets import COMMAND, WEB, CommandTarget, NotDelivered, WebTarget
from batchkit.store import notifications
from batchkit.store.tables import notifications as notification_rows

NOW = 1_750_000_000.0
REPORT = {
    "version": 1,
    "id": "e1",
    "kind": "failed",
    "workload": "a <b> & c",
    "run": None,
    "requests": {"total": 3, "pending": 0, "in_flight": 0, "succeeded": 1, "failed": 2, "cancelled": 0},
    "evaluation": None,
}


def add(store, *targets, event_id="e1", at=NOW):
    """Write an event."""
    report = jsonl.dumps({**REPORT, "id": event_id}).decode()
    with store.write() as connection:
        notifications.add(
            connection, event_id=event_id, targets=targets, at=at, kind="failed", subject="work", report=report
        )


def undelivered(store, target=WEB):
    """Return the number of tries and the error of each undelivered row for a target."""
    rows = notification_rows.c
    query = select(rows.tries, rows.lease_owner, rows.last_error).order_by(rows.id)
    with store.read() as connection:
        return [
            tuple(row) for row in connection.execute(query.where(rows.delivered_at.is_(None), rows.target == target))
        ]


@pytest.fixture
def make(store, hook):
    """Return a function that makes a delivery to the hook, or to other targets."""

    def made(targets=None, *, owner="me", now=NOW, is_slack=False, wait=lambda _seconds: None):
        web = WebTarget(hook.url, is_slack=is_slack, allow_insecure_http=False)
        return Delivery(store, targets or {WEB: web}, owner=owner, clock=lambda: now, wait=wait)

    return made


def test_a_server_error_is_retried(store, hook, make):
    """The same event is sent again after a pause, and is then delivered."""
    add(store, WEB)
    hook.replies = [500, 429]
    pauses: list[float] = []
    delivery = make(wait=pauses.append)
    delivery.deliver(10)
    assert [report["id"] for report in hook.reports] == ["e1"] * 3
    assert pauses == [0.5, 1.0]
    assert undelivered(store) == []
    delivery.deliver(10)
    assert len(hook.bodies) == 3


def test_an_undelivered_event_is_left_to_the_next_command(store, hook, make, caplog):
    """One note names the host and the reason, without the address; the next process delivers."""
    add(store, WEB)
    add(store, WEB, event_id="e2", at=NOW + 1)
    hook.replies = [500] * 3
    first = make()
    first.deliver(10)
    assert undelivered(store) == [(1, None, "127.0.0.1: HTTP 500"), (0, None, None)]
    hook.replies = [404]
    first.deliver(10)
    hook.replies = [404]
    first.deliver(10)
    notes = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert notes == [
        f"a notification was not delivered: 127.0.0.1: HTTP {code}; the next command tries again" for code in (500, 404)
    ]
    assert "secret-part" not in caplog.text
    hook.bodies.clear()
    make(owner="another").deliver(10)
    assert [report["id"] for report in hook.reports] == ["e1", "e2"]
    assert undelivered(store) == []


def test_a_row_in_delivery_is_left_alone_until_its_lease_expires(store, hook, make):
    """It is then delivered again under the same id: the other process may have died."""
    add(store, WEB)
    with store.write() as connection:
        assert notifications.claim(connection, WEB, owner="other", now=NOW, lease_seconds=60, since=0) is not None
    for now in (NOW - 1, NOW + 59):
        make(now=now).deliver(10)
        assert hook.bodies == [], "a clock that is a little behind sees the lease too"
    make(now=NOW + 61).deliver(10)
    assert [report["id"] for report in hook.reports] == ["e1"]


def test_old_events_are_not_delivered(store, hook, make):
    """A hook that was unreachable for a week is not flooded."""
    add(store, WEB)
    make(now=NOW + 7 * 86_400).deliver(10)
    assert hook.bodies == []


def test_a_hook_that_hangs_delays_nothing_beyond_the_limit(store, hook, make, caplog):
    """It does not keep the command target from being run."""
    ran = []

    class Fast:
        def send(self, report, *, within_seconds):
            ran.append((report["id"], within_seconds > 0))

    add(store, WEB, COMMAND)
    hook.is_hanging.set()
    web = WebTarget(hook.url, is_slack=False, allow_insecure_http=False)
    began = time.monotonic()
    make({WEB: web, COMMAND: Fast()}).deliver(2)
    assert time.monotonic() - began < 4
    assert ran == [("e1", True)]
    assert len(undelivered(store)) == 1
    assert undelivered(store, COMMAND) == []
    assert "not delivered" in caplog.text


def test_a_target_that_ignores_its_limit_is_abandoned(store, hook, make, caplog):
    """The command ends anyway; the row is delivered again when its lease expires or the process is gone."""

    class Stuck:
        def send(self, _report, *, within_seconds):  # noqa: ARG002 - that is the point
            hook.released.wait(20)

    add(store, WEB)
    began = time.monotonic()
    make({WEB: Stuck()}).deliver(1)
    assert time.monotonic() - began < 5
    assert "was not delivered in 1 s; the next command tries again" in caplog.text
    hook.released.set()


def test_a_command_that_hangs_is_killed_with_its_children(store, make, script):
    """Neither the command nor its child outlives the limit."""
    # The sleep stands for a command that hangs; it is killed after the limit.
    command, out = script(
        "import os, time\npid = os.fork()\nif pid:\n    open(OUT, 'w').write(f'{pid} {os.getpid()}')\ntime.sleep(60)\n"
    )
    add(store, COMMAND)
    began = time.monotonic()
    make({COMMAND: CommandTarget(command)}).deliver(3)
    assert time.monotonic() - began < 5
    for pid in out.read_text().split():
        # Dead, or dead and not yet reaped by init.
        try:
            with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - may be gone between two calls
                assert stat.read().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            continue
    assert "was killed" in undelivered(store, COMMAND)[0][2]


def test_a_command_gets_the_report_on_stdin_and_no_secret(store, make, script, monkeypatch):
    """Its arguments are split as in a shell, and its environment is without key, database and settings."""
    monkeypatch.setenv("GROQ_API_KEY", "gsk_secret")
    monkeypatch.setenv("BATCHKIT_DATABASE_URL", "postgresql://user:pw@host/name")
    monkeypatch.setenv("BATCHKIT_NOTIFY_URL", "https://hooks.example.org/secret")
    monkeypatch.setenv("BEFORE", "kept")
    command, out = script(
        "import os, sys\nopen(OUT, 'w').write(sys.stdin.read() + repr(sys.argv[1:]) + repr(dict(os.environ)))\n"
    )
    add(store, COMMAND)
    make({COMMAND: CommandTarget(f"{command} 'two words' $HOME")}).deliver(10)
    line, _, rest = out.read_text().partition("\n")
    assert jsonl.loads(line) == REPORT
    assert rest.startswith("['two words', '$HOME']")
    assert "'BEFORE': 'kept'" in rest
    assert not any(secret in rest for secret in ("gsk_secret", "user:pw", "hooks.example.org"))
    assert undelivered(store, COMMAND) == []


def test_a_failed_command_counts_as_delivered(store, make, script, caplog):
    """It is not run again for the same event; its exit code is a note. One that does not exist is tried by the next command."""
    command, _ = script("import sys\nsys.exit(7)\n")
    add(store, COMMAND)
    make({COMMAND: CommandTarget(command)}).deliver(10)
    assert undelivered(store, COMMAND) == []
    assert "ended with exit code 7" in caplog.text
    add(store, COMMAND, event_id="e2")
    make({COMMAND: CommandTarget("/does/not/exist --token secret-part")}).deliver(10)
    assert undelivered(store, COMMAND) == [(1, None, f"exist cannot be started: {os.strerror(2)}")]


def test_slack_gets_one_sentence(store, hook, make):
    """The three special characters are escaped as Slack requires."""
    add(store, WEB)
    make(is_slack=True).deliver(10)
    text = "batchkit: a &lt;b&gt; &amp; c is finished: 1 of 3 requests succeeded, 2 failed"
    assert hook.reports == [{"text": text}]


def test_a_redirect_is_not_followed(hook):
    """The report goes only to the host that the user named."""
    hook.replies, hook.location = [302], hook.url.replace("/T1", "/other")
    with pytest.raises(NotDelivered, match=r"^127\.0\.0\.1: HTTP 302$"):
        WebTarget(hook.url, is_slack=False, allow_insecure_http=False).send(REPORT, within_seconds=5)
    assert hook.paths == ["/T1/secret-part"]


def test_a_reply_that_trickles_is_abandoned(hook):
    """The limit applies to the whole try, not to each byte."""
    hook.is_trickling = True
    began = time.monotonic()
    with pytest.raises(NotDelivered, match="no answer in"):
        WebTarget(hook.url, is_slack=False, allow_insecure_http=False).send(REPORT, within_seconds=0.5)
    assert time.monotonic() - began < 5
    hook.released.set()


def test_plain_http_is_only_for_this_machine():
    """Nothing is sent, not even a DNS query, unless insecure http is allowed."""
    target = WebTarget("http://hooks.example.org/secret-part", is_slack=False, allow_insecure_http=False)
    with pytest.raises(NotDelivered, match=r"^hooks\.example\.org: the address begins with http://"):
        target.send(REPORT, within_seconds=5)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/secret-part", "http://127.0.0.1:80 80/secret-part", "http://127.0.0.1/a b/secret-part"]
)
def test_no_error_contains_the_address(url):
    """This holds for every kind of mistake in it."""
    with pytest.raises(NotDelivered) as raised:
        WebTarget(url, is_slack=False, allow_insecure_http=False).send(REPORT, within_seconds=5)
    assert str(raised.value).startswith("127.0.0.1: ")
    assert "secret-part" not in str(raised.value)
