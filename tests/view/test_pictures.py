"""The pictures of the README can be made anew, and those that are there are small."""

from __future__ import annotations

import pytest

from tests.readmes import ROOT, links
from tests.view.pictures import take_pictures

VIEW = ROOT / "batchkit" / "view"
MAX_BYTES = 150_000


def test_each_picture_is_shown_and_small():
    """The README shows all of them; a checkout does not grow by megabytes."""
    shown = {link for link in links((VIEW / "README.md").read_text()) if link.endswith(".png")}
    assert shown == {path.name for path in VIEW.glob("*.png")}
    assert all(path.stat().st_size < MAX_BYTES for path in VIEW.glob("*.png"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_pictures_are_made_from_real_pages(tmp_path):
    """Each page is there, with what the README says of it."""
    (tmp_path / "world").mkdir()
    found = take_pictures(tmp_path / "world", tmp_path)
    assert found.keys() == {path.stem for path in VIEW.glob("*.png")}
