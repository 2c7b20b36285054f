"""Ray's side of one round: the parts that the configuration (JSON, first argument)
asks for. Prints one line of JSON.

Written as a user of Ray would: actors, references, ray.wait. Every choice that
costs or saves Ray something is named in docs/RAY.md.
"""

import collections
import json
import os
import sys
import time

import numpy as np
import ray

import processes
from grid import Grid, Learner, Sampler

IN_FLIGHT = 8  # calls of one sampler that are not answered yet
KEPT = 1 << 16  # trajectories in replay


def quantile(values, q):
    values = sorted(values)
    return values[max(0, int(np.ceil(q * len(values))) - 1)]


def grid_of(c):
    return Grid(c["dim"], c["height"], c["r0"], c["r1"], c["r2"])


@ray.remote(num_cpus=0.1)
class Replay:
    """Bounded replay: a queue of batches. What does not fit pushes out the oldest."""

    def __init__(self, per_call):
        self.batches = collections.deque(maxlen=KEPT // per_call)
        self.next = collections.Counter()  # by sampler
        self.count = 0

    def add(self, sampler, seq, batch):
        if seq != self.next[sampler]:  # each batch counts once, in order
            return self.next[sampler]
        n = len(batch["lengths"])
        self.next[sampler] += n
        self.batches.append(batch)
        self.count += n
        return self.next[sampler]

    def take(self):
        """The oldest batch, or None."""
        return self.batches.popleft() if self.batches else None

    def progress(self):
        return self.count, time.time(), len(self.next)


@ray.remote(num_cpus=0.1)
class Sender:
    """A sampler that does not sample: it has its batches prepared."""

    def __init__(self, name, per_call):
        self.name, self.seq = name, 0
        rng = np.random.default_rng(name + 1)
        lengths = rng.integers(1, 30, per_call).astype(np.int32)
        self.batch = {
            "version": 1,
            "lengths": lengths,
            "actions": rng.integers(0, 5, lengths.sum()).astype(np.int32),
            "log_reward": rng.random(per_call),
            "log_behaviour": -rng.random(per_call),
        }

    def run(self, replay, seconds):
        end, pending = time.time() + seconds, []
        while time.time() < end:
            if len(pending) == IN_FLIGHT:  # waiting for half of them is cheaper than for each
                _, pending = ray.wait(pending, num_returns=IN_FLIGHT // 2)
            pending.append(replay.add.remote(self.name, self.seq, self.batch))
            self.seq += len(self.batch["lengths"])
        ray.get(pending)


def transport(c):
    replay = Replay.remote(c["per_call"])
    senders = [Sender.remote(i, c["per_call"]) for i in range(c["samplers"])]
    running = [s.run.remote(replay, c["seconds"] + 3) for s in senders]
    while ray.get(replay.progress.remote())[2] < len(senders):
        time.sleep(0.05)
    time.sleep(1)
    n0, t0, _ = ray.get(replay.progress.remote())
    time.sleep(c["seconds"])
    n1, t1, _ = ray.get(replay.progress.remote())
    ray.get(running)
    discard(senders + [replay])
    return {"trajectories_per_second": (n1 - n0) / (t1 - t0)}


@ray.remote(num_cpus=0.1)
class Follower:
    """A sampler that does nothing with the parameters but read them once."""

    def use(self, params, made):
        total = float(params.sum())
        return time.time() - made if total == total else None


def ages(c):
    followers = [Follower.remote() for _ in range(c["samplers"])]
    params = np.random.default_rng(1).random(c["params"], np.float32)
    ray.get([f.use.remote(params, time.time()) for f in followers])
    time.sleep(2)
    pids = processes.of_this_run()
    used, began = processes.cpu(pids), time.time()
    time.sleep(c["seconds"] / 2)
    idle = (processes.cpu(pids) - used) / (time.time() - began)

    old, versions = [], 0
    used, began = processes.cpu(pids), time.time()
    while (now := time.time()) < began + c["seconds"]:
        params = params + np.float32(1e-6)
        made = time.time()
        ref = ray.put(params)
        old += ray.get([f.use.remote(ref, made) for f in followers])
        versions += 1
        time.sleep(max(0, now + 1 / c["rate"] - time.time()))
    seconds = time.time() - began
    cores = (processes.cpu(pids) - used) / seconds
    discard(followers)
    return {
        "published_per_second": versions / seconds,
        "snapshots_delivered": len(old),
        "snapshot_bytes": params.nbytes,
        "age_ms_p50": 1e3 * quantile(old, 0.5),
        "age_ms_p95": 1e3 * quantile(old, 0.95),
        "idle_cores": idle,
        "cpu_ms_per_snapshot": 1e3 * cores * seconds / len(old),
        "net_cpu_ms_per_snapshot": 1e3 * (cores - idle) * seconds / len(old),
    }


@ray.remote(num_cpus=0.1)
class SamplerActor:
    def __init__(self, c, seed):
        self.sampler, self.per_call, self.version = Sampler(grid_of(c), c["hidden"], seed), c["per_call"], -1

    def sample(self, params, version, made):
        """A batch, and the age of its parameters if it is the first use of them here."""
        age = time.time() - made if version > self.version else None
        self.version = version
        return self.sampler.sample(params, version, self.per_call), age

    def pid(self):
        return os.getpid()


def learner_of(c):
    return Learner(grid_of(c), c["hidden"], 1, c["learning_rate"], c["log_z_rate"])


def memory(c):
    params = ray.put(learner_of(c).flat)
    total, actors = [], []
    for count in (c["samplers"], 2 * c["samplers"]):
        actors += [SamplerActor.remote(c, i) for i in range(len(actors), count)]
        for _ in range(20):
            ray.get([a.sample.options(num_returns=2).remote(params, 0, 0.0)[1] for a in actors])
        total.append(sum(processes.pss(pid) for pid in ray.get([a.pid.remote() for a in actors])))
    discard(actors)
    return {
        "pss_mib_per_process": total[0] / c["samplers"],
        "pss_mib_per_additional_slot": (total[1] - total[0]) / c["samplers"],
    }


def training(c):
    """The driver learns; a sampler gets the newest parameters with each call, and no
    call while replay holds a batch for every sampler; batches go from sampler to
    replay without passing the driver."""
    learner = learner_of(c)
    replay = Replay.remote(c["per_call"])
    actors = [SamplerActor.remote(c, i) for i in range(c["samplers"])]
    ray.get([a.pid.remote() for a in actors])  # all have started
    seqs, idle = [0] * len(actors), list(range(len(actors)))
    published = (ray.put(learner.flat.copy()), 0, time.time())
    pending, old, versions, trained = {}, [], 0, 0  # pending: reference of the age → (sampler, batch)
    waiting = collections.deque()  # batches on their way from replay
    stored = 0  # batches in replay that were not asked for
    began = start = time.time()
    while time.time() < start + 2 * c["seconds"]:
        if start == began and time.time() > began + c["settle"] and trained:
            start, trained, versions = time.time(), 0, 0
            old.clear()
        while idle and stored < len(actors):
            i = idle.pop(0)
            batch, age = actors[i].sample.options(num_returns=2).remote(*published)
            pending[age] = (i, batch)
        ready = []
        if pending:
            ready, _ = ray.wait(list(pending), num_returns=1, timeout=0 if stored + len(waiting) else None)
        for age in ready:
            i, batch = pending.pop(age)
            replay.add.remote(i, seqs[i], batch)
            seqs[i] += c["per_call"]
            stored += 1
            idle.append(i)
            if (a := ray.get(age)) is not None:
                old.append(a)
        while stored and len(waiting) < 2:
            waiting.append(replay.take.remote())
            stored -= 1
        if waiting and (batch := ray.get(waiting.popleft())) is not None:
            learner.step(batch)
            trained += len(batch["lengths"])
        if time.time() - published[2] >= c["window"]:
            made = time.time()
            published = (ray.put(learner.flat.copy()), learner.version, made)
            versions += 1
    seconds = time.time() - start
    discard(actors + [replay])
    return {
        "trajectories_trained_per_second": trained / seconds,
        "age_ms_p50": 1e3 * quantile(old, 0.5),
        "age_ms_p95": 1e3 * quantile(old, 0.95),
        "published_per_second": versions / seconds,
    }


def discard(actors):
    for a in actors:
        ray.kill(a)
    time.sleep(1)


def main():
    c, answer = json.loads(sys.argv[1]), processes.Answer()
    ray.init(
        address="local",
        num_cpus=c["cpus"],
        object_store_memory=256 << 20,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=c["temp"],
    )
    out = {part: globals()[part](c) for part in c["parts"]}
    ray.shutdown()
    answer.give(out)


if __name__ == "__main__":
    main()
