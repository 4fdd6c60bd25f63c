"""Scenarios: their contents, their files, and the ready-made ones."""
