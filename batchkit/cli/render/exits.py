"""The exit codes that scripts depend on; 1 is a bug."""

from __future__ import annotations

from typing import Final

#: Every request succeeded, or the command did what was requested.
SUCCEEDED: Final = 0
#: Bad usage or input; nothing was sent.
USAGE: Final = 2
#: Finished, but some requests failed or were cancelled.
SOME_FAILED: Final = 3
#: Not finished, and the same command resumes.
NOT_FINISHED: Final = 4
#: An evaluation finished, and an alarm of its suite went off.
REGRESSED: Final = 5
#: Stopped by the budget: the same command stops again, and one with a larger budget resumes.
STOPPED_BY_BUDGET: Final = 6
#: Ctrl-C.
INTERRUPTED: Final = 130
