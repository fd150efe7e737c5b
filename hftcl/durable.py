"""Files that survive a power cut, and locks that do not survive their holder. Every product file is written by this.

A file that another process may be reading is replaced whole, never edited, and only here. For local Linux file systems.
"""

import contextlib
import errno
import fcntl
import filecmp
import math
import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from hftcl.errors import LockHeldError, StorageError

# Flock cannot wait with a deadline without signals; 50 looks a second are unnoticed by person and processor.
_POLL_S = 0.02


def write_temporary(path: Path, data: bytes, *, mode: int = 0o644) -> Path:
    """Write `data`, synced, to a new file beside `path`, named for `sweep_temporary`. Raises OSError, leaving none."""
    import tempfile  # here: what only reads, as `trade --status` does, need not wait for it

    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with _name_errors(path), os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)  # mkstemp gives 0600, but the bot may run as another user
            file.write(data)
            file.flush()
            os.fsync(fd)  # never retried: after one failure the kernel may report success for pages it has dropped
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return temporary


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace `path`: a reader, or a power cut, meets the old file or the new one, never a part. Raises OSError.

    Only when syncing the folder is what failed does `path` hold the new file although this raised.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "state.json"
    ...     write_atomically(path, b"{}")
    ...     path.read_bytes(), [entry.name for entry in path.parent.iterdir()]
    (b'{}', ['state.json'])
    """
    temporary = write_temporary(path, data, mode=mode)
    try:
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)  # until the folder is on disk, a power cut may forget the rename


def write_together(files: Sequence[tuple[Path, bytes]]) -> None:
    """Replace files of one folder, each as `write_atomically` does, in their order. Raises OSError.

    All are on disk before the first is replaced, and the folder is synced once: the moment in which some are new and
    others old is short, but a kill or a power cut may hit it, and of a power cut the order is not kept. It is for files
    whose reader sees whether they belong together.
    """
    temporaries: list[Path] = []
    try:
        for path, data in files:
            temporaries.append(write_temporary(path, data))
        for temporary, (path, _) in zip(temporaries, files, strict=True):
            temporary.replace(path)
    except BaseException:
        for temporary in temporaries:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise
    for folder in {path.parent for path, _ in files}:
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` (created, renamed, deleted) survive a power cut. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with _name_errors(folder):
            os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _name_errors(path: Path) -> Iterator[None]:
    """Put the name into an OSError that has none, as those of write and fsync, which know a descriptor only."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def make_folder(folder: Path) -> None:
    """Create `folder` and its missing parents so that they survive a power cut; nothing happens where it is there."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def keep_copy(path: Path) -> Path:
    """Keep what `path` holds beside it, as NAME.before or NAME.before.2 and so on; return that file.

    By a second name where the file system has such, so that a large file costs nothing: for a file that is about to be
    replaced whole. A copy that holds the same is there already. Raises OSError.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "model.pkl"
    ...     _ = path.write_bytes(b"mine")
    ...     keep_copy(path).name
    'model.pkl.before'
    """
    copy, number = path.with_name(f"{path.name}.before"), 1
    while copy.exists() and not filecmp.cmp(copy, path, shallow=False):
        number += 1
        copy = path.with_name(f"{path.name}.before.{number}")
    if not copy.exists():
        try:
            os.link(path, copy)
        except OSError:  # no hard links here, or a name that points elsewhere
            write_atomically(copy, path.read_bytes())
        sync_folder(copy.parent)
    return copy


def sweep_temporary(folder: Path, names: Iterable[str]) -> tuple[Path, ...]:
    """Delete what a killed `write_atomically` left beside the files `names` (patterns such as `*.parquet`) in `folder`.

    The caller holds the lock under which those files are written, else it would sweep a write that is under way.
    """
    patterns = [f".{name}.*.tmp" for name in names]
    left = [entry for entry in _list_entries(folder) if any(fnmatchcase(entry.name, pattern) for pattern in patterns)]
    for entry in left:
        entry.unlink(missing_ok=True)
    return tuple(left)


def require_space(folder: Path, needed: int, doing: str) -> None:
    """Raise StorageError unless the existing `folder` has `needed` bytes free for this user."""
    from shutil import disk_usage  # here, where a file is to be written: what only reads need not wait for it

    with convert_storage_faults(doing):
        free = disk_usage(folder).free
    if free < needed:
        lacking = max(math.ceil((needed - free) / 1e6), 1)  # of two rounded figures a person could not tell it
        raise StorageError(
            f"{doing[:1].upper()}{doing[1:]} needs {math.ceil(needed / 1e6)} MB, and {folder} has "
            f"{math.floor(free / 1e6)} MB free. Free {lacking} MB more there and run it again."
        )


def _list_entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


_KINDS: Final = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def read_stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes whenever `path` is replaced, None where it is missing. Raises OSError."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size


def require_regular(path: Path) -> None:
    """Raise StorageError where something else than a file lies at `path`: opening a pipe would wait for ever.

    Nothing happens where nothing is there. Raises OSError where that cannot be found out.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no file")
        raise StorageError(f"{path} is {kind}, and hftcl keeps a file there. Move it away and run it again.")


def read_file(path: Path) -> bytes:
    """Return what the file at `path` holds. Raises OSError, also where a pipe, a socket or a device lies there.

    To open a pipe can wait for ever, and a device may never end.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            kind = _KINDS.get(stat.S_IFMT(mode), "no file")
            raise OSError(errno.ENXIO, f"It is {kind}, and hftcl keeps a file there", str(path))
        with _name_errors(path), os.fdopen(fd, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(fd)


@contextlib.contextmanager
def lock(path: Path, what: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the file `path`, in an existing folder, as the lock of one `what`, such as "retrain".

    Waits at most `wait_s` seconds, then raises LockHeldError naming process and beginning of the holder. Two threads,
    or one caller twice, exclude each other as two processes do. Raises OSError where the file cannot be written.
    """
    fd = _acquire(path, what, wait_s)
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)  # its time of modification tells since when
        yield
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
        os.close(fd)  # the file stays: deleting it would let two holders lock two files of one name


def _acquire(path: Path, what: str, wait_s: float) -> int:
    deadline = time.monotonic() + wait_s
    while True:
        # os.open makes the descriptor O_CLOEXEC: a spawned child does not keep the lock of a killed parent
        # O_NONBLOCK, and looked at before: a pipe in its place must not hang us
        require_regular(path)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        try:
            # flock, not a pid file: the kernel drops it when the holder is killed
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(fd)
            os.close(fd)
            if time.monotonic() >= deadline:
                raise LockHeldError(what, *holder) from None
            time.sleep(_POLL_S)
        except BaseException:
            os.close(fd)
            raise
        else:
            return fd


def _read_holder(fd: int) -> tuple[int | None, datetime | None]:
    """Who holds the lock and since when; nothing where the holder has not come to write it yet."""
    written = os.pread(fd, 32, 0).strip()
    if not written.isdigit():
        return None, None
    return int(written), datetime.fromtimestamp(os.fstat(fd).st_mtime, UTC)


@contextlib.contextmanager
def convert_storage_faults(doing: str) -> Iterator[None]:
    """Turn an OSError into one StorageError that says what failed while `doing`, such as "archiving the model"."""
    try:
        yield
    except OSError as error:
        raise StorageError(describe_storage_fault(doing, error)) from error


NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Of a disk that is full, or whose quota is: man 3 errno."""
_REMEDIES = {  # faults of a disk that a person can mend, with how; man 3 errno
    errno.ENOSPC: "Free space there and run it again",
    errno.EDQUOT: "Free space in the quota and run it again",
    errno.EROFS: "Mount that file system writable, or set [paths] home to another folder",
    errno.EACCES: "Run as the folder's owner, or set [paths] home to a folder that you can write",
    errno.EPERM: "Run as the folder's owner, or set [paths] home to a folder that you can write",
    errno.EIO: "The disk failed to write: look at the kernel's log (dmesg) before you run it again",
}


_LASTING: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ENXIO}
)  # wrong names and permissions: another try meets the same, https://man7.org/linux/man-pages/man2/open.2.html


def is_passing(error: OSError) -> bool:
    """Whether another try may succeed: a disk that fails at the moment, no memory, too many open files.

    Not for a wrong name or a permission, which a person has to mend.
    """
    # Without a number it is no fault of a disk: a library that cannot be loaded, a connection, are OSErrors too.
    return error.errno is not None and error.errno not in _LASTING


def describe_storage_fault(doing: str, error: OSError) -> str:
    """Say in one line what `error` stopped, where, and what to do about it."""
    where = f": {error.filename}" if error.filename else ""
    return f"{doing[:1].upper()}{doing[1:]} failed: {error.strerror or error}{where}. {find_remedy(error)}."


def find_remedy(error: OSError) -> str:
    """Return what a person can do about a fault of a disk, without a full stop."""
    return _REMEDIES.get(error.errno or 0, "Check that folder and run it again")
