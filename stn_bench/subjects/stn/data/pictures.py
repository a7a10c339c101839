"""Picture files: find, read, write, and arrange side by side. Always RGB, whatever OpenCV prefers."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from stn_bench.subjects.stn.data.opencv import load_opencv, muted
from stn_bench.subjects.stn.data.spec import Picture
from stn_bench.subjects.stn.data.store import explain_disk
from stn_bench.subjects.transparency import WHITE, Colour, laid_on
from stn_bench.system.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
"""The endings of pictures that can be written."""

READABLE = frozenset({*SUFFIXES, ".gif", ".tif", ".tiff"})
"""The endings by which pictures are found in a folder."""

YELLOW = (255, 255, 0)
MAGENTA = (214, 0, 110)
AROUND = (214, 218, 224)  # what surrounds a framed picture: neither paper, nor a pad, nor the bar

NOT_READ = (Image.DecompressionBombError, UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError)

EXTRA_SAMPLES = 338
"""The tag of TIFF for what a pixel has beside its colour."""

SHIFT = 4
"""Bits behind the point in the coordinates that OpenCV draws at: a line lies within 1/32 of a pixel of its place."""


def read_picture(path: Path, ground: Colour = WHITE) -> Picture:
    """Return the picture in a file as RGB; grey becomes three equal channels, transparent pixels are laid on a ground.

    Args:
        path: the file.
        ground: colour behind transparent pixels, RGB 0..255.

    Returns:
        uint8, `(height, width, 3)`; the first frame of several.

    Raises:
        DataError: if the file cannot be read or is not a picture.
    """
    cv2 = load_opencv()
    try:
        # cv2.imread takes no path outside ASCII on some systems; bytes do not care where they came from.
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    decoded = _decode(content, cv2.IMREAD_COLOR) if content.size else None
    if decoded is None:
        raise DataError(f"{path}: not a picture. Expected PNG, JPEG, GIF, TIFF, BMP or WebP.")
    shown = _on_ground(path, content, ground)
    picture: Picture = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB) if shown is None else shown
    return picture


def _decode(content: Picture, how: int) -> Any:
    cv2 = load_opencv()
    try:
        with muted():
            decoded = cv2.imdecode(content, how)
    except cv2.error:  # some broken headers raise where others give None
        return None
    return decoded


def _on_ground(path: Path, content: Picture, ground: Colour) -> Picture | None:
    """Return a picture with transparent pixels laid on a ground and turned as its EXIF note says, else None."""
    cv2 = load_opencv()

    def deep() -> NDArray[np.uint16]:
        found = _decode(content, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        pixels: NDArray[np.uint16] = found if found.ndim == 2 else found[..., 2::-1]
        return pixels

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, and odd notes in them
            with Image.open(io.BytesIO(content.tobytes())) as image:
                shown = laid_on(image, ground, deep)
                turned = shown and _turned(shown, image)
    except NOT_READ:  # OpenCV reads more kinds, and drops what it does not know of transparency
        found = _decode(content, cv2.IMREAD_UNCHANGED)
        if not _has_alpha(found) and _tells_of_alpha(content):
            raise DataError(f"{path}: a TIFF whose transparency cannot be read; save it as PNG") from None
        return _by_its_alpha(found, ground)
    return None if turned is None else np.asarray(turned)


def _turned(shown: Image.Image, image: Image.Image) -> Image.Image:
    try:
        shown.info["exif"] = image.getexif().tobytes()
        return ImageOps.exif_transpose(shown)
    except Exception:  # a damaged note says nothing, whatever Pillow makes of it
        return shown


def _has_alpha(found: Any) -> bool:
    return found is not None and found.ndim == 3 and found.shape[2] == 4


def _tells_of_alpha(content: Picture) -> bool:
    """Return whether a file is a TIFF with more samples than colours."""
    file = io.BytesIO(content.tobytes())
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(tags.next)
        tags.load(file)
        return EXTRA_SAMPLES in tags
    except Exception:  # another kind of file, or a damaged one
        return False


def _by_its_alpha(found: Any, ground: Colour) -> Picture | None:
    if not _has_alpha(found):
        return None
    largest = np.iinfo(found.dtype).max if found.dtype.kind == "u" else 1
    colour, alpha = found[..., 2::-1] / largest, found[..., 3:] / largest
    laid: Picture = np.rint(255 * colour * alpha + np.array(ground) * (1 - alpha)).astype(np.uint8)
    return laid


def write_picture(path: Path, picture: Picture) -> None:
    """Write an RGB picture, in the format that the ending of `path` names; the file appears whole or not at all.

    Args:
        path: the file; its folder is made where it is missing.
        picture: uint8, `(height, width, 3)`.

    Raises:
        DataError: if the ending names no picture format.
        MachineError: if the disk is full or cannot be written.
    """
    check_ending(path)
    cv2 = load_opencv()
    _, content = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with explain_disk(path.parent, content.size):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(content.tobytes())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def check_ending(path: Path, endings: frozenset[str] = SUFFIXES) -> None:
    """Check that a file name's ending is one of these.

    Raises:
        DataError: if it is not.
    """
    if path.suffix.lower() not in endings:
        raise DataError(f"{path}: expected a file name that ends in {', '.join(sorted(endings))}")


def enlarge(picture: Picture, height: int) -> Picture:
    """Return a picture whose pixels became squares, the smallest whole number of times that reaches `height`."""
    times = -(-height // picture.shape[0])
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def side_by_side(original: Picture, rectified: Picture, bar: int = 10) -> Picture:
    """Return original | yellow bar | rectified; the lower picture is centred on black.

    Args:
        original: uint8, `(height, width, 3)`.
        rectified: the same, of any size.
        bar: width of the bar, in pixels.
    """
    height = max(original.shape[0], rectified.shape[0])
    yellow = np.full((height, bar, 3), YELLOW, np.uint8)
    return np.concatenate([_centred(original, height), yellow, _centred(rectified, height)], axis=1)


def frame_margin(frames: NDArray[np.floating], size: tuple[int, int]) -> int:
    """Return how many pixels around pictures of this height and width show frames whole: at least 2, at most a half.

    Args:
        frames: corners of quadrilaterals, `(n, 4, 2)`, column and row in pixels of the picture.
        size: height and width of the pictures.
    """
    height, width = size
    beyond = np.maximum(-frames, frames - (width - 1, height - 1))
    return int(np.clip(np.ceil(np.max(beyond)) + 1, 2, max(2, min(size) // 2)))


def framed_pair(
    original: Picture, rectified: Picture, corners: NDArray[np.floating], margin: int, height: int = 200
) -> Picture:
    """Return original | yellow bar | rectified, enlarged, with the frame that the rectified picture was taken from.

    Args:
        original: uint8, `(height, width, 3)`.
        rectified: the same, of any size.
        corners: corners of the frame, `(4, 2)`, column and row in pixels of the original; 0 is the centre of the
            first pixel. A dot marks the first corner, on both sides.
        margin: pixels around the original in which the frame still shows; what lies further out is cut off.
        height: least height of the enlarged original, in pixels; the margin comes on top.
    """
    times = -(-height // original.shape[0])
    rows, columns = rectified.shape[0] - 1, rectified.shape[1] - 1
    whole = np.array([(0, 0), (columns, 0), (columns, rows), (0, rows)])
    return side_by_side(draw_frame(original, corners, margin, times), draw_frame(rectified, whole, margin, times))


def draw_frame(picture: Picture, corners: NDArray[np.floating], margin: int, times: int) -> Picture:
    """Return a picture whose pixels became squares, in a grey margin, with a quadrilateral drawn on it.

    Args:
        picture: uint8, `(height, width, 3)`.
        corners: `(4, 2)`, column and row in pixels of the picture; 0 is the centre of the first pixel.
        margin: pixels of the picture around it.
        times: side of the squares, in pixels.

    Returns:
        uint8, `((height + 2 * margin) * times, (width + 2 * margin) * times, 3)`.
    """
    cv2 = load_opencv()
    height, width = picture.shape[:2]
    canvas = np.full((height + 2 * margin, width + 2 * margin, 3), AROUND, np.uint8)
    canvas[margin : margin + height, margin : margin + width] = picture
    canvas = enlarge(canvas, times * canvas.shape[0])
    places = (np.asarray(corners) + margin + 0.5) * times - 0.5  # the centre of a square is no pixel's
    points = np.rint(places * 2**SHIFT).clip(-(2**30), 2**30).astype(np.int32)
    for colour, thickness in ((WHITE, 5), (MAGENTA, 2)):  # the wider line keeps the other apart from any letter
        cv2.polylines(canvas, [points], True, colour, thickness, cv2.LINE_AA, SHIFT)
    for colour, radius in ((WHITE, 7), (MAGENTA, 5)):
        cv2.circle(canvas, points[0].tolist(), radius << SHIFT, colour, cv2.FILLED, cv2.LINE_AA, SHIFT)
    return canvas


def _centred(picture: Picture, height: int) -> Picture:
    missing = height - picture.shape[0]
    return np.pad(picture, ((missing // 2, missing - missing // 2), (0, 0), (0, 0)))


def contact_sheet(pictures: Sequence[Picture], columns: int, margin: int = 4) -> Picture:
    """Return the pictures in a white grid, row by row.

    Args:
        pictures: uint8, `(height, width, 3)`, of any sizes; the largest sets the grid.
        columns: pictures in a row.
        margin: white pixels around each.

    Raises:
        DataError: if there are no pictures.
    """
    if not pictures:
        raise DataError("contact sheet: expected at least one picture, got none")
    height = max(picture.shape[0] for picture in pictures) + margin
    width = max(picture.shape[1] for picture in pictures) + margin
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * height + margin, columns * width + margin, 3), 255, np.uint8)
    for position, picture in enumerate(pictures):
        top, left = position // columns * height + margin, position % columns * width + margin
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def find_pictures(paths: Iterable[Path]) -> list[Path]:
    """Return the files named, and in place of each folder its pictures, sorted by name.

    Raises:
        DataError: if a path does not exist, or a folder holds no picture.
    """
    return [picture for path in paths for picture in _expand(path)]


def _expand(path: Path) -> list[Path]:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder. Name a picture, or a folder of pictures.")
    if not path.is_dir():
        return [path]
    pictures = sorted(file for file in path.iterdir() if file.suffix.lower() in READABLE and file.is_file())
    if not pictures:
        raise DataError(
            f"{path}: no pictures in this folder. Expected files that end in {', '.join(sorted(READABLE))}"
        )
    return pictures
