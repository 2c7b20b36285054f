"""gfnx, called as its own baseline (tb_hypergrid.py) does: the whole loop compiled."""

import functools
from importlib.metadata import version

import equinox as eqx
import gfnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from gfnx.reward.hypergrid import GeneralHypergridRewardModule

import serve


class Policy(eqx.Module):
    network: eqx.nn.MLP
    forward: int = eqx.field(static=True)
    backward: int = eqx.field(static=True)
    uniform: bool = eqx.field(static=True)

    def __call__(self, x):
        y = self.network(x)
        return y[: self.forward], jnp.zeros(self.backward) if self.uniform else y[self.forward :]


# Compiled once for each shape: parameters, learning rates and rewards are arguments.
@functools.lru_cache(maxsize=None)
def compiled(dim, height, batch, uniform):
    env = gfnx.HypergridEnvironment(GeneralHypergridRewardModule(), dim=dim, side=height)
    width = dim + 1 + (0 if uniform else dim)

    def fresh(key):
        return Policy(eqx.nn.MLP(dim * height, width, 256, 2, key=key), dim + 1, dim, uniform)

    _, static = eqx.partition(fresh(jax.random.key(0)), eqx.is_array)

    def rewarded(r):
        env.reward_module.R0, env.reward_module.R1, env.reward_module.R2 = r
        return env.init(jax.random.key(0))

    def rollout(weights, key, params):
        def act(_, obs, weights):
            return jax.vmap(eqx.combine(weights, static))(obs)[0], {}

        return gfnx.utils.forward_rollout(
            rng_key=key, num_envs=batch, policy_fn=act, policy_params=weights, env=env, env_params=params
        )

    def picked(logits, invalid, actions):
        log_probs = jax.nn.log_softmax(gfnx.utils.mask_logits(logits, invalid), axis=-1)
        return jnp.take_along_axis(log_probs, actions[..., None], axis=-1)[..., 0]

    def loss(learned, t, params):
        forward, backward = jax.vmap(jax.vmap(eqx.combine(learned["model"], static)))(t.obs)
        over_time = functools.partial(jax.vmap, in_axes=(1, None), out_axes=1)
        log_pf = picked(forward, over_time(env.get_invalid_mask)(t.state, params), t.action)
        before, after = (jax.tree.map(lambda x: x[:, s], t.state) for s in (slice(None, -1), slice(1, None)))
        undo = jax.vmap(env.get_backward_action, in_axes=(1, 1, 1, None), out_axes=1)(before, t.action[:, :-1], after, params)
        log_pb = picked(backward[:, 1:], over_time(env.get_invalid_backward_mask)(after, params), undo)
        log_pf = jnp.where(t.pad, 0.0, log_pf).sum(1)
        target = jnp.where(t.pad[:, :-1], 0.0, log_pb + t.log_gfn_reward[:, :-1]).sum(1)
        return optax.losses.squared_error(learned["log_z"] + log_pf, target).mean()

    def optimiser(rates):
        adams = {"model": optax.adam(rates[0]), "log_z": optax.adam(rates[1])}
        return optax.multi_transform(adams, {"model": "model", "log_z": "log_z"})

    def step(rates, r, carry):
        learned, moments, key, steps = carry
        params = rewarded(r)
        key, roll = jax.random.split(key)
        t, info = rollout(learned["model"], roll, params)
        _, grads = jax.value_and_grad(loss)(learned, t, params)
        change, moments = optimiser(rates).update(grads, moments, learned)
        return optax.apply_updates(learned, change), moments, key, steps + info["trajectory_length"].sum()

    @functools.partial(jax.jit, donate_argnums=(0,))
    def train(carry, rates, r, updates):
        return jax.lax.fori_loop(0, updates, lambda _, c: step(rates, r, c), carry)

    @jax.jit
    def sample(weights, key, r, batches):
        params = rewarded(r)

        # Actions, states and rewards are results: nothing may be left out as unused.
        def one(_, c):
            key, roll = jax.random.split(c[0])
            t, info = rollout(weights, roll, params)
            return key, c[1] + info["trajectory_length"].sum(), t.action, info["final_env_state"].state, info["log_gfn_reward"]

        t, info = jax.eval_shape(rollout, weights, key, params)
        blank = [jnp.zeros(x.shape, x.dtype) for x in (t.action, info["final_env_state"].state, info["log_gfn_reward"])]
        return jax.lax.fori_loop(0, batches, one, (key, jnp.zeros((), jnp.int32), *blank))

    @jax.jit
    def log_probs(weights):
        params = rewarded((1.0, 1.0, 1.0))
        states = env.get_all_states(params)
        logits = jax.vmap(eqx.combine(weights, static))(env.get_obs(states, params))[0]
        return jax.nn.log_softmax(gfnx.utils.mask_logits(logits, env.get_invalid_mask(states, params)), axis=-1)

    @jax.jit
    def rewards(r):
        params = rewarded(r)
        return env.reward_module.reward(env.get_all_states(params), params)

    return fresh, optimiser, train, sample, log_probs, rewards


class Side:
    def versions(self):
        return {p: version(p) for p in ("gfnx", "jax", "equinox", "optax")}

    def open(self, request):
        grid, self.batch = request["grid"], request["batch"]
        fresh, optimiser, self._train, self._sample, self._log_probs, self._rewards = compiled(
            grid["dim"], grid["height"], self.batch, request["backward"] == "uniform"
        )
        init, key = jax.random.split(jax.random.key(request["seed"]))
        model = fresh(init)
        log_z = jnp.zeros(())
        if request.get("params"):
            t = serve.tensors(request, grid)
            heads = [("wf", "bf")] + ([("wb", "bb")] if "wb" in t else [])
            layers = [(t["w0"].T, t["b0"]), (t["w1"].T, t["b1"])]
            layers.append(tuple(np.concatenate([t[h[i]] for h in heads]) for i in (0, 1)))
            where = lambda m: [x for l in m.network.layers for x in (l.weight, l.bias)]
            model = eqx.tree_at(where, model, [jnp.asarray(x) for l in layers for x in l])
            log_z = jnp.asarray(t["log_z"])
        learned = {"model": eqx.filter(model, eqx.is_array), "log_z": log_z}
        self.rates = jnp.array([request["lr"], request["lr_z"]], jnp.float32)
        self.r = tuple(jnp.float32(grid[k]) for k in ("r0", "r1", "r2"))
        self.carry = (learned, optimiser(self.rates).init(learned), key, jnp.zeros((), jnp.int32))

    def run(self, updates):
        learned, moments, key, _ = self.carry
        self.carry = self._train((learned, moments, key, jnp.zeros((), jnp.int32)), self.rates, self.r, updates)
        jax.block_until_ready(self.carry)
        return int(self.carry[3]) / (updates * self.batch)

    def sample(self, batches):
        learned, moments, key, steps = self.carry
        out = jax.block_until_ready(self._sample(learned["model"], key, self.r, batches))
        self.carry = (learned, moments, out[0], steps)
        return int(out[1]) / (batches * self.batch)

    def log_probs(self):
        return np.asarray(self._log_probs(self.carry[0]["model"]))

    def rewards(self):
        return np.asarray(self._rewards(self.r))

    def parameters(self):
        return sum(x.size for x in jax.tree.leaves(self.carry[0]))


if __name__ == "__main__":
    serve.main(Side())
