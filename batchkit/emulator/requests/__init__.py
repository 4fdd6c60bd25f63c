"""The checks of requests that Groq makes: in an uploaded line, and in a call."""
