"""Runs one input file through an emulator in its own process and prints how much memory that took.

``python -m tests.emulator.volume INPUT DIRECTORY`` prints completed requests, uploaded and downloaded bytes, and the
growth of the largest resident size in KiB.
"""

from __future__ import annotations

import sys
from pathlib import Path

from batchkit.emulator import Emulator
from tests.emulator.support import FAST, Client
from tests.processes import own_peak_bytes


def main(source: Path, directory: Path) -> None:
    """Upload, run and download the input."""
    with Emulator(directory, "out-of-order", speed=FAST) as emulator, Client(emulator) as client:
        before = own_peak_bytes()
        with source.open("rb") as file:
            shown = client.http.post("/files", data={"purpose": "batch"}, files={"file": (source.name, file)}).json()
        done = client.wait(client.create(shown["id"])["id"], seconds=60)
        with client.http.stream("GET", f"/files/{done['output_file_id']}/content") as response:
            downloaded = sum(map(len, response.iter_raw()))
        grown = own_peak_bytes() - before >> 10
    sys.stdout.write(f"{done['request_counts']['completed']} {shown['bytes']} {downloaded} {grown}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
