"""The verbs of the pipeline, one per file; each may be repeated at any time."""
