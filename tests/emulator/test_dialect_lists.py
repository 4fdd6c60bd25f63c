"""The lists of batches in the style of each provider, and how they can go wrong."""

from typing import Any

import pytest

from batchkit.emulator import Scenario, ScenarioLimits
from batchkit.emulator.dialects.providers import DIALECTS
from batchkit.emulator.faults import calls, lists
from tests.emulator.dialects import SLOW, batches_path, create, lines_for, run


@pytest.fixture
def filled(serve):
    """Return a function that makes batches and returns the client, and the ids, newest first."""

    def fill(provider, count, *faults, page_size=2):
        client = serve(provider, *faults, limits=ScenarioLimits(page_size=page_size), timing=SLOW)
        replies = [create(client, "file-x").json() for _ in range(count)]
        return client, [reply.get("job", reply)["id"] for reply in replies][::-1]

    return fill


def follow(client):
    """Return the ids of each page, at most four, following ``last_id`` as clients do."""
    pages: list[dict[str, Any]] = []
    after = None
    while len(pages) < 4:
        page = client.http.get("/batches", params={"after": after} if after else {}).json()
        pages.append(page)
        after = page["last_id"]
        if not page.get("has_more") or after is None:
            break
    return pages


def test_pages_go_by_the_last_id(filled):
    """A page names its ends and whether there are more; limit is from 1 to 100; an unknown id is refused."""
    client, ids = filled("openai", 5)
    pages = follow(client)
    assert [shown["id"] for page in pages for shown in page["data"]] == ids
    assert [(page["first_id"], page["has_more"]) for page in pages] == [
        (ids[0], True),
        (ids[2], True),
        (ids[4], False),
    ]
    assert len(client.http.get("/batches", params={"limit": 4}).json()["data"]) == 4
    for query in ({"limit": 0}, {"limit": 101}, {"limit": "x"}, {"after": "batch_none"}):
        assert client.http.get("/batches", params=query).status_code == 400


@pytest.mark.parametrize(
    ("how", "sizes"),
    [
        ("no-paging", [2, 1]),
        ("null-cursor", [2, 1]),
        ("overlap", [2, 2]),
        ("empty-page", [0]),
        ("single-page", [2]),
        ("repeat", [2, 2, 2, 2]),
    ],
)
def test_pages_by_the_last_id_can_go_wrong(filled, how, sizes):
    """The faults of pages act on this style too."""
    client, ids = filled("openai", 3, calls.ListPages(how=how))
    pages = follow(client)
    assert [len(page["data"]) for page in pages] == sizes
    if how == "overlap":
        assert [shown["id"] for shown in pages[1]["data"]] == ids[1:]
    assert pages[-1].get("has_more", "absent") == {"no-paging": "absent", "null-cursor": None}.get(
        how, how in {"repeat", "empty-page"}
    )


def test_only_groq_looks_up_ids(filled):
    """Others ignore the parameter and answer with a page of everything."""
    client, ids = filled("openai", 3, page_size=20)
    assert [shown["id"] for shown in client.http.get("/batches", params={"id": ids[0]}).json()["data"]] == ids


def test_qwen_looks_up_input_files(filled):
    """Batches of up to 20 input files come in one query."""
    client, ids = filled("qwen", 2)
    other = create(client, "file-y").json()["id"]
    query = {"input_file_ids": "file-x,file-z"}
    assert [shown["id"] for shown in client.http.get("/batches", params=query).json()["data"]] == ids
    assert other not in ids
    assert client.http.get("/batches", params={"input_file_ids": ",".join("abcdefghijklmnopqrstu")}).status_code == 400


def test_mistral_numbers_pages(filled):
    """Pages count from 0 and say the total; what lies behind the last is empty; a time leaves out what is older."""
    client, ids = filled("mistral", 3)
    pages = [client.http.get("/batch/jobs", params={"page": number}).json() for number in range(3)]
    assert [[shown["id"] for shown in page["data"]] for page in pages] == [ids[:2], ids[2:], []]
    assert {page["total"] for page in pages} == {3}
    totals = [
        client.http.get("/batch/jobs", params={"created_after": time}).json()["total"]
        for time in ("2020-01-01T00:00:00Z", "2200-01-01T00:00:00")
    ]
    assert totals == [3, 0]
    for query in ({"page": "x"}, {"created_after": "x"}):
        assert client.http.get("/batch/jobs", params=query).status_code == 422


def test_together_lists_everything_at_once(filled):
    """The list is bare; a fault cuts it silently."""
    client, ids = filled("together", 3)
    assert [shown["id"] for shown in client.http.get("/batches").json()] == ids
    client.emulator.set_scenario(
        Scenario(faults=(calls.ListPages(how="single-page"),), limits=ScenarioLimits(page_size=2))
    )
    assert [shown["id"] for shown in client.http.get("/batches").json()] == ids[:2]


@pytest.mark.parametrize("provider", ["groq", "openai", "together", "mistral"])
def test_lists_can_be_stale(serve, provider):
    """A list shows a batch as running that has ended; a read by its id tells the truth; the fault may end."""
    client = serve(provider, lists.StaleList(calls=2))
    done = run(client, lines_for(client, 1))
    seen = []
    for _ in range(3):
        page = client.http.get(batches_path(client)).json()
        (shown,) = page if isinstance(page, list) else page["data"]
        seen.append(shown)
    running = DIALECTS[provider].status_words.get("in_progress", "in_progress")
    assert [shown["status"] for shown in seen] == [running, running, done["status"]]
    assert not any(value for key, value in seen[0].items() if key.startswith(("output_file", "completed_at")))
    assert seen[2] == done
