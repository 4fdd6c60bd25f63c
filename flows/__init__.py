"""The Prefect side: thin async flows around ``Runner.drive``. Prefect is the view, the schedule and the workers.

Importing this package only sets defaults in the environment, which Prefect, and Ray, read at their own import: no telemetry, no
adverts, no noise on the terminal. A value that the user has set stays.
"""

import os

_DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # At ERROR it would print a traceback for each failure that the command explains by itself.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    # Ours are shown in a run's Logs tab; outside a run there is nowhere to send them, which is no reason for a warning.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "batchkit",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # Only matters to those who call a flow of ours by themselves: a cold start took up to 18 s of Prefect's 20.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
}

for _name, _value in _DEFAULTS.items():
    os.environ.setdefault(_name, _value)
