from __future__ import annotations

import pytest

from cryossl.system.files import filled_aside, write_durably


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    (tmp_path / ".f.tmp").write_text("of a killed writer")
    for content in (b"old", b"new"):
        write_durably(tmp_path / "f", content)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("f", b"new")]


@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_has_its_name_only_when_it_is_full(tmp_path, resume):
    final, place = tmp_path / "final", tmp_path / "final.partial"

    def write_and_stop(partial):
        (partial / "first").write_text("1")
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        filled_aside(final, partial=place, resume=resume) as partial,
    ):
        write_and_stop(partial)
    assert not final.exists()
    with filled_aside(final, partial=place, resume=resume) as partial:
        assert (partial / "first").exists() is resume
        (partial / "second").write_text("2")
    assert {path.name for path in final.iterdir()} == {"second"} | ({"first"} if resume else set())
    assert not place.exists()


def test_a_folder_that_holds_something_is_not_replaced(tmp_path):
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "kept").write_text("")
    with (
        pytest.raises(OSError, match="not empty"),
        filled_aside(tmp_path / "final", partial=tmp_path / "aside", resume=False),
    ):
        pass
    assert (tmp_path / "final" / "kept").exists()
