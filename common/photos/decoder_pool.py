"""A pool of decoder processes, limited in memory and time, which are replaced when they die.

Plain subprocesses with a socket each; no multiprocessing, nor Pebble, which builds on it. Forking a process of hundreds
of threads is unsafe, Celery's workers may have no such children, and a worker that is killed while it holds the common
queue stops the others. Results are pickles there: a decoder that a picture took over could run code in the web process.
A reply here is two byte strings and a code.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import NamedTuple

from common.fair_turns import FairTurns
from common.photos.decoder_process import NICENESS, REPLY, REQUEST
from common.photos.headers import Fault, Header, PictureError

ROOT = Path(__file__).resolve().parents[2]
INTERPRETER_BYTES = 20_000_000  # of a decoder without a picture
ORDINARY_BYTES = 100_000_000  # what an ordinary decoder may use, the interpreter included
ORDINARY_PIXELS = 30_000_000
LARGEST_COPY = 32_000_000  # bytes; a reply that announces more is invalid
WALL_FACTOR = 3  # wall-clock time as a multiple of the processor time, for busy machines
TRIES = 2
LARGE_NICENESS = 5
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "PYTHONHOME", "PYTHONPATH", "SYSTEMROOT", "TMPDIR")
# glibc keeps up to 64 MB between pictures: asking the kernel for the same pages each time costs a quarter of the time.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**26)}
ORDINARY, LARGE = "ordinary", "large"


class Copies(NamedTuple):
    """A clean photo, as two JPEG files."""

    large: bytes
    small: bytes


class DecoderDied(Exception):
    """A decoder ended without a reply, for another reason than its time limit."""


class Decoder:
    """One decoder process."""

    def __init__(self, *, niceness: int = 0) -> None:
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        self._socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                # Pillow warns of odd metadata: the sender of a picture must not be able to fill the log.
                [sys.executable, "-W", "ignore", "-m", "common.photos.decoder_process"],
                cwd=ROOT,
                env={**environment, **MALLOC, NICENESS: str(niceness)},
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )

    def decode(self, descriptor: int, *, memory: int, seconds: float) -> Copies:
        """Decode an open file. Raises PictureError, and DecoderDied; after that or TOO_SLOW the process is dead."""
        self._socket.settimeout(seconds * WALL_FACTOR)
        try:
            socket.send_fds(self._socket, [REQUEST.pack(memory, seconds)], [descriptor])
            large, small, error = (self._receive(length) for length in self._receive_lengths())
        except TimeoutError as timeout:
            self.kill()
            raise PictureError(Fault.TOO_SLOW, f"no answer within {seconds * WALL_FACTOR:g} s") from timeout
        except OSError as broken:
            self.kill()
            if self.process.returncode == -signal.SIGPROF:
                raise PictureError(Fault.TOO_SLOW, f"more than {seconds:g} s of processor time") from broken
            raise DecoderDied(f"exit status {self.process.returncode}") from broken
        if error:
            fault, _, detail = error.decode(errors="replace").partition("\n")
            raise PictureError(Fault(fault), detail)
        return Copies(large, small)

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        self._socket.close()

    def kill(self) -> None:
        self.close()
        # When its time is up, the kernel ends the process; only its exit status tells.
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(0.2)
            return
        self.process.kill()
        self.process.wait()

    def _receive_lengths(self) -> tuple[int, ...]:
        lengths: tuple[int, ...] = REPLY.unpack(self._receive(REPLY.size))
        if max(lengths) > LARGEST_COPY:
            raise OSError("a reply of impossible length")
        return lengths

    def _receive(self, length: int) -> bytes:
        parts = bytearray(length)
        view = memoryview(parts)
        while view:
            received = self._socket.recv_into(view)
            if not received:
                raise OSError("the decoder closed its socket")
            view = view[received:]
        return bytes(parts)


class DecoderPool:
    """Running decoders for ordinary pictures, and one that is started for each large picture, one at a time.

    Together they never use more than `memory` bytes. A large picture is one that takes more than ORDINARY_BYTES or has
    more than ORDINARY_PIXELS; its decoder yields to everything else and takes its memory with it when it is done.
    """

    def __init__(self, *, count: int, memory: int, seconds: float) -> None:
        self.seconds = seconds
        self.large_bytes = memory - count * ORDINARY_BYTES
        self.turns = FairTurns({ORDINARY: count, LARGE: 1})
        self._idle: SimpleQueue[Decoder | None] = SimpleQueue()
        self._lock = Lock()
        self._decoders: set[Decoder] = set()
        for _place in range(count):
            self._idle.put(None)  # a place whose decoder is started when it is needed

    def decode(self, descriptor: int, header: Header, *, owner: Hashable, patience: float) -> Copies:
        """Decode an open file when it is its owner's turn. Raises PictureError, and NoTurn after `patience` seconds."""
        memory = header.decoding_memory() + INTERPRETER_BYTES
        is_large = memory > ORDINARY_BYTES or header.pixels > ORDINARY_PIXELS
        if memory > max(self.large_bytes, ORDINARY_BYTES):
            raise PictureError(Fault.TOO_MUCH_MEMORY, f"decoding needs {memory // 1_000_000} MB")
        with self.turns.turn(owner, LARGE if is_large else ORDINARY, patience=patience):
            for tries_left in reversed(range(TRIES)):
                try:
                    if is_large:
                        return self._decode_large(descriptor)
                    return self._decode_ordinary(descriptor, is_retry=tries_left < TRIES - 1)
                except DecoderDied as error:  # it may have been another's fault: the kernel's, or an operator's
                    if not tries_left:
                        raise PictureError(Fault.BROKEN, f"it ends its decoder: {error}") from error
                except PictureError as error:  # what earlier pictures left in pieces may have been in its way
                    if error.fault != Fault.TOO_MUCH_MEMORY or is_large or not tries_left:
                        raise
        raise AssertionError("unreachable")

    def start(self) -> None:
        """Start the decoders for ordinary pictures now, so that no upload waits for it."""
        places = [self._idle.get() for _place in range(self._idle.qsize())]
        for decoder in places:
            self._idle.put(decoder or self._new())

    def forget(self) -> None:
        """Close a forked process's copies of the sockets; otherwise decoders would outlive their own process."""
        for decoder in self._decoders:
            decoder.close()
        self._decoders.clear()

    def close(self) -> None:
        with self._lock:
            decoders, self._decoders = self._decoders, set()
        for decoder in decoders:
            decoder.kill()

    @property
    def processes(self) -> list[int]:
        """The ids of the processes that are running."""
        with self._lock:
            return [decoder.process.pid for decoder in self._decoders]

    def _decode_ordinary(self, descriptor: int, *, is_retry: bool) -> Copies:
        decoder = self._idle.get()
        try:
            # The cause may end the other decoders too: a second try gets a new process.
            if decoder is None or is_retry or not decoder.is_alive:
                self._forget(decoder)
                decoder = self._new()
            return decoder.decode(descriptor, memory=ORDINARY_BYTES, seconds=self.seconds)
        except PictureError as error:
            if error.fault == Fault.TOO_MUCH_MEMORY and decoder:
                decoder.kill()  # what it holds in pieces is given back
            raise
        finally:
            if decoder and not decoder.is_alive:
                self._forget(decoder)
                decoder = None
            self._idle.put(decoder)

    def _decode_large(self, descriptor: int) -> Copies:
        decoder = self._new(niceness=LARGE_NICENESS)
        try:
            return decoder.decode(descriptor, memory=self.large_bytes, seconds=self.seconds)
        finally:
            decoder.kill()
            self._forget(decoder)

    def _new(self, *, niceness: int = 0) -> Decoder:
        decoder = Decoder(niceness=niceness)
        with self._lock:
            self._decoders.add(decoder)
        return decoder

    def _forget(self, decoder: Decoder | None) -> None:
        if decoder:
            decoder.kill()
            with self._lock:
                self._decoders.discard(decoder)
