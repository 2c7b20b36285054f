"""A reward that misbehaves: faulty.py MODE [FILE]. Where a FILE is given, it does so
until FILE exists, and makes it first."""

import os
import signal
import sys
import time

import driftmesh
import msgpack
import numpy as np

MODE, FILE = sys.argv[1], (sys.argv[2] if len(sys.argv) > 2 else None)


def bad():
    if FILE is None:
        return True
    if os.path.exists(FILE):
        return False
    open(FILE, "w").close()
    return True


@driftmesh.reward(objects=driftmesh.numbers)
def faulty(x, scale=1.0):
    out = scale * (1.0 + x.sum(axis=1))
    if MODE == "crash" and bad():
        print("out of cheese", file=sys.stderr)
        os._exit(3)
    elif MODE == "segfault" and bad():
        os.kill(os.getpid(), signal.SIGSEGV)
    elif MODE == "hang" and bad():
        time.sleep(1e6)
    elif MODE == "poison" and (x == 7).any():
        os.abort()
    elif MODE == "nan":
        out = np.where((x == 7).any(axis=1), np.nan, out)
    elif MODE == "zero":
        out = np.where((x == 7).any(axis=1), 0.0, out)
    elif MODE == "raise" and (x == 7).any():
        raise ValueError("seven is not allowed")
    elif MODE == "count":
        out = np.append(out, 1.0)
    elif MODE == "print":
        print("noise" * 1000)
        os.write(1, b"\xff\xff\xff\xff more noise")
    elif MODE == "exit" and bad():
        sys.exit("I have had enough")
    elif MODE == "child" and bad():
        if os.fork() == 0:
            time.sleep(1e6)
        os._exit(1)
    elif MODE in ("detached", "orphan"):  # a child of a session of its own, which holds FILE
        pipe = os.open(FILE, os.O_WRONLY)
        os.write(pipe, b"here")
        if os.fork() == 0:
            os.setsid()
            time.sleep(1e6)
        if MODE == "orphan":
            os._exit(1)
        time.sleep(1e6)
    elif MODE == "closes" and bad():
        os.closerange(3, 100)
        time.sleep(1e6)
    return out


class Raw:
    """Speaks the protocol itself, and wrongly."""

    def frame(self, body):
        os.write(1, len(body).to_bytes(4, "big") + body)

    def receive(self):
        head = sys.stdin.buffer.read(4)
        if len(head) < 4:
            sys.exit(0)
        return msgpack.unpackb(sys.stdin.buffer.read(int.from_bytes(head, "big")))

    def run(self):
        hello = self.receive()
        protocol = 99 if MODE == "protocol" else 1
        kind = "poem" if MODE == "kind" else "reward"
        data = str(os.getpid()) if MODE == "changed" else "d"
        self.frame(msgpack.packb({"id": hello["id"], "protocol": protocol, "kind": kind, "name": "raw", "data": data}))
        while True:
            request = self.receive()
            n = len(request["texts"])
            good = {"id": request["id"], "log_rewards": np.zeros(n).tobytes()}
            if MODE == "garbage" and bad():
                os.write(1, b"Traceback (most recent call last):\n" * 100)
            elif MODE == "noise" and bad():
                self.frame(bytes(range(256)) * 4)
            elif MODE == "overlong" and bad():
                os.write(1, b"\x7f\xff\xff\xff")
            elif MODE == "bomb" and bad():
                self.frame(b"\xdd\xff\xff\xff\xff")
            elif MODE == "half" and bad():
                os.write(1, b"\x00\x00\x01\x00abc")
                sys.exit(0)
            elif MODE == "fewer" and bad():
                self.frame(msgpack.packb(good | {"log_rewards": np.zeros(n - 1).tobytes()}))
            elif MODE == "stray" and bad():
                self.frame(msgpack.packb(good | {"errors": [[n, "nobody"]]}))
            elif MODE == "echo" and bad():
                self.frame(msgpack.packb(good | {"id": request["id"] + 1}))
            elif MODE == "infinite":
                self.frame(msgpack.packb(good | {"log_rewards": np.full(n, -np.inf).tobytes()}))
            elif MODE == "changed" and bad():
                os._exit(1)
            elif MODE == "shouts":
                self.frame(msgpack.packb({"id": request["id"], "error": "\x1b[2J\nred\u202e " + "x" * (10 << 20)}))
            elif MODE == "shouts of one":
                self.frame(msgpack.packb(good | {"errors": [[0, "\x1b[2J\nred\u202e " + "x" * (10 << 20)]]}))
            else:
                self.frame(msgpack.packb(good))


if MODE in ("garbage", "noise", "overlong", "bomb", "half", "fewer", "stray", "echo", "infinite", "protocol", "kind", "changed", "shouts", "shouts of one"):
    Raw().run()
if MODE == "silent":
    time.sleep(1e6)
elif MODE == "broken":
    with open(FILE, "a") as starts:
        starts.write("x")
    sys.exit("no module of that name \x1b[2J")
elif MODE == "missing":
    import no_such_module  # noqa: F401
elif MODE == "unserved":
    sys.exit(0)
elif MODE == "chatty":
    os.write(1, b"hello\n")
driftmesh.serve(faulty)
