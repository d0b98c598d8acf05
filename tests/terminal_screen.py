"""What a person sees on a terminal: a screen that knows the few codes that rich writes, and refuses others."""

from __future__ import annotations

import re

from rich.cells import cell_len, set_cell_size

_CODE = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])")


class Screen:
    """Lines of text with a cursor; what scrolled out above is kept in `scrolled`."""

    def __init__(self, *, columns: int, lines: int) -> None:
        self.columns, self._lines = columns, lines
        self.scrolled: list[str] = []
        self._rows = [""]
        self._row, self._column = 0, 0
        self._widest = 0

    def feed(self, text: str) -> None:
        """Show what was written to the terminal."""
        place = 0
        while place < len(text):
            code = _CODE.match(text, place)
            if code is not None:
                self._obey(code[1], code[2], code[3])
                place = code.end()
            else:
                self._show(text[place])
                place += 1

    def text(self) -> list[str]:
        """The lines of the screen, without blank ones at its end."""
        rows = [row.rstrip() for row in self._rows]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def widest(self) -> int:
        """The most columns that a line took, counted before the terminal would have broken it."""
        return self._widest

    def _show(self, letter: str) -> None:
        if letter == "\r":
            self._column = 0
        elif letter == "\n":
            self._row += 1
            self._column = 0
            if self._row == len(self._rows):
                self._rows.append("")
            if len(self._rows) > self._lines:
                self.scrolled.append(self._rows.pop(0))
                self._row -= 1
        else:
            row = self._rows[self._row]
            before = set_cell_size(row, self._column)
            after = row[len(before) + 1 :]
            self._rows[self._row] = before + letter + after
            self._column += cell_len(letter)
            self._widest = max(self._widest, self._column)

    def _obey(self, private: str, numbers: str, kind: str) -> None:
        if kind == "A":
            self._row = max(0, self._row - int(numbers or 1))
        elif kind == "K" and numbers == "2":
            self._rows[self._row] = ""
        elif kind != "m" and not (private and kind in "hl"):
            raise ValueError(f"an unknown code of a terminal: {private}{numbers}{kind}")
