"""One module a verb, or a few that belong together: they parse, call and render."""
