"""The temporary Prefect server: a process that serves Prefect's API on a free loopback port and ends with its parent.

Run as a script, never imported: ``python _temporary_server.py TOKEN``. The token identifies the process in the process list.
Writes its port to stdout before the slow part of the start. The parent holds its standard input: when it closes, however
the parent died, this process ends.
"""

import os
import socket
import threading


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    # Not a clean stop: no process waits for it, and SQLite survives it.
    os._exit(0)


def main() -> None:
    """Serve until SIGTERM, or until the parent is gone."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    print(port, flush=True)  # noqa: T201 - the parent reads it
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()

    os.environ |= {
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_UI_ENABLED": "false",
        # Prefect's settings for its own temporary server: only the services that record.
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
    }
    # Imported here, because the import takes seconds and reads the environment above.
    import uvicorn  # noqa: PLC0415 - see above
    from prefect.server.api.server import create_app  # noqa: PLC0415 - see above

    config = uvicorn.Config(create_app(), log_level="critical", lifespan="on", timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
