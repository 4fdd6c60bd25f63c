"""Evaluations: suites of prompts and models over a dataset, scored, compared with the last time, and watched."""
