"""The rate limits of synchronous calls: what is admitted, what is refused and in which words, and what headers say."""

import pytest

from batchkit.emulator import Scenario
from batchkit.emulator.contract.rates import Demand, go_duration
from batchkit.emulator.contract.replies import ApiError
from batchkit.emulator.faults import calls
from batchkit.emulator.scenarios.scenario import RateSection
from batchkit.emulator.state.rate_limits import RateLimits
from batchkit.provider.headers import parse_duration
from tests.emulator.sync_support import MODEL, ask, refusal, statuses

NOW = 1_800_000_000.0
STILL = 1e-6
"""At this speed no limit comes back during a test."""


def limits(plan=None, **rates):
    """Return the limits of a scenario."""
    return RateLimits(Scenario(plan=plan, rates=RateSection(**rates)), "org_x", daily=True)


def refused(given, demand=None, now=NOW, tier="on_demand", model="m", **more):
    """Return the refusal of a request."""
    with pytest.raises(ApiError) as caught:
        given.admit(model, tier, demand or Demand(), now, **more)
    return caught.value


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (0.12, "120ms"), (0.0001, "1ms"), (1, "1s"), (7.66, "7.66s"), (179.56, "2m59.56s"), (578.016, "9m38.016s"),
        (3_600, "1h0m0s"), (86_399.9995, "24h0m0s"), (59.9999, "1m0s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_go_does(seconds, text):
    """They have no more than milliseconds, rounded up, and our reader takes them."""
    assert go_duration(seconds) == text
    assert parse_duration(text) == pytest.approx(seconds, abs=0.001)


def test_a_refusal_has_the_words_and_the_wait_of_a_real_one():
    """The numbers of a reported 429: the missing tokens come back at 100,000 a day."""
    given = limits(tokens_per_day=100_000)
    given.admit("llama", "on_demand", Demand(tokens=97_050), NOW)
    error = refused(given, Demand(tokens=3_619), model="llama")
    assert (error.status, error.error["type"], error.error["code"]) == (429, "tokens", "rate_limit_exceeded")
    assert error.error["message"].startswith(
        "Rate limit reached for model `llama` in organization `org_x` service tier `on_demand` on tokens per day (TPD): "
        "Limit 100000, Used 97050, Requested 3619. Please try again in 9m38.016s."
    )
    assert error.headers == {"retry-after": "579"}


@pytest.mark.parametrize(
    ("dimension", "words", "kind"),
    [
        ("requests_per_minute", "requests per minute (RPM)", "requests"),
        ("requests_per_day", "requests per day (RPD)", "requests"),
        ("tokens_per_minute", "tokens per minute (TPM)", "tokens"),
        ("audio_seconds_per_hour", "seconds of audio per hour (ASPH)", "seconds"),
        ("audio_seconds_per_day", "seconds of audio per day (ASPD)", "seconds"),
    ],
)
def test_each_limit_is_named(dimension, words, kind):
    """The second request of the same size does not fit."""
    given = limits(**{dimension: 1})
    demand = Demand(tokens=1, seconds=1)
    given.admit("m", "on_demand", demand, NOW)
    error = refused(given, demand)
    assert f" on {words}: Limit 1, Used 1, Requested 1. " in error.error["message"]
    assert error.error["type"] == kind


def test_who_waits_as_told_is_admitted():
    """The 31st request of a minute waits two seconds, and not a moment less is enough."""
    given = limits("free")
    for _ in range(30):
        given.admit("m", "on_demand", Demand(), NOW)
    assert "Please try again in 2s." in refused(given).error["message"]
    assert refused(given, now=NOW + 1.99).status == 429
    given.admit("m", "on_demand", Demand(), NOW + 2)


def test_the_longest_wait_is_told():
    """A request that exceeds two limits names the one that takes longer."""
    given = limits(requests_per_minute=1, tokens_per_day=100)
    given.admit("m", "on_demand", Demand(tokens=100), NOW)
    assert "(TPD)" in refused(given, Demand(tokens=50)).error["message"]


def test_a_refused_request_uses_nothing():
    """What does not fit into one limit is not taken from another."""
    given = limits(requests_per_minute=2, tokens_per_minute=100)
    given.admit("m", "on_demand", Demand(tokens=90), NOW)
    assert refused(given, Demand(tokens=20)).status == 429
    given.admit("m", "on_demand", Demand(tokens=10), NOW)
    assert "(RPM)" in refused(given).error["message"]


def test_a_reservation_shrinks_to_what_was_used():
    """The rest of it is free at once, unless the scenario keeps it."""
    for give_back, left in ((True, "70"), (False, "0")):
        given = limits(tokens_per_minute=100, give_back=give_back)
        given.admit("m", "on_demand", Demand(tokens=100), NOW).settle(30)
        assert dict(given.headers("m", "on_demand", NOW))["x-ratelimit-remaining-tokens"] == left


def test_a_request_above_a_whole_limit_is_413_for_ever():
    """Waiting does not help."""
    given = limits(tokens_per_minute=6_000)
    for now in (NOW, NOW + 100_000):
        error = refused(given, Demand(tokens=12_328), now)
        assert (error.status, error.error["type"], error.error["code"]) == (413, "tokens", "rate_limit_exceeded")
        assert "on tokens per minute (TPM): Limit 6000, Requested 12328" in error.error["message"]
        assert "retry-after" not in error.headers


def test_models_and_tiers_have_limits_of_their_own():
    """Flex has ten times the limits; another model is not affected; auto goes to flex when on_demand is used up."""
    given = limits("developer", requests_per_minute=1, models={"small": {"requests_per_minute": 2}})
    given.admit("m", "on_demand", Demand(), NOW)
    assert given.admit("other", "on_demand", Demand(), NOW).tier == "on_demand"
    assert [given.admit("small", "on_demand", Demand(), NOW).tier for _ in range(2)] == ["on_demand"] * 2
    assert [given.admit("m", "auto", Demand(), NOW).tier for _ in range(10)] == ["flex"] * 10
    assert "service tier `flex`" in refused(given, tier="auto").error["message"]


def test_headers_count_requests_by_day_and_tokens_by_minute():
    """30 of 14,400 requests are back in three minutes; limits that do not exist have no header."""
    given = limits(requests_per_day=14_400, requests_per_minute=100, tokens_per_minute=18_000)
    for _ in range(30):
        given.admit("m", "on_demand", Demand(tokens=100), NOW)
    assert dict(given.headers("m", "on_demand", NOW)) == {
        "x-ratelimit-limit-requests": "14400",
        "x-ratelimit-remaining-requests": "14370",
        "x-ratelimit-reset-requests": "3m0s",
        "x-ratelimit-limit-tokens": "18000",
        "x-ratelimit-remaining-tokens": "15000",
        "x-ratelimit-reset-tokens": "10s",
    }
    whisper = limits("free")
    whisper.admit("whisper", "on_demand", Demand(seconds=10), NOW, hears=True)
    assert [name for name, _ in whisper.headers("whisper", "on_demand", NOW) if "tokens" in name] == []


def test_any_number_of_model_names_takes_no_memory():
    """Names beyond a thousand push the earlier ones out."""
    given = limits()
    for number in range(2_500):
        given.admit(f"m{number}", "on_demand", Demand(), NOW)
    assert len(given._buckets) <= 1_000


class TestOverHttp:
    """The limits of a served plan."""

    def test_the_free_plan_lets_thirty_requests_through(self, make_client):
        """The next one is 429 with the headers and the wait, and is not executed."""
        client = make_client(plan="free", speed=STILL)
        assert statuses(client, 30, max_completion_tokens=20) == [200] * 30
        late = ask(client, "late", max_completion_tokens=20)
        assert (late.status_code, refusal(late)["type"]) == (429, "requests")
        assert late.headers["retry-after"] == "2"
        assert late.headers["x-ratelimit-reset-requests"] == "3m0s"
        assert client.emulator.ledger().synchronous.executed == 30

    def test_completion_tokens_are_reserved_on_admission(self, make_client):
        """A generous limit of the answer exceeds the minute's tokens: 413, whatever the answer would have used."""
        client = make_client(plan="free", speed=STILL)
        large = ask(client, max_completion_tokens=6_000)
        assert (large.status_code, refusal(large)["type"]) == (413, "tokens")
        assert ask(client, max_completion_tokens=5_000).status_code == 200
        # Only what was used is counted now.
        again = ask(client, max_completion_tokens=5_000)
        assert again.status_code == 200
        assert int(again.headers["x-ratelimit-remaining-tokens"]) > 5_800

    def test_a_request_without_a_limit_reserves_the_default(self, make_client):
        """The scenario says how much that is."""
        client = make_client(Scenario(rates=RateSection(tokens_per_minute=1_000)), speed=STILL)
        assert ask(client).status_code == 413
        client.emulator.set_scenario(Scenario(rates=RateSection(tokens_per_minute=1_000, completion_tokens=100)))
        assert ask(client).status_code == 200

    def test_time_passes_by_the_emulators_clock(self, make_client):
        """At 6,000 times the speed a hundredth of a second is a minute."""
        client = make_client(plan="free", speed=6_000)
        assert statuses(client, 60, max_completion_tokens=20).count(429) == 0

    def test_audio_is_limited_by_its_seconds(self, make_client):
        """Two hours an hour: a file has at least ten seconds, and what exceeds the hour is 413."""
        scenario = Scenario(rates=RateSection(audio_seconds_per_hour=25))
        client = make_client(scenario, speed=STILL)
        short = {"data": {"model": "whisper-large-v3"}, "files": {"file": ("a.wav", wav(seconds=1))}}
        long = {"data": {"model": "whisper-large-v3"}, "files": {"file": ("a.wav", wav(seconds=30))}}
        url = "/audio/transcriptions"
        assert [client.http.post(url, **short).status_code for _ in range(3)] == [200, 200, 429]
        refused_long = client.http.post(url, **long)
        assert (refused_long.status_code, refusal(refused_long)["type"]) == (413, "seconds")

    def test_flex_without_capacity_is_498(self, make_client):
        """Also for auto, once on_demand is used up."""
        scenario = Scenario(
            plan="developer", rates=RateSection(requests_per_minute=1), faults=(calls.FlexFull(times=None),)
        )
        client = make_client(scenario, speed=STILL)
        assert ask(client, service_tier="flex").status_code == 498
        assert ask(client, service_tier="auto").json()["service_tier"] == "on_demand"
        full = ask(client, service_tier="auto")
        assert (full.status_code, refusal(full)["code"]) == (498, "capacity_exceeded")
        assert ask(client).status_code == 429

    def test_a_refused_request_gives_its_tokens_back(self, make_client):
        """A 400 used none."""
        client = make_client(plan="free", speed=STILL)
        assert ask(client, max_completion_tokens=4_000, n=2).status_code == 400
        answered = ask(client, max_completion_tokens=4_000)
        assert answered.status_code == 200
        assert answered.headers["x-ratelimit-limit-tokens"] == "6000"

    def test_an_unknown_model_is_404_and_has_no_limits(self, make_client):
        """However often it is asked for."""
        client = make_client(plan="free", speed=STILL)
        assert set(statuses(client, 35, model="nobody/none")) == {404}

    def test_without_a_plan_nothing_is_short(self, client):
        """The headers are there, with limits that no test reaches."""
        answered = ask(client, max_completion_tokens=100_000)
        assert int(answered.headers["x-ratelimit-remaining-tokens"]) > 900_000_000
        assert answered.json()["model"] == MODEL


def wav(seconds):
    """Return a silent WAV file."""
    size = seconds * 16_000
    head = b"RIFF" + (36 + size).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    form = b"\x01\x00\x01\x00" + (8_000).to_bytes(4, "little") + (16_000).to_bytes(4, "little") + b"\x02\x00\x10\x00"
    return head + form + b"data" + size.to_bytes(4, "little") + bytes(size)
