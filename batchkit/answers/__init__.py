"""What an answer must be to count: read, checked, and asked for differently when it does not."""
