"""Images of a row: addresses, files and bytes, within the limits of console.groq.com/docs/vision.

How many bytes and pixels lie behind an address (20 MB, 33 megapixels) cannot be known without fetching it, so it is not checked.
The page names no formats; those that are sent as they are, are the ones that every server of this API takes.
"""

from __future__ import annotations

import base64
import binascii
import warnings
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

from batchkit.annotation.image_files import FileTrouble
from batchkit.formatting import printable
from batchkit.preflight.facts import MAX_BASE64_REQUEST_BYTES, MAX_IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from PIL import Image

    from batchkit.annotation.image_files import ImageFolder

MAX_PIXELS = 33_177_600
_MIMES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}
#: What a part of a message takes beside the encoded image.
_PART_BYTES = 100
_JPEG_QUALITY = 85
#: Pixels: the format itself has no longer side.
_MAX_JPEG_SIDE = 65_500
_MOST_STEPS = 20
_SMALLEST_STEP = 0.9


class ImageTrouble(ValueError):
    """An image of a row that cannot be sent; ``column`` says which, the message why."""

    def __init__(self, column: str, why: str) -> None:
        super().__init__(why)
        self.column = column


@dataclass(frozen=True, slots=True)
class Picture:
    """One image: an ``address``, or its bytes with their media type."""

    column: str
    address: str = ""
    data: bytes = b""
    mime: str = ""

    @property
    def encoded_bytes(self) -> int:
        """How much of the request its bytes take in base64."""
        return (len(self.data) + 2) // 3 * 4 if self.data else 0

    def part(self) -> dict[str, Any]:
        """Write it as a part of a message."""
        url = self.address or f"data:{self.mime};base64,{base64.b64encode(self.data).decode()}"
        return {"type": "image_url", "image_url": {"url": url}}


class Images:
    """Reads the image ``columns`` of rows; ``files`` reads what they name. With ``shrink`` what is too large is scaled down."""

    def __init__(self, columns: Sequence[str], *, files: ImageFolder, shrink: bool) -> None:
        self._columns = columns
        self._files = files
        self._shrink = shrink

    def parts(self, row: Mapping[str, Any], *, other_bytes: int) -> list[dict[str, Any]]:
        """Give the images of a row as parts of a message; ``other_bytes`` is what else its request takes.

        An image that a row does not have is left out. Raises ``ImageTrouble``.
        """
        named = [(column, value) for column in self._columns for value in _values(row[column])]
        if not named:
            raise ImageTrouble(", ".join(self._columns), "there is no image")
        if len(named) > MAX_IMAGES:
            why = f"there are {len(named)} images; at most {MAX_IMAGES} go in one request"
            raise ImageTrouble(named[MAX_IMAGES][0], why)
        found = [self._picture(column, value) for column, value in named]
        return [picture.part() for picture in self._fitted(found, other_bytes)]

    def _picture(self, column: str, value: Any) -> Picture:
        if isinstance(value, dict):
            # As Hugging Face's datasets keep an image.
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str):
            address = value.strip()
            if address[:8].lower().startswith(("http://", "https://")):
                return Picture(column, address=address)
            if address[:5].lower() == "data:":
                return self._checked(Picture(column, data=_from_data_url(column, address)))
        return self._checked(Picture(column, data=self._bytes_of(column, value)))

    def _bytes_of(self, column: str, value: Any) -> bytes:
        if isinstance(value, bytes):
            return value
        if not isinstance(value, str):
            raise ImageTrouble(column, f"an image is an address, a path or bytes, not {type(value).__name__}")
        try:
            return self._files.read(value)
        except FileTrouble as trouble:
            raise ImageTrouble(column, str(trouble)) from None

    def _checked(self, picture: Picture) -> Picture:
        """Look at an image's head: what it is, and how many pixels it has."""
        with _opened(picture) as image:
            pixels = image.width * image.height
            mime = _MIMES.get(image.format or "")
            if mime is not None and pixels <= MAX_PIXELS:
                return replace(picture, mime=mime)
            if self._shrink:
                return _shrunk(picture, image, MAX_BASE64_REQUEST_BYTES // 4 * 3)
        if mime is None:
            raise ImageTrouble(
                picture.column,
                f"the image is {image.format}; give {', '.join(_MIMES)}, or convert with --shrink-images",
            )
        raise ImageTrouble(
            picture.column,
            f"the image has {pixels:,} pixels; at most {MAX_PIXELS:,} are taken (--shrink-images scales it down)",
        )

    def _fitted(self, pictures: list[Picture], other_bytes: int) -> list[Picture]:
        """Bring the images of a request below its limit: small ones stay as they are, and large ones share what they leave."""
        taken = sum(picture.encoded_bytes for picture in pictures)
        room = MAX_BASE64_REQUEST_BYTES - other_bytes - _PART_BYTES * len(pictures)
        if not taken or taken <= room:
            return pictures
        largest = max(pictures, key=lambda picture: picture.encoded_bytes)
        if not self._shrink or room <= 0:
            raise ImageTrouble(
                largest.column,
                f"the request would have {taken + other_bytes:,} bytes with its images in base64; at most"
                f" {MAX_BASE64_REQUEST_BYTES:,} are taken (--shrink-images scales them down, addresses take no room)",
            )
        fitted = list(pictures)
        by_size = sorted((picture.encoded_bytes, place) for place, picture in enumerate(pictures) if picture.data)
        for left, (size, place) in zip(range(len(by_size), 0, -1), by_size, strict=True):
            share = room // left
            if size > share:
                with _opened(fitted[place]) as image:
                    fitted[place] = _shrunk(fitted[place], image, share // 4 * 3)
            room -= fitted[place].encoded_bytes
        return fitted


def _values(value: Any) -> Iterator[Any]:
    for item in value if isinstance(value, list) else (value,):
        if item is not None and item not in ("", b""):
            yield item


def _from_data_url(column: str, url: str) -> bytes:
    head, comma, encoded = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ImageTrouble(column, "the data: address is not in base64")
    try:
        # Many tools break base64 into lines.
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ImageTrouble(column, "the data: address is damaged") from None


def _opened(picture: Picture) -> Image.Image:
    """Read an image's head; a file that would unfold to a hundred megapixels and more is refused."""
    from PIL import Image  # noqa: PLC0415 - most tables have no images

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(BytesIO(picture.data), formats=_safe_formats())
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ImageTrouble(picture.column, "the image has far too many pixels to be opened safely") from None
    except Exception:  # noqa: BLE001 - a decoder fails in any way on damaged bytes
        raise ImageTrouble(picture.column, "this is no image that can be read") from None


@cache
def _safe_formats() -> tuple[str, ...]:
    """Name the formats that are read here: EPS is a program, which another program would run."""
    from PIL import Image  # noqa: PLC0415 - as above

    Image.init()
    return tuple(kind for kind in Image.OPEN if kind != "EPS")


def _shrunk(picture: Picture, image: Image.Image, most_bytes: int) -> Picture:
    """Scale an image down until it has at most ``most_bytes``: a PNG where it is transparent, else a JPEG."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = _scaled_down(image, most_bytes)
    except Exception as error:  # noqa: BLE001 - as above
        raise ImageTrouble(picture.column, f"the image is damaged: {printable(str(error), 80)}") from None
    if made is None:
        raise ImageTrouble(picture.column, f"the image cannot be scaled down to {most_bytes:,} bytes")
    data, mime = made
    return replace(picture, data=data, mime=mime)


def _scaled_down(image: Image.Image, most_bytes: int) -> tuple[bytes, str] | None:
    from PIL import Image, ImageOps  # noqa: PLC0415 - as above

    upright = ImageOps.exif_transpose(image)
    is_transparent = "A" in upright.getbands() or "transparency" in upright.info
    whole = upright.convert("RGBA" if is_transparent else "RGB")
    scale = min(1.0, (MAX_PIXELS / (whole.width * whole.height)) ** 0.5, _MAX_JPEG_SIDE / max(whole.size))
    for _ in range(_MOST_STEPS):
        size = (max(int(whole.width * scale), 1), max(int(whole.height * scale), 1))
        scaled = whole if size == whole.size else whole.resize(size, Image.Resampling.LANCZOS)
        target = BytesIO()
        if is_transparent:
            scaled.save(target, "PNG", optimize=True)
        else:
            scaled.save(target, "JPEG", quality=_JPEG_QUALITY)
        data = target.getvalue()
        if len(data) <= most_bytes:
            return data, "image/png" if is_transparent else "image/jpeg"
        scale *= min(_SMALLEST_STEP, (most_bytes / len(data)) ** 0.5 * 0.95)
    return None
