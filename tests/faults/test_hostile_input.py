"""A data set from a stranger: documents, shapes, pictures and names that were made to hurt are read or refused in one line."""

from __future__ import annotations

import pytest

from faults.apart import EndedBySignalError, apart


def outcomes(found) -> str:
    """`300 refused, 20 read`."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(found["outcomes"].items()))


def test_a_malformed_document_is_read_or_refused_in_one_line(size, note, tmp_path):
    cases = size(bounded=1000, long=5000)
    found = apart("hostile_documents", cases, 1, folder=tmp_path)
    note(
        "malformed COCO documents",
        ran=f"{cases:,} documents, half spoiled as trees, half as text, through `cryossl data "
        "check`",
        found=f"{outcomes(found)}; {len(found['faults'])} tracebacks, 0 signals",
        bar="0 tracebacks, 0 signals",
    )
    assert found["faults"] == []
    assert min(found["outcomes"][kind] for kind in ("read", "refused")) > cases // 50


def test_a_hostile_polygon_or_mask_is_drawn_exactly_or_refused(size, note, tmp_path):
    cases = size(bounded=3000, long=10_000)
    found = apart("hostile_shapes", cases, 1, folder=tmp_path)
    note(
        "hostile polygons, run-length masks and boxes",
        ran=f"{cases:,} shapes through the check, what passes drawn by pycocotools",
        found=f"{outcomes(found)}; {len(found['faults'])} tracebacks or garbage masks, 0 signals",
        bar="0 tracebacks, 0 signals, 0 garbage masks",
    )
    assert found["faults"] == []
    assert min(found["outcomes"][kind] for kind in ("mask", "box", "refused")) > cases // 50


def test_a_damaged_picture_is_read_or_refused_in_one_line_and_its_hash_tells(size, note, tmp_path):
    cases = size(bounded=500, long=5000)
    found = apart("damaged_pictures", cases, 1, folder=tmp_path)
    note(
        "damaged pictures",
        ran=f"{cases:,} JPEG, PNG, TIFF and MRC files, 9 of them bombs, with 1 GiB of memory to "
        "spare",
        found=f"{outcomes(found)}; {len(found['faults'])} tracebacks, 0 signals; "
        f"{found['unnoticed']} with the hash of "
        f"a whole one; memory grew by {found['grown_mb']} MB",
        bar="0 tracebacks, 0 signals, every change seen in the hash",
    )
    assert found["faults"] == []
    assert found["unnoticed"] == 0
    assert min(found["outcomes"][kind] for kind in ("read", "refused")) > cases // 50


def test_no_name_opens_a_file_outside_the_data_set(size, note, tmp_path):
    texts = size(bounded=100, long=1000)
    found = apart("hostile_paths", texts, 1, folder=tmp_path)
    note(
        "names that lead out of the data set",
        ran=f"{found['payloads']} payloads (dots, links, devices, pipes, look-alikes) and "
        f"{texts:,} random names; an audit "
        "hook records what is opened or listed",
        found=f"{outcomes(found)}; {len(found['faults'])} opens outside or tracebacks",
        bar="0 opens outside the data root",
    )
    assert found["faults"] == []
    assert found["payloads"] >= 40


def test_a_signal_that_ends_a_reader_is_seen(tmp_path):
    with pytest.raises(EndedBySignalError, match="SIGSEGV at its start"):
        apart("dying", folder=tmp_path)
