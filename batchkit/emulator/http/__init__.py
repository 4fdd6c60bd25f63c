"""The emulator's HTTP server: its routes and uploads."""
