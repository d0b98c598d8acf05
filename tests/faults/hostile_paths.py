"""File names that lead, or seem to lead, out of a data set, read while every opened path is recorded.

`python -m faults.hostile_paths`. The names are written into the annotation file; where they need a
link, a pipe or a folder to be dangerous, it is made.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from coco_folders import entries, write_dataset, write_part, write_picture

from cryossl.data.check import check
from cryossl.data.coco.dataset import scan
from cryossl.progress.events import silent
from faults.apart import LAST_CASE, judged, tell

NAMES = [
    "../secret.jpg",
    "../../secret.jpg",
    "../val/../../secret.jpg",
    "x/../../secret.jpg",
    "train/../../secret.jpg",
    "./..",
    "..",
    ".",
    "",
    "  ",
    "./../secret.jpg",
    "..//secret.jpg",
    "..;/secret.jpg",
    ".../secret.jpg",
    "....//secret.jpg",
    "../secret.jpg\0.jpg",
    "/etc/passwd",
    "//etc/passwd",
    "/proc/self/mem",
    "/dev/zero",
    "/dev/stdin",
    "file:///etc/passwd",
    "~/secret.jpg",
    "~root/x.jpg",
    "$HOME/secret.jpg",
    "..\\secret.jpg",
    "..\\..\\secret.jpg",
    "C:\\secret.jpg",
    "C:secret.jpg",
    "\\\\host\\share\\x.jpg",
    "\\\\?\\C:\\x.jpg",
    "%2e%2e/secret.jpg",
    "%2e%2e%2fsecret.jpg",
    "..%c0%afsecret.jpg",
    "\u2025/secret.jpg",
    "\uff0e\uff0e/secret.jpg",
    "..\u2215secret.jpg",
    "..\u2044secret.jpg",
    "\ud800.jpg",
    "x" * 5000 + ".jpg",
    "a\nb.jpg",
    "a\rb.jpg",
    "\x7f.jpg",
    "secret.jpg.",
    "secret.jpg ",
    "CON",
    "NUL.jpg",
    "train",
    "../train/10017_a.jpg",
]


def _inside(root: Path) -> Path:
    return root / "train"


PREPARED: dict[str, Callable[[Path], object]] = {
    "link.jpg": lambda root: (_inside(root) / "link.jpg").symlink_to(root.parent / "secret.jpg"),
    "relative.jpg": lambda root: (_inside(root) / "relative.jpg").symlink_to("../../secret.jpg"),
    "chain.jpg": lambda root: [
        (_inside(root) / "first").symlink_to("../../secret.jpg"),
        (_inside(root) / "chain.jpg").symlink_to("first"),
    ],
    "folder/secret.jpg": lambda root: (_inside(root) / "folder").symlink_to(root.parent),
    "deep/a/secret.jpg": lambda root: [
        (_inside(root) / "deep").mkdir(),
        (_inside(root) / "deep" / "a").symlink_to(root.parent),
    ],
    "loop.jpg": lambda root: (_inside(root) / "loop.jpg").symlink_to("loop.jpg"),
    "dead.jpg": lambda root: (_inside(root) / "dead.jpg").symlink_to("nothing"),
    "zero.jpg": lambda root: (_inside(root) / "zero.jpg").symlink_to("/dev/zero"),
    "memory.jpg": lambda root: (_inside(root) / "memory.jpg").symlink_to("/proc/self/mem"),
    "pipe.jpg": lambda root: os.mkfifo(_inside(root) / "pipe.jpg"),
    "folder.jpg": lambda root: (_inside(root) / "folder.jpg").mkdir(),
    "unlisted link": lambda root: (_inside(root) / "other.jpg").symlink_to(
        root.parent / "secret.jpg"
    ),
    "unlisted pipe": lambda root: os.mkfifo(_inside(root) / "other.jpg"),
    "unlisted folder": lambda root: (_inside(root) / "other").symlink_to(root.parent),
    "unlisted link without suffix": lambda root: (_inside(root) / "other").symlink_to(
        root.parent / "secret.jpg"
    ),
    "unlisted device": lambda root: (_inside(root) / "other").symlink_to("/dev/zero"),
    "unlisted pipe without suffix": lambda root: os.mkfifo(_inside(root) / "other"),
}
UNSEEN = (
    "unlisted folder",
    "unlisted link without suffix",
    "unlisted device",
    "unlisted pipe without suffix",
)
"""Folders behind links are not looked into, and what is not called a picture is left out where it
is none or lies outside; all else is refused."""
LETTERS = "./\\~%:\0\n \u2025\uff0e\u2215abC$x"


class Record:
    """Every path that this process opens or lists while it is switched on."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        heard = self.on and event in ("open", "os.listdir", "os.scandir")
        if heard and arguments and isinstance(arguments[0], str | bytes | os.PathLike):
            self.paths.append(os.fsdecode(arguments[0]))


def outside(paths: list[str], root: Path) -> list[str]:
    """Those that lead out of the data set; the program's own files do not count."""
    own = tuple(
        os.path.realpath(place)
        for place in (sys.prefix, sys.base_prefix, Path(__file__).parents[2])
    )
    real = {os.path.realpath(path) for path in paths}
    return sorted(path for path in real if not path.startswith((os.path.realpath(root), *own)))


def main() -> None:
    folder, texts, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    record = Record()
    payloads = [*NAMES, *PREPARED]
    write_picture(folder / "secret.jpg")

    def read(case: int) -> str:
        rng = random.Random(f"{seed} {case}")
        name = (
            payloads[case]
            if case < len(payloads)
            else "".join(rng.choice(LETTERS) for _ in range(rng.randint(0, 12)))
        )
        (folder / LAST_CASE).write_text(ascii(name)[:500])
        root = folder / "data"
        shutil.rmtree(root, ignore_errors=True)
        write_dataset(root)
        PREPARED.get(name, lambda _: None)(root)
        write_part(
            root,
            "train",
            [],
            document=entries([name] if "unlisted" not in name else ["10017_a.jpg"]),
        )
        record.paths, record.on = [], True
        try:
            dataset, faults = scan(root, border="auto", max_megapixels=5)
            listed = check(root, max_megapixels=5, report=silent)
        finally:
            record.on = False
        if found := outside(record.paths, root):
            raise ValueError(f"{ascii(name)[:80]}: opened {found[:3]}")
        if not record.paths or (
            case < len(payloads)
            and name not in UNSEEN
            and (dataset is not None or not faults or not listed)
        ):
            raise ValueError(f"{ascii(name)[:80]}: not refused")
        if any("\n" in str(fault) for fault in faults):
            raise ValueError(f"{ascii(name)[:80]}: a message of two lines")
        return "refused" if faults else "read"

    read(0)  # what is imported late is opened now
    tell(judged(folder, len(payloads) + texts, read) | {"payloads": len(payloads)})


if __name__ == "__main__":
    main()
