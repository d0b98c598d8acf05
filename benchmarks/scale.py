"""Time and peak memory of what comes before and between trainings, over 500 and 5,000 micrographs.

The data set is simulated. Each size runs in a process of its own; after each step the kernel's
VmHWM, the highest memory until then, is noted. It must not grow by more than a tenth.
`python -m benchmarks.scale 512 100 400` measures pictures of 512 px.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

SIDE_PX, SMALL, LARGE = 64, 500, 5_000
STEPS = ("start", "read", "plan and split", "decode and store", "predict", "select")
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
    synthesise(Path(sys.argv[1]) / "data", seed=0, train=count, validation=20, test=20,
               size_px=side, form="jpg", report=silent)
"""


def main(side_px: int = SIDE_PX, small: int = SMALL, large: int = LARGE) -> dict[str, object]:
    """Print the table; return seconds and peaks in MiB by step, and the largest growth."""
    found = {count: _measured(count, side_px=side_px) for count in (small, large)}
    sys.stdout.write(
        f"{small:,} and {large:,} micrographs of {side_px} px\n"
        f"{'step':18} {'seconds':>16} {'peak in MiB':>16} {'growth':>7}\n"
    )
    growths = {}
    for step in STEPS:
        few, many = found[small][step], found[large][step]
        growths[step] = many["peak_mib"] / few["peak_mib"]
        sys.stdout.write(
            f"{step:18} {few['seconds']:7.1f} {many['seconds']:8.1f} "
            f"{few['peak_mib']:7.0f} {many['peak_mib']:8.0f} {growths[step]:7.3f}\n"
        )
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
    return result


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*map(int, sys.argv[1:]))) + "\n")
