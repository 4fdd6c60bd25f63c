"""The terminal's output: panels, lines, reports, JSON."""
