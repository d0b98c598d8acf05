"""cryossl.machine.doctor, cryossl.machine.packages, cryossl.machine.check."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cryossl.machine import doctor, packages
from cryossl.machine.check import Check, render

PROJECT = Path(__file__).resolve().parents[3]


# --- what the checks say together


def test_every_check_is_a_line_and_every_cure_stands_below_its_check() -> None:
    text = render(
        [
            Check("disk", "ok", "5 GB free"),
            Check("torch pair", "fail", "builds differ", "`make venv`"),
        ]
    )
    assert text.splitlines() == [
        "ok    disk        5 GB free",
        "fail  torch pair  builds differ",
        "                  -> `make venv`",
    ]


# --- packages


@pytest.mark.parametrize(
    ("torch", "torchvision", "state"),
    [
        ("2.14.1", "0.29.2", "ok"),
        ("2.14.1+cpu", "0.29.2+cpu", "ok"),
        ("2.11.0+cu126", "0.26.0+cu126", "ok"),
        ("2.13.0+cpu", "0.28.0", "fail"),
        ("2.13.0", "0.28.0+cpu", "fail"),
        ("2.13.0+cu126", "0.28.0+cu130", "fail"),
        ("2.14.1", "0.28.0", "fail"),
        ("2.14.1", "0.30.0", "fail"),
        ("3.0.0", "1.0.0", "warn"),
        ("2.14.1", None, "fail"),
        (None, "0.29.2", "fail"),
    ],
)
def test_torch_and_torchvision_must_be_of_one_release_and_one_build(
    torch: str | None, torchvision: str | None, state: str
) -> None:
    check = packages.check_torch_pair(torch, torchvision)
    assert check.state == state
    assert bool(check.cure) == (state != "ok")


def test_the_installed_torch_pair_is_found_well_and_really_imports() -> None:
    pair = packages.check_torch_pair(metadata.version("torch"), metadata.version("torchvision"))
    assert pair.state == "ok"
    assert doctor.check_gpu("cpu").state == "ok"


def test_a_missing_package_fails_with_its_name() -> None:
    check = packages.check_packages(
        (Requirement("numpy>=1"), Requirement("nowhere>=2")),
        installed={"numpy": "2.0", "nowhere": None},
        locked={"numpy": "2.0"},
    )
    assert check.state == "fail"
    assert "nowhere" in check.what
    assert "numpy" not in check.what


def test_a_version_out_of_range_fails_and_one_that_is_not_locked_warns() -> None:
    wanted = (Requirement("numpy>=1.26,<3"),)
    states = [
        packages.check_packages(
            wanted, installed={"numpy": version}, locked={"numpy": "2.4.6"}
        ).state
        for version in ("2.4.6", "2.4.5", "1.20", "3.0")
    ]
    assert states == ["ok", "warn", "fail", "fail"]


def test_the_lock_of_this_project_names_what_is_installed() -> None:
    locked = packages.locked_versions(PROJECT / "requirements.lock")
    assert len(locked) > 100
    assert packages.installed_version("numpy") == locked["numpy"]
    assert packages.installed_version("no-such-package") is None


def test_this_python_is_in_the_supported_range() -> None:
    assert packages.check_python(PROJECT / "pyproject.toml").state == "ok"


def test_a_python_out_of_range_is_told_the_range(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nrequires-python = ">=4"\n')
    check = packages.check_python(tmp_path / "pyproject.toml")
    assert check.state == "fail"
    assert ">=4" in check.what


# --- GPU


@pytest.mark.parametrize(
    ("found", "device", "driver", "state"),
    [
        ("cuda", "auto", True, "ok"),
        ("cuda", "cuda", True, "ok"),
        ("cuda", "cpu", True, "ok"),
        ("cpu", "auto", False, "ok"),
        ("cpu", "auto", True, "warn"),
        ("cpu", "cuda", False, "fail"),
        ("cpu", "mps", False, "fail"),
        ("mps", "cuda", False, "fail"),
    ],
)
def test_a_gpu_that_is_wanted_and_missing_fails_and_one_that_lies_idle_warns(
    found: str, device: str, driver: bool, state: str
) -> None:
    probe = {"torch": "2.14.1", "cuda_build": "13.0", "device": found, "name": "", "bytes": 0}
    assert doctor.judge_gpu(probe, device=device, driver_present=driver).state == state


def test_the_environment_variable_takes_the_place_of_the_configured_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/chosen.db")
    check = doctor.preflight(tracking_uri="sqlite:///configured.db", work=tmp_path, needed_bytes=1)[
        0
    ]
    assert "chosen.db" in check.what


# --- disk


def test_a_disk_without_room_for_what_is_needed_and_a_fifth_fails(tmp_path: Path) -> None:
    assert doctor.check_disk(tmp_path / "not" / "yet", needed_bytes=1000).state == "ok"
    check = doctor.check_disk(tmp_path, needed_bytes=10**18)
    assert check.state == "fail"
    assert "1200000000.0 GB needed" in check.what


@pytest.mark.parametrize(
    ("folder", "kind", "state"),
    [
        ("/data/work", "ext4", "ok"),
        ("/data/shared/work", "nfs4", "warn"),
        ("/database", "xfs", "ok"),
    ],
)
def test_the_deepest_mount_point_decides_and_a_network_disk_warns(
    folder: str, kind: str, state: str
) -> None:
    mounts = [("/", "xfs"), ("/data/shared", "nfs4"), ("/data", "ext4")]
    check = doctor.judge_file_system(Path(folder), mounts)
    assert (check.state, check.what.split(" is on ")[1].split(":")[0]) == (state, kind)


def test_preflight_looks_at_the_store_the_disk_and_the_file_system(tmp_path: Path) -> None:
    checks = doctor.preflight(
        tracking_uri=f"sqlite:///{tmp_path}/m.db", work=tmp_path / "work", needed_bytes=1
    )
    assert [check.name for check in checks] == ["tracking", "disk", "file system"]
    assert not (tmp_path / "work").exists()


# --- mlflow run


@pytest.mark.parametrize(
    ("conda", "uv", "state", "form"),
    [
        ("/opt/conda/bin/conda", None, "ok", "`mlflow run . -P ratio=5`"),
        ("/opt/conda/bin/conda", "/usr/bin/uv", "ok", "`mlflow run . -P ratio=5`"),
        (None, "/usr/bin/uv", "ok", "`mlflow run . --env-manager uv -P ratio=5`"),
        (None, None, "warn", "`mlflow run . --env-manager local -P ratio=5`"),
    ],
)
def test_the_form_of_mlflow_run_that_works_is_named(
    conda: str | None, uv: str | None, state: str, form: str
) -> None:
    check = doctor.check_mlflow_run(conda, uv)
    assert check.state == state
    assert form in check.what + check.cure
