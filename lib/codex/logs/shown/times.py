"""Times for people: as this machine's clock shows them, and how long ago."""

from __future__ import annotations

from datetime import datetime

_STEPS = ((60.0, "s"), (3600.0, "min"), (86400.0, "h"), (float("inf"), "d"))


def local_time(seconds: float | None, form: str = "%Y-%m-%d %H:%M:%S%z") -> str:
    """Epoch seconds as local time with its offset; `-` for none."""
    if seconds is None:
        return "-"
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime(form)
    except (ValueError, OverflowError, OSError):
        return f"{seconds}s"


def ago(seconds: float | None, now: float) -> str:
    """`2h ago`; the day where it is too long ago for that, and a time to come as it is."""
    if seconds is None or not 0 <= now - seconds < 100 * 86400:
        is_past = seconds is not None and seconds < now
        return local_time(seconds, "%Y-%m-%d" if is_past else "%Y-%m-%d %H:%M%z")
    past, unit = now - seconds, 1.0
    for limit, name in _STEPS:
        if past < limit:
            return f"{int(past / unit)}{name} ago"
        unit = limit
    raise AssertionError


def span(seconds: float) -> str:
    """A length of time: `40s`, `12min 3s`, `2h 5min`, `3d 4h`."""
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (whole % 60, "s")]
    shown = [f"{count}{name}" for count, name in parts if count][:2]
    return " ".join(shown) or "0s"
