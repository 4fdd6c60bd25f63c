"""Durable bulk workloads on the Groq Batch API."""

from pathlib import Path

# In a checkout `flows` stands beside this package, in a wheel inside it: either way it is `batchkit.flows`,
# so that a folder of that name in the user's working directory is never picked up instead.
if not (Path(__file__).parent / "flows").is_dir():
    __path__.append(str(Path(__file__).parent.parent))

__version__ = "0.1.0"
