"""Runners against an emulator, as for the steps."""

from __future__ import annotations

from tests.steps.conftest import open_harness

__all__ = ["open_harness"]
