"""What drives workloads: the runtime that is composed of the settings, the driver, waits, outages and progress."""
