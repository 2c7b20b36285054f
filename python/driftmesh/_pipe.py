"""Frames over a pair of pipes: four bytes of length, big-endian, then msgpack."""

import os
import queue
import sys
import threading

import msgpack

# MAX_FRAME bounds a frame in both directions; it is checked before anything is read.
MAX_FRAME = 16 << 20


class Pipe:
    """The two ends that Driftmesh holds the other ends of."""

    def __init__(self, read_fd: int, write_fd: int):
        self._in = os.fdopen(read_fd, "rb", buffering=1 << 16)
        self._out = write_fd
        self._frames: queue.SimpleQueue = queue.SimpleQueue()
        # A thread of its own sees the end of the input even while a reward
        # computes: without Driftmesh there is nobody left to compute for.
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            head = self._in.read(4)
            if len(head) < 4:
                os._exit(0)
            size = int.from_bytes(head, "big")
            if size > MAX_FRAME:
                print(f"driftmesh: a request of {size} bytes; the cap is {MAX_FRAME}", file=sys.stderr, flush=True)
                os._exit(1)
            body = self._in.read(size)
            if len(body) < size:
                os._exit(0)
            self._frames.put(body)

    def receive(self) -> dict:
        # Texts need not be Unicode: what is no object is refused, and no end.
        return msgpack.unpackb(self._frames.get(), raw=False, strict_map_key=False, max_array_len=MAX_FRAME, unicode_errors="surrogateescape")

    def send(self, message: dict) -> None:
        body = msgpack.packb(message, use_bin_type=True, unicode_errors="surrogateescape")
        if len(body) > MAX_FRAME:
            body = msgpack.packb({"id": message.get("id", 0), "error": f"an answer of {len(body)} bytes; the cap is {MAX_FRAME}: use smaller batches"})
        data = memoryview(len(body).to_bytes(4, "big") + body)
        while data:
            try:
                data = data[os.write(self._out, data):]
            except BrokenPipeError:
                os._exit(0)


def take_standard_streams() -> Pipe:
    """Takes stdin and stdout for the protocol: a stray print goes to stderr, and
    input() finds nothing."""
    sys.stdout.flush()
    read_fd, write_fd = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return Pipe(read_fd, write_fd)
