"""The steps of the pipeline, one per file. Every step is idempotent: it may be repeated at any time."""
