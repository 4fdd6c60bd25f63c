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
from batchkit.provider.groq.dialect import GROQ

ADDRESS = "https://example.com/cat.jpg"


def image_bytes(width=8, height=8, kind="PNG", mode="RGB", *, is_noisy=False):
    """Draw a image_bytes; noise does not compress."""
    image = Image.effect_noise((width, height), 90).convert(mode) if is_noisy else Image.new(mode, (width, height))
    target = BytesIO()
    image.save(target, kind)
    return target.getvalue()


def parts(row, folder, *, shrink=False, other_bytes=100):
    """Give the parts of a row, all of whose columns hold images."""
    return ImageReader(tuple(row), files=ImageFolder(folder), shrink=shrink, limits=GROQ.models).parts(
        row, other_bytes=other_bytes
    )


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
        (lambda: image_bytes(kind="BMP"), "the image is BMP; give JPEG, PNG, WEBP, GIF"),
        (lambda: image_bytes(MAX_PIXELS // 4000 + 1, 4000, mode="1"), "at most 33,177,600 are taken"),
        (lambda: image_bytes(10_000, 9_500, mode="1"), "far too many pixels"),
        (None, "the row has no image"),
    ],
)
def test_what_cannot_be_sent_names_its_column(tmp_path, value, why):
    """A row with such an image is a problem before anything is sent."""
    with pytest.raises(InvalidImage, match=why) as caught:
        # Drawn here: each test process collects all tests.
        parts({"photo": value() if callable(value) else value}, tmp_path)
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


def saved(image, kind, **options):
    """Write an image."""
    target = BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


RED, BLUE = (Image.new("RGB", (64, 32), colour) for colour in ("red", "blue"))


def with_preview():
    """Draw a JPEG whose header holds a small JPEG of its own, as cameras write it."""
    exif = b"Exif\x00\x00" + saved(Image.new("RGB", (8, 8), "white"), "JPEG")
    return saved(Image.effect_noise((64, 64), 90).convert("RGB"), "JPEG", exif=exif)


@pytest.mark.parametrize(
    "photo",
    [
        saved(RED, "MPO", save_all=True, append_images=[BLUE]),
        saved(RED, "JPEG") + b"\x00\x00\x00\x18ftypmp42" + b"a video" * 99,
        saved(RED, "JPEG") + saved(BLUE, "JPEG"),
    ],
    ids=["portrait", "motion", "two"],
)
def test_of_a_photo_with_others_behind_it_only_the_first_is_sent(tmp_path, photo):
    """As a JPEG that ends where it ends: portrait mode, a short film, a stereo camera."""
    (url,) = urls({"photo": photo}, tmp_path)
    alone = decoded(url)
    assert (alone.format, alone.size, alone.getpixel((5, 5))[0] > 200) == ("JPEG", (64, 32), True)
    sent = base64.b64decode(url.partition(",")[2])
    assert sent[-100:] in photo
    assert sent.endswith(b"\xff\xd9")
    assert b"film" not in sent
    assert len(sent) < len(photo)


def test_the_preview_in_the_header_of_a_photo_is_not_taken_for_the_photo(tmp_path):
    """Its end is not the end."""
    photo = with_preview()
    (url,) = urls({"photo": photo}, tmp_path)
    assert base64.b64decode(url.partition(",")[2]) == photo
    with pytest.raises(InvalidImage, match="the end of its data is missing"):
        parts({"photo": photo[: photo.rindex(b"\xff\xda") + 300]}, tmp_path)


@pytest.mark.parametrize("shrink", [False, True])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_an_image_that_is_cut_off_is_told(tmp_path, kind, shrink):
    """A download that broke off, for example; a GIF whose end mark alone is missing has lost nothing."""
    whole = saved(Image.effect_noise((90, 90), 90).convert("RGB"), kind)
    with pytest.raises(InvalidImage, match="the end of its data is missing"):
        parts({"photo": whole[: len(whole) * 2 // 3]}, tmp_path, shrink=shrink)
    if kind == "GIF":
        assert urls({"photo": whole[:-1]}, tmp_path, shrink=shrink)


@pytest.mark.parametrize(
    ("photo", "why"),
    [
        (saved(RED.convert("CMYK"), "JPEG"), "colours for print"),
        (saved(RED, "GIF", save_all=True, append_images=[BLUE]), "is animated"),
        (saved(RED, "PNG", save_all=True, append_images=[BLUE]), "is animated"),
        (saved(RED, "WEBP", save_all=True, append_images=[BLUE]), "is animated"),
    ],
    ids=["print", "gif", "png", "webp"],
)
def test_what_servers_may_not_read_is_told_and_converted_on_demand(tmp_path, photo, why):
    """Colours for print, and moving images, of which the first picture is sent."""
    with pytest.raises(InvalidImage, match=f"{why}.*--shrink-images"):
        parts({"photo": photo}, tmp_path)
    (url,) = urls({"photo": photo}, tmp_path, shrink=True)
    made = decoded(url)
    red, _, blue = made.convert("RGB").getpixel((5, 5))
    assert (made.format, made.size, red > 200, blue < 100) == ("JPEG", (64, 32), True, True)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'<?xml version="1.0"?>\n<!-- drawn --><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG is a vector image"),
        (b"\xef\xbb\xbf <SVG/>", "SVG is a vector image"),
        (b"%PDF-1.7\n", "it is a PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript is a vector image"),
        (b"\xd7\xcd\xc6\x9a" + b"\x00" * 40, "WMF is a vector image"),
        (b"\x00\x00\x00\x18ftypheic" + b"\x00" * 40, "HEIC and AVIF are not taken"),
        (b"\n<!DOCTYPE html><html>not found</html>", "it is a web page"),
        (b"just words", "$"),
    ],
)
def test_what_is_no_image_is_told_by_what_it_is(tmp_path, content, what):
    """With what to do."""
    (tmp_path / "photo.png").write_bytes(content)
    for shrink in (False, True):
        with pytest.raises(InvalidImage, match=f"not an image that can be read.*{what}"):
            parts({"photo": "photo.png"}, tmp_path, shrink=shrink)


def test_a_photo_that_lies_on_its_side_is_turned_when_it_is_scaled_and_sent_as_it_is_otherwise(tmp_path):
    """The turn is in its header, which a scaled image does not have."""
    noisy = Image.effect_noise((300, 100), 90).convert("RGB")
    exif = noisy.getexif()
    exif[0x0112] = 6
    photo = saved(noisy, "JPEG", exif=exif, quality=95)
    (scaled,) = urls({"photo": photo}, tmp_path, shrink=True, other_bytes=3_990_000)
    image = decoded(scaled)
    assert image.height > image.width
    assert image.getexif().get(0x0112) is None
    (url,) = urls({"photo": photo}, tmp_path, shrink=True)
    assert base64.b64decode(url.partition(",")[2]) == photo


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_base64_without_its_address_is_an_image_all_the_same(tmp_path, kind):
    """In one line or in several; what is damaged is told without the cell."""
    drawn = saved(Image.effect_noise((90, 90), 90).convert("RGB"), kind)
    for encoded in (base64.b64encode(drawn).decode(), f" {base64.encodebytes(drawn).decode()}"):
        (url,) = urls({"photo": encoded}, tmp_path)
        assert base64.b64decode(url.partition(",")[2]) == drawn
    for damaged in (encoded[:500] + "#" + encoded[500:], encoded[: len(encoded) // 2]):
        with pytest.raises(InvalidImage, match=r"damaged|missing") as said:
            parts({"photo": damaged}, tmp_path)
        assert len(str(said.value)) < 200


def test_base64_of_something_else_is_told_without_the_cell(tmp_path):
    """Whatever it encodes."""
    cell = base64.b64encode(b"some other bytes" * 20_000).decode()
    with pytest.raises(
        InvalidImage, match=r'this looks like base64; write "data:image/png;base64,\.\.\." or give'
    ) as said:
        parts({"photo": cell}, tmp_path)
    assert len(str(said.value)) < 300
