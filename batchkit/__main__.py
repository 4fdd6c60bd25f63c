"""``python -m batchkit``."""

from batchkit.cli import main

if __name__ == "__main__":
    main()
