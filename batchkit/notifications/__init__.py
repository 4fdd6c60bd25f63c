"""Delivering notifications: the stored events go to a web address, to a command, or to both."""
