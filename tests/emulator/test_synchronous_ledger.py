"""The ledger of synchronous calls: it counts executions by request, across restarts, without keeping them in memory."""

import httpx
import orjson

from batchkit.emulator import Emulator, Scenario
from batchkit.emulator.faults import calls
from tests.emulator.support import Client, chat_line
from tests.emulator.sync_support import CHAT, MODEL, ask, chat_body


def test_a_body_names_its_request(make_client):
    """Spelling and tier do not matter, every other difference does."""
    client = make_client(plan="developer")
    body = chat_body("same", temperature=0)
    client.http.post(CHAT, json=body)
    client.http.post(CHAT, content=orjson.dumps(dict(reversed(body.items())), option=orjson.OPT_INDENT_2))
    client.http.post(CHAT, json={**body, "service_tier": "flex"})
    client.http.post(CHAT, json={**body, "temperature": 1})
    client.http.post("/responses", json={"model": MODEL, "input": "same"})
    totals = client.emulator.ledger().synchronous
    assert (totals.requests, totals.executed, totals.executed_again, totals.bought_twice) == (3, 5, 2, 2)


def test_a_header_names_its_request(make_client):
    """Two rows with the same text are two requests if the client says so."""
    client = make_client()
    for name in ("row-1", "row-2", "row-2"):
        ask(client, name=name)
    ledger = client.emulator.ledger()
    assert ledger.synchronous_executed == {"row-1": 1, "row-2": 2}
    assert ledger.synchronous.executed_again == 1


def test_files_are_named_by_their_content(make_client):
    """The same file is the same request, another one with the same name is not."""
    client = make_client()
    for content in (b"one", b"one", b"two"):
        form = {"data": {"model": "whisper-large-v3"}, "files": {"file": ("a.mp3", content)}}
        assert client.http.post("/audio/transcriptions", **form).status_code == 200
    totals = client.emulator.ledger().synchronous
    assert (totals.requests, totals.executed) == (2, 3)


def test_refusals_are_not_bought(make_client):
    """A 400 of the model was executed without success; a scripted refusal was not executed."""
    client = make_client(Scenario(faults=(calls.RefuseCalls(on=("chat",), times=1),)))
    assert [ask(client, n=number).status_code for number in (1, 2, 1)] == [500, 400, 200]
    totals = client.emulator.ledger().synchronous
    assert (totals.executed, totals.succeeded, totals.bought_twice) == (2, 1, 0)
    assert {status: counted.count for status, counted in totals.statuses.items()} == {"500": 1, "400": 1, "200": 1}


def test_statuses_have_their_times(make_client):
    """The first and the last answer of a status are dated in provider time."""
    client = make_client()
    before = client.emulator.world.clock.now()
    ask(client), ask(client)
    counted = client.emulator.ledger().synchronous.statuses["200"]
    assert before <= counted.first_at < counted.last_at <= client.emulator.world.clock.now()


def test_what_was_spent_is_known_by_model_and_tier(make_client):
    """Tokens are those of the answers, and audio at least ten seconds a file."""
    client = make_client(plan="developer")
    first = ask(client).json()["usage"]["total_tokens"]
    second = ask(client, service_tier="flex").json()["usage"]["total_tokens"]
    form = {"data": {"model": "whisper-large-v3"}, "files": {"file": ("a.mp3", b"x")}}
    client.http.post("/audio/transcriptions", **form)
    spent = {(each.model, each.service_tier): each for each in client.emulator.ledger().synchronous.spent}
    assert spent[MODEL, "on_demand"].tokens == first
    assert spent[MODEL, "flex"].tokens == second
    assert spent["whisper-large-v3", "on_demand"].audio_seconds >= 10


def test_batches_and_calls_are_counted_apart(make_client):
    """Neither is in the sums of the other."""
    client = make_client()
    client.run([chat_line("one")])
    ask(client, name="one")
    ledger = client.emulator.ledger()
    assert (ledger.totals.requests_executed, ledger.synchronous.executed) == (1, 1)


def test_another_process_reads_it(make_client):
    """The sums are JSON, the requests are lines by name; neither needs a key."""
    client = make_client()
    for name in ("b", "a", "b"):
        ask(client, name=name)
    root = client.emulator.root_url
    sums = httpx.get(f"{root}/_emulator/ledger").json()["synchronous"]
    assert (sums["requests"], sums["executed"], sums["delivered"]) == (2, 3, 3)
    assert sums["statuses"]["200"]["count"] == 3
    lines = [orjson.loads(line) for line in httpx.get(f"{root}/_emulator/synchronous").content.splitlines()]
    assert lines == [
        {"request": "a", "executed": 1, "succeeded": 1, "delivered": 1},
        {"request": "b", "executed": 2, "succeeded": 2, "delivered": 2},
    ]


def test_it_goes_on_in_the_same_directory(tmp_path):
    """A later emulator adds to the counts of the earlier one."""
    for _ in range(2):
        with Emulator(tmp_path) as emulator, Client(emulator) as client:
            ask(client, name="again")
    with Emulator(tmp_path) as emulator:
        totals = emulator.ledger().synchronous
    assert (totals.requests, totals.executed, totals.delivered) == (1, 2, 2)
    assert totals.statuses["200"].count == 2
    assert totals.spent[0].answers == 2


def test_counts_of_another_version_begin_again(tmp_path):
    """A directory whose sums cannot be read is still usable."""
    with Emulator(tmp_path) as emulator:
        emulator.world.database.path.exists()
        with emulator.world.database.write() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('synchronous', '{\"statuses\": 5}')")
        stored = type(emulator.world.synchronous)(emulator.world.database)
    assert stored.most_in_flight == 0


def test_little_is_kept_in_memory(make_client):
    """After a read everything is in the database."""
    client = make_client()
    for number in range(50):
        ask(client, str(number))
    assert client.emulator.ledger().synchronous.requests == 50
    assert client.emulator.world.synchronous._pending == {}
