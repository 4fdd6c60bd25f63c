"""Reports: one self-contained page for a workload or an evaluation, and their Markdown for Prefect."""
