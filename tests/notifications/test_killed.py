"""A command that is killed during a delivery."""

from __future__ import annotations

from tests.workloads import write_mixed


def test_a_command_killed_during_a_delivery_leaves_the_event_to_the_next(start_command, hook, tmp_path):
    """The process is killed when the hook has the report but has not answered; the same event is delivered again."""
    command = start_command()
    command.environment["BATCHKIT_NOTIFY_URL"] = hook.url
    hook.is_hanging.set()
    source = write_mixed(tmp_path / "input.jsonl", 20)
    command.kill_when(lambda: bool(hook.bodies), "run", str(source), "--no-prefect")
    hook.is_hanging.clear()
    ended = command.run("watch", "input", "--no-prefect")
    assert ended.returncode == 0, ended.stderr
    assert hook.kinds == ["finished", "finished"]
    assert hook.reports[0] == hook.reports[1]
    assert command.run("watch", "input", "--no-prefect").returncode == 0
    assert len(hook.bodies) == 2
