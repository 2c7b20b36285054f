"""A client: it runs the driftmesh binary's verbs with --json and reads the files of
runs. There is no second implementation of the mesh protocol in it."""

import json
import math
import operator
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import numpy as np


class DriftmeshError(RuntimeError):
    """What the binary said on standard error; code is its exit code (2: bad input)."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


class Client:
    """Talks to a cluster through the driftmesh binary.

    servers  gRPC addresses of servers, any of the cluster.
    binary   the driftmesh binary; by default $DRIFTMESH, or what the PATH finds.
    """

    def __init__(self, servers=("127.0.0.1:7400",), binary=None):
        self.servers = [servers] if isinstance(servers, str) else list(servers)
        self.binary = binary or os.environ.get("DRIFTMESH") or shutil.which("driftmesh")
        if not self.binary:
            raise FileNotFoundError("no driftmesh binary: put it on the PATH, or say Client(binary=...)")

    def _run(self, *args, servers=True, text="") -> str:
        command = [self.binary, *map(str, args)]
        if servers:
            for s in self.servers:
                command += ["--server", s]
        done = subprocess.run(command, input=text, capture_output=True, text=True)
        if done.returncode != 0:
            lines = [l for l in done.stderr.splitlines() if l.strip()]
            message = "\n".join(l.removeprefix("driftmesh: ") for l in lines) or f"driftmesh ended with {done.returncode}"
            raise DriftmeshError(message, done.returncode)
        return done.stdout

    def submit(self, job, sets=(), allow_plugins=()) -> str:
        """Submits a job: the path of a job file, or a dict. Relative paths in the job
        are taken from the file's folder, those of a dict from the working directory.
        Returns its name."""
        path, text = job, ""
        if isinstance(job, dict):
            path, text = "-", json.dumps({"name": "job", **job})  # JSON is YAML
        args = [a for s in sets for a in ("--set", s)] + [a for d in allow_plugins for a in ("--allow-plugins", d)]
        return json.loads(self._run("submit", path, "--json", *args, text=text))["job"]

    def status(self, job=None) -> dict:
        """The cluster, or one job of it (its entry in "jobs")."""
        reply = json.loads(self._run("status", *([job] if job else []), "--json"))
        return reply["jobs"][0] if job else reply

    def watch(self, job, every=1.0):
        """Yields the job's status whenever its version or status has changed, until
        it is finished, stopped, paused or failed."""
        last = None
        while True:
            now = self.status(job)
            key = (now["version"], now["status"])
            if key != last:
                yield now
            last = key
            if now["status"] != "running":
                return
            time.sleep(every)

    def wait(self, job, every=1.0) -> dict:
        """The job's status once it no longer runs."""
        last = None
        for last in self.watch(job, every):
            pass
        return last

    def stop(self, job):
        self._run("stop", job, "--json")

    def pause(self, job):
        self._run("pause", job, "--json")

    def resume(self, job):
        self._run("resume", job, "--json")

    def best(self, job, n=10) -> list:
        """The best objects of a job, or of a run's folder."""
        local = os.path.isdir(job)
        return json.loads(self._run("best", job, "-n", n, "--json", servers=not local))["objects"]

    def sample(self, run, n=100, seed=None, allow_plugins=()) -> list:
        """Draws objects from a run's checkpoint: dicts with object, log_reward,
        log_pf and steps."""
        args = ["--seed", seed] if seed is not None else []
        args += [a for d in allow_plugins for a in ("--allow-plugins", d)]
        return [json.loads(l) for l in self._run("sample", run, "-n", n, *args, servers=False).splitlines()]

    def export(self, of, path) -> str:
        """Writes the archived objects of a job, or of a run's folder, to a file."""
        self._run("export", of, "--out", path, servers=not os.path.isdir(of))
        return path

    def archive(self, of):
        """The archived objects of a job or a run, as a pandas DataFrame."""
        with tempfile.TemporaryDirectory() as folder:
            return load_archive(self.export(of, os.path.join(folder, "archive.parquet")))

    def train(self, job, *args) -> None:
        """Runs `driftmesh train` in this process's terminal, until it ends."""
        code = subprocess.run([self.binary, "train", str(job), *map(str, args)]).returncode
        if code != 0:
            raise DriftmeshError(f"driftmesh train ended with {code}", code)


def load_metrics(run) -> list:
    """The metrics of a run so far, a dict a row; it may be running."""
    rows = []
    for line in pathlib.Path(run, "metrics.jsonl").read_text().splitlines(keepends=True):
        if line.endswith("\n"):  # the last one may be half written
            rows.append(json.loads(line))
    return rows


def load_archive(path):
    """A Parquet file of archived objects, or a folder of such, as a pandas
    DataFrame. Needs pandas and pyarrow."""
    try:
        import pandas
    except ImportError as e:
        raise ImportError("archives need pandas and pyarrow: pip install 'driftmesh[archive]'") from e
    path = pathlib.Path(path)
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"{path} holds no Parquet file")
    return pandas.concat([pandas.read_parquet(f) for f in files], ignore_index=True)


_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"}


def load_checkpoint(path, torch=False) -> dict:
    """The parameters of a checkpoint by name: of a run's folder, of a checkpoint's,
    or of a safetensors file. numpy arrays, or torch tensors with torch=True."""
    tensors = {name: np.array(t) for name, t in _safetensors(_parameters(pathlib.Path(path))).items()}
    if torch:
        import torch as library

        return {name: library.from_numpy(t) for name, t in tensors.items()}
    return tensors


def _parameters(path) -> pathlib.Path:
    if path.is_file():
        return path
    if (path / "params.safetensors").is_file():
        return path / "params.safetensors"
    found = sorted(path.glob("*/params.safetensors"), key=lambda p: json.loads((p.parent / "state.json").read_text())["version"])
    if not found:
        raise FileNotFoundError(f"{path} holds no checkpoint; want the folder of a run, such as runs/hypergrid-2d")
    return found[-1]


# _MAX_HEADER is the format's bound of a header.
_MAX_HEADER = 100_000_000


def _safetensors(path) -> dict:
    """The tensors of a file. What the header claims is held against the file's size
    before anything is read."""

    def wrong(what):
        return ValueError(f"{path} is no safetensors file: {what}")

    with open(path, "rb") as f:
        whole = os.fstat(f.fileno()).st_size
        head = f.read(8)
        size = int.from_bytes(head, "little")
        if len(head) < 8 or size > min(whole - 8, _MAX_HEADER):
            raise wrong(f"its header has {size} bytes of {whole}")
        try:
            header = json.loads(f.read(size).decode())
        except (ValueError, RecursionError) as e:
            raise wrong(f"its header is no JSON ({e})") from None
        if not isinstance(header, dict):
            raise wrong("its header is no JSON object")
        header.pop("__metadata__", None)
        body, out = whole - 8 - size, {}
        for name, t in header.items():
            try:
                kind, shape = t["dtype"], tuple(map(operator.index, t["shape"]))
                first, last = map(operator.index, t["data_offsets"])
                known = kind in _DTYPES
            except (KeyError, TypeError, ValueError):
                raise wrong(f"tensor {name} has no type, shape and offsets") from None
            if not known:
                raise ValueError(f"{path}: tensor {name} has elements of type {kind}; want one of {', '.join(_DTYPES)}")
            dtype = np.dtype(_DTYPES[kind])
            if min(shape, default=0) < 0 or not 0 <= first <= last <= body or last - first != math.prod(shape) * dtype.itemsize:
                raise wrong(f"tensor {name} of shape {list(shape)} has bytes {first} to {last} of {body}")
            f.seek(8 + size + first)
            out[name] = np.frombuffer(f.read(last - first), dtype=dtype).reshape(shape)
    return out
