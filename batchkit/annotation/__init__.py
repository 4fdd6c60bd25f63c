"""From a table and a prompt to a workload, and from its answers back to the table."""
