"""What happens to files, and what the ledger makes of it: each row of the design's table, on a real file system."""

from __future__ import annotations

import fcntl
import gzip
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from codex.logging.errors import SourceBusyError
from codex.logging.events import Generation, Stream
from codex.logging.ingest import engine
from codex.logging.ingest.engine import Engine
from codex.logging.ingest.sources import Facts, Location, locate, look, scan, survey
from codex.logging.store.rows import Rows
from codex.logging.store.sqlite import Store
from tests.files import copytruncate, create_at_inode, rotate, shift
from tests.importer import Importer, Recorded


@pytest.fixture
def start(log_dir: Path, database: Path) -> Iterator[Callable[[], Importer]]:
    """Starts an importer, and stops the one before."""
    running: list[Importer] = []

    def start() -> Importer:
        while running:
            running.pop().close()
        running.append(Importer(log_dir, database))
        return running[-1]

    yield start
    while running:
        running.pop().close()


@pytest.fixture
def importer(start: Callable[[], Importer]) -> Importer:
    """An importer that runs."""
    return start()


@pytest.fixture
def log(log_dir: Path) -> Path:
    """The live file of session `s`."""
    return log_dir / "s.ndjson"


def lines(*names: object) -> bytes:
    """One record a line, of about 40 bytes."""
    return b"".join(b'{"type":"message","message":"%s"}\n' % str(name).encode() for name in names)


def append(path: Path, *names: object) -> None:
    with path.open("ab") as file:
        file.write(lines(*names))


def rows(*names: object) -> list[tuple[int, int, str]]:
    """What these lines are as the whole default view, numbered from 1."""
    return [(seq, 0, str(name)) for seq, name in enumerate(names, 1)]


def rotated(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")


def place(path: Path) -> Location:
    """A path as the engine names it."""
    location = locate(str(path.parent), str(path))
    assert location is not None
    return location


def hows(recorded: Recorded, session_id: str = "s") -> list[tuple[str | None, bool]]:
    return [(life.how, life.superseded) for life in recorded.lives(session_id)]


def test_a_log_rotated_while_we_run_is_read_to_its_end_first(importer: Importer, recorded: Recorded, log: Path) -> None:
    """The lines that were written just before the rotation come before those of the new file; seq goes on."""
    append(log, 1, 2)
    importer.take()
    append(log, 3)
    rotate(log)
    append(log, 4, 5)
    importer.take()
    assert recorded.rows() == rows(1, 2, 3, 4, 5)
    assert hows(recorded) == [("rotated", False), (None, False)]
    assert [life.bytes for life in recorded.lives()] == [lines(1, 2, 3), lines(4, 5)]


@pytest.mark.parametrize("unread", [True, False])
def test_a_log_rotated_several_times_while_we_were_stopped(
    start: Callable[[], Importer], recorded: Recorded, log: Path, unread: bool
) -> None:
    """Each of the files is read, oldest first, whether or not the first of them has something new."""
    append(log, 1)
    start().take()
    if unread:
        append(log, 2)
    for batch in ((3, 4), (5,), (6, 7)):
        rotate(log)
        append(log, *batch)
    start().sweep()
    assert [message for _, _, message in recorded.rows()] == [*"1234567"] if unread else [*"134567"]
    assert [seq for seq, _, _ in recorded.rows()] == list(range(1, 7 + unread))
    assert hows(recorded) == [("rotated", False)] * 3 + [(None, False)]


def test_rotated_files_that_were_never_seen_are_read_oldest_first(
    importer: Importer, recorded: Recorded, log: Path
) -> None:
    """The first import of a session that had been rotated before."""
    for name in (1, 2, 3):
        if log.exists():
            rotate(log)
        append(log, name)
    importer.take()
    assert recorded.rows() == rows(1, 2, 3)
    assert hows(recorded) == [("rotated", False), ("rotated", False), (None, False)]


def test_a_rotated_file_is_a_log_by_its_name(importer: Importer, recorded: Recorded, log: Path) -> None:
    """Whatever its first line is, as in the live file."""
    rotated(log, 1).write_bytes(b"torn\n" + lines(2))
    importer.take()
    assert (recorded.rejects(), recorded.rows()) == ([(1, "json")], [(2, 0, "2")])


def test_the_same_first_line_in_each_rotated_file_is_no_rewrite(
    importer: Importer, recorded: Recorded, log: Path
) -> None:
    """A header that every file begins with says nothing about the file before, which is still there."""
    append(log, "header", 1)
    importer.take()
    rotate(log)
    append(log, "header")
    importer.take()
    append(log, 2)
    importer.take()
    assert recorded.rows() == rows("header", 1, "header", 2)
    assert hows(recorded) == [("rotated", False), (None, False)]


def test_late_lines_of_a_rotated_file_take_the_next_numbers(importer: Importer, recorded: Recorded, log: Path) -> None:
    """A writer that kept its descriptor loses nothing, and no number is given twice: not by a rewrite either."""
    append(log, 1)
    importer.take()
    rotate(log)
    append(log, 2, 3)
    importer.take()
    append(rotated(log, 1), "late")
    importer.take("s.ndjson.1")
    append(log, 4)
    importer.take()
    assert recorded.rows() == rows(1, 2, 3, "late", 4)
    log.write_bytes(lines(2, "edited"))
    importer.take()
    assert recorded.rows() == [(1, 0, "1"), (4, 0, "late"), (5, 0, "2"), (6, 0, "edited")]


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("final", [True, False])
def test_a_torn_line_in_a_rotated_file_does_not_hold_up_the_live_one(
    start: Callable[[], Importer], recorded: Recorded, log: Path, running: bool, final: bool
) -> None:
    """Its writer died: the line never ends, and what follows in the next file arrives in the same pass."""
    importer = start()
    append(log, 1)
    importer.take()
    with log.open("ab") as file:
        file.write(b'{"torn')
    rotate(log)
    os.utime(rotated(log, 1), (0, 0))
    append(log, 2)
    if not running:
        importer = start()
    importer.now = 10.0  # the torn file's time stamp says that it is quiet
    importer.sweep(final=final)
    assert recorded.rows() == rows(1, 2)


def test_a_log_truncated_and_filled_with_something_else(importer: Importer, recorded: Recorded, log: Path) -> None:
    """Both lives stay in view, and seq goes on."""
    append(log, 1, 2)
    importer.take()
    log.write_bytes(b"")
    importer.take()
    append(log, 3)
    importer.take()
    assert recorded.rows() == rows(1, 2, 3)
    assert hows(recorded) == [("truncated", False), (None, False)]


@pytest.mark.parametrize("count", [1, 2, 10])
@pytest.mark.parametrize("pieces", [True, False])
def test_truncation_is_told_whatever_the_new_size_is(
    importer: Importer, recorded: Recorded, log: Path, count: int, pieces: bool
) -> None:
    """Shorter than before, the same, or grown past the old offset; seen at once or line by line."""
    append(log, 1, 2)
    importer.take()
    log.write_bytes(b"")
    for name in range(11, 11 + count):
        append(log, name)
        if pieces:
            importer.take()
    importer.take()
    assert recorded.rows() == rows(1, 2, *range(11, 11 + count))
    assert hows(recorded) == [("truncated", False), (None, False)]


@pytest.mark.parametrize("pieces", [True, False])
@pytest.mark.parametrize("same_inode", [True, False])
def test_a_rewritten_log_supersedes_what_it_was(
    importer: Importer, recorded: Recorded, log: Path, pieces: bool, same_inode: bool
) -> None:
    """The first line is the same, others aren't: the numbering begins anew, the old rows leave the default view.

    However much of it is there when it is first seen.
    """
    append(log, 1, 2, 3)
    importer.take()
    if not same_inode:
        log.rename(log.with_name("old"))
    log.write_bytes(b"")
    for name in (1, "edited", 3, 4, 5):
        append(log, name)
        if pieces:
            importer.take()
    importer.take()
    assert recorded.rows() == rows(1, "edited", 3, 4, 5)
    assert hows(recorded) == [("rewritten", True), (None, False)]
    assert recorded.lives()[0].bytes == lines(1, 2, 3)


def test_a_rewritten_first_line_is_told_by_what_stands_before_the_watermark(
    importer: Importer, recorded: Recorded, log: Path
) -> None:
    """An edit in place that keeps the lengths."""
    append(log, 1, 2, 3, 4)
    importer.take()
    log.write_bytes(lines(9, 2, 3, 4, 5))
    importer.take()
    assert recorded.rows() == rows(9, 2, 3, 4, 5)
    assert hows(recorded) == [("rewritten", True), (None, False)]


def test_a_log_cut_shorter_is_rewritten(importer: Importer, recorded: Recorded, log: Path) -> None:
    """Lines were removed from its end."""
    append(log, 1, 2, 3)
    importer.take()
    log.write_bytes(lines(1))
    importer.take()
    append(log, 4)
    importer.take()
    assert recorded.rows() == rows(1, 4)
    assert hows(recorded) == [("rewritten", True), (None, False)]


def test_rewritten_again_and_again(importer: Importer, recorded: Recorded, log: Path) -> None:
    """Behind a rotated life, each rewrite is numbered from where the first of them was."""
    append(log, 1)
    importer.take()
    rotate(log)
    append(log, 2, 3)
    importer.take()
    for edit in "abc":
        log.write_bytes(lines(2, edit))
        importer.take()
    assert recorded.rows() == rows(1, 2, "c")
    assert hows(recorded) == [("rotated", False)] + [("rewritten", True)] * 3 + [(None, False)]


def test_a_file_saved_under_a_new_inode_goes_on(start: Callable[[], Importer], recorded: Recorded, log: Path) -> None:
    """An editor, or a restore from a backup: the same content and more is the same generation."""
    append(log, 1, 2)
    start().take()
    copy = log.with_name("copy")
    shutil.copy(log, copy)
    os.replace(copy, log)
    start().sweep()
    assert hows(recorded) == [("moved", False)]
    append(log, 3)
    start().sweep()
    assert recorded.rows() == rows(1, 2, 3)
    assert hows(recorded) == [("moved", False)]


@pytest.mark.parametrize("running", [True, False])
def test_an_inode_reused_by_another_log_is_another_stream(
    start: Callable[[], Importer], recorded: Recorded, log: Path, running: bool
) -> None:
    """The old stream's generation was replaced; the new stream counts from 1."""
    append(log, 1, 2)
    importer = start()
    importer.take()
    inode = log.stat().st_ino
    log.unlink()
    other = log.with_name("other.ndjson")
    create_at_inode(other, inode, lines("a"))
    importer = importer if running else start()
    importer.take("other.ndjson")
    importer.sweep()
    assert recorded.rows() == rows(1, 2)
    assert recorded.rows("other") == rows("a")
    assert hows(recorded) in ([("replaced", False)], [("deleted", False)])
    assert {(session, state) for session, _, state in recorded.streams()} == {("s", "gone"), ("other", "live")}


def test_a_deleted_log_leaves_its_rows(importer: Importer, recorded: Recorded, log: Path) -> None:
    """Rows and bytes stay for ever; the ledger says that it is gone."""
    append(log, 1, 2)
    importer.take()
    log.unlink()
    importer.sweep()
    assert recorded.rows() == rows(1, 2)
    assert hows(recorded) == [("deleted", False)]
    assert recorded.streams() == [("s", "s.ndjson", "gone")]
    assert recorded.lives()[0].bytes == lines(1, 2)


def test_a_deleted_log_that_returns_goes_on(importer: Importer, recorded: Recorded, log: Path) -> None:
    """Moved out and in again: no row twice."""
    append(log, 1)
    importer.take()
    log.rename(log.with_name("away"))
    importer.sweep()
    log.with_name("away").rename(log)
    append(log, 2)
    importer.sweep()
    assert recorded.rows() == rows(1, 2)
    assert hows(recorded) == [(None, False)]
    assert recorded.streams() == [("s", "s.ndjson", "live")]


@pytest.mark.parametrize("noticed", [True, False])
def test_a_log_deleted_and_begun_anew(importer: Importer, recorded: Recorded, log: Path, noticed: bool) -> None:
    """The new file goes on with the stream's numbers."""
    append(log, 1, 2)
    importer.take()
    log.rename(log.with_name("away"))  # keeps its inode in use
    if noticed:
        importer.sweep()
    append(log, 3)
    importer.take()
    assert recorded.rows() == rows(1, 2, 3)
    assert hows(recorded) == [("deleted", False), (None, False)]


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("old_first", [True, False])
@pytest.mark.parametrize("grown", [True, False])
def test_a_moved_log_is_the_same_stream(
    start: Callable[[], Importer], recorded: Recorded, log: Path, running: bool, old_first: bool, grown: bool
) -> None:
    """Into a sub-folder and under another name: no new rows, its session id stays, and it goes on."""
    append(log, 1, 2)
    importer = start()
    importer.take()
    target = log.parent / "archive" / "renamed.ndjson"
    target.parent.mkdir()
    log.rename(target)
    if grown:
        append(target, 3)
    importer = importer if running else start()
    for name in ["s.ndjson", "archive/renamed.ndjson"][:: 1 if old_first else -1]:
        importer.take(name)
    importer.sweep()
    assert recorded.streams() == [("s", "archive/renamed.ndjson", "live")]
    append(target, 4)
    importer.sweep()
    assert recorded.rows() == rows(1, 2, *[3] * grown, 4)
    assert hows(recorded) == [("moved", False)]


def test_a_moved_log_is_found_without_any_event(importer: Importer, recorded: Recorded, log: Path) -> None:
    """The sweep alone tells, though the file itself has not changed."""
    append(log, 1)
    importer.take()
    target = log.with_name("renamed.ndjson")
    log.rename(target)
    importer.sweep()
    assert recorded.streams() == [("s", "renamed.ndjson", "live")]
    assert hows(recorded) == [("moved", False)]


def test_a_moved_log_takes_its_rotated_files_along(importer: Importer, recorded: Recorded, log: Path) -> None:
    """The whole stream is in the sub-folder then."""
    append(log, 1)
    importer.take()
    rotate(log)
    append(log, 2)
    importer.take()
    folder = log.parent / "archive"
    folder.mkdir()
    for path in (rotated(log, 1), log):
        path.rename(folder / path.name)
    importer.sweep()
    append(folder / "s.ndjson", 3)
    importer.sweep()
    assert recorded.rows() == rows(1, 2, 3)
    assert recorded.streams() == [("s", "archive/s.ndjson", "live")]


@pytest.mark.parametrize("running", [True, False])
def test_a_copy_of_the_beginning_stays_one_when_another_file_has_the_same(
    start: Callable[[], Importer], recorded: Recorded, log: Path, running: bool
) -> None:
    """Both hold the first line of the live file; when that is truncated, neither of them begins anew."""
    append(log, 1, 2)
    for number in (1, 2):
        append(rotated(log, number), 1)
    importer = start()
    importer.sweep()
    before = recorded.lives()
    os.truncate(log, 0)
    importer = importer if running else start()
    importer.sweep()
    assert recorded.lives() == before


@pytest.mark.parametrize("running", [True, False])
def test_an_edited_rotated_file_takes_over_like_any_copy(
    start: Callable[[], Importer], recorded: Recorded, log: Path, running: bool
) -> None:
    """It was another life before its bytes became the live file's: once that is truncated, it is what that was."""
    append(log, 1)
    importer = start()
    importer.take()
    rotate(log)
    append(log, 2)
    importer.take()
    rotated(log, 1).write_bytes(log.read_bytes())
    importer.sweep()
    os.truncate(log, 0)
    importer = importer if running else start()
    importer.sweep()
    assert recorded.rows() == rows(1, 2)
    assert hows(recorded) == [("rotated", False), ("rotated", False)]


@pytest.mark.parametrize("running", [True, False])
def test_a_moved_rotated_file_is_a_log_once_another_file_has_its_place(
    start: Callable[[], Importer], recorded: Recorded, log: Path, running: bool
) -> None:
    """Away from its log it is that log's still; once a file with the same lines is there, it is a log of its own."""
    append(log, 1)
    importer = start()
    importer.take()
    target = log.with_name("t.ndjson.1")
    log.rename(target)
    importer.sweep()
    assert recorded.rows("t") == []
    append(log, 1)
    importer.sweep()
    importer = importer if running else start()
    importer.sweep()
    assert recorded.rows() == recorded.rows("t") == rows(1)


@pytest.mark.parametrize("running", [True, False])
def test_a_hard_link_is_a_stream_of_its_own(
    start: Callable[[], Importer], recorded: Recorded, log: Path, running: bool
) -> None:
    """Both names have all lines, also without an import that looks twice."""
    append(log, 1)
    importer = start()
    importer.take()
    link = log.with_name("link.ndjson")
    os.link(log, link)
    importer = importer if running else start()
    importer.take("link.ndjson", final=False)
    append(log, 2)
    importer.sweep(final=False)
    assert recorded.rows() == rows(1, 2)
    assert recorded.rows("link") == rows(1, 2)
    assert hows(recorded) == hows(recorded, "link") == [(None, False)]


def test_a_hard_link_is_found_without_any_event(importer: Importer, recorded: Recorded, log: Path) -> None:
    """What is settled under one name isn't under the other."""
    append(log, 1)
    importer.take()
    os.link(log, log.with_name("link.ndjson"))
    importer.sweep(final=False)
    assert recorded.rows("link") == rows(1)


def test_a_hard_link_made_while_we_were_stopped_is_found(
    start: Callable[[], Importer], recorded: Recorded, log: Path
) -> None:
    """What a former process settled under one name isn't settled under the other."""
    append(log, 1)
    start().take()
    os.link(log, log.with_name("link.ndjson"))
    start().sweep(final=False)
    assert recorded.rows("link") == rows(1)


@pytest.mark.parametrize("name", ["renamed.ndjson", "s.ndjson.1", "s.ndjson.2"])
def test_a_log_renamed_while_we_were_stopped_is_found(
    start: Callable[[], Importer], recorded: Recorded, log: Path, name: str
) -> None:
    """A sweep tells, though the file itself has not changed; the next one finds nothing to do."""
    append(log, 1)
    start().take()
    renamed = log.with_name(name)
    log.rename(renamed)
    start().sweep()
    assert hows(recorded) == [("moved" if name == "renamed.ndjson" else "rotated", False)]
    facts = look(place(renamed))
    assert facts is not None
    assert start().engine.is_settled(facts)


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("seen", ["copied", "emptied", "filled"])
@pytest.mark.parametrize("live_first", [True, False])
def test_copytruncate_loses_and_doubles_nothing(
    start: Callable[[], Importer], recorded: Recorded, log: Path, running: bool, seen: str, live_first: bool
) -> None:
    """The copy becomes what the live file was, with the lines that were read from neither; at any moment we look."""
    importer = start()
    append(log, 1, 2)
    importer.take()
    append(log, 3)

    def look_now(moment: str) -> None:
        nonlocal importer
        importer = importer if running else start()
        if moment == seen:
            for name in ["s.ndjson.1", "s.ndjson"][:: -1 if live_first else 1]:
                importer.take(name)

    shutil.copy(log, rotated(log, 1))
    look_now("copied")
    os.truncate(log, 0)
    look_now("emptied")
    append(log, 4)
    look_now("filled")
    importer.sweep()
    assert recorded.rows() == rows(1, 2, 3, 4)
    assert hows(recorded) == [("rotated", False), (None, False)]
    assert [life.bytes for life in recorded.lives()] == [lines(1, 2, 3), lines(4)]


def test_copied_and_cut_between_the_look_and_the_opening(
    importer: Importer, recorded: Recorded, log: Path, environment: pytest.MonkeyPatch
) -> None:
    """What stood in the live file before the lines that are read there now is in the copy, and comes first."""
    append(log, 1)
    importer.take()
    append(log, 2)
    importer.take()
    copytruncate(log)
    importer.take()
    append(log, 3)

    def look_and_rotate(location: Location) -> list[tuple[Location, Facts]]:
        found = survey(location)
        if not rotated(log, 2).exists():
            shift(log)
            copytruncate(log)
            append(log, 4)
        return found

    environment.setattr(engine, "survey", look_and_rotate)
    importer.take()
    assert recorded.rows() == rows(1, 2, 3, 4)


def test_a_copy_that_was_seen_before_the_last_lines_still_gives_them(
    importer: Importer, recorded: Recorded, log: Path
) -> None:
    """It was ignored while the live file held its lines; once that is emptied, they are in the copy alone."""
    append(log, 1)
    importer.take()
    append(log, 2)
    shutil.copy(log, rotated(log, 1))
    importer.engine.ingest(place(rotated(log, 1)))
    copytruncate(log, copy=False)
    append(log, 3)
    importer.take()
    assert recorded.rows() == rows(1, 2, 3)
    assert hows(recorded) == [("rotated", False), (None, False)]


def test_copytruncate_without_a_copy(importer: Importer, recorded: Recorded, log: Path) -> None:
    """It is a truncation."""
    append(log, 1)
    importer.take()
    copytruncate(log, copy=False)
    append(log, 2)
    importer.take()
    assert recorded.rows() == rows(1, 2)
    assert hows(recorded) == [("truncated", False), (None, False)]


def test_copytruncate_again_and_again(importer: Importer, recorded: Recorded, log: Path) -> None:
    """The copies shift as rotated files do."""
    for name in range(1, 6):
        append(log, name, f"{name}b")
        if name % 2:
            importer.take()
        if rotated(log, 1).exists():
            rotated(log, 1).rename(rotated(log, 1).with_suffix(".tmp"))
            number = 2
            while rotated(log, number).exists():
                number += 1
            for high in range(number, 2, -1):
                rotated(log, high - 1).rename(rotated(log, high))
            rotated(log, 1).with_suffix(".tmp").rename(rotated(log, 2))
        copytruncate(log)
    importer.take()
    assert [message for _, _, message in recorded.rows()] == [f"{n}{b}" for n in range(1, 6) for b in ("", "b")]
    assert set(hows(recorded)) == {("rotated", False)}


def test_a_backup_copy_is_no_rotated_file(start: Callable[[], Importer], recorded: Recorded, log: Path) -> None:
    """Whole or in part, `.1` is ignored as long as the live file holds its lines, and the import comes to an end."""
    append(log, 1, 2)
    start().take()
    shutil.copy(log, rotated(log, 1))
    rotated(log, 2).write_bytes(lines(1))
    append(log, 3)
    for _ in range(2):
        importer = start()
        importer.sweep()
        importer.take()
    append(log, 4)
    importer.take()
    assert recorded.rows() == rows(1, 2, 3, 4)
    assert hows(recorded) == [(None, False)]


def test_a_log_recreated_at_the_same_inode_while_we_were_stopped(
    start: Callable[[], Importer], recorded: Recorded, log: Path
) -> None:
    """Fluent Bit 8025."""
    append(log, 1, 2)
    start().take()
    inode = log.stat().st_ino
    log.unlink()
    create_at_inode(log, inode, lines("a", "b", "c", "d"))
    start().sweep()
    assert recorded.rows() == rows(1, 2, "a", "b", "c", "d")
    assert hows(recorded) == [("truncated", False), (None, False)]


def test_a_log_replaced_by_a_shorter_one_that_grows_past_the_old_offset(
    importer: Importer, recorded: Recorded, log: Path
) -> None:
    """Vector 23076."""
    append(log, *range(10))
    importer.take()
    fresh = log.with_name("fresh")
    append(fresh, "a")
    os.replace(fresh, log)
    append(log, *"bcdefghijklmnop")
    importer.take()
    assert recorded.rows() == rows(*range(10), *"abcdefghijklmnop")


def test_files_that_share_their_first_bytes_are_streams_of_their_own(
    importer: Importer, recorded: Recorded, log_dir: Path
) -> None:
    """Vector 25079 and OpenTelemetry 46496: 100 with the same first 4 KiB, two of them alike to the last byte."""
    head = lines("x" * 4096)
    for number in range(100):
        (log_dir / f"{number}.ndjson").write_bytes(head + lines(number // 2))
    assert importer.sweep() == 200
    for number in range(100):
        assert recorded.rows(str(number)) == rows("x" * 4096, number // 2)


@pytest.mark.parametrize("copy", [True, False])
def test_copytruncate_with_the_same_first_kilobyte(
    start: Callable[[], Importer], recorded: Recorded, log: Path, copy: bool
) -> None:
    """OpenTelemetry 43693: while stopped, the same head is written again, and it grows past the old offset.

    With the copy both lives are in view; without it, it can't be told from an edit, and the old one is superseded.
    """
    head = "h" * 1100
    append(log, head, 1)
    start().take()
    copytruncate(log, copy=copy)
    append(log, head, 2, 3, 4)
    start().sweep()
    assert recorded.rows() == (rows(head, 1, head, 2, 3, 4) if copy else rows(head, 2, 3, 4))
    assert hows(recorded)[0] == (("rotated", False) if copy else ("rewritten", True))


def test_ten_lines_cut_and_a_hundred_written_at_once(importer: Importer, recorded: Recorded, log: Path) -> None:
    """Vector 23619: nothing of the old content is left where the watermark stands."""
    append(log, *range(10))
    importer.take()
    log.write_bytes(lines(*range(100, 200)))
    importer.take()
    assert recorded.rows() == rows(*range(10), *range(100, 200))


def test_half_a_line_cut_off_and_other_lines_in_its_place(importer: Importer, recorded: Recorded, log: Path) -> None:
    """What was looked at while it was half a line doesn't make one line of those that stand there by now."""
    log.write_bytes(lines(1, 2) + lines(3)[:-20])
    assert [importer.take(final=False), importer.take(final=False)] == [2, 0]
    os.truncate(log, 0)
    with log.open("ab") as file:
        file.write(lines(*range(4, 9)))
    assert importer.take(final=False) == 5
    assert recorded.rows() == [(seq, 0, str(name)) for seq, name in enumerate((1, 2, 4, 5, 6, 7, 8), 1)]


@pytest.mark.parametrize("final", [True, False])
def test_half_a_line_before_a_stop_and_the_rest_after(
    start: Callable[[], Importer], recorded: Recorded, log: Path, final: bool
) -> None:
    """Fluent Bit 11265: exactly one row."""
    line = lines("whole")
    log.write_bytes(line[:20])
    assert start().take(final=final) == 0
    with log.open("ab") as file:
        file.write(line[20:])
    assert start().sweep(final=final) == 1
    assert recorded.rows() == rows("whole")


def test_one_byte_a_write(importer: Importer, recorded: Recorded, log: Path) -> None:
    """Vector 21084: the offsets are right, as the bytes that are recorded show; tails that are objects are taken."""
    data = lines(1)[:-1] + lines(2) + b"junk\n" + lines(3)
    for place in range(len(data)):
        with log.open("ab") as file:
            file.write(data[place : place + 1])
        importer.take()
    assert recorded.rows() == [(1, 0, "1"), (1, 1, "2"), (3, 0, "3")]
    assert recorded.rejects() == [(2, "json")]
    assert recorded.lives()[0].bytes == data


def test_rotated_and_compressed_is_read_once(importer: Importer, recorded: Recorded, log: Path) -> None:
    """Vector 7990: a, a.1, then a.1.gz, all in the watched folder."""
    append(log, 1, 2)
    importer.take()
    rotate(log)
    append(log, 3)
    importer.sweep()
    with gzip.open(f"{log}.1.gz", "wb") as file:
        file.write(rotated(log, 1).read_bytes())
    rotated(log, 1).unlink()
    importer.sweep()
    append(log, 4)
    importer.sweep()
    assert recorded.rows() == rows(1, 2, 3, 4)
    assert hows(recorded) == [("rotated", False), (None, False)]


def test_a_locked_file_is_busy_and_read_later(importer: Importer, recorded: Recorded, log: Path) -> None:
    """Nothing is written while a writer holds the lock."""
    append(log, 1)
    with log.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SourceBusyError):
            importer.take()
    importer.take()
    assert recorded.rows() == rows(1)


@pytest.mark.parametrize("way", ["a folder above", "a folder below", "a link"])
def test_a_file_is_one_stream_from_whatever_folder_it_is_looked_at(
    log_dir: Path, database: Path, recorded: Recorded, way: str
) -> None:
    """Importers under two names of the same folder take turns: what one took, rotated or saw gone, the other knows."""
    log = log_dir / "below" / "s.ndjson"
    log.parent.mkdir()
    link = log_dir.with_name("link")
    link.symlink_to(log_dir)
    others = {"a folder above": log_dir.parent, "a folder below": log.parent, "a link": link}
    append(log, 1)
    with closing(Importer(log_dir, database)) as first:
        assert first.sweep() == 1
        with closing(Importer(others[way], database)) as second:
            assert all(second.engine.is_settled(found.facts) for found in scan(second.root) if found.facts)
            append(log, 2)
            assert (second.sweep(), first.sweep()) == (1, 0)
            append(log, 3)
            rotate(log)
            append(log, 4)
            assert (second.sweep(), first.sweep()) == (2, 0)
            log.unlink()
            append(log, 5)
            assert (first.sweep(), second.sweep()) == (1, 0)
    assert recorded.rows() == rows(1, 2, 3, 4, 5)
    assert recorded.streams() == [("s", "below/s.ndjson", "live")]


def test_importers_take_turns_without_loss(log_dir: Path, database: Path, recorded: Recorded, log: Path) -> None:
    """Each knows an older ledger than the other left: what was taken meanwhile isn't taken again."""
    with closing(Importer(log_dir, database)) as first, closing(Importer(log_dir, database)) as second:
        for name in range(12):
            append(log, name)
            (first if name % 3 else second).take()
            if name % 4 == 3:
                rotate(log)
        first.take()
        second.take()
    assert recorded.rows() == rows(*range(12))


class _Overtaken(Store):
    """A store in whose look for another stream's file that file is moved."""

    meanwhile: Callable[[], object] | None = None

    def streams_by_identity(self, identity: tuple[int, int]) -> list[Stream]:
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return super().streams_by_identity(identity)


def test_a_rotated_file_that_follows_its_log_under_the_look_is_no_log(
    importer: Importer, recorded: Recorded, log: Path, database: Path
) -> None:
    """Opened where it was, and by then where its log is: that is no hard link."""
    append(log, 1)
    importer.take()
    rotate(log)
    append(log, 2)
    importer.take()
    target = log.parent / "archive" / log.name
    target.parent.mkdir()
    log.rename(target)
    importer.sweep()
    with closing(_Overtaken(str(database))) as store:
        store.meanwhile = lambda: rotated(log, 1).rename(rotated(target, 1))
        with closing(Importer(log.parent, database, store=store)) as other:
            other.sweep()
            other.sweep()
        assert store.meanwhile is None
    assert recorded.rows() == rows(1, 2)


class _Interrupted(Store):
    """A store whose next commit lets another importer go first."""

    meanwhile: Callable[[], object] | None = None

    def commit(
        self, stream: Stream, generation: Generation, rows: Rows, ending: tuple[int, str, bool] | None
    ) -> Stream:
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return super().commit(stream, generation, rows, ending)


def test_an_importer_that_loses_the_race_takes_nothing_twice(
    importer: Importer, recorded: Recorded, log: Path, database: Path
) -> None:
    """The watermark moved between its read and its commit."""
    with closing(_Interrupted(str(database))) as store:
        engine = Engine(store)
        for name in (1, 2, 3):
            append(log, name)
            store.meanwhile = importer.take
            while engine.ingest(place(log)).more:
                pass
            assert store.meanwhile is None
    assert recorded.rows() == rows(1, 2, 3)


def test_a_generation_begins_behind_what_another_importer_just_took(
    importer: Importer, recorded: Recorded, log: Path, database: Path
) -> None:
    """A late line of the rotated file is committed between the read of the new file and its commit."""
    append(log, 1)
    importer.take()
    rotate(log)
    append(log, 2)

    def take_late_line() -> None:
        append(rotated(log, 1), "late")
        importer.engine.ingest(place(rotated(log, 1)))

    with closing(_Interrupted(str(database))) as store:
        engine = Engine(store)
        engine.resume(importer.root)
        store.meanwhile = take_late_line
        while engine.ingest(place(log)).more:
            pass
    assert store.meanwhile is None
    assert recorded.rows() == rows(1, "late", 2)
