"""Run Topaz on EMPIAR-10017 with one labelled micrograph: `python -m scripts.peer_topaz`.

Topaz is a program of its own (GPL), in an environment of its own: `pip install topaz-em` there, and
`--topaz` names its executable. Three ways are tried: its pretrained weights as they are, the same
trained further on the labelled micrograph, and a network trained on it from scratch. The threshold
of each is the best one on the labelled micrograph, as ours is; the scores are those of
`scripts.score_picks`. docs/peers.md has the results.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import mrcfile
import numpy as np

from cryossl.data.images import read_picture
from scripts.score_picks import Labelled, best_threshold, f1, read_picks, read_truths, total

SOURCE = "10017"
LABELLED = "10017_Falcon_2012_06_12-14_33_35_0"
_LEAST_SCORE = -6.0  # Topaz's own default


@dataclass(frozen=True)
class Peer:
    """Topaz at one scale: its executable, its folder, and how it is called.

    Attributes:
        program: the executable.
        folder: for its files.
        scale: the pictures are made smaller by it.
        threads: of torch.
    """

    program: Path
    folder: Path
    scale: int
    threads: int

    def call(self, *words: str) -> None:
        """Run Topaz, and say how long it took."""
        began = time.monotonic()
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
        command = [str(self.program), *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(f"topaz {words[0]} failed: {done.stderr[-500:]}")
        click.echo(f"  topaz {words[0]}: {time.monotonic() - began:.0f} s", err=True)

    def preprocess(self, pictures: Sequence[Path]) -> list[Path]:
        """The pictures, made smaller and normalised by Topaz; it reads no JPEG: they become MRC."""
        whole, small = self.folder / "whole", self.folder / f"scale{self.scale}"
        whole.mkdir(parents=True, exist_ok=True)
        for path in pictures:
            grey = read_picture(path, max_megapixels=256).astype(np.float32)
            with mrcfile.new(whole / f"{path.stem}.mrc", overwrite=True) as file:
                file.set_data(grey)
        done = [small / f"{path.stem}.mrc" for path in pictures]
        if not all(path.exists() for path in done):
            files = [str(whole / f"{path.stem}.mrc") for path in pictures]
            options = ["-s", str(self.scale), "-j", str(self.threads), "-o", str(small)]
            self.call("preprocess", *options, *files)
        return done

    def extract(self, model: str, pictures: Sequence[Path], *, radius_px: int, name: str) -> Path:
        """The picks of a model, in px of the whole pictures."""
        target = self.folder / f"scale{self.scale}-{name}.txt"
        self.call(
            "extract", "-m", model, "-r", str(radius_px), "-x", str(self.scale), "-d", "-1",
            "-t", str(_LEAST_SCORE), "-j", str(self.threads), "-o", str(target),
            *map(str, pictures),
        )  # fmt: skip
        return target

    def train(self, picture: Path, truth: Labelled, *, words: Sequence[str], name: str) -> str:
        """Train on one micrograph; the path of the last model."""
        targets = self.folder / f"scale{self.scale}-targets.txt"
        rows = [
            f"{picture.stem}\t{x / self.scale:.0f}\t{y / self.scale:.0f}\n"
            for x, y in truth.centres - 0.5
        ]
        targets.write_text("image_name\tx_coord\ty_coord\n" + "".join(rows), encoding="utf-8")
        listed = self.folder / f"scale{self.scale}-images.txt"
        listed.write_text(f"image_name\tpath\n{picture.stem}\t{picture}\n", encoding="utf-8")
        prefix = self.folder / f"scale{self.scale}-{name}"
        self.call(
            "train", "--train-images", str(listed), "--train-targets", str(targets),
            "-n", str(len(rows)), "-d", "-1", "-j", str(self.threads),
            "--save-prefix", str(prefix), "-o", f"{prefix}.curve.txt", *words,
        )  # fmt: skip
        return str(max(self.folder.glob(f"{prefix.name}_epoch*.sav"), key=_number))


def _number(path: Path) -> int:
    return int(path.stem.rpartition("epoch")[2])


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--topaz", "program", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--to", "folder", required=True, type=click.Path(path_type=Path))
@click.option("--scale", "scales", type=int, multiple=True, default=(2, 4), show_default=True)
@click.option("--border-px", required=True, type=float, help="as `cryossl data check` measures it")
@click.option("--ways", default="pretrained,tuned,scratch", show_default=True)
@click.option("--model", default="resnet8", show_default=True, help="of Topaz")
@click.option("--units", default=32, show_default=True, help="width of Topaz's network")
@click.option("--epochs", default=10, show_default=True)
@click.option("--epoch-size", default=1000, show_default=True, help="steps of an epoch")
@click.option("--minibatch", default=256, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(
    data: Path,
    program: Path,
    folder: Path,
    scales: tuple[int, ...],
    border_px: float,
    ways: str,
    threads: int,
    **training: str | int,
) -> None:
    """Print a row for each scale and way: threshold, F1 on the labelled and on the scored part."""
    annotations = data / "annotations"
    train = read_truths(annotations / "instances_train.json", only=SOURCE)
    scored = read_truths(annotations / "instances_val.json", only=SOURCE)
    labelled = {LABELLED: train[LABELLED]}
    paths = [data / "train" / f"{LABELLED}.jpg", *(data / "val" / f"{name}.jpg" for name in scored)]
    model, units = training["model"], training["units"]
    for scale in scales:
        peer = Peer(program, folder, scale, threads)
        pictures = peer.preprocess(paths)
        radius_px = round(train[LABELLED].diameter_px / 2 / scale)
        steps = [
            "--num-epochs", str(training["epochs"]), "--epoch-size", str(training["epoch_size"]),
            "--minibatch-size", str(training["minibatch"]), "-m", str(model), "--units", str(units),
        ]  # fmt: skip
        for way in ways.split(","):
            network = f"{model}_u{units}"
            if way != "pretrained":
                start = [] if way == "tuned" else ["--no-pretrained"]
                network = peer.train(pictures[0], train[LABELLED], words=[*steps, *start], name=way)
            found = read_picks(peer.extract(network, pictures, radius_px=radius_px, name=way))
            least = best_threshold(found, labelled, border_px=border_px)
            own = total(found, labelled, border_px=border_px, threshold=least)
            counts = total(found, scored, border_px=border_px, threshold=least)
            click.echo(
                f"{way} {network}, scale {scale}: threshold {least:.3f}, F1 on the labelled "
                f"{f1(own):.3f}, on {len(scored)} others {f1(counts):.3f} (tp, fp, fn {counts})"
            )


if __name__ == "__main__":
    main()
