"""Which files a table's cells may name, and that no cell makes the reading hang or crash."""

from __future__ import annotations

import base64
import os
import socket
from pathlib import Path

import pytest

from batchkit.annotation import image_files
from batchkit.annotation.image_files import ImageFolder, UnreadableImageFile
from tests.annotation.test_images import image_bytes

PNG = image_bytes()


@pytest.fixture
def table(tmp_path):
    """Make a table's folder with an image, and one beside it with another."""
    for place in ("table/inside", "private"):
        (tmp_path / place).mkdir(parents=True)
    for place in ("table/ok.png", "table/inside/deep.png", "table/a b%20ü.png", "private/scan.png"):
        (tmp_path / place).write_bytes(PNG)
    return tmp_path / "table"


def refusal(folder, cell, *, allow_outside=False):
    """Read a cell that must not be read, and give the words."""
    with pytest.raises(UnreadableImageFile) as caught:
        ImageFolder(folder, allow_outside=allow_outside).read(cell)
    return str(caught.value)


def outside_cells(table):
    """Name a file beside the table's folder in every way."""
    private = table.parent / "private" / "scan.png"
    (table / "link.png").symlink_to(private)
    (table / "door").symlink_to(private.parent)
    (table / "hops.png").symlink_to(table / "link.png")
    return [
        "../private/scan.png",
        "inside/../../private/scan.png",
        str(private),
        f"file://{private}",
        f"FILE://localhost{private}",
        f"file:{private}",
        f"file://{table}/%2e%2e/private/scan.png",
        "link.png",
        "hops.png",
        "door/scan.png",
    ]


def test_files_below_the_tables_folder_are_read_however_they_are_named(table):
    """Relative, absolute, as an address with percent signs, by a link that stays inside, and by a way that comes back."""
    (table / "link.png").symlink_to(table / "inside" / "deep.png")
    files = ImageFolder(table)
    for cell in (
        "ok.png",
        "./inside/../ok.png",
        "../table/ok.png",
        "a b%20ü.png",
        "link.png",
        str(table / "ok.png"),
        f"file://{table}/ok.png",
        f"file://localhost{table}/a%20b%2520%C3%BC.png",
    ):
        assert files.read(cell) == PNG, cell


def test_a_table_whose_folder_is_reached_by_a_link_reads_its_own_files(table, tmp_path):
    """What counts is where the folder is, not how it is called."""
    (tmp_path / "alias").symlink_to(table)
    assert ImageFolder(tmp_path / "alias").read("ok.png") == PNG
    assert ImageFolder(tmp_path / "alias").read(str(table / "ok.png")) == PNG


def test_a_folder_whose_name_only_begins_alike_is_outside(table):
    """``table-2`` is not below ``table``."""
    (table.parent / "table-2").mkdir()
    (table.parent / "table-2" / "scan.png").write_bytes(PNG)
    assert "leads out of the table's folder" in refusal(table, "../table-2/scan.png")


def test_files_outside_of_the_tables_folder_are_read_only_by_permission(table):
    """Every way out is refused with the option that allows it, and read with it."""
    for cell in outside_cells(table):
        assert "--allow-paths" in refusal(table, cell), cell
        assert ImageFolder(table, allow_outside=True).read(cell) == PNG, cell


@pytest.mark.timeout(20)
@pytest.mark.parametrize("allow_outside", [False, True])
def test_only_regular_files_are_read_and_nothing_is_waited_for(table, allow_outside):
    """Devices, pipes, sockets, folders and the kernel's own files are refused at once, permission or not."""
    os.mkfifo(table / "pipe")
    (table / "zero.png").symlink_to("/dev/zero")
    (table / "loop.png").symlink_to("loop.png")
    (table / "secrets.png").symlink_to("/proc/self/environ")
    with socket.socket(socket.AF_UNIX) as unix:
        here = Path.cwd()
        os.chdir(table)  # the address of a socket has to be short
        try:
            unix.bind("socket")
        finally:
            os.chdir(here)
        words = {cell: refusal(table, cell, allow_outside=allow_outside) for cell in ("pipe", "socket", "inside", ".")}
    assert words["pipe"] == "pipe is a named pipe; an image is a regular file"
    assert words["socket"] == "socket is a socket; an image is a regular file"
    assert words["inside"] == "inside is a folder; an image is a regular file"
    for cell in ("/dev/zero", "zero.png", "file:///dev/zero", "loop.png", "secrets.png", "/proc/self/environ"):
        refusal(table, cell, allow_outside=allow_outside)
    assert "is a device" in refusal(table, "zero.png", allow_outside=True)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="macOS has no /proc")
def test_files_that_the_kernel_makes_up_are_not_read(table):
    """By their own path or by a link, permission or not."""
    (table / "secrets.png").symlink_to("/proc/self/environ")
    assert "is not a file on a disk" in refusal(table, "/proc/self/environ", allow_outside=True)
    assert "is not a file on a disk" in refusal(table, "secrets.png", allow_outside=True)


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("missing.png", "missing.png cannot be read: No such file"),
        ("~/cat.png", "~ is not replaced; write the whole path"),
        ("C:\\photos\\cat.png", "this is a path of Windows"),
        ("c:/photos/cat.png", "this is a path of Windows"),
        ("\\\\server\\photos\\cat.png", "this is a path of Windows"),
        ("cat\x00.png", "the path holds a NUL byte"),
        ("file:///cat%00.png", "the path holds a NUL byte"),
        ("cat\ud83d.png", "characters that no file name has"),
        ("x" * 5_000, r"xxx\.\.\. cannot be read: File name too long"),
        ("a/" * 5_000, "cannot be read: "),
        ("ok.png/cat.png", "cannot be read: Not a directory"),
        ("file://photos/cat.png", r"names the machine photos; write file:///"),
        ("s3://bucket/cat.png", "addresses of s3: are not read"),
        ("ftp://host/cat.png", "addresses of ftp: are not read"),
        ("a\nb\x1b[2J.png", r"a b.\[2J.png cannot be read"),
        (base64.b64encode(PNG * 9).decode(), 'this looks like base64; write "data:image/png;base64,'),
        ("", "is a folder"),
        ("file:", "is a folder"),
        ("%", "% cannot be read: No such file"),
    ],
)
def test_a_cell_that_names_no_file_is_told_why_in_a_short_line(table, cell, why):
    """One sentence without the whole cell, without control characters, and with what to do where that is known."""
    with pytest.raises(UnreadableImageFile, match=why) as caught:
        ImageFolder(table).read(cell)
    words = str(caught.value)
    assert len(words) < 400
    assert words.isprintable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file, whatever its mode")
def test_a_file_that_may_not_be_read_is_told(table):
    """The system's own reason is given."""
    (table / "ok.png").chmod(0)
    assert refusal(table, "ok.png") == "ok.png cannot be read: Permission denied"


def test_a_file_is_read_up_to_the_limit(table, monkeypatch):
    """A file of the limit's size is read, a larger one is refused by its size."""
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", len(PNG))
    assert ImageFolder(table).read("ok.png") == PNG
    (table / "ok.png").write_bytes(PNG + b" ")
    assert refusal(table, "ok.png") == f"ok.png has {len(PNG) + 1:,} bytes; at most {len(PNG):,} are read"


@pytest.mark.timeout(20)
def test_a_file_that_grows_while_it_is_read_ends_at_the_limit(table, monkeypatch):
    """Its size promises nothing: here it grows behind the last check."""
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", 5_000)
    monkeypatch.setattr(image_files, "_PIECE_BYTES", 1_000)
    path = table / "ok.png"
    checked = ImageFolder._check_regular
    sizes = iter([1_000, 6_000])

    def growing(folder, found, shown):
        checked(folder, found, shown)
        path.write_bytes(b"x" * next(sizes))

    monkeypatch.setattr(ImageFolder, "_check_regular", growing)
    assert refusal(table, "ok.png") == "ok.png has more than 5,000 bytes"


@pytest.mark.timeout(20)
def test_a_pipe_that_takes_the_files_place_after_the_check_is_not_waited_for(table, monkeypatch):
    """What was opened is checked once more."""
    path = table / "ok.png"
    checked = ImageFolder._check_regular

    def swapped(folder, found, shown):
        checked(folder, found, shown)
        path.unlink()
        os.mkfifo(path)
        monkeypatch.setattr(ImageFolder, "_check_regular", checked)

    monkeypatch.setattr(ImageFolder, "_check_regular", swapped)
    assert refusal(table, "ok.png") == "ok.png is a named pipe; an image is a regular file"
