"""What the bytes of an image say about its format, without decoding it."""

from __future__ import annotations

from typing import Final

_JPEG_START: Final = b"\xff\xd8"
_JPEG_END: Final = b"\xff\xd9"
_JPEG_SCAN: Final = 0xDA
_MARKER: Final = b"\xff"
#: A marker with the length of its segment.
_SEGMENT_BYTES: Final = 4
#: The segment that says where the other pictures of a file are (CIPA DC-007).
_INDEX_MARKER: Final = b"\xe2"
_INDEX: Final = b"MPF\x00"
#: Markers without a length behind them: TEM, RST0 to RST7, SOI.
_JPEG_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_HEAD_BYTES: Final = 1_024
_VECTOR: Final = "a vector image; save it as PNG"
#: First bytes of what people take for images, without blanks in front and in lower case, and what it is.
_OTHERS: Final = (
    (b"%!ps", f"PostScript is {_VECTOR}"),
    (b"\xc5\xd0\xd3\xc6", f"PostScript is {_VECTOR}"),
    (b"\xd7\xcd\xc6\x9a", f"WMF is {_VECTOR}"),
    (b"\x01\x00\x00\x00", f"EMF is {_VECTOR}"),
    (b"%pdf", "it is a PDF; save its pages as images"),
    (b"<!doctype html", "it is a web page"),
    (b"<html", "it is a web page"),
)
#: Brands of the container that phones write photos in (ISO/IEC 23008-12).
_HEIF: Final = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis"})


def first_picture(data: bytes) -> bytes | None:
    """Return the first picture of a JPEG, without the index of the others; None if it has no end.

    Phones write other pictures behind it, or a video. A preview within the header has an end of its own, which is skipped with its
    segment.
    """
    parts: list[bytes] = []
    copied = 0
    place = len(_JPEG_START)
    while data[place : place + 1] == _MARKER and place + _SEGMENT_BYTES <= len(data):
        marker = data[place + 1]
        if marker == _JPEG_SCAN:
            end = data.find(_JPEG_END, place)
            return None if end < 0 else b"".join([*parts, data[copied : end + len(_JPEG_END)]])
        if marker == _MARKER[0]:
            # A marker may have several of them in front.
            after = place + 1
        elif marker in _JPEG_ALONE:
            after = place + 2
        else:
            after = place + 2 + int.from_bytes(data[place + 2 : place + _SEGMENT_BYTES], "big")
        if data[place + 1 : place + 2] == _INDEX_MARKER and data.startswith(_INDEX, place + _SEGMENT_BYTES):
            parts.append(data[copied:place])
            copied = after
        place = after
    return None


def has_end(kind: str, data: bytes) -> bool:
    """Whether the data of a JPEG, PNG, GIF or WEBP has its end, so that nothing is cut off."""
    match kind:
        case "JPEG":
            return first_picture(data) is not None
        case "PNG":
            return b"IEND" in data
        case "GIF":
            return data.endswith(b";")
        case _:
            return int.from_bytes(data[4:8], "little") + 8 <= len(data)


def other_than_image(data: bytes) -> str | None:
    """Return what bytes are that no decoder reads, and what to do, as a clause; None if that is not known."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP" and not has_end("WEBP", data):
        return "the end of its data is missing"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF:
        return "HEIC and AVIF are not taken; save it as JPEG"
    head = data[:_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head.startswith((b"<svg", b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in head:
        return f"SVG is {_VECTOR}"
    return next((what for first, what in _OTHERS if head.startswith(first)), None)
