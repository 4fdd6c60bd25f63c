"""Delivers notifications: the stored events are sent to a web address, to a command, or to both."""
