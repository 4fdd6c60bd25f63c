"""``python -m tests.view.pictures``: make the pictures of ``batchkit/view/README.md`` anew, from real pages over real rows."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.readmes import ROOT
from tests.reports.browsers import open_browser
from tests.reports.test_real_page import write_pages
from tests.view.conftest import serving
from tests.view.labelled import annotate

if TYPE_CHECKING:
    from collections.abc import Mapping

_WIDTH, _HEIGHT = 1_000, 640


def take_pictures(folder: Path, target: Path) -> Mapping[str, Path]:
    """Play three nights and an annotation in ``folder``; return the pictures in ``target`` by their names."""
    # The address of the database is on the first page: a short one.
    url = "sqlite:///batchkit.db"
    before = Path.cwd()
    os.chdir(folder)
    try:
        write_pages(folder)
        workload = annotate(folder / "home", url, folder, 120)
        with serving(folder / "home", url) as view, open_browser() as browser:
            page = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
            for name, path in {
                "home": "/",
                "suite": "/suite?name=topics",
                "review": f"/review?name={workload.name}",
            }.items():
                page.goto(view.root + path)
                if name == "review":
                    page.keyboard.type("Ada")
                    page.keyboard.press("Enter")
                    page.locator("#row", has_text="Row ").wait_for()
                else:
                    page.locator("#live.on").wait_for()
                page.screenshot(path=target / f"{name}.png")
    finally:
        os.chdir(before)
    return {path.stem: path for path in target.glob("*.png")}


def main() -> None:
    """Write the pictures beside the README."""
    with tempfile.TemporaryDirectory() as path:
        take_pictures(Path(path), ROOT / "batchkit" / "view")


if __name__ == "__main__":
    main()
