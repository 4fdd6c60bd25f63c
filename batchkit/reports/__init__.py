"""Reports to look at: one self-contained page for a workload or an evaluation."""
