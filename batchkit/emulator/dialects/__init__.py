"""The providers that the emulator can be: one description each, and the shapes that the descriptions choose from."""
