"""Runners against an emulator, as for the steps."""

from __future__ import annotations

from tests.steps.conftest import open_bench

__all__ = ["open_bench"]
