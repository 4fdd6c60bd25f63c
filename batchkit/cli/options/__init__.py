"""The options that verbs share, and how their values are read."""
