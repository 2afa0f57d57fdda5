"""The file of a journal: one process has it open at a time, and a record counts once it is on the disk.

Writing to a disk takes milliseconds, during which the event loop must go on, so a thread writes. Records that are added
meanwhile are written together in the next turn: thousands of creates at once share a few flushes.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Self, TypeVar

from .. import _validate
from .._aio import spawn_shielded, wait_through_cancellation
from . import journal_records

try:
    import fcntl
except ImportError:  # pragma: no cover -- Windows
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")


class JournalFile:
    """A journal that is open, and locked against all other processes until it is closed."""

    def __init__(self, path: str, fd: int, is_torn: bool, thread: ThreadPoolExecutor) -> None:
        self.path = path
        self._fd = fd
        self._is_torn = is_torn
        self._thread = thread
        self._pending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._last: asyncio.Future[None] | None = None
        self.failure: OSError | None = None
        """The first failure to write; None if there was none."""

    @classmethod
    async def open(cls, path: str, *, create: bool) -> Self:
        """Open and lock a journal; *create* it if it does not exist.

        Raises:
            BlockingIOError: Another launch, in this or another process, has it open.
            OSError: It cannot be opened or read.
            ValueError: The file is no journal.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="loops-async-journal")
        opening = spawn_shielded(_in_thread(thread, lambda: _open(path, create=create)))
        cancelled = await wait_through_cancellation(opening)
        if (failure := opening.exception()) is not None:
            thread.shutdown(wait=False)
            raise cancelled or failure
        journal = cls(path, *opening.result(), thread)
        if cancelled is not None:
            await journal.close()
            raise cancelled
        return journal

    async def read(self) -> journal_records.Replay:
        """Replay its records. Raises ValueError if the file is no journal."""
        reading = spawn_shielded(_in_thread(self._thread, lambda: _replay(self._fd, self.path)))
        # The file must not be closed under the thread that reads it.
        cancelled = await wait_through_cancellation(reading)
        if cancelled is not None:
            raise cancelled from reading.exception()
        return reading.result()

    async def append(self, record: journal_records.Record) -> None:
        """Write *record*; return once it is on the disk. A cancellation ends the wait, not the writing.

        Raises:
            OSError: It could not be written.
        """
        await asyncio.shield(self.append_nowait(record))

    def append_nowait(self, record: journal_records.Record) -> asyncio.Future[None]:
        """Write *record* soon; the future, which need not be awaited, is done when the record is on the disk."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # The caller need not retrieve a failure, since the journal keeps the first one.
        written.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._last = written
        try:
            line = journal_records.encode_record(record)
        except Exception as exc:  # noqa: BLE001 -- whatever the reason, the caller must learn that the record is missing
            self.failure = self.failure or OSError(f"a record could not be written: {exc!r}")
            written.set_exception(OSError(*self.failure.args))
            return written
        self._pending.append((line, written))
        if self._writer is None:
            self._start()
        return written

    def written(self) -> asyncio.Future[None]:
        """Return a future that is done when all records so far are on the disk."""
        return self._last if self._last is not None else _done()

    async def flush(self) -> None:
        """Wait until each record so far is on the disk, or could not be written."""
        while self._pending or self._writer is not None:
            await asyncio.wait([self._writer or self._start()])

    def close_nowait(self) -> None:
        """Unlock and close the file; call `flush()` before."""
        # A forked process holds the same lock, so that closing the file alone would not unlock it.
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)
        self._thread.shutdown(wait=False)

    async def close(self) -> None:
        """Write the pending records, and unlock the file. A cancellation does not stop it, and is raised afterwards."""
        cancelled = await wait_through_cancellation(spawn_shielded(self.flush()))
        self.close_nowait()
        if cancelled is not None:
            raise cancelled

    def _start(self) -> asyncio.Task[None]:
        self._writer = spawn_shielded(self._write())
        # Its failure is in `failure`, and in the futures of the records.
        self._writer.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._writer

    async def _write(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending, []
                await self._write_batch(batch)
        finally:
            self._writer = None

    async def _write_batch(self, batch: list[tuple[bytes, asyncio.Future[None]]]) -> None:
        text = b"".join(line for line, _ in batch)
        failure: OSError | None = None
        try:
            await _in_thread(self._thread, partial(self._write_down, text))
        except OSError as exc:
            failure = exc
        except BaseException as exc:
            # Even after a KeyboardInterrupt, no future may stay undone.
            failure = OSError(f"writing was interrupted: {exc!r}")
            if not isinstance(exc, Exception):
                raise
        finally:
            self.failure = self.failure or failure
            for written in (each for _, each in batch if not each.done()):
                if failure is None:
                    written.set_result(None)
                else:
                    # One exception for each, since a traceback is written into it where it is raised.
                    written.set_exception(OSError(*failure.args))

    def _write_down(self, text: bytes) -> None:
        # The part of a line that a crash or a full disk has left must not become the beginning of the next line.
        text = b"\n" + text if self._is_torn else text
        self._is_torn = True
        view = memoryview(text)
        while view:
            view = view[os.write(self._fd, view) :]
        os.fsync(self._fd)
        self._is_torn = False


class NoJournal:
    """The journal of a launch that has none."""

    failure: OSError | None = None

    async def append(self, record: journal_records.Record) -> None:
        """Do nothing."""

    def append_nowait(self, record: journal_records.Record) -> asyncio.Future[None]:
        """Do nothing."""
        return self.written()

    def written(self) -> asyncio.Future[None]:
        """Return a future that is done."""
        return _done()

    async def flush(self) -> None:
        """Do nothing."""

    def close_nowait(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


def check_path(path: object) -> str:
    """Return the *path* of a journal as a plain string."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"journal must be a str or a path, not {type(path).__name__}")
    return _validate.require_str("journal", os.fspath(path))


async def read_locked(path: str) -> journal_records.Replay:
    """Read a journal that no launch has open. Raises as `JournalFile.open` does."""

    def read() -> journal_records.Replay:
        fd = _opened(path, os.O_RDONLY)
        try:
            _lock(fd, path, shared=True)
            return _replay(fd, path)
        finally:
            os.close(fd)

    return await asyncio.to_thread(read)


def _done() -> asyncio.Future[None]:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done


async def _in_thread(thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(thread, work)


def _open(path: str, *, create: bool) -> tuple[int, bool]:
    """Open and lock; return the descriptor, and whether the last line is torn."""
    is_new = create and not os.path.exists(path)
    fd = _opened(path, os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0))
    try:
        _lock(fd, path, shared=False)
        # The file may be long: only its beginning and its end are read.
        size = os.fstat(fd).st_size
        with _named(path):
            journal_records.check_beginning(os.pread(fd, 256, 0))
        if is_new:
            _flush_folder(path)
        return fd, size > 0 and os.pread(fd, 1, size - 1) != b"\n"
    except BaseException:
        os.close(fd)
        raise


def _opened(path: str, flags: int) -> int:
    if fcntl is None:  # pragma: no cover -- Windows
        raise NotImplementedError("journals need file locks of a kind that this system does not have")
    # Without O_NONBLOCK, opening a pipe would wait for its other end.
    fd = os.open(path, flags | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "a journal must be a plain file", path)
    return fd


def _lock(fd: int, path: str, *, shared: bool) -> None:
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = _replay(fd, path).pid
        who = "another launch" if pid is None else f"the launch of process {pid}"
        raise BlockingIOError(errno.EAGAIN, f"the journal is in use: {who} is still running", path) from None


def _replay(fd: int, path: str) -> journal_records.Replay:
    chunks: list[bytes] = []
    while chunk := os.pread(fd, 1 << 20, sum(map(len, chunks))):
        chunks.append(chunk)
    with _named(path):
        return journal_records.replay(b"".join(chunks))


@contextmanager
def _named(path: str) -> Iterator[None]:
    try:
        yield
    except ValueError as exc:
        raise ValueError(f"{path}: {exc}") from None


def _flush_folder(path: str) -> None:
    # A new file survives a crash only once its folder is on the disk, too. Some users may not open the folder.
    with suppress(PermissionError):
        fd = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
