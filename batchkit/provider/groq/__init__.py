"""Groq: its client and its wire format."""
