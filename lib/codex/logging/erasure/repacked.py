"""A compressed log file that is written anew, without what is to be erased, in the place of the former one.

Its text is as long as it was, so that whoever ingests takes it for the same log, moved. The former file stays until the
new one is whole and on the disk; who dies before leaves a file that no scan takes for a log.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from hashlib import blake2b

import zstandard

from codex.logging.errors import SourceChangedError, SourceError
from codex.logging.events import Stream
from codex.logging.ingest.beneath import FILE, folder_beneath
from codex.logging.ingest.packed import Unpacked
from codex.logging.ingest.sources import Facts, Location, facts_of, look_live

_PIECE = 1 << 20
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | FILE


class Repacked:
    """An open compressed file under its lock, and the one that is to take its place.

    Takes over the descriptor. Offsets and lengths are the text's. Raises SourceError where it is no whole zstd file.
    """

    grows = False

    def __init__(self, descriptor: int, location: Location) -> None:
        self._descriptor = descriptor
        self._location = location
        self._text = Unpacked(descriptor, location.path)
        self.size = self._text.size
        self.facts = self._now()
        self.names = os.fstat(descriptor).st_nlink
        self._is_placed = False
        self._open = ExitStack()
        self._open.callback(self._text.close)

    def close(self) -> None:
        """Close both, and remove the new one where it didn't get its place."""
        self._open.close()

    def read(self, offset: int, length: int) -> bytes:
        """The text's bytes from `offset`, fewer only at its end. Raises SourceError."""
        return self._text.read(offset, length)

    def prepare(self) -> None:
        """Begin the new file, with the owner of the former one. Raises SourceError where it can't be had."""
        folder, name = os.path.split(self._location.name)
        try:
            self._folder = self._open.enter_context(folder_beneath(self._location.root, folder))
            self._name, self._part = name, _part(name)
            self._remove()
            self._new = os.open(self._part, _NEW, 0o600, dir_fd=self._folder)
            self._open.callback(os.close, self._new)
            self._open.callback(self._remove)
            former, new = os.fstat(self._descriptor), os.fstat(self._new)
            if (former.st_uid, former.st_gid) != (new.st_uid, new.st_gid):
                os.fchown(self._new, former.st_uid, former.st_gid)
        except OSError as error:
            hint = "Give this user the right to replace it, or unpack it (zstd -d --rm), and erase again."
            raise SourceError(f"{self._location.path} can't be written anew: {error.strerror}", hint=hint) from error
        self._copied = 0
        self._copy = Unpacked(os.dup(self._descriptor), self._location.path)
        self._open.callback(self._copy.close)
        self._compressor = zstandard.ZstdCompressor(write_checksum=True).compressobj(size=self.size)

    def overwrite(self, offset: int, data: bytes) -> None:
        """Have other bytes there; none before those of the last call, but the same again. Raises SourceError."""
        self._copy_up_to(offset)
        data = data[self._copied - offset :]
        self._write(self._compressor.compress(data))
        self._copied += len(data)

    def sync(self) -> None:
        """Let the new file, once it is on the disk, take the former one's place.

        Raises SourceError, SourceChangedError where another file stands there by now.
        """
        self._copy_up_to(self.size)
        self._write(self._compressor.flush())
        try:
            os.fchmod(self._new, os.fstat(self._descriptor).st_mode & 0o7777)
            os.fsync(self._new)
            self._check()
            os.replace(self._part, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            self._is_placed = True
            self.facts = facts_of(self._location, os.fstat(self._new))
            _sync_folder(self._folder)
        except OSError as error:
            raise SourceError(f"{self._location.path} can't be written anew: {error.strerror}") from error

    def _copy_up_to(self, offset: int) -> None:
        while self._copied < offset:
            piece = self._copy.read(self._copied, min(_PIECE, offset - self._copied))
            if not piece:
                raise SourceChangedError(f"{self._location.path} was changed while it was read")
            self._write(self._compressor.compress(piece))
            self._copied += len(piece)

    def _write(self, packed: bytes) -> None:
        try:
            while packed:
                packed = packed[os.write(self._new, packed) :]
        except OSError as error:
            raise SourceError(f"{self._location.path} can't be written anew: {error.strerror}") from error

    def _check(self) -> None:
        """Whether the new file can be ingested as the former one could, and that one is still in its place."""
        made = Unpacked(os.dup(self._new), self._location.path)
        made.close()
        if made.size != self.size:
            raise SourceError(f"{self._location.path} wasn't written whole", hint="Erase again.")
        named = look_live(self._location)
        if named is None or not named == self._now() == self.facts:
            raise SourceChangedError(f"{self._location.path} was replaced while it was written anew")

    def _now(self) -> Facts:
        return facts_of(self._location, os.fstat(self._descriptor))

    def _remove(self) -> None:
        with suppress(FileNotFoundError):
            if not self._is_placed:
                os.unlink(self._part, dir_fd=self._folder)


def remove_left(stream: Stream) -> None:
    """Remove what one who died while a file of the stream was written anew has left. Raises SourceError."""
    location = Location(stream.root, stream.key, 0, packed=True)
    folder, name = os.path.split(location.name)
    try:
        with suppress(FileNotFoundError), folder_beneath(stream.root, folder) as within:
            os.unlink(_part(name), dir_fd=within)
    except OSError as error:
        raise SourceError(f"what was left beside {location.path} can't be removed: {error.strerror}") from error


def _part(name: str) -> str:
    """Where a file is written anew, beside it: hidden, of a length that any folder takes."""
    return f".{blake2b(os.fsencode(name), digest_size=8).hexdigest()}.erasing"


def _sync_folder(folder: int) -> None:
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
