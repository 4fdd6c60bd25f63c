"""What the emulator keeps and does over time: files, batches, the ledger of what was executed, and the clock."""
