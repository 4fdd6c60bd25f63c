"""Driving workloads: the runner, the driver, leases, waits, outages and progress."""
