"""Sources guessed from names: what programs put in front is no source, what people repeat is one."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections import Counter

import pytest

from cryossl.data.guessed import from_names, from_sizes

FILES = 40
_RANDOM = random.Random(0)


def _hexadecimal(letters: int) -> str:
    return "".join(_RANDOM.choice("0123456789abcdef") for _ in range(letters))


def _uid() -> str:
    return f"{_RANDOM.randrange(10**16, 10**17):021d}"


def _uuid() -> uuid.UUID:
    return uuid.UUID(int=_RANDOM.getrandbits(128))


def _letters(count: int) -> str:
    return "".join(_RANDOM.choice("abcdefghijKLM0123456789") for _ in range(count))


def guessed(names):
    """Source -> files, of names that need not differ."""
    return dict(Counter(from_names({f"{n}/{name}": name for n, name in enumerate(names)}).values()))


ONE_FOR_EACH_FILE = {
    "a number of cryoSPARC": lambda i: (
        f"{_uid()}_FoilHole_{19446200 + i}_Data_31_patch_aligned.png"
    ),
    "MD5": lambda i: f"{hashlib.md5(b'%d' % i).hexdigest()}_mic.png",
    "SHA-256": lambda i: f"{hashlib.sha256(b'%d' % i).hexdigest()}.png",
    "UUID": lambda _: f"{_uuid()}.png",
    "UUID before a counter": lambda i: f"{_uuid()}_{i}_1.png",
    "Label Studio": lambda i: f"{_hexadecimal(8)}-micrograph_{i:03d}.png",
    "Roboflow": lambda i: f"mic{i:03d}_png.rf.{_hexadecimal(32)}.jpg",
    "CVAT": lambda i: f"frame_{i:06d}.PNG",
    "EPU": lambda i: f"FoilHole_{123 + i}_Data_456_789_20200101_{120000 + i}.mrc",
    "Leginon": lambda i: f"14sep05c_{i // 8:05d}sq_{i:05d}hl_00002es_c.mrc",
    "date and time": lambda i: f"2020010{i % 9}_{120000 + i}_1.mrc",
    "ISO date": lambda i: f"2020-01-01T1{i % 3}-{i:02d}-00_sum_{i}.mrc",
    "a month's name": lambda i: f"May08_{i:02d}.05.02.bin.jpg",
    "a counter": lambda i: f"{i:05d}_a.png",
    "a counter like EMPIAR entries": lambda i: f"{10000 + i}_a.png",
    "two files of each number": lambda i: f"{10000 + i // 2}_{i % 2}.png",
    "holes with two files": lambda i: f"{10000 + 37 * (i // 2)}_{i % 2}.png",
    "a series with a step": lambda i: f"{12000 + 50 * (i // 4)}_{i % 4}.png",
    "a short series with a step": lambda i: f"{12000 + 50 * (i // 14)}_{i}.png",
    "a series with gaps": lambda i: f"{12000 + 25 * (i // 4 * 3 // 2)}_{i % 4}.png",
    "a date with a month's name": lambda i: f"05-Jan-2021_{i}_x.png",
    "a date that begins with the year": lambda i: f"2021-Jan-05_{i}_x.png",
    "a date that begins with the month": lambda i: f"Jan-05-2021_{i}_x.png",
    "a date without a year": lambda i: f"05_Jan_{i}_x.png",
    "a long date": lambda i: f"Jan052021_{i}_x.png",
    "Leginon and a letter": lambda i: f"21jan05a_b_{i:05d}gr_x.mrc",
    "Leginon with two letters": lambda i: f"21jan05ab_{i:05d}gr_x.mrc",
    "an archive's name and a counter": lambda i: f"EMPIAR_{10000 + i}_x.png",
    "micrograph and counter": lambda i: f"micrograph_{i:04d}.png",
    "counter in a word": lambda i: f"micrograph{i:04d}_sum.png",
    "squares": lambda i: f"sq{i // 4}_{i}.png",
    "grids": lambda i: f"Grid{i % 2}_{i}.png",
    "random letters": lambda i: f"{_letters(4)}_{i}.png",
    "many random letters": lambda i: f"{_letters(12)}-{i}.png",
    "one name for all": lambda _: "image.png",
}


@pytest.mark.parametrize("program", ONE_FOR_EACH_FILE)
def test_what_a_program_writes_before_each_name_is_no_source(program):
    assert guessed(ONE_FOR_EACH_FILE[program](i) for i in range(FILES)) == {}


PEOPLE = {
    "EMPIAR": lambda i: f"{(10017, 10028)[i % 2]}_Falcon_2012_06_12-14_33_{i}_0.jpg",
    "EMPIAR with a dash": lambda i: f"{(10017, 10028)[i % 2]}-{i}.jpg",
    "a number of cryoSPARC": lambda i: f"{_uid()}_{(10017, 10028)[i % 2]}_{i}.mrc",
    "Label Studio": lambda i: f"{_hexadecimal(8)}-{(10017, 10028)[i % 2]}_{i}.jpg",
    "a UUID": lambda i: f"{_uuid()}_{(10017, 10028)[i % 2]}_{i}.jpg",
    "Roboflow": lambda i: f"{(10017, 10028)[i % 2]}_{i:03d}_png.rf.{_hexadecimal(32)}.jpg",
    "words": lambda i: f"{('apo', 'ribosome')[i % 2]}_{i:03d}.png",
    "words after a date": lambda i: f"20200101_{('apo', 'ribosome')[i % 2]}_{i:03d}.png",
    "words after a counter": lambda i: f"{i:04d}_{('apo', 'ribosome')[i % 2]}_x.png",
    "counters in words": lambda i: f"{('apo', 'ribosome')[i % 2]}{i:03d}_x.png",
    "few numbers in a word": lambda i: f"apo{1 + i % 2}_{i:03d}.png",
    "numbers before a letter": lambda i: f"{('70S', '80S')[i % 2]}_{i:03d}.png",
}


@pytest.mark.parametrize("people", PEOPLE)
def test_beginnings_that_several_files_share_are_sources(people):
    assert sorted(guessed(PEOPLE[people](i) for i in range(FILES)).values()) == [20, 20]


@pytest.mark.parametrize(
    "beginning",
    ["EMPIAR-{}_", "EMPIAR_{}_", "empiar{}_", "EMPIAR {}-", "20210105_EMPIAR-{}_", "EMPIAR-{}."],
)
def test_an_entry_after_the_archive_s_name_is_the_source(beginning):
    names = [f"{beginning.format((10017, 10028)[i % 2])}{i:03d}.jpg" for i in range(FILES)]
    assert guessed(names) == {"10017": 20, "10028": 20}
    assert guessed([*names, "10017_x.jpg"]) == {"10017": 21, "10028": 20}


@pytest.mark.parametrize("beginning", ["EMD-{}_", "emd_{}_", "EMDB-{}-"])
def test_an_entry_of_emdb_is_the_source(beginning):
    names = (f"{beginning.format((1234, 21375)[i % 2])}{i:03d}.jpg" for i in range(FILES))
    assert guessed(names) == {"EMD-1234": 20, "EMD-21375": 20}


def test_neighbouring_entries_after_the_archive_s_name_are_no_series():
    names = [f"EMPIAR-{10017 + i % 5}_{i:03d}.jpg" for i in range(FILES)]
    assert len(guessed(names)) == 5


def test_a_single_file_beside_repeated_entries_has_its_own():
    assert guessed(["10017_a", "10017_b", "10017_c", "10059_a"]) == {"10017": 3, "10059": 1}


def test_one_file_is_not_repeated():
    assert guessed(["10017_a.jpg"]) == {}


def test_all_of_cryoppp_s_entries_are_sources():
    entries = (10005, 10017, 10028, 10059, 10061, 10075, 10077, 10081, 10093, 10096, 10184, 10240)
    assert guessed(f"{entry}_{i}.jpg" for entry in entries for i in range(3)) == dict.fromkeys(
        map(str, entries), 3
    )


def test_two_names_that_begin_alike_by_chance_are_no_source():
    assert guessed([f"{_letters(3).lower()}q{i}_x" for i in range(38)] + ["ab_1", "ab_2"]) == {}


def test_files_whose_names_say_nothing_do_not_speak_against_those_that_do():
    names = [f"FoilHole_{i}_Data.jpg" for i in range(30)] + [f"TRPV{i}.jpg" for i in range(30)]
    assert guessed([*names, "apo_1", "apo_2"]) == {"apo": 2}


def test_pictures_with_a_size_of_their_own_are_one_group():
    assert set(from_sizes({str(i): (100 + i, 200) for i in range(FILES)}).values()) == {"all"}
    assert from_sizes({"a": (100, 200), "b": (100, 200), "c": (50, 60)}) == {
        "a": "200x100",
        "b": "200x100",
        "c": "60x50",
    }
