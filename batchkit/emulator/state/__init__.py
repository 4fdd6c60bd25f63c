"""The state of the emulator over time: files, batches, the ledger of executions, and the clock."""
