"""Data sets as programs and people really leave them: what is unambiguous is read, the rest is told before anything is trained."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest
from PIL import Image
from typed_commands import call

from cryossl.config_file import load
from cryossl.data.sources import Description, assign

HEIGHT, WIDTH = 64, 80


def write(root, *, train=6, val=4, name="prot_{part}{number:03d}.png", listed=None, change=None):
    """CryoTransformer's layout with two particles a picture.

    `listed` is the name in the annotation file where it is not the file's; `change` edits the
    document of a part.
    """
    (root / "annotations").mkdir(parents=True)
    for part, count in (("train", train), ("val", val)):
        document = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "particle"}]}
        for number in range(count):
            names = {"part": part, "number": number, "uid": f"{10**16 + 7919 * number:021d}"}
            path = root / part / name.format(**names)
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([number, part == "val"]).integers(0, 255, (HEIGHT, WIDTH))
            Image.fromarray(noise.astype(np.uint8)).save(path)
            document["images"].append(
                {
                    "id": number,
                    "file_name": (listed or name).format(**names),
                    "height": HEIGHT,
                    "width": WIDTH,
                }
            )
            document["annotations"] += [
                {
                    "id": 2 * number + side,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [8 + 30 * side, 10, 16, 16],
                    "area": 256,
                    "iscrowd": 0,
                    "segmentation": [],
                }
                for side in (0, 1)
            ]
        if change is not None:
            document = change(document) or document
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(document))
    return root


def run(root, *options):
    """`run` with a dry run's cost where it is not refused before."""
    work = ("--work", str(root.parent / "work"), "--results", str(root.parent / "results"))
    store = ("--tracking-uri", f"sqlite:///{root.parent / 'mlflow.db'}")
    return call(
        "run", "--data", str(root), "--tile-px", "32", "--threads", "1", *work, *store, *options
    )


def refused(done):
    """The one line of a refusal."""
    assert (done.code, done.err.count("\n")) == (2, 1), done
    return done.err


def test_numbers_of_cryosparc_before_each_name_are_no_sources(tmp_path):
    root = write(tmp_path / "data", train=40, name="{uid}_FoilHole_{number}_Data_31_{part}.png")
    done = run(root, "--dry-run", "--ratio", "5")
    assert done.code == 0, done.err
    assert "40 training micrographs: 2 labelled (5%), 38 unlabelled" in done.out


@pytest.mark.parametrize(
    ("sizes", "options", "words"),
    [
        ({"train": 1}, ("--ratio", "5"), "1 of 1 training micrographs would be labelled (100%)"),
        ({}, ("--ratio", "100"), "6 of 6 training micrographs would be labelled (100%)"),
        ({}, ("--ratio", "100", "--label-unit", "tile"), "36 of 36 training tiles"),
        ({}, ("--labelled", "ALL"), "as the labelled list has it"),
        ({}, ("--ratio", "100", "--strategies", "full"), "for full"),
    ],
)
def test_nothing_left_unlabelled_is_refused_before_training(tmp_path, sizes, options, words):
    root = write(tmp_path / "data", **sizes)
    names = tmp_path / "all.txt"
    names.write_text("\n".join(path.name for path in sorted((root / "train").iterdir())))
    said = refused(run(root, *(str(names) if word == "ALL" else word for word in options)))
    assert words in said
    assert "nothing is left unlabelled" in said


def test_as_many_sources_as_micrographs_leave_nothing_unlabelled(tmp_path):
    root = write(tmp_path / "data")
    rows = [
        f"prot_{part}{number:03d}.png,s{number}" for part in ("train", "val") for number in range(6)
    ]
    (root / "sources.csv").write_text("\n".join(["file,source", *rows]))
    assert "at least one label for each source" in refused(run(root, "--ratio", "5"))


def test_a_sweep_refuses_a_ratio_that_leaves_nothing_unlabelled(tmp_path):
    root = write(tmp_path / "data")
    place = ("--work", str(tmp_path / "work"), "--results", str(tmp_path / "results"))
    done = call("sweep", "--data", str(root), "--tile-px", "32", "--ratios", "50,100", "--seeds", "1",
                "--tracking-uri", f"sqlite:///{tmp_path}/m.db", *place)  # fmt: skip
    assert done.code == 2
    assert "nothing is left unlabelled" in done.err
    assert not list(tmp_path.glob("work/stages/*"))


def test_all_labels_are_no_fault_of_a_baseline(tmp_path):
    root = write(tmp_path / "data")
    done = run(root, "--dry-run", "--ratio", "100", "--max-iterations", "0")
    assert done.code == 0, done.err
    assert "6 training micrographs: 6 labelled (100%), 0 unlabelled" in done.out


def test_the_share_that_is_printed_is_the_one_that_was_drawn(tmp_path):
    root = write(tmp_path / "data", train=17)
    (root / "sources.csv").write_text("file,source\n*train00[0-4].png,a\n*,b\n")
    done = run(root, "--dry-run", "--ratio", "5")
    assert "17 training micrographs: 2 labelled (12%), 15 unlabelled" in done.out, done


# --- what is to be known before training


def two_categories(document):
    document["categories"] = [{"id": 1, "name": "ribosome"}, {"id": 2, "name": "ice"}]
    for entry in document["annotations"]:
        entry["category_id"] = 1 + entry["id"] % 2


def outside(document):
    document["annotations"].append(document["annotations"][0] | {"bbox": [200, 200, 9, 9]})


def one_category(document):
    document["categories"] = [{"id": 1, "name": "ribosome"}]


NOTES = {
    "categories": (two_categories, "all of 'ice', 'ribosome' count as particles"),
    "one category": (one_category, "all of 'ribosome' count as particles"),
    "particles outside": (outside, "1 particles lie wholly outside their picture"),
}


@pytest.mark.parametrize("name", NOTES)
def test_check_and_dry_run_print_what_a_run_prints(tmp_path, name):
    change, words = NOTES[name]
    root = write(tmp_path / "data", change=change)
    (root / "test").mkdir()
    checked = call("data", "check", str(root))
    as_json = json.loads(call("data", "check", str(root), "--json").out)
    dry = run(root, "--dry-run", "--ratio", "50")
    # Refused behind the notes, so nothing is trained.
    started = run(root, "--ratio", "100")
    assert (checked.code, dry.code, started.code) == (0, 0, 2)
    said = [line for line in started.out.splitlines() if line.startswith("   ")]
    notes = [line for line in said if not line.startswith("   all messages: ")]
    assert any(words in note for note in notes)
    assert any("test/ has no annotation file" in note for note in notes)
    assert any("prot (10)" in note for note in notes)
    assert [f"   {note}" for note in as_json["notes"]] == notes
    for note in notes:
        assert note in checked.out.splitlines()
        assert note in dry.out.splitlines()


def test_a_sweep_s_dry_run_prints_the_notes_too(tmp_path):
    root = write(tmp_path / "data", change=two_categories)
    place = ("--work", str(tmp_path / "work"), "--results", str(tmp_path / "results"))
    done = call("sweep", "--data", str(root), "--tile-px", "32", "--threads", "1", "--seeds", "1",
                "--ratios", "50", "--dry-run", *place)  # fmt: skip
    assert done.code == 0, done.err
    assert "count as particles" in done.out


# --- side files


def sparse(path):
    with path.open("wb") as file:
        file.truncate(3 * 2**30)


SIDE_FILES = {
    "a link out": (lambda path: path.symlink_to("../outside.csv"), "a link out of the data set"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "a link out of the data set"),
    "a pipe": (os.mkfifo, "is no regular file"),
    "a folder": (lambda path: path.mkdir(), "is no regular file"),
    "3 GB": (sparse, "more than 67108864; write patterns"),
}


@pytest.mark.parametrize("name", SIDE_FILES)
def test_sources_csv_is_read_through_the_checked_door(tmp_path, name):
    make, words = SIDE_FILES[name]
    root = write(tmp_path / "data")
    (tmp_path / "outside.csv").write_text("file,source\n*,x\n")
    make(root / "sources.csv")
    done = call("data", "check", str(root))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert words in done.out
    assert words in refused(run(root, "--ratio", "50"))


@pytest.mark.parametrize("name", ["a pipe", "a folder", "3 GB"])
def test_a_labelled_list_is_read_through_the_checked_door(tmp_path, name):
    make, words = SIDE_FILES[name]
    root = write(tmp_path / "data")
    make(tmp_path / "mine.txt")
    said = refused(run(root, "--labelled", str(tmp_path / "mine.txt")))
    assert words.split(";")[0] in said


def test_thousands_of_lines_of_sources_csv_cost_no_minute(tmp_path):
    names = [f"m{number:05d}.png" for number in range(20_000)]
    table = [(name, "a") for name in names]
    started = time.process_time()
    sources, _ = assign([Description(name, 9, 9, "") for name in names], table=table)
    assert time.process_time() - started < 20
    assert set(sources.values()) == {"a"}


# --- links


@pytest.mark.parametrize("option", [("--follow-links",), ("--follow-links", "true")])
def test_micrographs_on_another_disk_are_read_on_request(tmp_path, option):
    root = write(tmp_path / "data")
    for path in sorted((root / "train").iterdir())[:3]:
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    assert "--follow-links true" not in (said := refused(run(root, "--ratio", "50")))
    assert "--follow-links" in said
    assert call("data", "check", str(root)).code == 2
    assert call("data", "check", str(root), *option).code == 0
    done = run(root, "--dry-run", "--ratio", "50", *option)
    assert (done.code, "follow_links: true\n" in done.out) == (0, True), done.err


def test_links_are_followed_by_a_config_file_and_change_no_key(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("input:\n  follow_links: true\n")
    config, _ = load(file, {}, yielding={})
    assert config.input.follow_links
    assert config.flat()["input.follow_links"] is True  # the parameters of a run
    decides = ("training", "result", "cell", "content", "machine", "record")
    assert "input.follow_links" not in config.values_deciding(*decides)
