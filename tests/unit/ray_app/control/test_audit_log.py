"""The audit log: whole lines in files of bounded size, and a disk that takes none stops nothing."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray_app.control.audit_log import AuditLog


def entries(file: Path) -> list[dict[str, Any]]:
    """What the lines of a file say."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


@contextmanager
def disk_full_at(size: int) -> Iterator[None]:
    """Have no file of this process grow beyond so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_the_audit_log_is_one_line_an_entry_and_goes_on(tmp_path: Path):
    """Entries are appended, and read again after a restart; a line cut short is passed over, and none is lost by it."""
    file = tmp_path / "var" / "audit.jsonl"
    AuditLog(file)({"who": "admin", "epoch": 2})
    with file.open("ab") as half:
        half.write(b'{"who": "adm')
    again = AuditLog(file)
    again({"who": "registry", "epoch": 3})
    assert [entry["epoch"] for entry in again.recent] == [2, 3]
    assert [entry["epoch"] for entry in AuditLog(file).recent] == [2, 3]
    assert file.stat().st_mode & 0o777 == 0o640


def test_an_audit_log_that_cannot_be_written_is_counted(tmp_path: Path):
    """Changes go on; what was not written is counted."""
    (tmp_path / "file").write_text("")
    audit = AuditLog(tmp_path / "file" / "audit.jsonl")
    audit({"who": "admin"})
    assert (audit.lost, len(audit.recent)) == (1, 1)


def test_a_full_disk_loses_what_it_does_not_take_and_no_more(tmp_path: Path):
    """Half a line that a full disk took is counted as lost, and the lines after it are whole."""
    file = tmp_path / "audit.jsonl"
    audit = AuditLog(file)
    audit({"epoch": 1})
    with disk_full_at(file.stat().st_size + 5):
        audit({"epoch": 2})
    audit({"epoch": 3})
    assert audit.lost == 1
    assert [entry["epoch"] for entry in AuditLog(file).recent] == [1, 3]


def test_the_audit_log_is_bounded(tmp_path: Path):
    """However many changes there are, there are so many files of such a size; the newest lines are kept, in order."""
    file = tmp_path / "audit.jsonl"
    audit = AuditLog(file, file_bytes=1000, older_files=2)
    for epoch in range(500):
        audit({"who": "admin", "epoch": epoch})
    files = sorted(tmp_path.iterdir(), reverse=True)
    assert [each.name for each in files] == ["audit.jsonl.2", "audit.jsonl.1", "audit.jsonl"]
    assert all(each.stat().st_size <= 1000 for each in files)
    kept = [entry["epoch"] for each in files for entry in entries(each)]
    assert kept == list(range(500 - len(kept), 500))
    assert audit.lost == 0


def test_what_was_shown_before_a_full_file_is_shown_after_a_restart(tmp_path: Path):
    """The last entries reach back into the file before, so that a restart just after a new one began forgets none."""
    file = tmp_path / "audit.jsonl"
    audit = AuditLog(file, file_bytes=1000)
    for epoch in range(40):
        audit({"who": "admin", "epoch": epoch})
    shown = [entry["epoch"] for entry in AuditLog(file, file_bytes=1000).recent]
    assert shown == list(range(40 - len(shown), 40))
    assert len(shown) > len(entries(file))


def test_a_file_that_is_moved_away_is_made_anew(tmp_path: Path):
    """Whoever rotates by other means loses no line: the next one begins a new file."""
    file = tmp_path / "audit.jsonl"
    audit = AuditLog(file)
    audit({"epoch": 1})
    file.rename(tmp_path / "moved")
    audit({"epoch": 2})
    assert [entry["epoch"] for entry in entries(file)] == [2]
