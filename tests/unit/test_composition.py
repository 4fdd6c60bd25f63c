"""Objects that are built from the settings have the values of the settings with the same names."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from batchkit.engine.composition import pacing_of, split_defaults, timing_of
from batchkit.settings import load_settings

FIGURES = {
    "lease_seconds": 31.0,
    "settle_seconds": 32.0,
    "stuck_seconds": 33.0,
    "resubmit_linger_seconds": 34.0,
    "capacity_wait_seconds": 35.0,
    "poll_interval_seconds": 36.0,
    "max_poll_interval_seconds": 37.0,
    "outage_seconds": 38.0,
    "cancel_seconds": 39.0,
    "window": "48h",
    "max_window": "72h",
    "shard_lines": 41,
    "shard_bytes": 42_000_000,
    "max_attempts": 43,
    "max_expiries": 44,
    "lane": "sync",
    "small": 45,
    "max_cost": 46.0,
    "max_total_tokens": 47,
}


@pytest.mark.parametrize("build", [timing_of, pacing_of, split_defaults])
def test_each_value_is_that_of_its_setting(build, tmp_path):
    """No two values are mixed up."""
    built = asdict(build(load_settings(home=tmp_path, **FIGURES)))
    built.pop("dialect", None)
    assert built == {name: FIGURES[name] for name in built}
