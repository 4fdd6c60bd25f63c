"""Servers that speak OpenAI's Files and Batches API, or nearly so: one shape, and a profile for each of them."""
