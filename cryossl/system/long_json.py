"""JSON documents with one long list, whose elements are parsed when they are read.

Python's objects of a COCO file take about ten times the memory of its text.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Sequence
from typing import Any, overload

from cryossl.errors import DataError

_BLANK = re.compile(r"[ \t\n\r]*")
_Decode = Callable[[str, int], tuple[Any, int]]


class Elements(Sequence[Any]):
    """The elements of a list in a JSON text; each is parsed anew whenever it is read."""

    def __init__(self, text: str, starts: array[int], decode: _Decode) -> None:
        """`decode` parses the value that starts at a place of the text, one of `starts`."""
        self._text, self._starts, self._decode = text, starts, decode

    def __len__(self) -> int:
        """The number of elements."""
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> Elements: ...

    def __getitem__(self, index: int | slice) -> Any:
        """An element, or some of them. Raises DataError for one that is nested too deeply."""
        if isinstance(index, slice):
            return Elements(self._text, self._starts[index], self._decode)
        try:
            return self._decode(self._text, self._starts[index])[0]
        except RecursionError:  # the first parse was nearer to the bottom of Python's stack
            raise DataError("JSON nested too deeply", cure="export the file again") from None


def parse(
    text: str, key: str, *, checked: json.JSONDecoder, again: json.JSONDecoder
) -> dict[str, Any] | None:
    """The object in a JSON text; the list that is its value of `key` becomes `Elements`.

    `checked` parses every value once, `again` parses elements afterwards. None for a text that is
    no object, or is broken: the usual parser then says where.
    """
    try:
        return _object(text, key, checked.raw_decode, again.raw_decode)
    except (ValueError, RecursionError):
        return None


def _object(text: str, key: str, checked: _Decode, again: _Decode) -> dict[str, Any]:
    document: dict[str, Any] = {}
    place = _after(text, _blank(text, 0), "{")
    while True:
        name, place = checked(text, place)
        if not isinstance(name, str) or name in document:
            raise ValueError(name)
        place = _after(text, _blank(text, place), ":")
        if name == key and text.startswith("[", place):
            starts, place = _starts(text, place, checked)
            document[name] = Elements(text, starts, again)
        else:
            document[name], place = checked(text, place)
        place = _blank(text, place)
        if not text.startswith(",", place):
            break
        place = _blank(text, place + 1)
    if _after(text, place, "}") != len(text):
        raise ValueError(text[place : place + 1])
    return document


def _starts(text: str, place: int, checked: _Decode) -> tuple[array[int], int]:
    """Where the elements of the list at `place` start, and the place after the list."""
    starts = array("Q")
    place = _after(text, place, "[")
    if text.startswith("]", place):
        return starts, place + 1
    while True:
        starts.append(place)
        place = _blank(text, checked(text, place)[1])
        if not text.startswith(",", place):
            break
        place = _blank(text, place + 1)
    if not text.startswith("]", place):
        raise ValueError(text[place : place + 1])
    return starts, place + 1


def _after(text: str, place: int, letter: str) -> int:
    """The first place after a letter that must stand at `place`, and after blanks."""
    if not text.startswith(letter, place):
        raise ValueError(letter)
    return _blank(text, place + 1)


def _blank(text: str, place: int) -> int:
    found = _BLANK.match(text, place)
    return found.end() if found else place
