"""What systemd is told of this process, by the datagrams of sd_notify(3); nothing where nobody asked for it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping

_SEND_SECONDS = 1.0
_NEVER = float("inf")

log = logging.getLogger(__name__)


class Notifier:
    """Speaks for the loop: `feed` is to be called as often as it goes round, and nowhere else.

    Times are seconds of CLOCK_MONOTONIC. The variables are taken out of the environment: a hook's programs must not
    speak for the daemon.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        address = environment.pop("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._every = _watchdog_seconds(environment) / 2
        self._fed = -_NEVER
        self._status = ""
        self.is_ready = False

    def ready(self) -> None:
        """What was asked for at the start, or by a reload, is in force."""
        self.is_ready = True
        self._send("READY=1")

    def reloading(self, now: float) -> None:
        """Until the next `ready`."""
        self.is_ready = False
        self._send(f"RELOADING=1\nMONOTONIC_USEC={round(now * 1e6)}")

    def stopping(self) -> None:
        """What remains is the end."""
        self._send("STOPPING=1\nSTATUS=taking what is there")

    def status(self, text: str) -> None:
        """One line for people, where it is another one."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def feed(self, now: float) -> None:
        """The loop has come round: tell the watchdog, when half of its time has passed."""
        if now >= self._fed + self._every:
            self._fed = now
            self._send("WATCHDOG=1")

    def wait(self, now: float) -> float:
        """Seconds until the watchdog wants to hear something."""
        return max(0.0, self._fed + self._every - now) if self._every < _NEVER else _NEVER

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_SEND_SECONDS)
                sender.sendto(text.encode("utf-8", "replace"), self._address)
        except OSError as error:
            log.debug("systemd was not told: %s", error)


def _watchdog_seconds(environment: MutableMapping[str, str]) -> float:
    """How long it waits for this process; for ever where it doesn't."""
    microseconds = environment.pop("WATCHDOG_USEC", "")
    pid = environment.pop("WATCHDOG_PID", "") or str(os.getpid())
    return int(microseconds) / 1e6 if microseconds.isdecimal() and pid == str(os.getpid()) else _NEVER
