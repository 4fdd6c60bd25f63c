"""Scripted faults in synchronous calls: what the client sees, and what the ledger knows."""

import socket
import threading
import time

import httpx
import pytest

from batchkit.emulator import Scenario
from batchkit.emulator.faults import answers, calls, lines, replies
from batchkit.emulator.faults.base import Call
from tests.emulator.sync_support import CHAT, RAW_CHAT, RawConnection, ask, chat_body, raw_request, refusal, statuses

SYNC = ("synchronous",)
BROKEN = (httpx.RemoteProtocolError, httpx.ReadError)


def executed(client):
    """Return the number of executions so far."""
    return client.emulator.ledger().synchronous.executed


def until(holds):
    """Wait until something holds."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)  # noqa: TID251 - a real server is polled


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize(("fault", "bought"), [(calls.DropConnection, 0), (calls.LoseReply, 1)])
def test_a_connection_breaks_before_or_after_execution(make_client, how, fault, bought):
    """The client cannot tell the two apart; the ledger can."""
    client = make_client(Scenario(faults=(fault(on=SYNC, times=1, how=how),)))
    with pytest.raises(BROKEN):
        ask(client)
    assert executed(client) == bought
    assert ask(client).status_code == 200
    totals = client.emulator.ledger().synchronous
    assert (totals.executed, totals.executed_again, totals.delivered) == (bought + 1, bought, 1)
    assert {status: counted.count for status, counted in totals.statuses.items()} == {"none": 1, "200": 1}


def test_a_reset_is_a_reset(make_client):
    """The client's system reports it as one, not as an end."""
    client = make_client(Scenario(faults=(calls.DropConnection(on=SYNC, how="reset"),)))
    with RawConnection(client) as connection:
        connection.send(raw_request(RAW_CHAT))
        with pytest.raises(ConnectionResetError):
            connection.rest()


def test_an_answer_after_the_clients_time_out_is_bought(make_client):
    """The call was executed at once, and nobody reads the answer."""
    client = make_client(Scenario(faults=(calls.SlowReplies(on=SYNC, times=1, seconds=0.4),)))
    with pytest.raises(httpx.ReadTimeout):
        client.http.post(CHAT, json=chat_body(), timeout=0.1)
    assert executed(client) == 1
    until(lambda: client.emulator.ledger().synchronous.statuses)
    assert client.emulator.ledger().synchronous.delivered == 0
    assert ask(client).status_code == 200
    assert client.emulator.ledger().synchronous.bought_twice == 1


def test_slow_answers_do_not_delay_others_and_vary(make_client):
    """Ten slow calls at once take as long as one; the delay of each is chosen by its number."""
    fault = calls.SlowReplies(on=SYNC, seconds=0.2, up_to=0.6)
    client = make_client(Scenario(faults=(fault,)))
    started = time.monotonic()
    threads = [threading.Thread(target=ask, args=(client, str(number))) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.2 <= time.monotonic() - started < 1.9
    assert client.emulator.ledger().synchronous.most_in_flight > 5
    delays = [fault.delay_seconds(Call("chat.completions", number)) for number in range(1, 200)]
    assert 0.2 <= min(delays) < 0.25
    assert 0.55 < max(delays) < 0.6


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        (calls.RefuseCalls(on=SYNC), 500, "internal_server_error"),
        (calls.RefuseCalls(on=SYNC, status=503, message="Service Unavailable"), 503, "internal_server_error"),
        (calls.RateLimit(on=SYNC), 429, "tokens"),
        (calls.RequestTooLarge(on=SYNC), 413, "tokens"),
        (calls.BadKey(on=SYNC), 401, "invalid_request_error"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_calls_are_refused(make_client, fault, status, kind):
    """Nothing is executed."""
    client = make_client(Scenario(faults=(fault,)))
    refused = ask(client)
    assert (refused.status_code, refusal(refused)["type"]) == (status, kind)
    assert executed(client) == 0


def test_flex_alone_is_full(make_client):
    """Other tiers are answered."""
    client = make_client(Scenario(faults=(calls.FlexFull(),)))
    assert [ask(client, service_tier=tier).status_code for tier in ("flex", "on_demand")] == [498, 200]


def test_calls_are_redirected(make_client):
    """The location is the fault's, and nothing is executed."""
    client = make_client(Scenario(faults=(replies.RedirectCalls(status=308, to="http://127.0.0.1:9/x"),)))
    redirected = client.http.post(CHAT, json=chat_body(), follow_redirects=False)
    assert (redirected.status_code, redirected.headers["location"]) == (308, "http://127.0.0.1:9/x")
    assert executed(client) == 0


def test_a_cut_answer_was_bought(make_client):
    """The connection ends before the stated length, or the JSON ends early."""
    client = make_client(Scenario(faults=(replies.CutReplies(keep=0.6),)))
    with pytest.raises(BROKEN):
        ask(client)
    assert (executed(client), client.emulator.ledger().synchronous.delivered) == (1, 0)
    client.emulator.set_scenario(Scenario(faults=(replies.CutReplies(how="clean"),)))
    cut = ask(client)
    assert cut.status_code == 200
    with pytest.raises(ValueError, match="line 1"):
        cut.json()


@pytest.mark.parametrize("how", ["text", "html", "empty", "null", "list", "object", "not-utf8"])
def test_an_answer_is_no_completion(make_client, how):
    """It is status 200 and something else; the request was executed."""
    client = make_client(Scenario(faults=(replies.StrangeReplies(how=how),)))
    strange = ask(client)
    assert strange.status_code == 200
    assert b'"message":{"role"' not in strange.content
    assert executed(client) == 1


def test_faults_of_lines_change_the_answers_of_calls(make_client):
    """A garbled and a refused answer look as in a batch; a fault that leaves a line without an answer has no effect."""
    faults = (
        answers.GarbleAnswers(custom_ids={"garbled"}),
        lines.FailLines(custom_ids={"failed"}, attempts=1),
        lines.ExpireLines(),
        lines.DropLines(),
        lines.ZeroStatusLines(),
    )
    client = make_client(Scenario(faults=faults))
    assert ask(client, name="garbled").json()["choices"][0]["message"]["content"].startswith("Well, let me see")
    assert [ask(client, name="failed").status_code for _ in range(2)] == [400, 200]
    assert ask(client, name="plain").json()["choices"][0]["message"]["content"] == "Echo: hello"


class TestTimes:
    """Faults that hit for a time."""

    @pytest.mark.parametrize(
        ("window", "hit"),
        [
            ({"from_seconds": 10, "to_seconds": 20}, [0, 1, 1, 0, 0]),
            ({"from_seconds": 15}, [0, 0, 1, 1, 1]),
            ({"to_seconds": 10}, [1, 0, 0, 0, 0]),
            ({"from_seconds": 0, "to_seconds": 10, "repeat_seconds": 25}, [1, 0, 0, 1, 0]),
        ],
    )
    def test_a_window_is_in_provider_seconds(self, window, hit):
        """From is the first second that counts, to the first that does not."""
        fault = calls.RefuseCalls(on=SYNC, **window)
        times = (9.9, 10.0, 19.9, 25.0, 35.1)
        hits = [fault.hits(Call("chat.completions", 1, elapsed=elapsed), 0) for elapsed in times]
        assert hits == [bool(wanted) for wanted in hit]

    def test_an_outage_begins_with_the_scenario(self, make_client):
        """At 600 times the speed a minute of outage is a tenth of a second."""
        outage = calls.RefuseCalls(on=SYNC, status=503, to_seconds=60)
        client = make_client(Scenario(), speed=600)
        assert ask(client).status_code == 200
        client.emulator.set_scenario(Scenario(faults=(outage,)))
        assert ask(client).status_code == 503
        until(lambda: ask(client).status_code == 200)

    def test_one_model_alone_can_be_away(self, make_client):
        """Calls of other models are answered."""
        client = make_client(Scenario(faults=(calls.RefuseCalls(on=SYNC, models={"openai/gpt-oss-120b"}),)))
        models = ("openai/gpt-oss-120b", "openai/gpt-oss-20b")
        assert [ask(client, model=model).status_code for model in models] == [500, 200]


class TestCapacity:
    """A server with room for so many calls."""

    @staticmethod
    def at_once(client, count):
        """Send calls at once; return the statuses and the real seconds that they took together."""
        found = []
        threads = [
            threading.Thread(target=lambda n=n: found.append(ask(client, str(n)).status_code)) for n in range(count)
        ]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found, time.monotonic() - started

    def test_calls_above_it_wait(self, make_client):
        """Twelve calls of a fifth of a second on four places take three fifths."""
        fault = replies.LimitedCapacity(at_once=4, seconds=0.2)
        found, seconds = self.at_once(make_client(Scenario(faults=(fault,))), 12)
        assert found == [200] * 12
        assert seconds >= 0.6

    @pytest.mark.parametrize("status", [429, 498, 500, 503])
    def test_calls_above_it_are_refused(self, make_client, status):
        """As many as there are places are answered."""
        fault = replies.LimitedCapacity(at_once=3, seconds=0.5, above="refuse", status=status)
        client = make_client(Scenario(faults=(fault,)))
        found, _ = self.at_once(client, 8)
        assert sorted(found) == [200] * 3 + [status] * 5
        assert executed(client) == 3

    def test_calls_above_it_slow_all_down(self, make_client):
        """Eight calls on two places take up to four times as long."""
        fault = replies.LimitedCapacity(at_once=2, seconds=0.1, above="slow")
        found, seconds = self.at_once(make_client(Scenario(faults=(fault,))), 8)
        assert found == [200] * 8
        assert seconds >= 0.4

    @pytest.mark.parametrize(("elapsed", "slots"), [(0, 100), (59, 100), (60, 50), (120, 200), (500, 1)])
    def test_it_halves_and_doubles_by_a_schedule(self, elapsed, slots):
        """Each change holds until the next; one place is always left."""
        fault = replies.LimitedCapacity(at_once=100, changes=((60, 0.5), (120, 2.0), (500, 0.0)))
        assert fault.slots(elapsed) == slots

    def test_a_waiting_call_that_nobody_waits_for_is_not_executed(self, make_client):
        """Its client has left before its turn; the one that is worked on is executed all the same."""
        fault = replies.LimitedCapacity(at_once=1, seconds=0.3)
        client = make_client(Scenario(faults=(fault,)))
        with RawConnection(client) as first, RawConnection(client) as second:
            first.send(raw_request(RAW_CHAT))
            until(lambda: client.emulator.world.synchronous.in_flight == 1)
            second.send(raw_request(RAW_CHAT))
            until(lambda: client.emulator.world.synchronous.in_flight == 2)
            second.socket.close()
            assert first.read()[0] == 200
        until(lambda: client.emulator.world.synchronous.in_flight == 0)
        assert executed(client) == 1


def test_the_ready_made_storm_of_calls(emulate):
    """Most calls are answered, and some break, are refused, or are no JSON."""
    client = emulate("flaky-calls")
    found = []
    for number in range(200):
        try:
            found.append(ask(client, f"storm {number}").status_code)
        except httpx.TransportError:
            found.append(0)
    assert found.count(200) > 150
    assert {0, 500, 503} <= set(found)


def test_a_client_that_leaves_while_it_waits_ends_its_call(make_client):
    """A hang of half a minute is over when the emulator closes."""
    client = make_client(Scenario(faults=(calls.LoseReply(on=SYNC, how="hang", hang_seconds=30),)))
    with pytest.raises(httpx.ReadTimeout):
        client.http.post(CHAT, json=chat_body(), timeout=0.1)
    assert statuses(client, 1) == [200]
    assert isinstance(client.emulator.world.synchronous.in_flight, int)
    with socket.create_connection(("127.0.0.1", int(client.emulator.root_url.rpartition(":")[2]))) as idle:
        assert idle
