"""Who holds a lease, and when its holder is certainly dead: in doubt it is alive."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import batchkit
from batchkit import owners
from batchkit.owners import dead_among, is_certainly_dead, is_writer_dead, new_owner, new_writer

only_linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux has /proc")

_OTHER = """
import sys
from pathlib import Path
from batchkit import owners
owners._BOOT_ID, owners._SYSCTL = Path(sys.argv[1]), sys.argv[2]
print(owners.new_owner(), flush=True)
print(owners.new_writer(), flush=True)
sys.stdin.readline()
"""
_BOOT = "7A5F1C52-93C1-4D0E-8F5B-2C1D6E0B9A11"


def sysctl(folder: Path, line: str) -> str:
    """Write a command that answers as sysctl on macOS does for the boot id."""
    command = folder / "sysctl"
    command.write_text(f"#!/bin/sh\n[ \"$*\" = '-n kern.bootsessionuuid' ] || exit 1\n{line}\n")
    command.chmod(0o700)
    return str(command)


@pytest.fixture(params=["here", "macos"])
def system(request, tmp_path, monkeypatch):
    """Run on this system, then on a simulated macOS without /proc, whose sysctl gives the boot id."""
    owners._boot_of_macos.cache_clear()
    if request.param == "macos":
        monkeypatch.setattr(owners, "_BOOT_ID", tmp_path / "none")
        monkeypatch.setattr(owners, "_SYSCTL", sysctl(tmp_path, f"echo {_BOOT}"))
    yield request.param
    owners._boot_of_macos.cache_clear()


@pytest.fixture
def other_process(system):  # noqa: ARG001 - that of the other process, too
    """Start another process on the system; yield it and its owner name."""
    with subprocess.Popen(
        [sys.executable, "-c", _OTHER, owners._BOOT_ID, owners._SYSCTL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(batchkit.__file__).parent.parent,
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.kill()


def altered(owner: str, place: int, value: str) -> str:
    """Return an owner's name with one part replaced."""
    parts = owner.split("|")
    parts[place] = value
    return "|".join(parts)


def test_owners_are_distinct():
    """Two owners of one process have two names."""
    assert new_owner() != new_owner()


def test_own_process_is_alive():
    """The calling process is not dead, under any of its names."""
    assert not is_certainly_dead(new_owner())


def test_another_process_is_alive_until_it_is_gone(other_process):
    """A process of this machine holds its leases while it lives, and none after it was killed."""
    process, owner = other_process
    assert not is_certainly_dead(owner)
    process.kill()
    process.wait()
    assert is_certainly_dead(owner)


@pytest.mark.usefixtures("system")
def test_reused_process_id_is_not_mistaken_for_its_last_owner():
    """The start time of a live process with the id of a dead one differs, so the old owner is dead."""
    owner = new_owner()
    started = int(owner.split("|")[3])
    assert is_certainly_dead(altered(owner, 3, str(started - 1)))
    assert not is_certainly_dead(owner)


@pytest.mark.parametrize(
    ("place", "value"), [(0, "another-host"), (1, "another-boot/pid:[4026531836]"), (1, "pid:[4026531836]")]
)
def test_owner_elsewhere_is_never_dead(other_process, place, value):
    """On another host, after another boot, or in another container, the owner's state is unknown here."""
    process, owner = other_process
    process.kill()
    process.wait()
    assert is_certainly_dead(owner)
    assert not is_certainly_dead(altered(owner, place, value))


@only_linux
def test_machines_with_the_same_name_are_distinguished():
    """Cloned machines have the same host name and namespace number; their boot ids differ."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert boot in new_owner()


@pytest.mark.parametrize("system", ["macos"], indirect=True)
def test_macs_with_the_same_name_are_distinguished(system):
    """Laptops of the same model often have the same name."""
    assert system == "macos"
    assert new_owner().split("|")[1] == _BOOT.lower()


@only_linux
def test_owner_names_have_the_format_of_older_versions():
    """Boot id, namespace, process id and kernel ticks are unchanged, so owners from before an upgrade are judged alike."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    namespace = Path("/proc/self/ns/pid").readlink().name
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    assert new_owner().split("|")[1:4] == [f"{boot}/{namespace}", str(os.getpid()), ticks]


@pytest.mark.parametrize("older", ["{host}|-|{pid}|-|0123456789ab", "{host}|pid:[4026531836]|{pid}|12345|0123456789ab"])
@pytest.mark.parametrize("system", ["macos"], indirect=True)
def test_owners_that_older_versions_wrote_on_a_mac_are_alive(system, older):
    """They could not name their boot; their leases expire in time."""
    assert system == "macos"
    assert not is_certainly_dead(older.format(host=new_owner().split("|")[0], pid=2**22 - 1))


@pytest.mark.parametrize("line", ["exit 1", "echo", "echo nonsense", "kill -9 $$"])
def test_system_without_a_boot_id_declares_no_owner_dead(tmp_path, monkeypatch, line):
    """Whatever the command prints, or without it, owners still have names."""
    monkeypatch.setattr(owners, "_BOOT_ID", tmp_path / "none")
    for command in (sysctl(tmp_path, line), str(tmp_path / "no-such-command")):
        monkeypatch.setattr(owners, "_SYSCTL", command)
        owners._boot_of_macos.cache_clear()
        owner = new_owner()
        assert owner.split("|")[1] == "-"
        assert not is_certainly_dead(altered(owner, 3, "1"))
    owners._boot_of_macos.cache_clear()


@pytest.mark.usefixtures("system")
def test_changed_clock_declares_no_owner_dead(monkeypatch):
    """The start of a process is not derived from the time of day, which moves it on some systems."""
    owner = new_owner()
    create_time = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: create_time(process) + 3_600)
    monkeypatch.setattr(psutil, "boot_time", lambda: 0.0)
    assert not is_certainly_dead(owner)


@pytest.mark.parametrize("place", [1, 3])
def test_unknown_part_means_alive(other_process, place):
    """An owner without a known namespace or start is never declared dead."""
    process, owner = other_process
    process.kill()
    process.wait()
    assert not is_certainly_dead(altered(owner, place, "-"))


def test_machine_without_a_namespace_declares_no_owner_dead(other_process, monkeypatch):
    """Without the namespace, a process id may belong to another container's process."""
    process, owner = other_process
    process.kill()
    process.wait()
    host = owner.split("|")[0]
    monkeypatch.setattr(owners, "_place", lambda: f"{host}|-")
    assert not is_certainly_dead(altered(owner, 1, "-"))


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize(
    "name",
    ["", "somebody", "|", "||||", "a|b|c|d|e", "{place}|x|1|e", "{place}|-5|1|e", "{place}|" + "9" * 40 + "|1|e"],
)
def test_foreign_name_means_alive(name):
    """Whatever the column contains, it is read without an error and no owner is declared dead because of it."""
    place = "|".join(new_owner().split("|")[:2])
    assert not is_certainly_dead(name.format(place=place))


def test_process_that_may_not_be_inspected_is_alive(monkeypatch):
    """Where the system hides other users' processes, an existing invisible process counts as alive."""
    owner = altered(new_owner(), 3, "12345")
    monkeypatch.setattr(owners, "_start_time", lambda _pid: None)
    assert not is_certainly_dead(owner)


def test_process_of_another_user_exists(monkeypatch):
    """A permission error for a signal proves that the process exists."""
    owner = altered(new_owner(), 3, "12345")

    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(owners, "_start_time", lambda _pid: None)
    monkeypatch.setattr(os, "kill", refuse)
    assert not is_certainly_dead(owner)


@only_linux
@pytest.mark.parametrize("command", [b"a) R 1 2 (b", b"\xff\xfe", b") )", b"(", b"a b"], ids=repr)
def test_any_command_name_is_skipped(command):
    """A process name may contain brackets, blanks and invalid characters."""
    own = Path(f"/proc/{os.getpid()}/comm")
    before, started = own.read_bytes(), owners._start_time(os.getpid())
    try:
        own.write_bytes(command)
        assert owners._start_time(os.getpid()) == started
    finally:
        own.write_bytes(before.strip())


@pytest.mark.parametrize("error", [psutil.AccessDenied(1), psutil.NoSuchProcess(1), psutil.ZombieProcess(1), OSError()])
def test_machine_without_process_facts_declares_no_owner_dead(tmp_path, monkeypatch, error):
    """Where the kernel reports neither boot nor start, owners still have names, and all of them are alive."""

    def nothing(*_arguments: object) -> psutil.Process:
        raise error

    monkeypatch.setattr(psutil, "Process", nothing)
    monkeypatch.setattr(owners, "_BOOT_ID", tmp_path / "none")
    monkeypatch.setattr(owners, "_SYSCTL", str(tmp_path / "none"))
    owner = new_owner()
    assert owner.split("|")[1] == owner.split("|")[3] == "-"
    assert not is_certainly_dead(owner)


def test_dead_owners_are_selected(other_process):
    """Of several owners, only those that are certainly dead are returned."""
    process, owner = other_process
    process.kill()
    process.wait()
    assert dead_among([new_owner(), owner, "somebody", altered(owner, 0, "elsewhere")]) == [owner]
    assert dead_among([]) == []


def test_writers_have_short_plain_unique_names():
    """The names can be parts of file and table names."""
    names = {new_writer() for _ in range(3)}
    assert len(names) == 3
    assert all(re.fullmatch(r"[0-9a-f_]{1,48}", name) for name in names)


def test_writer_is_alive_until_its_process_is_gone(other_process):
    """The same holds for an owner."""
    process, _ = other_process
    writer = process.stdout.readline().strip()
    assert not is_writer_dead(writer)
    process.kill()
    process.wait()
    assert is_writer_dead(writer)


@pytest.mark.usefixtures("system")
def test_writer_from_elsewhere_is_never_certainly_dead(monkeypatch):
    """This covers other machines and boots, foreign names, and systems without process facts."""
    place, pid, started, end = new_writer().split("_")
    dead = f"{place}_{pid}_{int(started) - 1}_{end}"
    assert is_writer_dead(dead)
    other = "0" * 12
    for name in (f"{other}_{pid}_{started}_{end}", f"{place}_{pid}_0_{end}", f"{dead}0", dead[1:], "", "labels"):
        assert not is_writer_dead(name), name
    monkeypatch.setattr(owners, "_place", lambda: "host|-")
    unknown = new_writer().split("_")[0]
    assert not is_writer_dead(f"{unknown}_{pid}_{int(started) - 1}_{end}")
