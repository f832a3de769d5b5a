"""Log daemons that follow the files of a folder, unprivileged, each with a configuration of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import apsw

from tests.bench.peers import unpacked
from tests.bench.probes import LinesProbe, Probe, TextProbe

_RSYSLOG = """\
global(workDirectory="{folder}" maxMessageSize="8m")
module(load="imfile" mode="inotify")
template(name="line" type="string" string="%msg%\\n")
input(type="imfile" file="{folder}/sessions/*" tag="bench" ruleset="copy")
ruleset(name="copy") {{ action(type="omfile" file="{folder}/output" template="line") }}
"""
_SYSLOG_NG = """\
@version: 3.38
options {{ stats-freq(0); }};
source files {{
    wildcard-file(base-dir("{folder}/sessions") filename-pattern("*") follow-freq(0.01) flags(no-parse)
        log-msg-size(8388608));
}};
destination rows {{
    sql(type(sqlite3) database("{folder}/output") table("rows") columns("line text") values("$MSG") indexes()
        batch-lines(100) batch-timeout(10) flags(explicit-commits)
        session-statements("PRAGMA synchronous=NORMAL"));
}};
log {{ source(files); destination(rows); }};
"""


class Logger(NamedTuple):
    """A program that brings each line of FOLDER/sessions into FOLDER/output, and what sees it come out.

    `prepare` makes what must be in the folder, and gives the command and the folder to run it in; it raises PeerError.
    """

    name: str
    prepare: Callable[[Path], tuple[Sequence[str], Path]]
    probe: type[Probe]


@contextmanager
def running(logger: Logger, folder: Path) -> Iterator[Path]:
    """The program while it follows the folder; the file of what it has to say. Raises PeerError."""
    (folder / "sessions").mkdir(parents=True)
    command, home = logger.prepare(folder)
    said = folder / "said"
    libraries = os.pathsep.join(map(str, _libraries(home)))
    with said.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=home,
            env={**os.environ, "LD_LIBRARY_PATH": libraries},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield said
    finally:
        process.kill()
        process.wait()


def _rsyslog(folder: Path) -> tuple[Sequence[str], Path]:
    """imfile, told by inotify, to omfile: it neither parses nor commits."""
    root = unpacked("rsyslog")
    settings = folder / "rsyslog.conf"
    settings.write_text(_RSYSLOG.format(folder=folder))
    (modules,) = root.glob("usr/lib/*/rsyslog")
    own = ["-i", str(folder / "pid"), "-M", str(modules)]
    return [str(root / "usr/sbin/rsyslogd"), "-n", "-f", str(settings), *own], modules.parent


def _syslog_ng(folder: Path) -> tuple[Sequence[str], Path]:
    """wildcard-file to sqlite3, looking each 10 ms, into a database that readers don't block."""
    root = unpacked("syslog-ng")
    with closing(apsw.Connection(str(folder / "output"))) as connection:
        connection.pragma("journal_mode", "wal")
        connection.execute("CREATE TABLE rows (line TEXT)")
    settings = folder / "syslog-ng.conf"
    settings.write_text(_SYSLOG_NG.format(folder=folder))
    (modules,) = (path.parent for path in root.glob("usr/lib/syslog-ng/*/libafsql.so"))
    (drivers,) = root.glob("usr/lib/*/dbd")
    own = ["--no-caps", "-R", str(folder / "persist"), "-c", str(folder / "control"), f"--pidfile={folder / 'pid'}"]
    command = [str(root / "usr/sbin/syslog-ng"), "-F", "-e", "-f", str(settings), f"--module-path={modules}", *own]
    return command, drivers.parent


def _libraries(home: Path) -> Sequence[Path]:
    """Where the libraries are that belong to a program which runs in the unpacked `usr/lib/*`."""
    return home, home.parent.parent.parent / "lib" / home.name, home.parent / "syslog-ng"


LOGGERS = (
    Logger("rsyslog imfile -> omfile", _rsyslog, TextProbe),
    Logger("syslog-ng -> sqlite3", _syslog_ng, LinesProbe),
)
