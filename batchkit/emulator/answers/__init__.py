"""Generated answers: texts, JSON for a schema, tool calls, transcripts."""
