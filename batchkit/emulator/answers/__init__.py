"""Made-up answers: texts, JSON that fits a schema, tool calls, transcripts."""
