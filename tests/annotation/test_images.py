"""ImageReader of a row: limits, and scaling down."""

from __future__ import annotations

import base64
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from batchkit.annotation import images
from batchkit.annotation.image_files import ImageFolder
from batchkit.annotation.images import MAX_PIXELS, ImageReader, InvalidImage

ADDRESS = "https://example.com/cat.jpg"


def image_bytes(width=8, height=8, kind="PNG", mode="RGB", *, is_noisy=False):
    """Draw a image_bytes; noise does not compress."""
    image = Image.effect_noise((width, height), 90).convert(mode) if is_noisy else Image.new(mode, (width, height))
    target = BytesIO()
    image.save(target, kind)
    return target.getvalue()


def parts(row, folder, *, shrink=False, other_bytes=100):
    """Give the parts of a row, all of whose columns hold images."""
    return ImageReader(tuple(row), files=ImageFolder(folder), shrink=shrink).parts(row, other_bytes=other_bytes)


def urls(row, folder, **options):
    """Give the addresses that would be sent."""
    return [part["image_url"]["url"] for part in parts(row, folder, **options)]


def decoded(url):
    """Read the image of a data: address."""
    head, _, encoded = url.partition(",")
    image = Image.open(BytesIO(base64.b64decode(encoded)))
    image.load()
    assert head == f"data:{Image.MIME[image.format or '']};base64"
    return image


def test_addresses_paths_and_bytes_become_parts(tmp_path):
    """A path is relative to the table's folder; lists and the datasets' own shape are understood, nulls left out."""
    drawn = image_bytes()
    (tmp_path / "cat.png").write_bytes(drawn)
    encoded = f"data:image/png;base64,{base64.b64encode(drawn).decode()}"
    assert urls({"g": {"bytes": None, "path": ADDRESS}}, tmp_path) == [ADDRESS]
    row = {
        "a": ADDRESS,
        "b": "cat.png",
        "c": [drawn, None],
        "d": {"bytes": None, "path": str(tmp_path / "cat.png")},
        "e": None,
        "f": encoded,
    }
    assert urls(row, tmp_path) == [ADDRESS, encoded, encoded, encoded, encoded]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("missing.png", "missing.png cannot be read: No such file"),
        (b"GIF89a", "not an image that can be read"),
        (7, "not int"),
        ("data:image/png,abc", "not in base64"),
        ("data:image/png;base64,#", "damaged"),
        ([ADDRESS] * 6, "there are 6 images; at most 5"),
        ("a\x00b", "NUL"),
        (image_bytes(kind="BMP"), "the image is BMP; give JPEG, PNG, WEBP, GIF"),
        (image_bytes(MAX_PIXELS // 4000 + 1, 4000, mode="1"), "at most 33,177,600 are taken"),
        (image_bytes(10_000, 9_500, mode="1"), "far too many pixels"),
        (None, "the row has no image"),
    ],
)
def test_what_cannot_be_sent_names_its_column(tmp_path, value, why):
    """A row with such an image is a problem before anything is sent."""
    with pytest.raises(InvalidImage, match=why) as caught:
        parts({"photo": value}, tmp_path)
    assert caught.value.column == "photo"


def test_blanks_around_an_address_and_line_ends_in_base64_are_left_out(tmp_path):
    """As spreadsheets, MIME and ``openssl base64`` write them."""
    encoded = base64.encodebytes(image_bytes(60, 60, is_noisy=True)).decode()
    assert encoded.count("\n") > 3
    row = {"a": f" {ADDRESS}\n", "b": f"\tdata:image/png;base64,{encoded}"}
    first, second = urls(row, tmp_path)
    assert first == ADDRESS
    assert decoded(second).size == (60, 60)


@pytest.mark.timeout(60)
def test_too_many_images_of_a_row_are_counted_before_any_is_read(tmp_path):
    """A list may name a file a hundred thousand times."""
    (tmp_path / "cat.png").write_bytes(image_bytes() + b" " * 100_000)
    with pytest.raises(InvalidImage, match="there are 100000 images; at most 5"):
        parts({"photo": ["cat.png"] * 100_000}, tmp_path)


@pytest.mark.parametrize("shrink", [False, True])
@given(
    content=st.binary(max_size=200),
    kind=st.sampled_from(["PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG", "PPM"]),
    at=st.integers(0, 150),
)
def test_damaged_bytes_are_a_problem_of_their_row_and_never_a_crash(shrink, content, kind, at):
    """Whatever bytes a table holds: an image, or a sentence."""
    damaged = image_bytes(20, 20, kind=kind, is_noisy=True)
    damaged = damaged[:at] + content + damaged[at + len(content) :]
    row = {"a": damaged}
    with suppress(InvalidImage):
        parts(row, Path(), shrink=shrink, other_bytes=3_999_000)


def test_a_request_over_four_megabytes_is_refused_and_shrinking_is_offered(tmp_path):
    """The largest image is named."""
    row = {"small": image_bytes(), "large": image_bytes() + b" " * 3_000_000}
    with pytest.raises(InvalidImage, match=r"at most 4,000,000 are taken \(--shrink-images") as caught:
        parts(row, tmp_path)
    assert caught.value.column == "large"


def test_shrinking_brings_a_request_below_its_limit_and_leaves_small_images_alone(tmp_path):
    """What the small ones leave is shared by the large ones."""
    small = image_bytes()
    large = image_bytes(200, 190, is_noisy=True)
    row = {"a": large + b" " * 4_000_000, "b": small, "c": ADDRESS, "d": large}
    first, second, third, fourth = urls(row, tmp_path, shrink=True, other_bytes=3_970_000)
    assert 20_000 < len(first) + len(second) + len(third) + len(fourth) < 30_000
    assert second.endswith(base64.b64encode(small).decode())
    assert third == ADDRESS
    assert decoded(first).format == decoded(fourth).format == "JPEG"


def test_shrinking_keeps_transparency_and_turns_a_photo_upright(monkeypatch, tmp_path):
    """A PNG stays one where it is transparent; the camera's orientation is applied."""
    monkeypatch.setattr(images, "MAX_PIXELS", 30_000)
    odd = image_bytes(400, 100, mode="LA")
    shrunk = decoded(urls({"a": odd}, tmp_path, shrink=True)[0])
    assert shrunk.format == "PNG"
    assert 25_000 < shrunk.width * shrunk.height <= 30_000
    assert shrunk.mode in {"RGBA", "LA"}
    turned = Image.new("RGB", (40, 20))
    exif = turned.getexif()
    exif[0x0112] = 6
    target = BytesIO()
    turned.save(target, "TIFF", exif=exif)
    assert decoded(urls({"a": target.getvalue()}, tmp_path, shrink=True)[0]).size == (20, 40)


def test_an_image_that_is_longer_than_a_jpeg_can_be_is_scaled_down(tmp_path):
    """No side of a JPEG has more than 65,500 pixels."""
    strip = image_bytes(70_000, 3, kind="BMP")
    assert decoded(urls({"photo": strip}, tmp_path, shrink=True)[0]).size == (65_500, 2)


@pytest.mark.parametrize("shrink", [False, True])
def test_an_image_that_is_a_program_is_not_run(tmp_path, shrink):
    """PostScript would be given to another program to draw it."""
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    with pytest.raises(InvalidImage, match="not an image that can be read"):
        parts({"photo": program}, tmp_path, shrink=shrink)


def test_a_damaged_image_that_has_to_be_shrunk_is_a_problem_of_its_row(tmp_path):
    """It is opened then, and what is missing shows."""
    with pytest.raises(InvalidImage, match="damaged"):
        parts({"a": image_bytes(60, 60, kind="BMP", is_noisy=True)[:5_000]}, tmp_path, shrink=True)
