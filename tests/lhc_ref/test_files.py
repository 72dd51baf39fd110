"""Atomic files: the old content or the new, whatever goes wrong in between."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from lhc_ref.errors import LhcError
from lhc_ref.files import atomic_write, atomic_write_bytes, atomic_write_text


def test_writes_new_and_over_old(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic_write_bytes(path, b"old")
    assert path.read_bytes() == b"old"
    atomic_write(str(path), lambda f: (f.write(b"ne"), f.write(b"w")))
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_text_is_utf8_with_its_own_line_ends(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "file", "ä\r\nß\n")
    assert (tmp_path / "file").read_bytes() == b"\xc3\xa4\r\n\xc3\x9f\n"


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), LhcError("ours")])
def test_failure_of_the_writer_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(f: BinaryIO) -> None:
        f.write(b"half")
        raise error

    with pytest.raises(type(error)):
        atomic_write(path, write)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["replace", "fsync"])
def test_system_failure_is_ours_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, name, fail)
    with pytest.raises(LhcError, match=r"file: expected a place to write .* got 'No space left on device'\. Check"):
        atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LhcError, match="got 'No such file or directory'"):
        atomic_write_bytes(tmp_path / "folder" / "file", b"")


def test_folder_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(LhcError, match="expected a regular file or none, got something else"):
        atomic_write_bytes(tmp_path, b"")


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="no device files here")
def test_device_is_not_replaced() -> None:
    with pytest.raises(LhcError, match="expected a regular file or none"):
        atomic_write_bytes("/dev/null", b"")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.skipif(os.name != "posix", reason="permissions and links as on POSIX")
def test_link_stays_and_mode_follows_the_umask(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    before = os.umask(0o027)
    try:
        atomic_write_bytes(tmp_path / "link", b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_content_and_name_are_synced_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, os.replace

    def logged_sync(descriptor: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def logged_replace(source: Path, target: Path) -> None:
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", logged_sync)
    monkeypatch.setattr(os, "replace", logged_replace)
    atomic_write_bytes(tmp_path / "file", b"new")
    assert calls == (["file", "rename", "folder"] if os.name == "posix" else ["file", "rename"])


@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
def test_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic_write_bytes(path, bytes([255]) * 100_000)
    program = (
        "import sys\n"
        "from lhc_ref.files import atomic_write_bytes\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    for i in range(256): atomic_write_bytes(sys.argv[1], bytes([i]) * 100_000)\n"
    )
    for delay_s in (0.0, 0.003, 0.01, 0.03):
        with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay_s)
            process.send_signal(signal.SIGKILL)
        data = path.read_bytes()
        assert len(data) == 100_000
        assert len(set(data)) == 1
