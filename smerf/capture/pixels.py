"""Image files of every kind to 8-bit pixels: formats, bit depths, colour modes, EXIF orientation.

Pixels come as stored unless an orientation is given: Pillow rotates some TIFF files on its own, which is undone here,
so that one rule holds for all formats. Shapes: H W image.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from smerf.errors import InvalidDataError, MissingPartError, SmerfError

__all__ = [
    "RAW_SUFFIXES",
    "Header",
    "is_panorama",
    "open_image",
    "read_array",
    "read_header",
    "read_pixels",
    "read_start",
    "read_used",
    "rotate",
]

# Pillow refuses twice as much; phones have 200 megapixels, and reading a photo reduces it.
Image.MAX_IMAGE_PIXELS = 256_000_000

RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".srw", ".pef", ".x3f")
_ORIENTATION, _EXIF_IFD, _EXPOSURE_TIME, _ISO, _BITS = 0x0112, 0x8769, 33434, 34855, 258
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_FOREIGN = {
    b"\x76\x2f\x31\x01": "an OpenEXR file",
    b"#?RADIANCE": "a Radiance HDR file",
    b"\xff\x0a": "a JPEG XL file",
    b"\x00\x00\x00\x0cJXL ": "a JPEG XL file",
    b"version https://git-lfs": "a Git LFS pointer; run 'git lfs pull', or",
}
_CONVERTIBLE = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
_FLOAT_SLACK = 1e-3
_MIN_PANORAMA = 2000  # pixels; smaller images of twice their height are crops as well
_LOSSY = ("JPEG", "MPO", "HEIF", "AVIF")


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels are read.

    ``size`` is (width, height) as stored, ``orientation`` the EXIF tag (1 to 8, 1 where there is none), ``exposure``
    shutter seconds x ISO / 1000 where tagged. ``is_deep`` marks grey values of more than 8 bits.
    """

    size: tuple[int, int]
    orientation: int
    has_alpha: bool
    exposure: float | None
    is_deep: bool

    @property
    def upright(self) -> tuple[int, int]:
        """Return the size after rotating as the tag says."""
        return self.size[::-1] if self.orientation >= 5 else self.size


def read_start(path: Path, count: int) -> bytes:
    """Return the first bytes of a file, which tell its kind."""
    with path.open("rb") as file:
        return file.read(count)


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image; whatever goes wrong inside the block raises an error with the file's name.

    Raises:
        InvalidDataError: If the file is damaged, too large, an animation or of a kind that is not read.
        MissingPartError: If it is HEIC and nothing that reads it is installed.
    """
    start = b""
    try:
        start = read_start(path, 64)
        _refuse_foreign(path, start)
        with Image.open(path) as image:
            _refuse_series(path, image)
            yield image
    except SmerfError:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        raise InvalidDataError(f"{path}: too large ({error or 'out of memory'}); reduce the image") from error
    except Exception as error:  # Pillow's readers raise errors of many families
        if isinstance(error, OSError) and start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            raise InvalidDataError(
                f"{path}: a kind of TIFF that is not read ({error}); convert it to PNG with 8 or 16 bits"
            ) from error
        if _is_heic(start):
            raise InvalidDataError(
                f"{path}: a HEIC photo that cannot be decoded ({error}); restore it, or convert it to JPEG"
            ) from error
        raise InvalidDataError(f"{path}: not a readable image ({error}); restore the file") from error


def read_header(path: Path) -> Header:
    """Return what the header of an image says.

    Raises:
        InvalidDataError: If the file is not an image that can be read.
        MissingPartError: If it is HEIC and nothing that reads it is installed.
    """
    with open_image(path) as image:
        # Pillow reads a whole PNG to find tags behind its pixels; photos with tags are JPEG or TIFF.
        is_tagged = image.format in ("JPEG", "MPO", "TIFF") or "exif" in image.info
        orientation = _orientation(image) if is_tagged else 1
        return Header(
            size=image.size[::-1] if image.format == "TIFF" and orientation >= 5 else image.size,
            orientation=orientation,
            has_alpha=_has_alpha(image),
            exposure=_exposure(image) if is_tagged else None,
            is_deep=image.mode[0] in "IF",
        )


def read_pixels(path: Path, orientation: int = 1, at_least: tuple[int, int] | None = None) -> np.ndarray:
    """Return the pixels of an image, uint8 (H, W, 3), or (H, W, 4) with straight alpha.

    Args:
        path: The file.
        orientation: How to rotate what is stored, as an EXIF tag says it.
        at_least: (width, height), as stored, that a JPEG keeps where it is reduced while it is decoded.

    Raises:
        InvalidDataError: If the file is damaged, or its values have no known white.
    """
    with open_image(path) as image:
        mode, applied = image.mode, _rotated_by_pillow(image)
        if at_least is not None:
            image.draft(None, at_least)
        if mode == "F" or mode.startswith("I"):
            grey = _from_float(path, image) if mode == "F" else _from_integers(path, image)
            pixels = np.repeat(grey[..., None], 3, axis=2)
        elif mode in _CONVERTIBLE:
            pixels = np.asarray(_straight(image).convert("RGBA" if _has_alpha(image) else "RGB"))
        else:
            raise InvalidDataError(f"{path}: colours are stored as {mode}; convert it to RGB")
        return rotate(_undo(pixels, applied), orientation)


def read_array(path: Path) -> np.ndarray:
    """Return the stored values of an image without conversion, as for depth maps.

    Raises:
        InvalidDataError: If the file is damaged.
    """
    with open_image(path) as image:
        applied = _rotated_by_pillow(image)
        values = np.asarray(image)
        return _undo(values.astype(np.uint16) if image.mode.startswith("I;16") else values, applied)


def read_used(path: Path) -> np.ndarray:
    """Return where a mask is not black, bool (H, W), rotated as its own tag says.

    Any value but 0 counts, as in nerfstudio and COLMAP; in files of lossy compression, values above 127. Where a mask
    has an alpha channel that is not the same everywhere, that is the mask; palettes count by their colours.

    Raises:
        InvalidDataError: If the file is damaged.
    """
    with open_image(path) as image:
        orientation = _orientation(image) if image.format != "TIFF" else 1
        floor = 127 if image.format in _LOSSY else 0
        if image.mode[0] in "IF":
            values = np.asarray(image)
        else:
            rgba = np.asarray(_straight(image).convert("RGBA"))
            alpha = rgba[..., 3]
            values = alpha if alpha.min() != alpha.max() else rgba[..., :3].max(axis=-1)
        return rotate(values > floor, orientation)


def is_panorama(image: Image.Image) -> bool:
    """Tell whether an opened image is a 360-degree photo: by its tags, or large and twice as wide as high."""
    said = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    tags = said if isinstance(said, bytes) else str(said).encode()
    is_tagged = b"ProjectionType" in tags and b"equirectangular" in tags.lower()
    return is_tagged or (image.width == 2 * image.height and image.width >= _MIN_PANORAMA)


def rotate(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate and mirror stored pixels (H, W, ...) as an EXIF orientation of 1 to 8 says."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::rows, ::columns])


def _refuse_foreign(path: Path, start: bytes) -> None:
    """Refuse kinds of files that Pillow does not read, or of which it reads a thumbnail."""
    kind = next((name for magic, name in _FOREIGN.items() if start.startswith(magic)), None)
    if path.suffix.lower() in RAW_SUFFIXES:
        kind = "a raw photo, which needs developing"
    if not start:
        raise InvalidDataError(f"{path}: the file is empty; restore it")
    if kind is not None:
        raise InvalidDataError(f"{path}: {kind}; export it as JPEG or PNG, all photos with the same settings")
    if _is_heic(start):
        _register_heic(path)


def _is_heic(start: bytes) -> bool:
    return start[4:8] == b"ftyp" and any(brand in start[8:] for brand in _HEIC_BRANDS)


def _register_heic(path: Path) -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise MissingPartError(
            f"{path}: HEIC photos need the heic extra: pip install 'smerf[heic]', or convert them to JPEG "
            "(a phone set to 'Most compatible' takes JPEG)"
        ) from None
    register_heif_opener()


def _refuse_series(path: Path, image: Image.Image) -> None:
    """Refuse animations and files of several pages of one size; thumbnails and second views are no pages."""
    count = getattr(image, "n_frames", 1) if image.format in ("GIF", "PNG", "WEBP", "AVIF", "TIFF") else 1
    if count == 1:
        return
    if image.format == "TIFF":
        size = image.size
        image.seek(1)
        is_reduced = image.size != size
        image.seek(0)
        if is_reduced:
            return
    raise InvalidDataError(f"{path}: holds {count} images; export each as a file of its own")


def _has_alpha(image: Image.Image) -> bool:
    is_keyed = "transparency" in image.info and image.mode in ("P", "L", "RGB")
    return is_keyed or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")


def _straight(image: Image.Image) -> Image.Image:
    """Divide colours by the alpha that they are stored multiplied by."""
    return image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode]) if image.mode.endswith("a") else image


def _from_integers(path: Path, image: Image.Image) -> np.ndarray:
    """Return grey values of 9 to 16 bits as 8 bits, rounded to nearest."""
    white = 65535
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(_BITS, (16,))[0]
        white = 2**bits - 1 if bits < 16 else white
    if image.mode == "I" and image.format not in ("PNG", "PPM"):
        raise InvalidDataError(
            f"{path}: 32-bit or signed integers, whose white is not known; convert it to PNG with 8 or 16 bits"
        )
    values = np.asarray(image).astype(np.uint32)
    return ((values * 255 + white // 2) // white).clip(0, 255).astype(np.uint8)


def _from_float(path: Path, image: Image.Image) -> np.ndarray:
    """Return grey values of 0 to 1 as 8 bits, rounded to nearest."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not (low >= -_FLOAT_SLACK and high <= 1.0 + _FLOAT_SLACK):
        raise InvalidDataError(
            f"{path}: floating-point values of {low:g} to {high:g}, expected 0 to 1; convert it to PNG with 8 or "
            "16 bits"
        )
    return (values.clip(0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    try:
        tag = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged tags are common and never a reason to refuse a photo
        return 1
    return tag if 1 <= tag <= 8 else 1


def _exposure(image: Image.Image) -> float | None:
    try:
        tags = image.getexif().get_ifd(_EXIF_IFD)
        shutter, iso = tags[_EXPOSURE_TIME], tags[_ISO]
        iso = iso[0] if isinstance(iso, tuple) else iso
        value = float(shutter) * float(iso) / 1000.0
    except Exception:  # as above
        return None
    return value if np.isfinite(value) and value > 0 else None


def _rotated_by_pillow(image: Image.Image) -> int:
    """Return the orientation that Pillow applies on its own when it reads the pixels; they lose their tag then."""
    return _orientation(image) if image.format == "TIFF" else 1


def _undo(pixels: np.ndarray, orientation: int) -> np.ndarray:
    return rotate(pixels, {6: 8, 8: 6}.get(orientation, orientation))
