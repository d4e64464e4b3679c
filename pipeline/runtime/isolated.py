"""`Isolated`: one function in a process of its own that may hang, crash or swell without harm.

    with Isolated("pipeline.decode.worker:probe_medium", deadline_s=60, memory_mb=4096) as child:
        fields = child.call(root, path, kind, spec)

Decoders of strangers' files hang while they hold the interpreter lock and crash in native code: no
thread or signal handler ends that, only SIGKILL does. The child is a plain `python -m`, not a fork,
so it carries none of the parent's threads, and not a `multiprocessing` child, so it needs no
`__main__` guard and works inside a Ray actor.

It leads a process group of its own, and whatever the function starts dies with it, unless that leaves
the group (`setsid`). So Ctrl-C on a terminal reaches the parent alone. Only SIGKILL to the parent ends the
child without its group: a function that starts programs ties them to itself (`die_with_parent`).

The two talk over a socket pair. A message is `<u32 parts> <u64 size>...` and its parts: a pickle of
protocol 5 first, its out-of-band buffers behind it, so arrays cross without a copy in the pickle.
"""

import ctypes
import errno
import gc
import importlib
import mmap
import os
import pickle
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

START_DEADLINE_S = 60.0
"""For the interpreter and the function's imports; about 0.2 s on an idle machine."""
OUT_OF_MEMORY = 71
"""Exit status of a child that met its memory limit."""
_LIBC = ctypes.CDLL(None)  # found here, not between fork and exec, where no lock may be taken
_PR_SET_PDEATHSIG = 1
_TAIL_BYTES = 400
_KEPT_BYTES = 256 << 20
_TIDY_EVERY = 32


class IsolatedError(RuntimeError):
    """The call brought no value; the next call is served by a fresh child where this one is gone."""


class DeadlineExceeded(IsolatedError, TimeoutError):  # noqa: N818 - says what happened, as do the others
    """The call took longer than its deadline; its process was killed."""


class ChildDied(IsolatedError):  # noqa: N818
    """The process ended during the call.

    Attributes:
        how: What ended it.
        exit_code: Exit status, or minus the signal's number, as `subprocess` counts.
        said: What it printed last. It may name folders of this machine, so it is for a log, not for a record.
    """

    def __init__(self, how: str, exit_code: int, said: str) -> None:
        super().__init__(f"{how}: {said}" if said else how)
        self.how = how
        self.exit_code = exit_code
        self.said = said


class ChildRaised(IsolatedError):  # noqa: N818
    """The function raised.

    Attributes:
        type_name: Name of the exception's class in the child.
    """

    def __init__(self, type_name: str, message: str) -> None:
        super().__init__(f"{type_name}: {message}")
        self.type_name = type_name


class Isolated:
    """A child process that calls one importable function, request by request.

    Inert, and picklable, until `start` or the first `call`. Use it from one thread: Linux ties the
    child's life to the thread that started it, and requests are not queued.

    Args:
        target: The function, as `package.module:function`.
        deadline_s: Wall-clock seconds of one call, start-up not counted.
        memory_mb: Address space of the child, MiB (RLIMIT_AS).
    """

    def __init__(self, target: str, *, deadline_s: float, memory_mb: int) -> None:
        self.target = target
        self.deadline_s = deadline_s
        self.memory_mb = memory_mb
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._output: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the child; None while there is none."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Starts the child and imports the function in it; does nothing when one is alive.

        Raises ChildRaised when the function cannot be imported, ChildDied when the interpreter cannot start.
        """
        if self._process and not _ended(self._process):
            return
        self.close()  # one that died idle (killed from outside) is no call's fault
        try:
            self._begin()
        except ChildRaised:
            self.close()
            raise
        except ChildDied as death:
            if death.exit_code >= 0:
                raise
            self._begin()  # as in `call`

    def _begin(self) -> None:
        self._spawn()
        self._exchange(None, START_DEADLINE_S)

    def call(self, *args: Any) -> Any:
        """The function's value for `args`; arrays in it are read-only.

        A child that a signal ends is replaced and asked once more: the signal may have come from
        outside (a machine short of memory), and then says nothing about the request.
        Raises DeadlineExceeded, ChildDied or ChildRaised.
        """
        self.start()
        try:
            return self._exchange(args, self.deadline_s)
        except ChildDied as death:
            if death.exit_code >= 0:
                raise
        self.start()
        return self._exchange(args, self.deadline_s)

    def close(self) -> None:
        """Kills the child and what it started, and frees its channel. May be called twice."""
        process, self._process = self._process, None
        channel, self._channel = self._channel, None
        output, self._output = self._output, None
        if process:
            # Before the wait: one that ended keeps its number until then, so no other group can have it; but not
            # where SIGCHLD is ignored, for the kernel reaps there.
            if signal.getsignal(signal.SIGCHLD) is not signal.SIG_IGN or not _ended(process):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if channel:
            channel.close()
        if output:
            output.close()

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        self._channel = ours
        # What the child prints goes to a file: never to the channel, nor to a command's --json.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        arguments = (theirs.fileno(), os.getpid(), self.memory_mb, self.target)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                # -P: no module is taken from the working directory.
                [sys.executable, "-P", "-m", "pipeline.runtime.isolated", *map(str, arguments)],
                stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output,
                pass_fds=(theirs.fileno(),), env=_environment(), process_group=0,
            )  # fmt: skip

    def _exchange(self, request: tuple[Any, ...] | None, deadline_s: float) -> Any:
        """Sends `request` (None: only waits for the child's first word) and returns the reply's value."""
        if self._channel is None or self._output is None:
            raise RuntimeError("no child: call start() first")
        end = time.monotonic() + deadline_s
        # The child writes at the offset that we share: each call's output replaces the last one's.
        self._output.seek(0)
        self._output.truncate()
        try:
            if request is not None:
                _send(self._channel, request, end)
            type_name, value = _receive(self._channel, end)
        except TimeoutError:
            self.close()
            raise DeadlineExceeded(f"{self.target} gave no answer within {deadline_s:g} s; killed") from None
        except (EOFError, ConnectionError):
            raise self._post_mortem() from None
        except BaseException:
            self.close()  # interrupted: a late reply must never answer the next request
            raise
        if type_name:
            raise ChildRaised(type_name, value)
        return value

    def _post_mortem(self) -> ChildDied:
        if self._process is None or self._output is None:
            raise RuntimeError("no child: call start() first")
        process = self._process
        _ended(process, within_s=5)  # else it only shut its channel
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - _TAIL_BYTES))
        said = self._output.read().decode(errors="replace").strip()
        self.close()
        code = process.returncode
        how = f"its memory limit of {self.memory_mb} MiB" if code == OUT_OF_MEMORY else _describe(code)
        return ChildDied(f"{self.target}: the process ended by {how}", code, said)


def _ended(process: "subprocess.Popen[bytes]", within_s: float = 0) -> bool:
    """Whether it has ended. It is not reaped, so that its number stays its own until `close`."""
    end = time.monotonic() + within_s
    with suppress(ChildProcessError):  # SIGCHLD is ignored here, and the kernel has reaped it
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            if time.monotonic() >= end:
                return False
            time.sleep(0.005)
    return True


def _environment() -> dict[str, str]:
    """Ours, with our import path, and without threads that would each reserve address space.

    glibc would give each large block (a frame) back to the kernel and have it zeroed again for the next one: up
    to 5 % of the CPU time of a decoder.
    """
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    kept = {"MALLOC_TRIM_THRESHOLD_": str(_KEPT_BYTES), "MALLOC_MMAP_THRESHOLD_": str(_KEPT_BYTES)}
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **kept}


def _describe(code: int) -> str:
    return f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit status {code}"


def _send(channel: socket.socket, value: Any, end: float | None = None) -> None:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts: list[memoryview] = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    sizes = struct.pack(f"<I{len(parts)}Q", len(parts), *(part.nbytes for part in parts))
    for part in (memoryview(sizes), *parts):
        channel.settimeout(_remaining(end))
        channel.sendall(part)


def _receive(channel: socket.socket, end: float | None = None) -> Any:
    (count,) = struct.unpack("<I", _read(channel, 4, end))
    sizes = struct.unpack(f"<{count}Q", _read(channel, 8 * count, end))
    head, *buffers = [_read(channel, size, end) for size in sizes]
    return pickle.loads(head, buffers=buffers)  # noqa: S301 - the other end is this same module


def _read(channel: socket.socket, size: int, end: float | None) -> memoryview:
    data = memoryview(bytearray(size))
    done = 0
    while done < size:
        channel.settimeout(_remaining(end))
        got = channel.recv_into(data[done:])
        if not got:
            raise EOFError("the other end is gone")
        done += got
    return data.toreadonly()


def _remaining(end: float | None) -> float | None:
    if end is None:
        return None
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _serve(channel: socket.socket, target: str) -> None:
    """Answers requests until the other end is gone. A reply is `("", value)` or `(type name, message)`."""
    module, _, name = target.partition(":")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        _send(channel, (type(error).__name__, f"cannot load {target!r}: {error}"))
        return
    _send(channel, ("", None))
    gc.freeze()  # what is loaded now stays: no later collection looks at it
    for number in count(1):
        try:
            arguments = _receive(channel)
        except (EOFError, ConnectionError):
            return
        _send(channel, _answer(function, arguments))
        if number % _TIDY_EVERY == 0:
            _tidy()


def _tidy() -> None:
    """Memory that requests of many sizes left in pieces goes back to the kernel: a child lives for thousands."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str, Any]:
    try:
        return "", function(*arguments)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)  # what else failed to allocate is unknown: leave nothing to a next call
    except Exception as error:  # noqa: BLE001 - carried to the parent, which raises it
        return type(error).__name__, str(error)


def die_with_parent(parent: int) -> None:
    """Has SIGKILL sent to this process when the thread of `parent` that started it ends.

    For a program that a function starts: `Popen(..., preexec_fn=partial(die_with_parent, os.getpid()))`.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def check_room(size_bytes: int) -> None:
    """Raises MemoryError where `size_bytes` more would break this process's memory limit.

    For native code that hides a lack of memory: libav's H.264 decoder calls it invalid data. Asked once it has
    failed, with the size of what it would have needed, this tells the two apart.
    """
    try:
        mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ).close()
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        raise MemoryError(f"no room for {size_bytes} bytes") from error


def _confine(parent: int, memory_mb: int) -> None:
    """Ties this process to its parent and its memory limit."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _main() -> None:
    descriptor, parent, memory_mb, target = sys.argv[1:]
    _confine(int(parent), int(memory_mb))
    _serve(socket.socket(fileno=int(descriptor)), target)


if __name__ == "__main__":
    _main()
