"""Time and peak memory of all stages over 500, 1,500 and 5,000 micrographs of 22 sources.

The data set is simulated. For each size a process of its own reads, splits, decodes, predicts and
selects, and the kernel's VmHWM, the highest memory until then, is noted after each step. Then
`run`, `compare` and `report` work on the same data, with a small network and few steps. No memory
may grow by more than a tenth from the fewest micrographs to the most.

The picture is written to benchmarks/results/scale.png; docs/cluster.md shows it.
`python -m benchmarks.scale 512 100 400` measures pictures of 512 px, and of 100 and 400.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from cryossl.system.process import PROJECT

SIDE_PX, SIZES, BAR = 64, (500, 1_500, 5_000), 1.10
STEPS = ("start", "read", "plan and split", "decode and store", "predict", "select")
COMMANDS = ("run", "compare", "report")
PICTURE = Path(__file__).parent / "results" / "scale.png"
Measured = Mapping[str, Mapping[str, float]]
WORK = """
import json, sys, time
from pathlib import Path
import torch
from cryossl.config_file import build
from cryossl.network import architecture as network
from cryossl.network.prediction import predict
from cryossl.progress.events import silent
from cryossl.pseudolabels.pool import Pool
from cryossl.pseudolabels.priors import Priors
from cryossl.pseudolabels.strategies import recipe_for
from cryossl.selftraining import prepare
from cryossl.selftraining.stage_code import stage_code

folder, side = Path(sys.argv[1]), int(sys.argv[2])
config = build({"data": str(folder / "data"), "work": str(folder / "work"), "threads": 1,
                "tile_px": min(side, 256)})
net = network.build(config.network, seed=0)
torch.set_num_threads(1)
found, began = {}, time.perf_counter()

def note(step):
    global began
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    found[step] = {"seconds": time.perf_counter() - began, "peak_mib": peak}
    began = time.perf_counter()

note("start")
dataset = prepare.load(config, silent)
note("read")
plan = prepare.sketch(config, dataset)
split = prepare.draw(config, plan.micrographs, tile_px=plan.tile_px)
note("plan and split")
store = prepare.store_of(dataset, config, stage_code(folder / "code.json", keep=False), silent)
note("decode and store")
pool = Pool(store, split.unlabelled)
predicted, chosen = folder / "predicted", folder / "chosen"
predicted.mkdir()
chosen.mkdir()
cpu = torch.device("cpu")
pool.predict(predicted, lambda ids: predict(net, store, ids, batch_size=4, device=cpu,
                                            precision="fp32", report=silent), report=silent)
note("predict")
sources = {micrograph.source for micrograph in store.micrographs.values()}
pool.select(predicted, chosen, recipe_for("class_balanced", config.selection).selection,
            priors=Priors(0.04, {}, dict.fromkeys(sorted(sources), len(split.labelled))),
            report=silent)
note("select")
print(json.dumps(found))
"""
SYNTH = """
import sys
from pathlib import Path
from cryossl.data.synthetic.dataset import synthesise
from cryossl.progress.events import silent
if __name__ == "__main__":
    side, count = int(sys.argv[2]), int(sys.argv[3])
    synthesise(Path(sys.argv[1]) / "data", seed=0, train=count, validation=count // 10,
               test=count // 10, size_px=side, sources=22, form="jpg", report=silent)
"""


def main(side_px: int = SIDE_PX, *sizes: int) -> dict[str, object]:
    """Print the table, draw the picture; return seconds, peaks in MiB, and the largest growth."""
    counts = sizes or SIZES
    found = {count: _measured(count, side_px=side_px) for count in counts}
    few, many = found[counts[0]], found[counts[-1]]
    growths = {step: many[step]["peak_mib"] / few[step]["peak_mib"] for step in few}
    for name in ("seconds", "peak_mib"):
        sys.stdout.write(f"\n{name:18}" + "".join(f"{count:>10,}" for count in counts) + "\n")
        for step in few:
            row = "".join(f"{found[count][step][name]:10.1f}" for count in counts)
            growth = f"{growths[step]:9.3f}" if name == "peak_mib" else ""
            sys.stdout.write(f"{step:18}{row}{growth}\n")
    sys.stdout.write(f"largest growth {max(growths.values()):.3f} (at most {BAR})\n")
    _draw(found, side_px=side_px)
    return {"side_px": side_px, "steps": found, "largest_growth": max(growths.values())}


def _measured(count: int, *, side_px: int) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "synth.py"  # a file, because the simulator starts processes
        script.write_text(SYNTH)
        sizes = (folder, str(side_px), str(count))
        subprocess.run([sys.executable, str(script), *sizes], check=True)
        done = subprocess.run(
            [sys.executable, "-c", WORK, *sizes], check=True, capture_output=True, text=True
        )
        result: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
        for command in COMMANDS:
            result[command] = _command(command, Path(folder), side_px=side_px)
    sys.stdout.write(f"{count:,} micrographs: {json.dumps(result)}\n")
    sys.stdout.flush()
    return result


def _command(command: str, folder: Path, *, side_px: int) -> dict[str, float]:
    """CPU seconds and peak memory of a command, of its own processes too."""
    options = {
        "run": (
            *("--data", str(folder / "data"), "--work", str(folder / "run"), "--threads", "1"),
            *("--results", str(folder / "results"), "--tile-px", str(min(side_px, 256))),
            *("--strategies", "naive,class_balanced,supervised_long", "--max-iterations", "1"),
            *("--audit", "true", "--least-steps", "60", "--baseline-epochs", "1"),
            *("--student-epochs", "1", "--batch-size", "16", "--validations", "2"),
        ),
        "compare": (),
        "report": ("--output", str(folder / "report.html")),
    }[command]
    store = ("--tracking-uri", f"sqlite:///{folder}/mlflow.db")
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "cli.py"), command, *options, *store],
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} failed with status {os.waitstatus_to_exitcode(status)}")
    return {
        "seconds": time.monotonic() - began,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
    }


def _draw(found: Mapping[int, Measured], *, side_px: int) -> None:
    """The highest memory of the stages against the number of micrographs."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from analysis.report.plotting import STYLE, WIDTH_INCHES
    from cryossl.pages.palette import BLACK, BLUE, GREEN, ORANGE, SKY, VERMILLION

    looks = zip(
        ("run", "report", "select", "decode and store", "read", "compare"),
        (VERMILLION, ORANGE, BLUE, SKY, BLACK, GREEN),
        "osD^vP",
        strict=True,
    )
    counts = list(found)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 3.0), layout="constrained")
        axes = figure.add_subplot()
        for step, colour, marker in looks:
            peaks = [found[count][step]["peak_mib"] for count in counts]
            axes.plot(counts, peaks, color=colour, marker=marker, markersize=5, label=step)
        axes.set(xlabel=f"training micrographs of {side_px} px", ylabel="highest memory (MiB)")
        axes.set(xlim=(0, None), ylim=(0, None), xticks=counts)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        figure.legend(loc="outside right center", title="up to, or whole command")
        PICTURE.parent.mkdir(exist_ok=True)
        figure.savefig(PICTURE, dpi=120)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*map(int, sys.argv[1:]))) + "\n")
