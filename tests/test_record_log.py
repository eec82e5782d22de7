"""What was acknowledged is found again, whatever happens to the process, the disk or the neighbours."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from underhood.ground.errors import CorruptError, RecordError, UnderhoodError
from underhood.ground.records import Entry
from underhood.record.hot import hot_files, manifest_of, read_hot
from underhood.record.log import Log
from underhood.record.seal import seal, table

AT = "2013-03-08T19:00:00.000000"
WRITER = """
import sys
from pathlib import Path
from underhood.ground.records import Entry
from underhood.record.log import Log
with Log(Path(sys.argv[1])) as log:
    for n in range(int(sys.argv[3])):
        name = f"{sys.argv[2]}-{n}"
        log.append([Entry("decision", name, "2013-03-08T19:00:00", {"n": n, "text": "x" * 700})])
        print(name, flush=True)
"""


def test_entries_are_read_as_they_were_written_and_by_kind(tmp_path: Path) -> None:
    written = [entry("a", score=0.25, row={"wind": None}), Entry("outcome", "b", AT, {"label": True})]
    with Log(tmp_path) as log:
        log.append(written)
        log.append([])

        assert written == list(read_hot(tmp_path))
        assert written[1:] == list(read_hot(tmp_path, {"outcome"}))
    assert written == list(read_hot(tmp_path))


def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    random.seed(8)
    acknowledged: list[str] = []
    for number in range(6):
        writer = start_writer(tmp_path, f"round{number}", 10**9)
        assert writer.stdout
        for _ in range(random.randrange(1, 120)):
            acknowledged.append(writer.stdout.readline().strip())
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.stdout.read().split("\n")[:-1]
        writer.wait()
        writer.stdout.close()

    assert set(acknowledged) <= {found.id for found in read_hot(tmp_path)}
    assert len(seal(tmp_path)) == 6
    assert set(acknowledged) <= set(table(tmp_path, "decision")["id"].to_pylist())


def test_two_processes_write_at_once_each_its_own_file(tmp_path: Path) -> None:
    writers = [start_writer(tmp_path, name, 100) for name in ("one", "two")]
    for writer in writers:
        writer.communicate()

    assert len(hot_files(tmp_path)) == 2
    assert {f"{w}-{n}" for w in ("one", "two") for n in range(100)} == ids(tmp_path)


def test_threads_share_commits(tmp_path: Path) -> None:
    with Log(tmp_path) as log, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: log.append([entry(f"d{n}")]), range(400)))

        assert {f"d{n}" for n in range(400)} == ids(tmp_path)
        assert log.commits < 400


def test_a_batch_that_fails_is_refused_to_all_who_shared_it(tmp_path: Path) -> None:
    start, refused = threading.Barrier(8), []

    def append(name: str) -> None:
        start.wait()
        try:
            log.append([entry(name, text="x" * 9000)])
        except RecordError:
            refused.append(name)

    with Log(tmp_path) as log:
        log.append([entry("before")])
        limit_pages(log)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(append, [f"d{n}" for n in range(8)]))

        assert sorted(refused) == [f"d{n}" for n in range(8)]
        assert ids(tmp_path) == {"before"}


def test_a_full_disk_is_refused_and_writing_goes_on_when_space_returns(tiny_disk: Path) -> None:
    kept: list[str] = []
    with Log(tiny_disk) as log:
        for n in range(3):
            log.append([entry(f"early{n}")])
        ballast = tiny_disk / "ballast"
        fill(ballast)
        with pytest.raises(RecordError, match="the disk is full") as caught:
            append_until_refused(log, kept)
        assert caught.value.where == str(log.path)
        assert "free space" in caught.value.hint
        assert {*kept, "early0", "early1", "early2"} == ids(tiny_disk)

        ballast.unlink()
        log.append([entry("after", text="x" * 9000)])

        assert {*kept, "early0", "early1", "early2", "after"} == ids(tiny_disk)


def test_a_file_that_may_not_grow_refuses_and_the_next_append_tries_anew(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        log.append([entry("early")])
        limit_pages(log)
        with pytest.raises(RecordError, match="1 entries were not recorded: the disk is full"):
            log.append([entry("refused", text="x" * 100_000)])
        assert ids(tmp_path) == {"early"}
        log._file.db.execute("PRAGMA max_page_count = 100000")  # type: ignore[union-attr]
        log.append([entry("after", text="x" * 100_000)])

        assert ids(tmp_path) == {"early", "after"}


def test_after_an_io_error_the_file_is_left_and_the_next_append_makes_another(tmp_path: Path) -> None:
    script = f"""
import resource
from tests.test_record_log import *
record = Path({str(tmp_path)!r})
log = Log(record)
log.append([entry("early")])
first = log.path
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, {resource.RLIM_INFINITY}))
try:
    log.append([entry("refused", text="x" * 100_000)])
except RecordError as error:
    assert "the disk reports an error" in error.what, error
assert log.path is None
log.append([entry("after")])
assert log.path != first
print(*sorted(ids(record)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)

    assert (done.stdout.split(), done.stderr) == (["after", "early"], "")


def test_a_torn_tail_loses_only_what_was_torn(tmp_path: Path) -> None:
    writer = start_writer(tmp_path / "whole", "d", 10**9)
    assert writer.stdout
    for _ in range(10):
        writer.stdout.readline()
    writer.kill()
    writer.communicate()
    hot = hot_files(tmp_path / "whole")[0]
    n_whole = len(ids(tmp_path / "whole"))
    wal = hot.with_name(hot.name + "-wal").read_bytes()
    counts = [n_whole]
    for size in range(len(wal), 0, -103):  # the end may be frames that no commit followed yet: on, until two are lost
        torn = tmp_path / f"torn{size}" / "log"
        torn.mkdir(parents=True)
        shutil.copy(hot, torn)
        (torn / f"{hot.name}-wal").write_bytes(wal[:size])
        found = [e.id for e in read_hot(torn.parent)]
        assert found == [f"d-{n}" for n in range(len(found))]
        counts.append(len(found))
        if len(found) == n_whole - 2:
            break

    assert counts == sorted(counts, reverse=True)
    assert set(counts) == {n_whole, n_whole - 1, n_whole - 2}


def test_a_flipped_bit_is_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        log.append([entry("a"), entry("b", text="marked"), entry("c")])
    hot = hot_files(tmp_path)[0]
    hot.write_bytes(hot.read_bytes().replace(b"marked", b"markfd"))

    with pytest.raises(CorruptError, match="entry 2 is not what was written"):
        list(read_hot(tmp_path))
    bad: list[UnderhoodError] = []
    assert [found.id for found in read_hot(tmp_path, None, bad)] == ["a", "c"]
    assert [error.where for error in bad] == [str(hot)]


@pytest.mark.slow
def test_a_forked_child_writes_a_file_of_its_own(tmp_path: Path) -> None:
    script = f"""
from tests.test_record_log import *
record = Path({str(tmp_path)!r})
log = Log(record)
log.append([entry("parent")])
log._gate.acquire()  # as if another thread were inside when the fork comes
child = os.fork()
if not child:
    log.append([entry("child")])
    sys.exit(0)
os.waitpid(child, 0)
log._gate.release()
assert len(seal(record)) == 1  # the child's; the parent still writes
log.append([entry("parent again")])
print(len(hot_files(record)), *ids(record), *table(record, "decision")["id"].to_pylist(), sep=",")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)

    assert done.stderr == ""
    assert set(done.stdout.strip().split(",")) == {"1", "parent", "parent again", "child"}


def test_a_missing_folder_is_made_and_a_forbidden_one_is_named(tmp_path: Path) -> None:
    with Log(tmp_path / "new" / "record") as log:
        assert log.path
        assert log.path.parent == tmp_path / "new" / "record" / "log"
    (tmp_path / "file").write_text("a file where the folder should be")

    with pytest.raises(RecordError) as caught:
        Log(tmp_path / "file")

    assert caught.value.where == str(tmp_path / "file" / "log")
    assert "allow writing" in caught.value.hint


def test_a_malformed_entry_is_refused_and_does_not_spoil_others(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        for broken in (
            Entry("../x", "a", AT),
            Entry("decision", "a", "../../x"),
            Entry("decision", "a", AT, {"x": object()}),
            Entry("decision", "\ud800", AT),
        ):
            with pytest.raises(RecordError):
                log.append([entry("good"), broken])
        log.append([Entry("decision", "odd", AT, {"nan": float("nan"), "big": 2**80, "text": "\x00ü"})])

    assert [dict(found.body) for found in read_hot(tmp_path)] == [{"nan": None, "big": 2**80, "text": "\x00ü"}]


def test_a_rotated_log_goes_on_in_a_new_file(tmp_path: Path) -> None:
    with Log(tmp_path, durability="process") as log:
        log.append([entry("a")])
        left = log.rotate()
        assert left
        log.append([entry("b")])

        assert left in hot_files(tmp_path)
        assert [manifest_of(left)] == seal(tmp_path)
        assert table(tmp_path, "decision")["id"].to_pylist() == ["a", "b"]
    with pytest.raises(RecordError, match="the log is closed"):
        log.append([entry("c")])


ROOT = Path(__file__).parent.parent


def entry(id: str, **body: object) -> Entry:
    return Entry("decision", id, AT, body)


def ids(record: Path) -> set[str]:
    found = [each.id for each in read_hot(record)]
    assert len(found) == len(set(found))
    return set(found)


def start_writer(record: Path, name: str, n: int) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", WRITER, str(record), name, str(n)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def append_until_refused(log: Log, kept: list[str]) -> None:
    for n in range(10_000):
        log.append([entry(f"d{n}", text="x" * 9000)])
        kept.append(f"d{n}")


def limit_pages(log: Log) -> None:
    """No room for another page, as SQLite sees it."""
    db: sqlite3.Connection = log._file.db  # type: ignore[union-attr]
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")


def fill(ballast: Path) -> None:
    """Leaves some 200 KB."""
    free = os.statvfs(ballast.parent).f_bavail * os.statvfs(ballast.parent).f_frsize
    ballast.write_bytes(b"\0" * (free - 200_000))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(where)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"a tiny disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)
