"""The results store: everything that speaks SQL."""
