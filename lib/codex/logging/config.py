"""One answer to: which folder, which database, which session. Light: the agent's side imports it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from codex.logging.errors import ConfigError, SessionIdError

if TYPE_CHECKING:
    from codex.logging.config_file import Entry

T = TypeVar("T")

DEFAULT_LOG_DIR = ".codex/sessions"
DEFAULT_DATABASE = ".codex/session_logs.db"
_WORKSPACE = "GH_COPILOT_WORKSPACE"
_SHARED = ("postgresql://", "postgres://")
WRITABLE_BY_OTHERS = "CODEX_WRITABLE_BY_OTHERS"
LINE_LIMIT = 64 << 20
BATCH_BYTES = 1 << 20
REDACT = ("off", "ingest")

_SESSION_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+=,~ -]{0,199}")
_WINDOWS_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
)
_first_seen: dict[str, str] = {}


class Config(NamedTuple):
    """Where one process reads and writes: absolute paths, sizes in bytes."""

    log_dir: str
    database: str
    line_limit: int = LINE_LIMIT
    batch_bytes: int = BATCH_BYTES


def load(log_dir: str | os.PathLike[str] | None = None, database: str | os.PathLike[str] | None = None) -> Config:
    """The configuration that arguments and environment give together."""
    return Config(log_dir=resolve_log_dir(log_dir), database=resolve_database(database))


def resolve_log_dir(argument: str | os.PathLike[str] | None = None) -> str:
    """The folder of the NDJSON files: the argument, else CODEX_SESSION_LOG_DIR, else `.codex/sessions`."""
    return absolute(argument) if argument else _setting(os.environ.get("CODEX_SESSION_LOG_DIR") or DEFAULT_LOG_DIR)


def resolve_database(argument: str | os.PathLike[str] | None = None) -> str:
    """The SQLite file: the argument, database_variable's, `db` of `codex-ingestd.toml`, then the default.

    An argument that names an `.ndjson` file raises ConfigError, as does a file that can't be read.
    """
    if argument:
        if _is_log(argument):
            raise ConfigError(
                f"{os.fspath(argument)} is the name of a log, not of a database", hint="Give a *.db file."
            )
        return absolute(expanded(_file(argument)))
    return (None if database_variable() else _database_of_file()) or environment_database()


def environment_database() -> str:
    """The database by variables and default alone."""
    variable = database_variable()
    if variable is None:
        return _setting(DEFAULT_DATABASE)
    chosen = _file(os.environ[variable])
    return _setting(expanded(os.path.join(chosen, "databases", "codex_log.db") if variable == _WORKSPACE else chosen))


def database_variable() -> str | None:
    """The variable that says where the database is: CODEX_LOG_DB_PATH, CODEX_DB_PATH, GH_COPILOT_WORKSPACE, or none.

    One that names an `.ndjson` file is passed over: see single_log.
    """
    for name in ("CODEX_LOG_DB_PATH", "CODEX_DB_PATH"):
        chosen = os.environ.get(name)
        if chosen and not _is_log(chosen):
            return name
    return _WORKSPACE if os.environ.get(_WORKSPACE) else None


def _database_of_file() -> str | None:
    return _of_file("db", lambda entry: file_database(entry.value, entry.source.path))


def _of_file(key: str, value: Callable[[Entry], T]) -> T | None:
    """What the strongest file that has the key gives. Raises ConfigError with the place."""
    from codex.logging import config_file  # no append asks for any of it, and none is to wait for this

    for source in reversed(config_file.sources(absolute(os.curdir))):
        entry = config_file.read(source).get(key)
        if entry is not None:
            try:
                return value(entry)
            except ConfigError as error:
                raise ConfigError(f"{entry.place}: {key}: {error}", hint=error.hint) from error
    return None


def file_database(value: object, path: str) -> str:
    """The database that `db` of a file at `path` names, beginning in that file's folder. Raises ConfigError."""
    if not isinstance(value, str) or not value or _is_log(value):
        raise ConfigError(f"{value!r} is no name of a database", hint="Give the path of a *.db file.")
    return absolute(os.path.join(os.path.dirname(path), expanded(_file(value))))


def database_url(argument: str | os.PathLike[str] | None = None) -> str | None:
    """The URL of a shared database, where the argument, CODEX_LOG_DB_PATH or CODEX_DB_PATH names one, and no file."""
    variable = None if argument else database_variable()
    chosen = os.fspath(argument) if argument else os.environ.get(variable or "", "")
    return chosen if chosen.startswith(_SHARED) else None


def _file(path: str | os.PathLike[str]) -> str:
    """The path, where it is none of a shared database, of which a file would be made else. Raises ConfigError."""
    text = os.fspath(path)
    if text.startswith(_SHARED):  # the message doesn't show it: it may hold a password
        raise ConfigError(
            "a URL names a shared database, and this takes a file",
            hint="Give a *.db file. Of `codex-logs`, sessions, search, show, stats, usage, tail and export take a URL.",
        )
    if "://" in text:
        raise ConfigError(
            "a shared database's URL begins with postgresql://", hint="Give such a URL, or the path of a *.db file."
        )
    return text


def single_log(argument: str | os.PathLike[str] | None = None) -> str | None:
    """The one NDJSON file that all sessions' records go to.

    That is the case when the database path (argument, CODEX_LOG_DB_PATH or CODEX_DB_PATH) ends in `.ndjson`; else
    None, and each session has its own file.
    """
    if argument:
        return absolute(argument) if _is_log(argument) else None
    chosen = os.environ.get("CODEX_LOG_DB_PATH") or os.environ.get("CODEX_DB_PATH")
    return _setting(chosen) if chosen and _is_log(chosen) else None


def _is_log(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).endswith(".ndjson")


def absolute(path: str | os.PathLike[str]) -> str:
    """The path made absolute once, at first use, so that a later chdir changes nothing.

    Raises ConfigError for a path that holds a NUL. In a working folder that was deleted it stays relative.
    """
    text = os.path.expanduser(os.fspath(path))
    if "\0" in text:
        raise ConfigError(f"a path can't hold a NUL character: {text!r}")
    if os.path.isabs(text):
        return os.path.normpath(text)
    found = _first_seen.get(text)
    if found is None:
        try:
            found = _first_seen[text] = os.path.abspath(text)
        except FileNotFoundError:
            return text
    return found


def expanded(path: str | os.PathLike[str]) -> str:
    """The path with the user's home folder in the place of `~`. Raises ConfigError for a user who has none."""
    text = os.fspath(path)
    has_home = os.environ.get("HOME") != "" and os.path.isabs(os.path.expanduser("~"))
    if (text == "~" or text.startswith("~/")) and not has_home:
        raise ConfigError(f"{text}: this user has no home folder", hint="Set HOME, or give the whole path.")
    return os.path.expanduser(text)


def _setting(path: str) -> str:
    """A setting's path; all that are relative begin in one folder, where the first of them was used."""
    return absolute(os.path.join(absolute(os.curdir), os.path.expanduser(path)))


def session_path(session_id: str, log_dir: str | os.PathLike[str] | None = None) -> str:
    """The NDJSON file of a session.

    Raises SessionIdError for an id that can't name a file in that folder and only there.
    """
    return os.path.join(resolve_log_dir(log_dir), check_session_id(session_id) + ".ndjson")


def check_session_id(session_id: str) -> str:
    """The id itself, when it may name a file on every platform that we write on; else SessionIdError."""
    if not isinstance(session_id, str) or _SESSION_ID.fullmatch(session_id) is None:
        problem = "is not 1 to 200 letters, digits and ._@+=,~- (the first a letter, digit or _)"
    elif session_id[-1] in ". ":
        problem = "ends in a dot or a space"
    elif session_id.split(".")[0].rstrip(" ").lower() in _WINDOWS_DEVICES:
        problem = "is the name of a device on Windows"
    else:
        return session_id
    raise SessionIdError(
        f"session id {session_id!r:.80} can't name a log file: it {problem}",
        hint="Set CODEX_SESSION_ID to a plain name, or unset it to get a new UUID.",
    )


def test_mode() -> bool:
    """TEST_MODE=1: write nothing at all."""
    return _is_yes(os.environ.get("TEST_MODE", ""))


def allows_secrets() -> bool:
    """Whether finalize looks for no secrets: CODEX_ALLOW_SECRETS=1, `allow-secrets` of `codex-ingestd.toml`.

    Raises ConfigError.
    """
    variable = os.environ.get("CODEX_ALLOW_SECRETS", "").strip()
    return _is_yes(variable) if variable else bool(_of_file("allow-secrets", file_allows_secrets))


def file_allows_secrets(entry: Entry) -> bool:
    """What `allow-secrets` of a file says. Raises ConfigError."""
    if not isinstance(entry.value, bool):
        raise ConfigError(f"{entry.value!r} is not true or false", hint="Its default is false.")
    if entry.value:
        _refuse_weakness(entry, "let secrets be staged")
    return entry.value


def lets_others_write() -> bool:
    """Whether others may write the database: CODEX_WRITABLE_BY_OTHERS=1, `writable-by-others` of `codex-ingestd.toml`.

    Raises ConfigError.
    """
    variable = os.environ.get(WRITABLE_BY_OTHERS)
    return _is_yes(variable) if variable else bool(_of_file("writable-by-others", file_lets_others_write))


def file_lets_others_write(entry: Entry) -> bool:
    """What `writable-by-others` of a file says. Raises ConfigError."""
    if not isinstance(entry.value, bool):
        raise ConfigError(f"{entry.value!r} is not true or false", hint="Its default is false.")
    if entry.value:
        _refuse_weakness(entry, "open the database to others")
    return entry.value


def redacts() -> bool | None:
    """Whether secrets are taken out before anything is written: CODEX_REDACT, `redact` of `codex-ingestd.toml`.

    None where neither says it. Raises ConfigError.
    """
    variable = os.environ.get("CODEX_REDACT")
    if not variable:
        return _of_file("redact", file_redacts)
    if variable not in REDACT:
        raise ConfigError(f"CODEX_REDACT: {variable!r} is neither of {', '.join(REDACT)}", hint="Unset it, or set one.")
    return variable == REDACT[1]


def file_redacts(entry: Entry) -> bool:
    """What `redact` of a file says. Raises ConfigError."""
    if entry.value not in REDACT:
        raise ConfigError(f"{entry.value!r} is neither of {', '.join(REDACT)}", hint='Its default is "off".')
    if entry.value == REDACT[0]:
        _refuse_weakness(entry, "have secrets recorded")
    return entry.value == REDACT[1]


def _refuse_weakness(entry: Entry, what: str) -> None:
    if not entry.source.own:
        raise ConfigError(
            f"the working folder's file can't {what}: it may have come with somebody else's project",
            hint="Put it into the user's own file, or name this one with --config.",
        )


def _is_yes(value: str) -> bool:
    return value.strip().lower() in {"1", "true", "yes", "on"}


def refuse_test_mode() -> None:
    """For commands whose only work is to write. Raises ConfigError with TEST_MODE=1."""
    if test_mode():
        raise ConfigError("TEST_MODE is set: nothing may be written", hint="Unset TEST_MODE to write.")


def rotate_bytes() -> int:
    """NDJSON_MAX_BYTES, 0 for never; a value that is no number counts as never, since logging can't fail."""
    value = os.environ.get("NDJSON_MAX_BYTES")
    try:
        return max(int(value), 0) if value else 0
    except ValueError:
        return 0


def file_mode() -> int:
    """CODEX_LOG_FILE_MODE in octal, 0600 where it is unset or no octal number; the owner can always read and write."""
    try:
        mode = int(os.environ.get("CODEX_LOG_FILE_MODE", "600"), 8)
    except ValueError:
        return 0o600
    return mode | 0o600 if 0 <= mode <= 0o777 else 0o600
