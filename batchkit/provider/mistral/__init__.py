"""Mistral: jobs instead of batches, each with one model."""
