"""gfnx's trajectory balance on the four tasks of bench/quality: its environments,
its rollout, the loss of its own baselines (baselines/tb_*.py), with an MLP.

    python with_gfnx.py --task tfbind8 --seed 3 --lr 1e-3 [...]

prints one JSON line. What is measured:

    grid      exact TV of the 4-D grid of height 8
    tfbind8   exact TV over all 65,536 sequences
    ising     importance-sampled log Z (20,000 samples), its ESS
    bitseq    Spearman of log R and estimated log P on the test set, modes found
"""

import argparse
import csv
import functools
import gzip
import json
import math
import time
from importlib.metadata import version

import equinox as eqx
import gfnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from gfnx.base import BaseRewardModule
from gfnx.reward.hypergrid import GeneralHypergridRewardModule
from gfnx.reward.ising import IsingRewardParams
from gfnx.utils.bitseq import construct_binary_test_set, tokenize
from scipy.special import logsumexp
from scipy.stats import spearmanr


class Table(BaseRewardModule):
    """The reward of gfnx's TFBind8RewardModule from a CSV in place of its pickle."""

    def __init__(self, path):
        opened = gzip.open(path, "rt") if path.endswith(".gz") else open(path)
        with opened as f:
            values = np.array([float(r["value"]) for r in csv.DictReader(f)], np.float32)
        assert len(values) == 4**8
        self.values = jnp.maximum(values**3 * 10 / (values**3).max(), 1e-3)

    def init(self, rng_key, dummy_state):
        return {"rewards": self.values}

    def reward(self, state, env_params):
        powers = 4 ** jnp.arange(7, -1, -1)
        return jnp.take(env_params.reward_params["rewards"], (state.tokens * powers).sum(-1), mode="fill", fill_value=1e-3)

    def log_reward(self, state, env_params):
        return jnp.log(self.reward(state, env_params))


class Couplings(gfnx.IsingRewardModule):
    """J = sigma times the adjacency of the torus: the baseline's true J."""

    def __init__(self, side, sigma):
        self.side, self.sigma = side, sigma

    def init(self, rng_key, dummy_state):
        n = self.side
        j = np.zeros((n * n, n * n))
        for r in range(n):
            for c in range(n):
                for r2, c2 in ((r + 1) % n, c), (r, (c + 1) % n):
                    j[r * n + c, r2 * n + c2] = j[r2 * n + c2, r * n + c] = self.sigma
        return IsingRewardParams(J=jnp.asarray(j, jnp.float32))


class Task:
    """An environment with what its observations become as inputs."""

    def __init__(self, a):
        if a.task == "grid":
            reward = GeneralHypergridRewardModule(R0=a.r0, R1=0.5, R2=2.0)
            self.env, self.inputs, self.encode = gfnx.HypergridEnvironment(reward, dim=4, side=8), 32, lambda o: o
        elif a.task == "tfbind8":
            self.env, self.inputs = gfnx.TFBind8Environment(Table(a.table)), 40
            self.encode = lambda o: jax.nn.one_hot(o[1:], 5).reshape(-1)
        elif a.task == "ising":
            self.env, self.inputs = gfnx.IsingEnvironment(Couplings(6, a.sigma), dim=36), 36
            self.encode = lambda o: o.astype(jnp.float32)
        else:
            reward = gfnx.BitseqRewardModule(sentence_len=120, k=8, mode_set_size=60, reward_exponent=3.0)
            self.env, self.inputs = gfnx.BitseqEnvironment(reward, n=120, k=8), 15 * 257
            self.encode = lambda o: jax.nn.one_hot(o[1:], 257).reshape(-1)
        self.params = self.env.init(jax.random.PRNGKey(1))  # env_init_seed of the baselines
        self.forward, self.backward = self.env.action_space.n, self.env.backward_action_space.n


class Policy(eqx.Module):
    network: eqx.nn.MLP
    forward: int = eqx.field(static=True)
    backward: int = eqx.field(static=True)
    learned: bool = eqx.field(static=True)
    encode: callable = eqx.field(static=True)

    def __call__(self, obs):
        y = self.network(self.encode(obs))
        return y[: self.forward], y[self.forward :] if self.learned else jnp.zeros(self.backward)


def picked(logits, invalid, actions):
    log_probs = jax.nn.log_softmax(gfnx.utils.mask_logits(logits, invalid), axis=-1)
    return jnp.take_along_axis(log_probs, actions[..., None], axis=-1)[..., 0]


def run(a):
    task = Task(a)
    env, params = task.env, task.params
    init, key = jax.random.split(jax.random.key(a.seed))
    width = task.forward + (task.backward if a.learn_backward else 0)
    model = Policy(eqx.nn.MLP(task.inputs, width, a.width, a.depth, key=init), task.forward, task.backward, a.learn_backward, task.encode)
    weights, static = eqx.partition(model, eqx.is_array)
    learned = {"model": weights, "log_z": jnp.full((), a.log_z)}
    updates = a.trajectories // a.batch
    rate, rate_z = (optax.cosine_decay_schedule(r, updates, 0.01) if a.cosine else r for r in (a.lr, a.lr_z))
    adams = {"model": optax.adamw(rate, weight_decay=a.decay) if a.decay else optax.adam(rate), "log_z": optax.adam(rate_z)}
    optimiser = optax.multi_transform(adams, {"model": "model", "log_z": "log_z"})
    epsilon = optax.linear_schedule(a.eps, a.eps_end, max(a.eps_updates, 1))
    over_time = functools.partial(jax.vmap, in_axes=(1, None), out_axes=1)

    def rollout(weights, key, batch, eps):
        def act(key, obs, weights):
            logits = jax.vmap(eqx.combine(weights, static))(obs)[0]
            explore = jax.random.bernoulli(key, eps, (obs.shape[0],))
            return jnp.where(explore[:, None], 0.0, logits), {}

        return gfnx.utils.forward_rollout(
            rng_key=key, num_envs=batch, policy_fn=act, policy_params=weights, env=env, env_params=params
        )

    def sums(weights, t):
        forward, backward = jax.vmap(jax.vmap(eqx.combine(weights, static)))(t.obs)
        log_pf = picked(forward, over_time(env.get_invalid_mask)(t.state, params), t.action)
        before, after = (jax.tree.map(lambda x: x[:, s], t.state) for s in (slice(None, -1), slice(1, None)))
        undo = jax.vmap(env.get_backward_action, in_axes=(1, 1, 1, None), out_axes=1)(before, t.action[:, :-1], after, params)
        log_pb = picked(backward[:, 1:], over_time(env.get_invalid_backward_mask)(after, params), undo)
        last = t.pad[:, :-1]
        target = jnp.where(last, 0.0, log_pb).sum(1), jnp.where(last, 0.0, t.log_gfn_reward[:, :-1]).sum(1)
        return jnp.where(t.pad, 0.0, log_pf).sum(1), *target

    def loss(learned, t):
        log_pf, log_pb, log_r = sums(learned["model"], t)
        return optax.losses.squared_error(learned["log_z"] + log_pf, log_pb + log_r).mean()

    modes = None
    if a.task == "bitseq":
        modes = jnp.asarray(params.reward_params["mode_set"])

    def step(i, carry):
        learned, moments, key, found = carry
        key, roll = jax.random.split(key)
        t, info = rollout(learned["model"], roll, a.batch, epsilon(i))
        grads = jax.grad(loss)(learned, t)
        change, moments = optimiser.update(grads, moments, learned)
        if modes is not None:
            bits = jax.vmap(lambda x: gfnx.utils.bitseq.detokenize(x, 8))(info["final_env_state"].tokens)
            near = (bits[:, None] != modes[None]).sum(-1) < 30
            found = found | near.any(0)
        return optax.apply_updates(learned, change), moments, key, found

    @functools.partial(jax.jit, donate_argnums=(0,))
    def train(carry, first, last):
        return jax.lax.fori_loop(first, last, step, carry)

    found = jnp.zeros(60 if modes is not None else 1, bool)
    carry = (learned, optimiser.init(learned), key, found)
    began = time.perf_counter()
    carry = jax.block_until_ready(train(carry, 0, 1))
    compiled = time.perf_counter() - began
    began = time.perf_counter()
    carry = jax.block_until_ready(train(carry, 1, updates))
    out = {"seconds": time.perf_counter() - began, "compile_seconds": compiled, "log_z_learned": float(carry[0]["log_z"])}
    weights, key = carry[0]["model"], carry[2]

    @jax.jit
    def forward_log_probs(state):
        obs = env.get_obs(state, params)
        logits = jax.vmap(eqx.combine(weights, static))(obs)[0]
        return jax.nn.log_softmax(gfnx.utils.mask_logits(logits, env.get_invalid_mask(state, params)), axis=-1)

    measure = {"grid": grid, "tfbind8": tfbind8, "ising": ising, "bitseq": bitseq}[a.task]
    out.update(measure(a, task, forward_log_probs, lambda k, n: (rollout(weights, k, n, 0.0), sums), weights, key))
    if modes is not None:
        out["modes"] = int(carry[3].sum())
    return out


def total_variation(log_p, log_r):
    return 0.5 * np.abs(np.exp(log_p) - np.exp(log_r - logsumexp(log_r))).sum()


def grid(a, task, log_probs, sample, weights, key):
    states = task.env.get_all_states(task.params)
    lp = np.asarray(log_probs(states), np.float64).reshape(8, 8, 8, 8, 5)
    reach = np.full((8,) * 4, -np.inf)
    reach[0, 0, 0, 0] = 0
    ends = np.full((8,) * 4, -np.inf)
    for cell in np.ndindex(8, 8, 8, 8):  # lexicographic: parents first
        ends[cell] = reach[cell] + lp[cell][4]
        for d in range(4):
            if cell[d] < 7:
                to = cell[:d] + (cell[d] + 1,) + cell[d + 1 :]
                reach[to] = np.logaddexp(reach[to], reach[cell] + lp[cell][d])
    log_r = np.log(np.asarray(task.env.reward_module.reward(states, task.params), np.float64))
    return {"tv": total_variation(ends.reshape(-1), log_r)}


def tfbind8(a, task, log_probs, sample, weights, key):
    env = task.env
    reach = np.zeros(1)
    for length in range(8):
        index = np.arange(4**length)
        tokens = np.full((len(index), 8), env.pad_token)
        for i in range(length):
            tokens[:, i] = index // 4 ** (length - 1 - i) % 4
        lp = np.concatenate([np.asarray(log_probs(gfnx.environment.sequence.EnvState.from_tokens(jnp.asarray(t)))) for t in np.array_split(tokens, max(1, len(tokens) // 2048))])
        reach = (reach[:, None] + lp.astype(np.float64)).reshape(-1)
    return {"tv": total_variation(reach, np.log(np.asarray(task.env.reward_module.values, np.float64)))}


def ising(a, task, log_probs, sample, weights, key):
    logs = []
    one = jax.jit(lambda k: (lambda r, sums: sums(weights, r[0]))(*sample(k, 1000)))
    for k in jax.random.split(key, 20):
        log_pf, log_pb, log_r = (np.asarray(x, np.float64) for x in one(k))
        logs.append(log_r + log_pb - log_pf)
    w = np.concatenate(logs)
    n = len(w)
    return {"log_z": float(logsumexp(w) - math.log(n)), "elbo": float(w.mean()), "ess": float(np.exp(2 * logsumexp(w) - logsumexp(2 * w))) / n, "samples": n}


def bits(path):
    with open(path) as f:
        return jnp.array([[c == "1" for c in line.strip()] for line in f])


def bitseq(a, task, log_probs, sample, weights, key):
    modes = jnp.asarray(task.params.reward_params["mode_set"])
    if a.tests:
        tests = bits(a.tests)
    else:
        tests = construct_binary_test_set(jax.random.PRNGKey(2), modes)  # eval_init_seed of the baselines
    if a.dump:
        for name, rows in ("modes", modes), ("tests", tests):
            with open(f"{a.dump}.{name}.txt", "w") as f:
                f.writelines("".join("01"[int(b)] for b in row) + "\n" for row in np.asarray(rows))
    tokens = np.asarray(jax.vmap(lambda b: tokenize(b, 8))(tests))
    rng = np.random.default_rng(a.seed)
    rounds = []
    for _ in range(10):  # log P(x) by 10 backward rollouts of the uniform P_B, as TestCorrelationMetricsModule does
        order = rng.permuted(np.tile(np.arange(15), (len(tokens), 1)), axis=1)
        now, total = np.full_like(tokens, task.env.pad_token), np.zeros(len(tokens))
        rows = np.arange(len(tokens))
        for place in order.T:
            action = place * 256 + tokens[rows, place]
            for part in np.array_split(rows, 8):
                lp = log_probs(gfnx.environment.sequence.EnvState.from_tokens(jnp.asarray(now[part])))
                total[part] += np.asarray(lp)[np.arange(len(part)), action[part]]
            now[rows, place] = tokens[rows, place]
        rounds.append(total + math.lgamma(16))
    log_p = logsumexp(rounds, axis=0) - math.log(len(rounds))
    distance = np.asarray((tests[:, None] != modes[None]).sum(-1).min(1))
    return {"spearman": float(spearmanr(log_p, -3.0 * distance / 120).statistic), "tests": len(tokens)}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--task", choices=["grid", "tfbind8", "ising", "bitseq"], required=True)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--trajectories", type=int, required=True)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--lr-z", type=float, default=0.1)
    p.add_argument("--cosine", action="store_true", help="both rates fall to a hundredth by a cosine")
    p.add_argument("--log-z", type=float, default=0.0, help="where log Z begins")
    p.add_argument("--eps", type=float, default=0.0)
    p.add_argument("--eps-end", type=float, default=0.0)
    p.add_argument("--eps-updates", type=int, default=0)
    p.add_argument("--decay", type=float, default=0.0)
    p.add_argument("--width", type=int, default=256)
    p.add_argument("--depth", type=int, default=2)
    p.add_argument("--learn-backward", action="store_true")
    p.add_argument("--r0", type=float, default=0.1)
    p.add_argument("--sigma", type=float, default=0.1)
    p.add_argument("--table")
    p.add_argument("--tests", help="test set of bitseq, one string a line; without it gfnx draws it, which takes minutes")
    p.add_argument("--dump", help="write the modes and the test set of bitseq to files with this prefix")
    a = p.parse_args()
    out = run(a)
    out["settings"] = {k: v for k, v in vars(a).items() if k not in ("table", "dump", "tests")}
    out["versions"] = {n: version(n) for n in ("gfnx", "jax", "equinox", "optax")}
    print(json.dumps(out))


if __name__ == "__main__":
    main()
