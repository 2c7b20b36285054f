"""What both peers have in common: requests and answers, one JSON line each.

A side is a class with
    versions()             the packages that count
    open(request)          builds environment, model and optimiser
    run(updates)           that many updates, done when it returns; their mean length
    sample(batches)        that many batches of trajectories; their mean length
    log_probs()            log P_F of every action in every cell
    rewards()              the reward of every cell
    parameters()           their number, log Z included
"""

import json
import sys
import time
from importlib import metadata

import numpy as np
from packaging.requirements import Requirement

import exact


def timed(run, seconds, least):
    """Calls run(n) until it has done enough, after a warm-up that compiles."""
    began = time.perf_counter()
    run(1)
    first = time.perf_counter() - began
    began, done = time.perf_counter(), 0
    while done < 1 or (time.perf_counter() - began < 0.25 * seconds and done < 20):
        run(1)
        done += 1
    each = (time.perf_counter() - began) / done
    chunk = max(1, min(round(0.1 / each), 1000))
    began, done, length = time.perf_counter(), 0, 0.0
    while done < least or time.perf_counter() - began < seconds:
        length += chunk * run(chunk)
        done += chunk
    took = time.perf_counter() - began
    return {"ms": 1e3 * took / done, "count": done, "length": length / done, "first_s": first}


def update(side, request):
    return timed(side.run, request["seconds"], request["least"])


def sample(side, request):
    return timed(side.sample, request["seconds"], request["least"])


def distance(side, rewards, grid):
    log_probs = np.asarray(side.log_probs(), np.float64).tolist()
    return exact.total_variation(log_probs, np.asarray(rewards, np.float64).tolist(), grid["dim"], grid["height"])


def check(side, request):
    """What must be equal on all sides."""
    grid = request["grid"]
    rewards = np.asarray(side.rewards(), np.float64)
    values, counts = np.unique(np.round(rewards, 5), return_counts=True)
    out = {
        "parameters": side.parameters(),
        "log_z": float(np.log(rewards.sum())),
        "cells": {f"{v:g}": int(n) for v, n in zip(values, counts)},
    }
    if len(rewards) <= 1 << 16:
        out["tv"] = distance(side, rewards, grid)
    return out


def quality(side, request):
    """Trains until TV has been small three times in a row, or for too long."""
    grid, rewards = request["grid"], side.rewards()
    side.run(1)  # compiles; then from the beginning
    side.open(request)
    spent, updates, distances, met, length = 0.0, 0, [], 0, 0.0
    moments = []
    while met < request["in_a_row"] and spent < request["limit_s"]:
        began = time.perf_counter()
        length = side.run(request["every"])
        spent += time.perf_counter() - began
        updates += request["every"]
        tv = distance(side, rewards, grid)
        distances.append(round(tv, 5))
        moments.append((spent, updates))
        met = met + 1 if tv <= request["target"] else 0
    reached = met == request["in_a_row"]
    spent, updates = moments[-met] if reached else moments[-1]
    return {"reached": reached, "seconds": spent, "updates": updates, "tv": distances, "length": length}


def steady(side, request):
    """Goes on for a while, so that the memory can be looked at."""
    began, done = time.perf_counter(), 0
    while done < request["least"] or time.perf_counter() - began < request["seconds"]:
        side.run(1)
        done += 1
    return {"count": done}


def first(side, request):
    side.run(1)
    return {"count": 1}


def installed(name):
    """Bytes of a package and of all that it needs, as installed."""
    size, seen, todo = 0, set(), [name]
    while todo:
        name = todo.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            dist = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # an extra, or for another platform
        for f in dist.files or []:
            path = f.locate()
            size += path.stat().st_size if path.is_file() else 0
        for line in dist.requires or []:
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                todo.append(need.name)
    return size


OPS = {"update": update, "sample": sample, "check": check, "quality": quality, "steady": steady, "first": first}


def main(side):
    """Answers requests until the other end closes."""
    out = sys.stdout
    sys.stdout = sys.stderr  # nothing that a library prints may get between
    for line in sys.stdin:
        request = json.loads(line)
        if request["op"] == "versions":
            answer = {"versions": side.versions(), "installed": installed(next(iter(side.versions())))}
        else:
            if not request.get("go_on"):
                side.open(request)
            answer = OPS[request["op"]](side, request)
        out.write(json.dumps(answer) + "\n")
        out.flush()


def tensors(request, grid):
    """The parameters that all sides begin with, as Driftmesh writes them."""
    flat = np.fromfile(request["params"], "<f4")
    dim, features, width = grid["dim"], grid["dim"] * grid["height"], 256
    shapes = [("w0", (features, width)), ("b0", (width,)), ("w1", (width, width)), ("b1", (width,))]
    shapes += [("wf", (dim + 1, width)), ("bf", (dim + 1,))]
    if request["backward"] == "joint":
        shapes += [("wb", (dim, width)), ("bb", (dim,))]
    shapes += [("log_z", ())]
    out, at = {}, 0
    for name, shape in shapes:
        n = int(np.prod(shape))
        out[name] = flat[at : at + n].reshape(shape).copy()
        at += n
    if at != len(flat):
        raise ValueError(f"{request['params']}: {len(flat)} parameters; want {at}")
    return out
