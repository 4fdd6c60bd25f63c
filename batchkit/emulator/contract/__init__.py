"""What the emulated API says and demands: objects, ids, models, refusals, replies, limits."""
