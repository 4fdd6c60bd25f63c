"""Files and bytes: JSON Lines, the inputs of a workload, the spool, remote files, and outputs."""
