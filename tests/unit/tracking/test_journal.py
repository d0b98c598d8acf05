from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryossl.errors import StorageError
from cryossl.tracking.journal import Entry, Journal, Sent, remove_leftovers

LOSS = Entry("metric", "train/loss", 0.5, 1, 1000)
STORE = "sqlite:///somewhere.db#cryossl"


def test_a_journal_opened_again_holds_what_was_written(tmp_path):
    Journal(tmp_path).append([LOSS, Entry("tag", "cryossl.kind", "arm", 0, 5)])
    assert Journal(tmp_path).entries == (LOSS, Entry("tag", "cryossl.kind", "arm", 0, 5))


def test_the_first_writing_of_a_point_wins_with_its_time(tmp_path):
    journal = Journal(tmp_path)
    journal.append([LOSS])
    assert journal.append([Entry("metric", "train/loss", 0.7, 1, 2000)]) == ()
    assert Journal(tmp_path).append([Entry("metric", "train/loss", 0.7, 1, 3000)]) == ()
    assert journal.entries == (LOSS,)


def test_the_newest_tag_holds_and_a_repeated_one_is_not_written(tmp_path):
    journal = Journal(tmp_path)
    for value in ("a", "a", "b", "a"):
        journal.append([Entry("tag", "t", value)])
    assert [entry.value for entry in journal.entries] == ["a", "b", "a"]
    assert journal.newest("tag", "t") == journal.entries[-1]


def test_an_entry_without_a_time_gets_the_present(tmp_path):
    before_ms = time.time_ns() // 1_000_000
    (entry,) = Journal(tmp_path).append([Entry("param", "split.ratio", "5.0")])
    assert before_ms <= entry.timestamp_ms <= time.time_ns() // 1_000_000


@pytest.mark.parametrize("cut", range(1, 90))
def test_a_torn_last_line_is_dropped_and_the_next_line_is_whole(tmp_path, cut):
    journal = Journal(tmp_path)
    journal.append([LOSS])
    journal.append([Entry("metric", "train/loss", 0.4, 2, 2000)])
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    again = Journal(tmp_path)
    assert again.entries == (LOSS,)
    again.append([Entry("metric", "train/loss", 0.3, 3, 3000)])
    assert [entry.step for entry in Journal(tmp_path).entries] == [1, 3]


def test_any_flipped_byte_loses_no_other_line_and_invents_none(tmp_path):
    entries = tuple(Entry("metric", "m", float(step), step, 1000 + step) for step in range(3))
    Journal(tmp_path).append(entries)
    path = tmp_path / "journal.jsonl"
    good = path.read_bytes()
    starts = [0, *(at + 1 for at, byte in enumerate(good) if byte == 10)]
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x11]) + good[at + 1 :])
        read = Journal(tmp_path).entries
        line = sum(start <= at for start in starts) - 1
        # A flipped newline joins two lines and costs both; any other flip costs its own line alone.
        lost = {line, line + 1} if good[at] == 10 else {line}
        assert set(read) <= set(entries)
        assert {entry for index, entry in enumerate(entries) if index not in lost} <= set(read)


def test_what_another_process_appended_is_seen_before_writing(tmp_path):
    one, two = Journal(tmp_path), Journal(tmp_path)
    one.append([LOSS])
    assert two.append([Entry("metric", "train/loss", 0.9, 1, 9000)]) == ()
    assert two.entries == (LOSS,)


def _append_all(folder: Path, name: str) -> None:
    journal = Journal(folder)
    for step in range(20):
        journal.append([Entry("metric", "shared", 1.0, step), Entry("metric", name, 1.0, step)])


def test_several_processes_write_one_journal_and_each_point_is_there_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_append_all, args=(tmp_path, f"own{index}")) for index in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    points = [(entry.key, entry.step) for entry in Journal(tmp_path).entries]
    assert len(points) == len(set(points)) == 4 * 20


def _append_for_ever(folder: Path) -> None:
    journal = Journal(folder)
    step = 0
    while True:
        journal.append([Entry("metric", "m", 0.25 * step, step)])
        step += 1


def test_a_writer_killed_at_any_moment_leaves_whole_lines_and_a_free_lock(tmp_path):
    context = multiprocessing.get_context("spawn")
    for _ in range(3):
        writer = context.Process(target=_append_for_ever, args=(tmp_path,))
        writer.start()
        deadline = time.monotonic() + 30
        before = len(Journal(tmp_path).entries)
        path = tmp_path / "journal.jsonl"
        while (
            not path.exists() or len(Journal(tmp_path).entries) < before + 5
        ) and time.monotonic() < deadline:
            time.sleep(0.01)
            if before:
                break
        os.kill(writer.pid, signal.SIGKILL)
        writer.join(30)
        entries = Journal(tmp_path).entries
        assert [(entry.step, entry.value) for entry in entries] == [
            (step, 0.25 * step) for step in range(len(entries))
        ]
    assert len(Journal(tmp_path).entries) >= 5


def test_pending_is_what_a_store_has_not_got_and_stores_are_apart(tmp_path):
    journal = Journal(tmp_path)
    journal.append([LOSS])
    assert journal.sent(STORE) is None
    ((end_bytes, entry),) = journal.pending(STORE)
    assert (entry, end_bytes) == (LOSS, journal.end_bytes)
    journal.mark_sent(STORE, Sent("abc", end_bytes))
    later = journal.append([Entry("metric", "train/loss", 0.4, 2, 2000)])
    assert Journal(tmp_path).sent(STORE) == Sent("abc", end_bytes)
    assert waiting(tmp_path, STORE) == list(later)
    assert waiting(tmp_path, "another") == [LOSS, *later]


def test_what_a_store_owes_is_pending_beside_what_is_new(tmp_path):
    journal = Journal(tmp_path)
    journal.append([LOSS])
    first = journal.end_bytes
    journal.append([Entry("metric", "train/loss", 0.4, 2, 2000)])
    journal.mark_sent(STORE, Sent("abc", journal.end_bytes, (first,)))
    later = journal.append([Entry("metric", "train/loss", 0.3, 3, 3000)])
    assert Journal(tmp_path).sent(STORE) == Sent("abc", Journal(tmp_path).lines[1][0], (first,))
    assert waiting(tmp_path, STORE) == [LOSS, *later]


def waiting(folder, store):
    return [entry for _, entry in Journal(folder).pending(store)]


def test_a_damaged_record_of_what_was_sent_means_sending_all_again(tmp_path):
    journal = Journal(tmp_path)
    journal.append([LOSS])
    journal.mark_sent(STORE, Sent("abc", journal.end_bytes))
    (tmp_path / "sent.json").write_text('{"torn')
    assert journal.sent(STORE) is None
    assert waiting(tmp_path, STORE) == [LOSS]


def test_a_kept_file_survives_the_replacement_of_its_source(tmp_path):
    source = tmp_path / "weights.safetensors"
    source.write_bytes(b"first")
    journal = Journal(tmp_path / "run")
    kept = journal.keep_file("models/weights.safetensors", source)
    (tmp_path / "new").write_bytes(b"second")
    (tmp_path / "new").replace(source)
    assert kept.read_bytes() == b"first"
    journal.keep_file("models/weights.safetensors", source)
    journal.keep_file("models/weights.safetensors", source)
    assert kept.read_bytes() == b"second"
    assert sorted(path.name for path in kept.parent.iterdir()) == ["weights.safetensors"]


def test_what_killed_writers_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    for name in ("killed", "living"):
        journal = Journal(tmp_path / name)
        journal.keep_file("deep/table.json", b"{}")
        for left in (".sent.json.tmp", "artifacts/deep/.table.json.tmp"):
            (tmp_path / name / left).write_bytes(b"half")
    with journal.sending():
        remove_leftovers(tmp_path)
    assert {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob(".*.tmp")} == {"living"}
    assert (tmp_path / "killed" / "artifacts" / "deep" / "table.json").read_bytes() == b"{}"
    remove_leftovers(tmp_path / "absent")


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        Journal(tmp_path / "file" / "run")


def test_a_write_that_fails_half_way_leaves_the_journal_as_it_was(tmp_path):
    journal = Journal(tmp_path)
    journal.append([LOSS])
    before = (tmp_path / "journal.jsonl").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The system takes the first bytes of the next line and refuses the rest, as a disk does that
    # becomes full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 30, hard))
    try:
        with pytest.raises(StorageError, match="free space"):
            journal.append([Entry("metric", "train/loss", 0.4, 2, 2000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "journal.jsonl").read_bytes() == before
    journal.append([Entry("metric", "train/loss", 0.4, 2, 2000)])
    assert [entry.step for entry in Journal(tmp_path).entries] == [1, 2]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.integers(0, 3),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
        max_size=20,
    )
)
def test_any_order_of_writing_and_reopening_keeps_the_first_value_exactly(tmp_path_factory, points):
    folder = tmp_path_factory.mktemp("journal")
    expected: dict[tuple[str, int], float] = {}
    for key, step, value in points:
        Journal(folder).append([Entry("metric", key, value, step)])
        expected.setdefault((key, step), value)
    assert {(entry.key, entry.step): entry.value for entry in Journal(folder).entries} == expected
