"""Everything that speaks HTTP to the batch API. No type or exception of the HTTP library leaves this package."""
