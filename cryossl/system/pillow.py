"""A picture file opened by Pillow, with its header read but no pixel decoded."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

_LIMIT = threading.Lock()


@contextmanager
def opened(source: Path | io.BytesIO, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """The picture, if it is of one of these formats; the caller checks its size before it decodes.

    Raises what Pillow raises on damaged files: OSError, ValueError, SyntaxError and more.
    """
    # Pillow's own limit (89 Mpx, a global) would refuse valid super-resolution pictures, and print
    # a warning or raise a class of its own. Without the lock one thread could restore the value
    # that another one has set.
    with _LIMIT:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            picture = Image.open(source, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    with picture:
        yield picture
