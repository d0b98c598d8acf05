"""Every scene with a fault at its first, second, third ... call until one passes: python -m faults.write_calls.

A process of its own for each: it imports once and forks. After a death another fork looks at what
is there; after an error the same process does, and goes on as if space had been freed. What is
found must be the old state or the new one, and writing once more must lead to the new one.
"""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from faults.apart import tell
from faults.storage_scenes import CARELESS, SCENES, STORAGE_ERRORS, Scene
from faults.write_faults import ERRORS, WriteFaults, at

PASSED, FAULTED, WRONG = 0, 3, 4
KILLED = -9


def forked(action: Callable[[], int]) -> int:
    """The exit code of a fork that does it; minus the signal that ended it."""
    child = os.fork()
    if not child:
        code = WRONG
        try:
            code = action()
        except BaseException:  # any: the parent says where it came from
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def judged_state(scene: Scene, folder: Path, old: object, new: object) -> int:
    """WRONG unless the state is old or new and the next writing makes it new."""
    found = scene.found(folder)
    if found not in scene.allowed(old, new):
        sys.stderr.write(f"a mixture: {str(found)[:500]}\n")
        return WRONG
    scene.write(folder)
    again = scene.found(folder)
    if again != new:
        sys.stderr.write(f"not mended: {str(again)[:500]}\n")
        return WRONG
    return FAULTED


def states(scene: Scene, folder: Path) -> tuple[object, object]:
    """What is found before and after an undisturbed writing."""
    for name, writes in (("old", ()), ("new", (scene.write,))):
        (folder / name).mkdir(parents=True)
        scene.before(folder / name)
        for write in writes:
            write(folder / name)
    return scene.found(folder / "old"), scene.found(folder / "new")


def attempt(scene: Scene, folder: Path, act: str, number: int, old: object, new: object) -> int:
    """One writing with a fault at the n-th call."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    scene.before(folder)

    def faulty() -> int:
        faults = WriteFaults(folder, act, at(number))
        faults.install()
        with suppress(*STORAGE_ERRORS):
            scene.write(folder)
        return judged_state(scene, folder, old, new) if faults.failed else PASSED

    code = forked(faulty)
    if code == KILLED and act not in ERRORS:
        return forked(lambda: judged_state(scene, folder, old, new))
    return code


def main() -> None:
    folder, acts = Path(sys.argv[1]), sys.argv[2].split(",")
    scenes = CARELESS if sys.argv[3:] == ["careless"] else SCENES
    wrong, tried = [], dict.fromkeys(acts, 0)
    for name, scene in scenes.items():
        place = folder / name.replace(" ", "-")
        old, new = states(scene, place)
        for act in acts:
            number, code = 0, FAULTED
            while code != PASSED:
                number += 1
                code = attempt(scene, place / "tried", act, number, old, new)
                tried[act] += code != PASSED
                if code not in (PASSED, FAULTED):
                    wrong.append(f"{name}: {act} call {number}: code {code}")
    tell({"scenes": len(scenes), "tried": tried, "wrong": wrong})


if __name__ == "__main__":
    main()
