"""The CPU threads that a run chooses, on a quiet machine and beside a busy process per core.

Each variant trains in a process of its own, because OpenMP reads its variables once: one thread,
one thread per core, the same with the runtime's own spinning, and what `choose_threads` chooses
under the load. They take turns, and each figure is a median of ratios of the same turn.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.training_speed import Scale, own, write_micrographs
from cryossl.config import Config
from cryossl.config_file import build
from cryossl.network import device as devices
from cryossl.network.speed import choose_threads, measure_speed

SCALE = Scale(tile_px=104, batch_size=8)  # the default network
CPU = torch.device("cpu")
RUNTIMES_OWN = {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}
ONE, ALL, SPINNING, CHOSEN = "one thread", "all cores", "all cores, spinning", "chosen"
BAR, ETA_BAR = 1.3, 2.0


def main(*, steps: int = 8, rounds: int = 3) -> list[dict[str, Any]]:
    """Print a line for each load; return the seconds of a step and their ratios."""
    with tempfile.TemporaryDirectory() as name:
        write_micrographs(Path(name))
        return [
            measure(Path(name), busy=busy, steps=steps, rounds=rounds)
            for busy in (0, devices.usable_cores())
        ]


def measure(folder: Path, *, busy: int, steps: int, rounds: int) -> dict[str, Any]:
    """Seconds of a step of each variant beside so many busy processes, and what they say."""
    cores = devices.usable_cores()
    seconds: dict[str, list[float]] = {ONE: [], ALL: [], SPINNING: [], CHOSEN: []}
    errors = []
    with ExitStack() as stack:
        pools = {
            variant: stack.enter_context(_process(RUNTIMES_OWN if variant == SPINNING else {}))
            for variant in seconds
        }
        stack.enter_context(busy_processes(busy))
        chosen = pools[CHOSEN].submit(_choose, folder / f"threads_{busy}.json").result()
        threads = {ONE: 1, ALL: cores, SPINNING: cores, CHOSEN: chosen}
        for _ in range(rounds):
            expected = pools[CHOSEN].submit(_expect, chosen).result()
            for variant, pool in pools.items():
                speed = pool.submit(own, folder, SCALE, steps, threads[variant]).result()
                seconds[variant].append(SCALE.batch_size / speed)
            errors.append(expected / seconds[CHOSEN][-1])
    best = [min(turn) for turn in zip(*seconds.values(), strict=True)]
    result: dict[str, Any] = {
        "busy_processes": busy,
        "cores": cores,
        "chosen_threads": chosen,
        "step_seconds": {variant: statistics.median(all_) for variant, all_ in seconds.items()},
        "all_rounds": seconds,
        "chosen_to_one": _ratio(seconds[CHOSEN], seconds[ONE]),
        "chosen_to_best": _ratio(seconds[CHOSEN], best),
        "expected_to_taken": statistics.median(errors),
    }
    print(
        f"{cores} cores, {busy} busy processes: "
        + ", ".join(
            f"{name} {1000 * value:.0f} ms" for name, value in result["step_seconds"].items()
        )
        + f"; {chosen} chosen: {result['chosen_to_one']:.2f} of one thread, "
        f"{result['chosen_to_best']:.2f} of the best of each turn (at most {BAR}); expected "
        f"{result['expected_to_taken']:.2f} of what a step took (within a factor of {ETA_BAR:g})"
    )
    return result


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes that do nothing but take a core each."""
    processes = [
        subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(count)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def _process(changes: Mapping[str, str]) -> Iterator[ProcessPoolExecutor]:
    """A process that has loaded torch with these variables, and with no number of threads set."""
    before = dict(os.environ)
    os.environ.pop("OMP_NUM_THREADS", None)
    os.environ.update(changes)
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            pool.submit(devices.usable_cores).result()  # starts it
            os.environ.clear()
            os.environ.update(before)
            yield pool
    finally:
        os.environ.clear()
        os.environ.update(before)


def _choose(memory: Path) -> int:
    """What a first start chooses."""
    return choose_threads(_config(), tile_px=SCALE.tile_px, device=CPU, memory=memory)


def _expect(threads: int) -> float:
    """Seconds of a step from which `run --dry-run` and the plan of a sweep estimate a run."""
    devices.prepare(threads=threads, device=CPU)
    step_seconds, _ = measure_speed(_config(), tile_px=SCALE.tile_px, device=CPU, precision="fp32")
    return step_seconds


def _config() -> Config:
    return build({"batch_size": SCALE.batch_size})


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()
