"""Everything that speaks HTTP to the batch API; nothing of the HTTP library passes this line."""
