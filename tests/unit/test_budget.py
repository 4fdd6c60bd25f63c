"""Whether the next requests fit into a budget: a table of decisions."""

import pytest

from batchkit.budget import NOTHING, Amount, Budget, Ledger, Verdict, decide, is_held

DOLLARS = Budget(max_cost_usd=10.0, max_total_tokens=None)
TOKENS = Budget(max_cost_usd=None, max_total_tokens=1_000)


def usd(*amounts):
    """Return the estimates of requests in USD."""
    return [Amount(0.0, amount) for amount in amounts]


def ledger(spent=0.0, in_flight=0.0, *, estimated=0.0, answers=0, open_shards=None):
    """Return a ledger in USD."""
    is_open = in_flight > 0 if open_shards is None else open_shards
    return Ledger(Amount(0, spent), Amount(0, estimated), answers, Amount(0, in_flight), int(is_open))


@pytest.mark.parametrize(
    ("found", "sizes", "verdict", "fits"),
    [
        (ledger(), usd(4, 6), Verdict.SEND, 2),
        (ledger(), usd(4, 6.01), Verdict.CUT, 1),
        (ledger(), usd(10.01), Verdict.REFUSE, 0),
        (ledger(in_flight=4), usd(6), Verdict.SEND, 1),
        (ledger(in_flight=4), usd(6.01), Verdict.HOLD, 0),
        (ledger(spent=4, in_flight=5), usd(1, 1), Verdict.CUT, 1),
        (ledger(spent=10), usd(0.01), Verdict.HOLD, 0),
        (ledger(spent=10), usd(0.0), Verdict.SEND, 1),
        # A free shard at the beginning of something that was never paid is sent, one without room for it is refused.
        (ledger(open_shards=True), usd(11), Verdict.HOLD, 0),
        # Less than a fiftieth of the budget buys no part of a shard, but a whole one.
        (ledger(spent=9.9), usd(*[0.01] * 20), Verdict.HOLD, 10),
        (ledger(spent=9.9), usd(*[0.01] * 10), Verdict.SEND, 10),
        (ledger(spent=9.7), usd(*[0.01] * 40), Verdict.CUT, 30),
        # Twenty answers used a tenth of what was estimated: with a margin, ten dollars are enough for ninety.
        (ledger(spent=1, estimated=10, answers=19), usd(81), Verdict.HOLD, 0),
        (ledger(spent=1, estimated=10, answers=20), usd(81), Verdict.SEND, 1),
        (ledger(spent=1, estimated=10, answers=20), usd(82), Verdict.HOLD, 0),
        (ledger(spent=1, in_flight=40, estimated=10, answers=20), usd(41), Verdict.SEND, 1),
        (ledger(spent=1, in_flight=40, estimated=10, answers=20), usd(42), Verdict.HOLD, 0),
        # Answers that cost more than estimated raise the estimates of the others.
        (ledger(spent=4, estimated=2, answers=20), usd(2), Verdict.SEND, 1),
        (ledger(spent=4, estimated=2, answers=20), usd(3), Verdict.HOLD, 0),
    ],
)
def test_the_decisions(found, sizes, verdict, fits):
    """Sent is what fits with all that is spent and in flight; the rest is cut, held, or refused at the very beginning."""
    decision = decide(DOLLARS, found, sizes)
    assert (decision.verdict, decision.fits) == (verdict, fits)


@pytest.mark.parametrize(
    ("spent", "sizes", "verdict"),
    [
        (0, (400, 600), Verdict.SEND),
        (0, (400, 601), Verdict.CUT),
        (401, (600,), Verdict.HOLD),
        (0, (1_001,), Verdict.REFUSE),
    ],
)
def test_tokens_are_limited_in_the_same_way(spent, sizes, verdict):
    """A budget in tokens needs no price."""
    found = Ledger(spent=Amount(spent, 0.0))
    assert decide(TOKENS, found, [Amount(size, 0.0) for size in sizes]).verdict is verdict


def test_the_tighter_of_two_limits_counts():
    """With both limits a request must fit into both."""
    both = Budget(10.0, 1_000)
    assert decide(both, Ledger(), [Amount(900, 1.0), Amount(200, 1.0)]).fits == 1
    assert decide(both, Ledger(), [Amount(90, 9.0), Amount(20, 2.0)]).fits == 1


def test_what_is_held_is_sent_when_there_is_room_again():
    """Held is what had no room; less in flight, or a larger budget, leaves room for it, and the decision agrees."""
    sizes = usd(3, 3)
    least = decide(DOLLARS, ledger(spent=4, in_flight=4), sizes).least
    assert is_held(DOLLARS, ledger(spent=4, in_flight=4), least)
    assert not is_held(DOLLARS, ledger(spent=5), least)
    assert decide(DOLLARS, ledger(spent=5), sizes).verdict is Verdict.CUT
    assert not is_held(Budget(11.0, None), ledger(spent=4, in_flight=4), least)
    assert not is_held(DOLLARS, ledger(spent=10), None)
    assert is_held(DOLLARS, ledger(spent=10.5), NOTHING)


@pytest.mark.parametrize("spent", [0.0, 3.3, 7.9, 9.7, 9.95, 10.0])
@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("size", [0.001, 0.04, 0.3, 2.0])
def test_nothing_waits_that_would_be_sent(spent, count, size):
    """Whatever is held when it is tried counts as held before it is tried again, and what is sent or cut does not."""
    found = ledger(spent=spent, open_shards=True)
    decision = decide(DOLLARS, found, usd(*[size] * count))
    assert is_held(DOLLARS, found, decision.least) == (decision.verdict is Verdict.HOLD)
