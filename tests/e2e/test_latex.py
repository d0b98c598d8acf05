"""LaTeX makes a document of the report and of the tables that `compare` prints."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from counted_frames import counted, grid
from PIL import Image
from tracked_frames import frame

from analysis.report import document
from analysis.report.origin import Origin
from analysis.report.report import Picture, build_report
from analysis.tables.rendering import render

EVIL = (
    r"\input{/etc/passwd} 5% & $x_1$ {#} ~^ -- \end{document}" + " <é ł Å \x01\u2013 ± µ 粒子 🔬>"
)
ALONE = r"""\documentclass{article}
\usepackage{booktabs}
\begin{document}
TABLES
\end{document}
"""


def compiled(text: str, folder: Path) -> str:
    """LaTeX's log of a document that it made without an error."""
    program = shutil.which("pdflatex") or shutil.which("tectonic")
    if program is None:
        pytest.skip("no LaTeX: apt-get install texlive-latex-base texlive-latex-recommended")
    (folder / "paper.tex").write_text(text, encoding="utf-8")
    options = (
        ["-interaction=nonstopmode", "-halt-on-error"]
        if program.endswith("pdflatex")
        else ["--keep-logs"]
    )
    done = subprocess.run(
        [program, *options, "paper.tex"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert (folder / "paper.pdf").read_bytes().startswith(b"%PDF")
    return (folder / "paper.log").read_text(encoding="utf-8", errors="replace")


def outside(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """The same runs with words from outside that mean something to LaTeX."""
    return [
        row | {"cryossl.dataset": EVIL, "network.encoder": EVIL, f"test/f1/{EVIL}": 0.5}
        for row in rows
    ]


def test_the_report_compiles_with_its_figures(tmp_path):
    rows, documents = grid(seeds=range(6), ratios=("5", "10"), micrographs=5)
    rows, pixels = outside(rows), io.BytesIO()
    Image.new("RGB", (32, 8)).save(pixels, "JPEG")
    comparison = counted(rows, documents)
    made = build_report(
        comparison,
        frame(*rows),
        [Picture("run_1", EVIL, pixels.getvalue())],
        Origin(
            "2026-01-01", "python cli.py report", "sqlite:///a_b.db", {}, EVIL, {"python": "3.11"}
        ),
    )
    folder = tmp_path / "report_figures"
    folder.mkdir()
    for name, content in document.figure_files(made).items():
        (folder / name).write_bytes(content)
    log = compiled(document.latex(made, figures=folder.name), tmp_path)
    assert re.search(r"Output written on paper\.pdf \(\d+ pages", log)
    assert not re.search(r"Missing character|File .* not found|Float too large", log)


def test_every_table_that_compare_prints_compiles_in_a_document_with_booktabs_alone(tmp_path):
    rows, documents = grid(
        seeds=[0, 1],
        micrographs=5,
        more=("naive+quota", "class_balanced-quality", "supervised_long"),
    )
    others = [
        row
        | {
            "run_id": row["run_id"] + "b",
            "loop.max_iterations": "2",
            "cryossl.experiment_fingerprint": row["cryossl.experiment_fingerprint"] + "b",
        }
        for row in rows
    ]
    rows = [*outside(rows), *others]
    text = render(counted(rows, documents), "latex")
    assert text.count(r"\toprule") > 10
    log = compiled(ALONE.replace("TABLES", text), tmp_path)
    assert "Missing character" not in log
