"""The images of a row: addresses, files and bytes, within the provider's limits.

The size of an image at an address (at most 20 MB, 33 megapixels) is unknown without fetching it, so it is not checked. The page
names no formats; the formats that are sent unchanged are those that every server of this API accepts.
"""

from __future__ import annotations

import base64
import binascii
import warnings
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

from batchkit.annotation.image_files import UnreadableImageFile, is_base64_image
from batchkit.annotation.image_formats import first_picture, has_end, other_than_image
from batchkit.formatting import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from PIL import Image

    from batchkit.annotation.image_files import ImageFolder
    from batchkit.provider.dialect import ModelFacts

MAX_PIXELS = 33_177_600
_MIMES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}
#: The bytes of a message part beside the encoded image.
_PART_BYTES = 100
_JPEG_QUALITY = 85
#: Pixels: the longest side that the format allows.
_MAX_JPEG_SIDE = 65_500
_MOST_STEPS = 20
_SMALLEST_STEP = 0.9


class InvalidImage(ValueError):
    """An image of a row that cannot be sent; ``column`` is its column, the message the reason."""

    def __init__(self, column: str, why: str) -> None:
        super().__init__(why)
        self.column = column


class NoImage(InvalidImage):
    """A row without any image."""


@dataclass(frozen=True, slots=True)
class ImageInput:
    """One image: an ``address``, or its bytes with their media type."""

    column: str
    address: str = ""
    data: bytes = b""
    mime: str = ""

    @property
    def encoded_bytes(self) -> int:
        """The size of its bytes in base64, as part of the request."""
        return (len(self.data) + 2) // 3 * 4 if self.data else 0

    def part(self) -> dict[str, Any]:
        """Return it as a part of a message."""
        url = self.address or f"data:{self.mime};base64,{base64.b64encode(self.data).decode()}"
        return {"type": "image_url", "image_url": {"url": url}}


class ImageReader:
    """Reads the image ``columns`` of rows, within the ``limits`` of the provider's models; ``files`` reads files that they name.

    With ``shrink`` large images are scaled down.
    """

    def __init__(self, columns: Sequence[str], *, files: ImageFolder, shrink: bool, limits: ModelFacts) -> None:
        self._most_images = limits.max_images
        self._most_bytes = limits.max_base64_request_bytes
        self._columns = columns
        self._files = files
        self._shrink = shrink

    def parts(self, row: Mapping[str, Any], *, other_bytes: int) -> list[dict[str, Any]]:
        """Return the images of a row as parts of a message; ``other_bytes`` is the size of the rest of the request.

        Empty cells are skipped. Raises ``InvalidImage``.
        """
        named = [(column, value) for column in self._columns for value in _values(row[column])]
        if not named:
            raise NoImage(", ".join(self._columns), "the row has no image")
        if len(named) > self._most_images:
            why = f"there are {len(named)} images; at most {self._most_images} go in one request"
            raise InvalidImage(named[self._most_images][0], why)
        found = [self._input(column, value) for column, value in named]
        return [image_input.part() for image_input in self._fitted(found, other_bytes)]

    def _input(self, column: str, value: Any) -> ImageInput:
        if isinstance(value, dict):
            # The format of images in Hugging Face datasets.
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str):
            address = value.strip()
            if address[:8].lower().startswith(("http://", "https://")):
                return ImageInput(column, address=address)
            if address[:5].lower() == "data:":
                return self._checked(ImageInput(column, data=_from_data_url(column, address)))
            if is_base64_image(address):
                return self._checked(ImageInput(column, data=_from_base64(column, address)))
        return self._checked(ImageInput(column, data=self._bytes_of(column, value)))

    def _bytes_of(self, column: str, value: Any) -> bytes:
        if isinstance(value, bytes):
            return value
        if not isinstance(value, str):
            raise InvalidImage(column, f"an image is an address, a path or bytes, not {type(value).__name__}")
        try:
            return self._files.read(value)
        except UnreadableImageFile as trouble:
            raise InvalidImage(column, str(trouble)) from None

    def _checked(self, image_input: ImageInput) -> ImageInput:
        """Read an image's header, and check what can be said without decoding it."""
        with _opened(image_input) as image:
            # A file of several pictures (MPO) is a JPEG with others behind it.
            kind = "JPEG" if image.format == "MPO" else image.format or ""
            if kind in _MIMES and _is_cut_off(image, kind, image_input.data):
                raise InvalidImage(image_input.column, "the image is damaged: the end of its data is missing")
            why = _why_not_as_it_is(image, kind, image_input.column)
            if why is not None and self._shrink:
                return _shrunk(image_input, image, self._most_bytes // 4 * 3)
        if why is not None:
            raise InvalidImage(image_input.column, why)
        # Only the first picture is sent: nobody meant to share another view, or the video of a phone.
        alone = first_picture(image_input.data) if kind == "JPEG" else None
        return replace(image_input, data=alone or image_input.data, mime=_MIMES[kind])

    def _fitted(self, inputs: list[ImageInput], other_bytes: int) -> list[ImageInput]:
        """Scale the images of a request down to its limit: small ones are unchanged, large ones share the rest equally."""
        taken = sum(image_input.encoded_bytes for image_input in inputs)
        room = self._most_bytes - other_bytes - _PART_BYTES * len(inputs)
        if not taken or taken <= room:
            return inputs
        largest = max(inputs, key=lambda image_input: image_input.encoded_bytes)
        if not self._shrink or room <= 0:
            raise InvalidImage(
                largest.column,
                f"the request would have {taken + other_bytes:,} bytes with its images in base64; at most"
                f" {self._most_bytes:,} are taken (--shrink-images scales them down, addresses take no space)",
            )
        fitted = list(inputs)
        by_size = sorted(
            (image_input.encoded_bytes, place) for place, image_input in enumerate(inputs) if image_input.data
        )
        for left, (size, place) in zip(range(len(by_size), 0, -1), by_size, strict=True):
            share = room // left
            if size > share:
                with _opened(fitted[place]) as image:
                    fitted[place] = _shrunk(fitted[place], image, share // 4 * 3)
            room -= fitted[place].encoded_bytes
        return fitted


def _values(value: Any) -> Iterator[Any]:
    for item in value if isinstance(value, list) else (value,):
        if item is not None and item != b"" and not (isinstance(item, str) and not item.strip()):
            yield item


def _from_data_url(column: str, url: str) -> bytes:
    head, comma, encoded = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise InvalidImage(column, "the data: address is not in base64")
    return _from_base64(column, encoded)


def _from_base64(column: str, encoded: str) -> bytes:
    try:
        # Many tools wrap base64 into lines.
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidImage(column, "the base64 of the image is damaged") from None


def _opened(image_input: ImageInput) -> Image.Image:
    """Read an image's header; an image that would decode to more than a hundred megapixels is refused."""
    from PIL import Image  # noqa: PLC0415 - most tables have no images

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(BytesIO(image_input.data), formats=_safe_formats())
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InvalidImage(image_input.column, "the image has far too many pixels to be opened safely") from None
    except Exception:  # noqa: BLE001 - a decoder fails in any way on damaged bytes
        what = other_than_image(image_input.data)
        told = f": {what}" if what else ""
        raise InvalidImage(image_input.column, f"this is not an image that can be read{told}") from None


def _why_not_as_it_is(image: Image.Image, kind: str, column: str) -> str | None:
    """Return why an image cannot be sent unchanged, with what to do; None if it can."""
    pixels = image.width * image.height
    if kind not in _MIMES:
        return f"the image is {printable(kind, 20)}; give {', '.join(_MIMES)}, or convert with --shrink-images"
    if pixels > MAX_PIXELS:
        return f"the image has {pixels:,} pixels; at most {MAX_PIXELS:,} are taken (--shrink-images scales it down)"
    if image.mode == "CMYK":
        return "the image has colours for print (CMYK), which many decoders cannot read; convert with --shrink-images"
    try:
        is_animated = kind != "JPEG" and getattr(image, "is_animated", False)
    except Exception:  # noqa: BLE001 - as below: the second picture is looked for
        raise InvalidImage(column, "the image is damaged") from None
    if is_animated:
        return "the image is animated; give a still one, or send its first picture with --shrink-images"
    return None


def _is_cut_off(image: Image.Image, kind: str, data: bytes) -> bool:
    """Whether the end of an image is missing. Only one without an end mark is decoded: some programs leave it out."""
    if has_end(kind, data):
        return False
    try:
        image.load()
    except Exception:  # noqa: BLE001 - as below
        return True
    return False


@cache
def _safe_formats() -> tuple[str, ...]:
    """Return the formats that are read.

    EPS is left out, because an EPS file is a program, and reading it runs Ghostscript; WMF, because it is drawn on Windows only.
    """
    from PIL import Image  # noqa: PLC0415 - as above

    Image.init()
    return tuple(kind for kind in Image.OPEN if kind not in {"EPS", "WMF"})


def _shrunk(image_input: ImageInput, image: Image.Image, most_bytes: int) -> ImageInput:
    """Scale an image down to at most ``most_bytes``: a PNG if it is transparent, else a JPEG."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = _scaled_down(image, most_bytes)
    except Exception as error:  # noqa: BLE001 - as above
        raise InvalidImage(image_input.column, f"the image is damaged: {printable(str(error), 80)}") from None
    if made is None:
        raise InvalidImage(image_input.column, f"the image cannot be scaled down to {most_bytes:,} bytes")
    data, mime = made
    return replace(image_input, data=data, mime=mime)


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
