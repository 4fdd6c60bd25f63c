"""What the terminal shows: panels, lines, reports, JSON."""
