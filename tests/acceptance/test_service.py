"""The service under a real systemd as process 1 and under real user managers: installed from the wheel, left alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.daemon import wait_for
from tests.systemd_lab import PROGRAM, Lab, NoBootError, Unit, missing

LOGS = "/home/agent/.codex/sessions"


@pytest.fixture
def lab(tmp_path: Path, wheel: Path) -> Iterator[Lab]:
    """A machine with three users."""
    try:
        booted = Lab(tmp_path, wheel)
    except NoBootError as error:
        pytest.skip(f"no systemd boots here: {error}")
    with closing(booted) as opened:
        for user in ("agent", "ada", "bob"):
            opened.add_user(user)
        yield opened


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_the_service(lab: Lab, subtests: pytest.Subtests) -> None:
    """What a person and systemd do to it in months, one after the other; each step is a function below."""
    lab.shell(f"mkdir -p {LOGS}", "agent")
    lab.shell(f"codex-ingestd install --watch {LOGS}")
    service = Unit(lab, "agent", system=True, database="/var/lib/codex-ingestd/session_logs.db")
    for step in (
        a_system_service_carries_an_append,
        a_system_service_is_walled_in,
        reload_keeps_the_process,
        a_killed_service_comes_back,
        a_frozen_service_is_replaced,
        a_stop_drains,
        the_journal_is_readable,
        a_folder_that_is_made_anew,
        two_users_do_not_meet,
        a_user_service_takes_up_its_file,
        a_start_that_fails_is_told,
        metrics_are_let_through_the_walls,
        a_hook_finalizes_within_the_walls,
        uninstall_leaves_logs_and_database,
        the_programs_are_the_wheels,
    ):
        with subtests.test(step.__name__):
            step(service)


def a_system_service_carries_an_append(service: Unit) -> None:
    """Installed, it is active, enabled and ready, runs as the logs' owner, and an append becomes a row."""
    assert service.shown("ActiveState") == "active"
    assert service.shown("UnitFileState") == "enabled"
    assert service.shown("User") == "agent"
    assert service.shown("StatusText").startswith("watching 1 folders")
    service.append("first", "hello", "again")
    service.wait_for_messages("first", "hello", "again")


def a_system_service_is_walled_in(service: Unit) -> None:
    """systemd rates the unit at 1.5 or better; the process has no right to gain, and can write to its folders alone."""
    unit = "/etc/systemd/system/codex-ingestd.service"
    service.lab.shell(f"systemd-analyze security --offline=true --threshold=15 --no-pager {unit}")
    status = service.lab.shell(f"cat /proc/{service.shown('MainPID')}/status")
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert (facts["NoNewPrivs"], facts["Seccomp"], int(facts["CapBnd"], 16)) == ("1", "2", 0)
    touch = f"nsenter --mount --target {service.shown('MainPID')} touch"
    for closed in ("/etc/x", "/home/agent/x", "/srv/codex/x"):
        assert service.lab.shell(f"{touch} {closed} || echo refused") == "refused\n"
    service.lab.shell(f"{touch} {LOGS}/x && rm {LOGS}/x")


def reload_keeps_the_process(service: Unit) -> None:
    """`systemctl reload` has it read its settings anew and serve on as the same process."""
    before = service.shown("MainPID")
    service.systemctl("reload", "codex-ingestd")
    wait_for(lambda: "reloaded" in service.journal(), what="the reload")
    service.wait_for_ready()
    service.append("reload", "after")
    service.wait_for_messages("reload", "after")
    assert service.shown("MainPID") == before


def a_killed_service_comes_back(service: Unit) -> None:
    """After SIGKILL systemd starts it again; what was appended meanwhile is there once."""
    before = service.shown("MainPID")
    service.append("killed", "before")
    service.wait_for_messages("killed", "before")
    service.kill(signal.SIGKILL)
    service.append("killed", "meanwhile")
    service.wait_for_ready(before)
    service.append("killed", "after")
    service.wait_for_messages("killed", "before", "meanwhile", "after")


def a_frozen_service_is_replaced(service: Unit) -> None:
    """A process that stands still is ended by the watchdog, which the journal tells, and is started anew.

    Where a thread stood, test_daemon.py asks: here they all go on, for a moment, while the abort reads their frames.
    """
    changed = "/run/systemd/system/codex-ingestd.service.d"
    service.lab.shell(f"mkdir {changed} && cat > {changed}/soon.conf", given=b"[Service]\nWatchdogSec=4s\n")
    service.systemctl("daemon-reload")
    service.systemctl("restart codex-ingestd")
    before = service.shown("MainPID")
    service.kill(signal.SIGSTOP)
    service.append("frozen", "meanwhile")
    service.wait_for_ready(before)
    service.wait_for_messages("frozen", "meanwhile")
    wait_for(lambda: "Fatal Python error: Aborted" in service.journal(), 30, "the abort's word")
    assert "Watchdog timeout" in service.journal()
    service.lab.shell(f"rm -r {changed}")
    service.systemctl("daemon-reload")
    service.systemctl("restart codex-ingestd")


def a_stop_drains(service: Unit) -> None:
    """What is in the files when the stop comes is in the database when it has ended, and the end is a good one."""
    before = service.shown("MainPID")
    service.kill(signal.SIGSTOP)
    messages = [f"last words {number}" for number in range(500)]
    service.append("stopped", *messages)
    service.systemctl("stop codex-ingestd")
    assert service.messages("stopped") == messages
    assert (service.shown("Result"), service.shown("ActiveState")) == ("success", "inactive")
    service.systemctl("start codex-ingestd")
    service.wait_for_ready(before)


def the_journal_is_readable(service: Unit) -> None:
    """Its lines are words and facts, not JSON, each with its priority."""
    assert "watching roots=" in service.journal("-p info")
    assert '"level"' not in service.journal()
    service.lab.shell(f"printf 'no json\\n' >> {LOGS}/odd.ndjson", "agent")
    wait_for(lambda: f"lines rejected path={LOGS}/odd.ndjson rejects=1" in service.journal("-p warning"))


def a_folder_that_is_made_anew(service: Unit) -> None:
    """The watched folder goes and comes back, while the service sees it through a mount of its own: rows go on."""
    service.lab.shell(f"mv {LOGS} {LOGS}.old && mkdir {LOGS}", "agent")
    service.append("anew", "hello")
    service.wait_for_messages("anew", "hello")


def two_users_do_not_meet(service: Unit) -> None:
    """Each user's own service carries that user's logs into that user's database, beside the system's."""
    units = []
    for user in ("ada", "bob"):
        service.lab.shell("mkdir -p .codex/sessions && codex-ingestd install", user)
        units.append(Unit(service.lab, user, system=False, database=f"/home/{user}/.codex/session_logs.db"))
    for unit in (*units, service):
        unit.append("same", f"from {unit.user}")
    for unit in (*units, service):
        unit.wait_for_messages("same", f"from {unit.user}")
    pids = {unit.shown("MainPID") for unit in (*units, service)}
    assert len(pids) == 3
    ada, _ = units
    before = ada.shown("MainPID")
    ada.kill(signal.SIGKILL)
    ada.wait_for_ready(before)
    ada.append("same", "after")
    ada.wait_for_messages("same", "from ada", "after")


def a_user_service_takes_up_its_file(service: Unit) -> None:
    """A folder that the user's file names is watched after `systemctl --user reload`; a bad file changes nothing."""
    service.lab.shell("codex-ingestd install", "bob")
    bob = Unit(service.lab, "bob", system=False, database="/home/bob/.codex/session_logs.db")
    service.lab.shell(
        'mkdir -p .config && echo \'watch = ["~/.codex/sessions", "~/more"]\' > .config/codex-ingestd.toml', "bob"
    )
    bob.systemctl("reload codex-ingestd")
    wait_for(lambda: "/home/bob/more" in bob.journal(), what="the reload")
    service.lab.shell("cat > more/m.ndjson", "bob", given=b'{"role":"user","message":"more"}\n')
    bob.wait_for_messages("m", "more")
    service.lab.shell("echo 'wach = []' > .config/codex-ingestd.toml", "bob")
    bob.systemctl("reload codex-ingestd")
    wait_for(lambda: "not reloaded" in bob.journal("-p err"), what="the refusal")
    bob.append("bad", "still here")
    bob.wait_for_messages("bad", "still here")
    service.lab.shell("rm .config/codex-ingestd.toml", "bob")


def a_start_that_fails_is_told(service: Unit) -> None:
    """A second service for one database is not started over and over: install says what to do, by its exit code too."""
    command = f"codex-ingestd install --name second --watch {LOGS} --db {service.database}"
    said = service.lab.shell(f"{command} 2>&1; echo $?")
    assert said.splitlines()[-1] == "1"
    assert "hint: `journalctl -u second -n 20` tells why" in said
    assert "a daemon already serves" in service.lab.shell("journalctl -u second -o cat")
    assert service.lab.shell("systemctl show --value -p NRestarts second") == "0\n"
    assert "removed" in service.lab.shell("codex-ingestd uninstall --name second")


def metrics_are_let_through_the_walls(service: Unit) -> None:
    """Installed once more with an address, the same service answers there."""
    service.lab.shell(f"codex-ingestd install --watch {LOGS} --metrics 9464")
    fetch = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9464/metrics', timeout=20).status)"
    assert service.lab.shell(f'{PROGRAM}/python -c "{fetch}"') == "200\n"


def a_hook_finalizes_within_the_walls(service: Unit) -> None:
    """At a session's end the copy is made and staged in the repository that holds the database."""
    service.lab.shell("git init --quiet work && mkdir work/logs", "agent")
    flags = "--watch /home/agent/work/logs --db /home/agent/work/logs.db --finalize"
    service.lab.shell(f"codex-ingestd install --name third {flags}")
    record = b'{"type":"session_end","session_id":"s","ts":"2026-01-02T03:04:05Z"}\n'
    service.lab.shell("cat > work/logs/s.ndjson", "agent", given=record)
    staged = "git -C work diff --cached --name-only"
    wait_for(lambda: "codex_session_logs.db" in service.lab.shell(staged, "agent"), 30, "the copy in git")
    service.lab.shell("codex-ingestd uninstall --name third")


def uninstall_leaves_logs_and_database(service: Unit) -> None:
    """The service ends and its file goes; the logs and the rows stay, and another uninstall finds nothing."""
    service.append("kept", "hello")
    service.wait_for_messages("kept", "hello")
    service.lab.shell("codex-ingestd uninstall")
    assert service.lab.shell("systemctl is-active codex-ingestd; true") == "inactive\n"
    assert service.lab.shell("ls /etc/systemd/system/codex-ingestd.service 2>&1; true").count("No such file") == 1
    assert service.messages("kept") == ["hello"]
    assert "there is no" in service.lab.shell("codex-ingestd uninstall")
    service.lab.shell(f"codex-ingestd install --watch {LOGS}")
    service.wait_for_ready()


def the_programs_are_the_wheels(service: Unit) -> None:
    """What runs inside is the wheel, not this checkout."""
    assert service.lab.shell(f"{PROGRAM}/python -c 'import codex_ingestd; print(codex_ingestd.__file__)'").startswith(
        "/srv/codex/"
    )
