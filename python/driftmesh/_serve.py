"""The plugin's side of the protocol: one request, one answer, in order."""

import hashlib
import inspect
import pathlib
import sys
import traceback

from ._pipe import take_standard_streams

# PROTOCOL is the version of the messages; Driftmesh refuses another one.
PROTOCOL = 1


def serve(thing) -> None:
    """Answers Driftmesh until it closes the pipe; does not return.

    thing is a function decorated with driftmesh.reward, or a class derived from
    driftmesh.Env or driftmesh.BatchEnv (or an object of one).
    """
    if sys.stdin is not None and sys.stdin.isatty():
        sys.exit("this is a Driftmesh plugin: name it in a job (reward.command, or env.params.command); see docs/PYTHON.md")
    pipe = take_standard_streams()
    bound = None
    while True:
        request = pipe.receive()
        answer = {"id": request.get("id", 0)}
        try:
            if request.get("op") == "hello":
                if request.get("protocol") != PROTOCOL:
                    raise ValueError(f"Driftmesh speaks protocol {request.get('protocol')}, this package {PROTOCOL}: install the driftmesh package of the same release")
                bound = thing._bind(request.get("params") or {})
                answer |= {"protocol": PROTOCOL} | bound.hello()
            elif bound is None:
                raise ValueError("a request before hello")
            else:
                answer |= bound.answer(request)
        except Exception as e:  # the plugin goes on: the next request may be better
            traceback.print_exc(file=sys.stderr)
            answer = {"id": request.get("id", 0), "error": brief(e)}
        pipe.send(answer)


def brief(e: BaseException) -> str:
    """An exception in one line."""
    return f"{type(e).__name__}: {e}".replace("\n", " ")[:400]


def fingerprint(of, data=()) -> str:
    """SHA-256 of the file that defines of and of the data files beside it: two
    processes that answer alike have the same."""
    h = hashlib.sha256()
    source = inspect.getsourcefile(of)
    folder = pathlib.Path(source).parent if source else pathlib.Path(".")
    for path in ([pathlib.Path(source)] if source else []) + [folder / p for p in data]:
        content = path.read_bytes()
        h.update(len(content).to_bytes(8, "big"))
        h.update(content)
    return h.hexdigest()
