"""Processes of a test's own: to be killed at any moment, limited in what they may write, or run by another user."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

Answer = TypeVar("Answer")

NOBODY = 65534
FILE_OPERATIONS = ("open", "mmap.__new__", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link")


def start_child(work: Callable[[], object]) -> multiprocessing.Process:
    """Run `work` in a process of its own, that can be killed."""
    with warnings.catch_warnings():
        # Python 3.12 warns of threads that numpy's BLAS has started; the child uses none.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
    return child


def finish(child: multiprocessing.Process) -> int | None:
    """Wait for a process; the code it ended with, minus a signal's number where one ended it."""
    child.join(timeout=30)
    return child.exitcode


def answer_of(work: Callable[[], Answer], *, as_another: bool = False) -> Answer:
    """What `work` gives in a process of its own; as a user whom permissions bind, which they do not root."""
    reader, writer = multiprocessing.Pipe(duplex=False)

    def work_and_answer() -> None:
        if as_another and os.getuid() == 0:
            os.setuid(NOBODY)
        writer.send(work())

    assert finish(start_child(work_and_answer)) == 0
    assert reader.poll()
    return reader.recv()


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """A folder that any user of the machine can reach, as pytest's own cannot be; it goes, whatever its rights."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        try:
            yield Path(name)
        finally:
            # From above: what lies in a folder is only found once that may be looked into.
            for folder, _, _ in os.walk(name):
                for path in Path(folder).iterdir():
                    path.chmod(0o755)


def make_read_only(folder: Path) -> None:
    """Take the right to write from all, here and below; root has it all the same."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


def limit_files_to(n_bytes: int) -> None:
    """Let this process write no file larger than that, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def die_at(event: int) -> None:
    """Kill this process at its nth opening, mapping, renaming or removing of a file."""
    left = event

    def count(name: str, _: tuple) -> None:
        nonlocal left
        if name in FILE_OPERATIONS:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def die_at_call(number: int) -> None:
    """Kill this process at its nth call of anything, be it written in Python or in C."""
    left = number

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)


def die_at_byte(number: int) -> None:
    """Let the system kill this process once it writes past the nth byte of a file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    limit_files_to(number)
