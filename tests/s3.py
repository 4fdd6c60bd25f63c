"""S3 on loopback: moto's server, with made-up credentials."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from moto.server import ThreadedMotoServer

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Credentials come neither from the user's files nor from a cloud's metadata address.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "made-up",
    "AWS_SECRET_ACCESS_KEY": "made-up-too",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def running_s3() -> Iterator[str]:
    """Run the server on a free port in a thread; yield its address."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def make_bucket(endpoint: str, name: str) -> None:
    """Create a bucket."""
    connection = HTTPConnection(urlsplit(endpoint).netloc)
    try:
        connection.request("PUT", f"/{name}")
        assert connection.getresponse().status == HTTPStatus.OK
    finally:
        connection.close()
