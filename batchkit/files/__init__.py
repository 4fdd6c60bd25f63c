"""Files and bytes: JSON Lines, the inputs of a workload, the spool, addresses elsewhere, and the outputs."""
