"""The contract of the emulated API: objects, ids, models, refusals, replies, limits."""
