"""Truths about the repository itself."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from jaxtyping import TypeCheckError
from packaging.requirements import Requirement

from cryossl.data.labels import particle_ratio

PROJECT = Path(__file__).resolve().parents[2]
LONGEST_FILE = 500
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "misc", "stuff"}
PYTHON_3_11 = {"python_version": "3.11", "python_full_version": "3.11.9"}


def tracked() -> list[Path]:
    """Files of the repository, those not added yet included."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return sorted(
        path for name in listing.stdout.split("\0") if name and (path := PROJECT / name).is_file()
    )


FILES = tracked()
PYTHON = [path for path in FILES if path.suffix == ".py"]
PACKAGES = [
    path for path in PYTHON if path.relative_to(PROJECT).parts[0] in ("cryossl", "analysis")
]
SHIPPED = [path for path in PYTHON if "tests" not in path.relative_to(PROJECT).parts]


def name_of(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


@functools.cache
def syntax(path: Path) -> ast.Module:
    """The syntax tree of a file; several rules read it."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def offenders(paths: list[Path], allowed: Callable[[Path], bool]) -> list[str]:
    """The names of the files that a rule does not allow."""
    return [name_of(path) for path in paths if not allowed(path)]


def imported(tree: ast.AST) -> set[str]:
    """First parts of the names of all modules that a syntax tree imports."""
    names = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    names |= {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    return {name.split(".")[0] for name in names}


def faults(tree: ast.AST) -> Iterator[str]:
    """Calls that load or run what a file or a user says."""
    safe_loaders = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        if [ast.unparse(base) for base in node.bases] == ["yaml.SafeLoader"]
    }
    for node in ast.walk(tree):
        # What torch.load raises may be caught.
        if (
            isinstance(node, ast.Attribute)
            and ast.unparse(node.value) == "pickle"
            and node.attr != "UnpicklingError"
        ):
            yield ast.unparse(node)
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called in (
            "eval",
            "exec",
            "yaml.unsafe_load",
            "yaml.full_load",
            "os.system",
            "os.popen",
        ):
            yield called
        if called == "yaml.load" and options.get("Loader") not in safe_loaders:
            yield "yaml.load with a loader that is not safe"
        if called == "torch.load" and options.get("weights_only") != "True":
            yield "torch.load without weights_only=True"
        if options.get("shell") == "True" or options.get("allow_pickle") == "True":
            yield ast.unparse(node)


# --- files


def test_a_file_is_one_noun_of_at_most_500_lines() -> None:
    def short(path: Path) -> bool:
        return len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE

    def clear(path: Path) -> bool:
        return not VAGUE_NAMES & set(path.stem.removeprefix("test_").split("_"))

    assert PYTHON
    assert offenders(PYTHON, short) == []
    assert offenders(PYTHON, clear) == []


def test_a_file_starts_with_a_sentence_that_says_what_it_is_for() -> None:
    def explained(path: Path) -> bool:
        first = (ast.get_docstring(syntax(path)) or "").split("\n\n")[0]
        return bool(re.match(r"\S.*[.?]$", first, flags=re.DOTALL))

    def postponed(path: Path) -> bool:
        body = syntax(path).body
        return len(body) == 1 or ast.unparse(body[1]) == "from __future__ import annotations"

    assert PACKAGES
    assert offenders(PACKAGES, explained) == []
    assert offenders(PACKAGES, postponed) == []


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    places = re.compile(r"(?<![\w.$}])/(?:home|root|Users|work/main|work/shared)/")
    found = [
        name_of(path)
        for path in FILES
        if path != Path(__file__).resolve()
        and path.suffix != ".lock"
        and path.stat().st_size < 1_000_000
        and places.search(path.read_bytes().decode("utf-8", errors="ignore"))
    ]
    assert found == []


# --- safety


def test_nothing_that_was_read_is_run() -> None:
    unsafe = {"cloudpickle", "dill", "marshal", "shelve", "joblib"}
    assert SHIPPED
    assert {name_of(path): found for path in SHIPPED if (found := list(faults(syntax(path))))} == {}
    assert offenders(SHIPPED, lambda path: not imported(syntax(path)) & unsafe) == []


def test_the_search_for_unsafe_calls_finds_them() -> None:
    unsafe = """eval(x); exec(x); torch.load(p); yaml.load(t); yaml.load(t, Loader=yaml.Loader); pickle.loads(b)
run(c, shell=True); np.load(p, allow_pickle=True)"""
    safe = """class Plain(yaml.SafeLoader): ...
network.eval(); torch.load(p, weights_only=True); yaml.load(t, Loader=Plain); run(c, shell=False)
try: load(p)
except pickle.UnpicklingError: ..."""
    assert len(list(faults(ast.parse(unsafe)))) == 8
    assert list(faults(ast.parse(safe))) == []


def test_no_randomness_is_global() -> None:
    seeding = {"torch.manual_seed", "torch.seed", "np.random.seed", "torch.cuda.manual_seed_all"}

    def local(path: Path) -> bool:
        tree = syntax(path)
        called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        return not called & seeding or "torch.random.fork_rng" in called

    assert offenders(PACKAGES, lambda path: "random" not in imported(syntax(path))) == []
    assert offenders(PACKAGES, local) == []


def test_no_test_puts_a_stand_in_where_the_real_thing_can_run() -> None:
    stand_in = re.compile(r"unittest\.mock|MagicMock|mocker\.|monkeypatch\.setattr")
    here = Path(__file__).resolve()
    tests = [path for path in PYTHON if path not in SHIPPED and path != here]
    assert tests
    assert offenders(tests, lambda path: not stand_in.search(path.read_text("utf-8"))) == []


def test_types_and_shapes_are_checked_while_tests_run() -> None:
    assert particle_ratio(np.ones((2, 3), np.uint8)) == 1.0
    with pytest.raises(TypeCheckError):
        particle_ratio(np.ones((2, 3, 4), np.uint8))
    with pytest.raises(TypeCheckError):
        particle_ratio(np.ones((2, 3), np.float32))  # type: ignore[arg-type]


def test_the_command_line_starts_without_torch_and_without_mlflow() -> None:
    heavy = "{'torch', 'mlflow', 'pandas', 'scipy', 'matplotlib', 'cryossl.commands.run'}"
    shown = subprocess.run(
        [sys.executable, "-c", f"import cli, sys; print(sorted({heavy} & set(sys.modules)))"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == "[]"


# --- dependencies


def project() -> dict[str, object]:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def locked() -> dict[str, list[Requirement]]:
    lines = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
    pins = [
        Requirement(line)
        for line in re.findall(r"^([A-Za-z0-9][^\\\n]*?)\s*\\?$", lines, flags=re.MULTILINE)
    ]
    return {pin.name: [other for other in pins if other.name == pin.name] for pin in pins}


def direct() -> list[Requirement]:
    extras = project()["optional-dependencies"]
    assert isinstance(extras, dict)
    listed = [*project()["dependencies"], *(one for extra in extras.values() for one in extra)]  # type: ignore[misc]
    return [Requirement(one) for one in listed]


def test_the_lock_names_no_host_and_has_hashes_for_everything() -> None:
    text = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"https?://|--index-url|--find-links|file:", text)
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.split("\n", 2)[2])
    assert [entry.split("\n")[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_lock_holds_every_dependency_in_its_range() -> None:
    pins = locked()
    wrong = [
        str(one)
        for one in direct()
        for pin in pins.get(one.name, [None])
        if pin is None or not one.specifier.contains(str(pin.specifier).removeprefix("=="))
    ]
    assert wrong == []


def test_what_the_project_imports_it_depends_on() -> None:
    distributions = {
        "yaml": "pyyaml",
        "PIL": "pillow",
        "segmentation_models_pytorch": "segmentation-models-pytorch",
    }
    extras = project()["optional-dependencies"]
    assert isinstance(extras, dict)
    declared = {one.name for one in direct()} - {Requirement(one).name for one in extras["dev"]}
    own = {"cryossl", "analysis", "cli", "benchmarks"}
    used = {name for path in [*PACKAGES, PROJECT / "cli.py"] for name in imported(syntax(path))}
    outside = {distributions.get(name, name) for name in used - set(sys.stdlib_module_names) - own}
    assert sorted(outside - declared) == []


def test_conda_pins_what_the_lock_pins() -> None:
    conda = yaml.safe_load((PROJECT / "conda.yaml").read_text(encoding="utf-8"))["dependencies"]
    assert conda[:2] == ["python=3.11", "pip"]
    pins = {
        pin.name: pin
        for pins in locked().values()
        for pin in pins
        if pin.marker is None or pin.marker.evaluate(dict(PYTHON_3_11))
    }
    wanted = [
        f"{one.name}{pins[one.name].specifier}"
        for one in map(Requirement, project()["dependencies"])
    ]  # type: ignore[arg-type]
    assert conda[2] == {"pip": wanted}


# --- documents


def test_the_architecture_names_every_module_and_no_other() -> None:
    tree = (PROJECT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("```")[1]
    named: dict[str, set[str]] = {}
    wing, parents = "", [""]
    for line in tree.splitlines():
        place = re.match(r"( *)(\w+/) +(.*)", line)
        if place:
            depth = len(place[1]) // 2
            parents[depth + 1 :] = [parents[depth] + place[2]]
            wing = parents[-1]
        words = (place[3] if place else line).rpartition(": ")[2].split()
        named.setdefault(wing, set()).update(words)
    modules: dict[str, set[str]] = {}
    for path in PACKAGES:
        if path.name != "__init__.py":
            folder = f"{path.parent.relative_to(PROJECT).as_posix()}/"
            modules.setdefault(folder, set()).add(path.stem)
    assert {wing: sorted(named[wing]) for wing in modules} == {
        wing: sorted(names) for wing, names in modules.items()
    }


def test_no_wing_is_so_large_that_a_reader_loses_the_way() -> None:
    folders = Counter(path.parent for path in PACKAGES if path.name != "__init__.py")
    assert {name_of(folder): count for folder, count in folders.items() if count > 14} == {}


def test_links_between_documents_lead_somewhere() -> None:
    links = [
        (path, target)
        for path in FILES
        if path.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
        if not re.match(r"[a-z]+:", target)
    ]
    assert links
    broken = [(name_of(path), to) for path, to in links if not (path.parent / to).exists()]
    assert broken == []


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "LICENSE",
        "CITATION.cff",
        "MLproject",
        "conda.yaml",
        "Makefile",
        ".ci/run",
        "docs/log.md",
    ],
)
def test_the_root_holds_what_a_reader_looks_for(name: str) -> None:
    assert (PROJECT / name).stat().st_size > 0


def test_the_citation_gives_the_version_of_the_project() -> None:
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == project()["version"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_make_alone_lints_and_tests_and_the_ci_calls_the_readmes_command() -> None:
    def steps(*goals: str) -> str:
        # `make test` runs this test: a make inside a make would tell of the folders it enters.
        command = ["make", "--no-print-directory", "-n", *goals]
        return subprocess.run(
            command, cwd=PROJECT, capture_output=True, text=True, check=True
        ).stdout

    assert steps() == steps("lint") + steps("test").removeprefix(steps("venv"))
    assert "-P ratio=10 -P seed=3" in steps("run", "RATIO=10", "PARAMS=-P seed=3")
    assert (PROJECT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[
        -1
    ] == "exec make test"
