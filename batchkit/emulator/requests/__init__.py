"""What Groq refuses in a request: in an uploaded line, and in a call."""
