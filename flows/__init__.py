"""The Prefect side: thin async flows around ``Runner.drive``. Prefect is the view, the schedule and the workers.

Importing this package only sets defaults in the environment, which Prefect and Ray read when they are imported: no telemetry, no
adverts, no output on the terminal. A value that the user has set is kept.
"""

import os

_DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # At ERROR it would print a traceback for each failure that the command explains itself.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    # Our log lines appear in a run's Logs tab; outside a run they are dropped without a warning.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "batchkit",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # For users who call a flow directly: a cold start took up to 18 s of Prefect's limit of 20 s.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
}

for _name, _value in _DEFAULTS.items():
    os.environ.setdefault(_name, _value)
