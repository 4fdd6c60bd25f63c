"""``batchkit view``: a live page over the results database, for a browser on this machine."""
