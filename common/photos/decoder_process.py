"""Decode photos for another process: `python -m common.photos.decoder_process`, with a socket as its stdin.

It knows Pillow, but no Django, no database and no secrets. The kernel ends it when a picture takes too long and refuses
it more memory than it was granted. It ends by itself when the process that started it is gone.
"""

import os
import resource
import signal
import socket
import struct

from pi_heif import register_heif_opener
from PIL import Image, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin

from common.photos.copies import make_copies
from common.photos.headers import Fault, PictureError

# Memory, in bytes, and processor time, in seconds, for one picture whose open file comes with the request.
REQUEST = struct.Struct("!Qd")
# The lengths of the large copy, the small copy and, where there is none, of fault and detail.
REPLY = struct.Struct("!III")
LONGEST_DETAIL = 500
NICENESS = "AISLE_DECODER_NICENESS"
PLUGINS = (JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin)  # imported now, not at the first picture


def main() -> None:
    os.nice(int(os.environ.get(NICENESS, "0")))
    _restrict()
    # The header was already checked against UPLOAD_LIMIT_MEGAPIXELS; Pillow has a limit of its own.
    Image.MAX_IMAGE_PIXELS = None
    register_plugins()
    with socket.socket(fileno=0) as connection:
        while True:
            request, descriptors, _flags, _address = socket.recv_fds(connection, REQUEST.size, 1)
            if not request:
                return
            try:
                large, small, error = _answer(descriptors[0], *REQUEST.unpack(request))
            finally:
                os.close(descriptors[0])
            connection.sendall(REPLY.pack(len(large), len(small), len(error)) + large + small + error)


def register_plugins() -> None:
    """Let Pillow read HEIC pictures, and nothing of them but the main picture."""
    # One thread: each would take memory of its own, and a decoder has one core's share of time.
    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)


def _answer(descriptor: int, memory: int, seconds: float) -> tuple[bytes, bytes, bytes]:
    _limit_memory(memory)
    # SIGPROF ends the process: no Python code needs to run for it, whatever the decoder is doing.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        large, small = make_copies(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
    except PictureError as error:
        return b"", b"", f"{error.fault}\n{error}"[:LONGEST_DETAIL].encode(errors="replace")
    except MemoryError:
        return b"", b"", f"{Fault.TOO_MUCH_MEMORY}\nmemory ran out".encode()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return large, small, b""


def _restrict() -> None:
    """Drop privileges that decoding doesn't need, and be the first process that the kernel ends for lack of memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    try:
        with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123 - Linux only
            file.write("900")
    except OSError:
        return


def _limit_memory(memory: int) -> None:
    """Limit the process's private memory. On Linux, malloc fails beyond it, and Pillow raises MemoryError."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (memory, hard))


if __name__ == "__main__":
    main()
