"""The command, in a process whose files may not exceed a size: a full disk, for root and every other user.

Start it as ``python -m tests.surroundings.limited BYTES run ...``.
"""

from __future__ import annotations

import resource
import sys

from batchkit.cli import main

if __name__ == "__main__":
    most = int(sys.argv.pop(1))
    # Python ignores SIGXFSZ, so that a write over the limit raises its own error (EFBIG).
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    main()
