"""Scenarios: what they hold, how their files are read, and the ready-made ones."""
