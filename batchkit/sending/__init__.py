"""When a request of the sync lane may be sent: budgets, windows, breakers. Pure decisions: no threads, no clock, no calls."""
