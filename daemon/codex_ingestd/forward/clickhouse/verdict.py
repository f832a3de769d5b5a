"""What an error means to whoever forwards: whether it passes by itself, and what to do.

The codes are ClickHouse's (src/Common/ErrorCodes.cpp). What isn't named here may pass.
"""

from __future__ import annotations

from clickhouse_connect.driver.exceptions import ClickHouseError, DataError, Error, NotSupportedError, ProgrammingError

_RIGHTS = (
    "Grant what daemon/codex_ingestd/forward/clickhouse/README.md says to this user, or let one who may make tables run"
    " `codex-ingestd forward --check` once."
)
_USER = "Look at user and password: in the URL given by the environment or a file."
_SETTING = "Look at what follows the ? in the URL, and at what this user's profile lets it set: it has to be writable."
_SCHEMA = (
    "The schema there isn't what this program knows: let one who may make tables run `codex-ingestd forward --check`,"
    " at each replica, where the database isn't of the engine Replicated."
)
_ENGINE = "That server doesn't know what the schema takes: it is too old, or restricted."
_LASTING = {
    **dict.fromkeys((291, 497), _RIGHTS),  # DATABASE_ACCESS_DENIED, ACCESS_DENIED
    **dict.fromkeys((192, 193, 194, 195, 516), _USER),  # UNKNOWN_USER … IP_ADDRESS_NOT_ALLOWED, AUTHENTICATION_FAILED
    **dict.fromkeys((27, 36, 72, 115, 164, 452), _SETTING),  # values, UNKNOWN_SETTING, READONLY, a constraint
    **dict.fromkeys((7, 8, 10, 16, 20, 47, 53, 60, 122, 349), _SCHEMA),  # UNKNOWN_TABLE, columns, and their types
    **dict.fromkeys((46, 50, 56, 62, 344, 392), _ENGINE),  # UNKNOWN_FUNCTION, _TYPE, _STORAGE, SYNTAX_ERROR, disabled
    81: "Create that database: CREATE DATABASE NAME.",
}
_PASSING = {
    **dict.fromkeys((225, 242, 999), "That replica has no keeper now; it is tried again."),
    **dict.fromkeys((285, 286, 289, 319), "Too few replicas answer now; it is tried again."),
    **dict.fromkeys((173, 202, 241), "The server is short of memory, or asked too much at once; it is tried again."),
    201: "This user's quota is used up; it is tried again.",
    243: "The server's disk is full; it is tried again.",
    252: "The server merges more slowly than it gets; it is tried again.",
}
_AGAIN = "It is tried again; `codex-ingestd forward --check` shows what works."
_AWAY = "Is the server up, and may this host reach it? What is to be sent waits in the local database."
_OURS = (ProgrammingError, NotSupportedError, DataError)


def passes(error: ClickHouseError) -> bool:
    """Whether to try again may help, without anybody doing something."""
    code = _code(error)
    return code not in _LASTING if code else not isinstance(error, _OURS)


def hint(error: ClickHouseError) -> str:
    """What to do next."""
    code = _code(error)
    if not code:
        return _AWAY if passes(error) else _SETTING
    return _LASTING.get(code) or _PASSING.get(code, _AGAIN)


def _code(error: ClickHouseError) -> int:
    """The server's; 0 where it didn't answer, or wasn't asked."""
    return (error.code or 0) if isinstance(error, Error) else 0
