"""Are the installed packages those of the lock file? Only their metadata are read."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from cryossl.machine.check import Check, named_checks
from cryossl.system.process import PROJECT

REINSTALL = "`make venv` installs what requirements.lock names"

_packages_ok, _packages_warn, _packages_fail = named_checks("packages")
_pair_ok, _pair_warn, _pair_fail = named_checks("torch pair")


def requirements(pyproject: Path) -> tuple[Requirement, ...]:
    """The project's direct dependencies that apply to this Python and platform."""
    listed = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    return tuple(
        one for one in map(Requirement, listed) if one.marker is None or one.marker.evaluate()
    )


def locked_versions(lock: Path) -> dict[str, str]:
    """Package name -> the version that the lock file names for this Python and platform."""
    lines = re.findall(
        r"^([A-Za-z0-9][^\\\n#]*?)\s*\\?$", lock.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    pins = [one for one in map(Requirement, lines) if one.marker is None or one.marker.evaluate()]
    return {pin.name: str(pin.specifier).removeprefix("==") for pin in pins}


def installed_version(name: str) -> str | None:
    """Version of an installed package, None if it is not there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_python(pyproject: Path) -> Check:
    """Check that this Python is in the range that the project supports."""
    wanted = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["requires-python"]
    version = ".".join(map(str, sys.version_info[:3]))
    if Version(version) in Requirement(f"python{wanted}").specifier:
        return Check("python", "ok", f"{version}, {sys.executable}")
    return Check(
        "python",
        "fail",
        f"{version}, the project needs {wanted}",
        "remove .venv, then `make venv PYTHON=python3.11`",
    )


def check_packages(
    wanted: tuple[Requirement, ...],
    *,
    installed: Mapping[str, str | None],
    locked: Mapping[str, str],
) -> Check:
    """Compare installed with wanted and locked versions.

    Missing packages and versions out of range fail; versions other than the locked ones warn.
    """
    missing = [one.name for one in wanted if installed[one.name] is None]
    if missing:
        return _packages_fail(f"not installed: {', '.join(missing)}", REINSTALL)
    present = {one.name: str(installed[one.name]) for one in wanted}
    outside = [
        f"{one.name} {present[one.name]} (needs {one.specifier})"
        for one in wanted
        if not one.specifier.contains(present[one.name], prereleases=True)
    ]
    if outside:
        return _packages_fail(f"out of range: {', '.join(outside)}", REINSTALL)
    other = [
        f"{name} {version} (locked: {locked.get(name, 'none')})"
        for name, version in present.items()
        if version != locked.get(name)
    ]
    if other:
        return _packages_warn(f"not as locked: {', '.join(other)}", REINSTALL)
    return _packages_ok(f"{len(wanted)} direct dependencies, all as locked")


def check_torch_pair(torch: str | None, torchvision: str | None) -> Check:
    """Check that torch and torchvision match: torch 2.N with torchvision 0.(N + 15), one build.

    The build is the local label of a version, as in `2.13.0+cpu`. A pair that does not match fails
    at import with "operator torchvision::nms does not exist", which does not name the cause.
    """
    if torch is None or torchvision is None:
        absent = "torch" if torch is None else "torchvision"
        return _pair_fail(f"{absent} is not installed", REINSTALL)
    first, second = Version(torch), Version(torchvision)
    pair = f"torch {torch} with torchvision {torchvision}"
    if first.local != second.local:
        builds = " and ".join(version.local or "no label" for version in (first, second))
        return _pair_fail(f"{pair}: the builds differ, {builds}", REINSTALL)
    if first.major != 2 or second.major != 0:
        return _pair_warn(f"{pair}: a pair this project does not know", REINSTALL)
    if second.minor != first.minor + 15:
        return _pair_fail(
            f"{pair}: torch 2.{first.minor} belongs with torchvision 0.{first.minor + 15}",
            REINSTALL,
        )
    return _pair_ok(pair)


def check_installation(project: Path = PROJECT) -> tuple[Check, ...]:
    """Do all checks of this file, for the running Python and a checkout of the project."""
    wanted = requirements(project / "pyproject.toml")
    installed = {one.name: installed_version(one.name) for one in wanted}
    lock = project / "requirements.lock"
    if lock.exists():
        packages = check_packages(wanted, installed=installed, locked=locked_versions(lock))
    else:
        packages = _packages_warn(f"{lock} is missing", "`git checkout requirements.lock`")
    return (
        check_python(project / "pyproject.toml"),
        packages,
        check_torch_pair(installed_version("torch"), installed_version("torchvision")),
    )
