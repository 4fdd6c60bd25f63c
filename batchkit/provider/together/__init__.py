"""Together: OpenAI's paths and lines, everything else in a shape of its own."""
