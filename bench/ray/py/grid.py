"""The hypergrid, its policy and its learner in numpy: the same model, loss and
optimiser as the job of the other side, vectorised over a batch.

The policy is a network of two hidden layers over one-hot coordinates with a head
for P_F and one for P_B. The loss is f-TB's squared Hellinger distance with a
learned log Z. States that coincide in a batch are scored once.
"""

import numpy as np

SLOPE = 0.01  # of leaky ReLU below zero


class Grid:
    """A grid of `dim` dimensions and `height` cells a side; action `dim` stops."""

    def __init__(self, dim, height, r0, r1, r2):
        self.dim, self.height = dim, height
        m = height - 1
        x = np.arange(height)
        outer = (4 * x < m) | (4 * x > 3 * m)
        band = ((m < 10 * x) & (10 * x < 2 * m)) | ((8 * m <= 10 * x) & (10 * x < 9 * m))
        self.zone = np.where(band, 2, np.where(outer, 1, 0))
        self.log_r = np.log([r0, r0 + r1, r0 + r1 + r2])

    def log_reward(self, cells):
        return self.log_r[self.zone[cells].min(axis=1)]

    def features(self, cells):
        n = len(cells)
        x = np.zeros((n, self.dim, self.height), np.float32)
        x[np.arange(n)[:, None], np.arange(self.dim), cells] = 1
        return x.reshape(n, -1)

    def forward_mask(self, cells):
        return np.hstack([cells < self.height - 1, np.ones((len(cells), 1), bool)])


def shapes(grid, hidden):
    """Names and shapes of the parameters, in the order of the flat vector."""
    features = grid.dim * grid.height
    a, b = hidden
    return [
        ("w0", (features, a)), ("b0", (a,)), ("w1", (a, b)), ("b1", (b,)),
        ("wf", (b, grid.dim + 1)), ("bf", (grid.dim + 1,)), ("wb", (b, grid.dim)), ("bb", (grid.dim,)),
        ("log_z", (1,)),
    ]


def views(flat, layout):
    out, at = {}, 0
    for name, shape in layout:
        size = int(np.prod(shape))
        out[name] = flat[at:at + size].reshape(shape)
        at += size
    return out


def initial(layout, seed):
    rng = np.random.default_rng(seed)
    flat = np.zeros(sum(int(np.prod(s)) for _, s in layout), np.float32)
    for name, w in views(flat, layout).items():
        if name.startswith("w"):
            bound = np.sqrt(6 / w.shape[0]) if name in ("w0", "w1") else np.sqrt(1 / w.shape[0])
            w[:] = rng.uniform(-bound, bound, w.shape)
    return flat


def leaky(z):
    return np.maximum(z, SLOPE * z)


def log_softmax(logits, mask):
    logits = np.where(mask, logits, -np.inf)
    top = logits.max(axis=1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)  # s0 has no backward action
    total = np.exp(logits - top).sum(axis=1, keepdims=True)
    return logits - top - np.log(np.maximum(total, 1e-300))


def trunk(p, x):
    h0 = leaky(x @ p["w0"] + p["b0"])
    return h0, leaky(h0 @ p["w1"] + p["b1"])


class Sampler:
    """Rolls out n trajectories at once, one step of all of them after the other."""

    def __init__(self, grid, hidden, seed):
        self.grid, self.layout = grid, shapes(grid, hidden)
        self.rng = np.random.default_rng(seed)

    def sample(self, flat, version, n):
        p, grid = views(flat, self.layout), self.grid
        cells = np.zeros((n, grid.dim), np.int32)
        log_q = np.zeros(n)
        active, chosen, rows = np.arange(n), [], []
        while len(active):
            at = cells[active]
            _, h = trunk(p, grid.features(at))
            lp = log_softmax((h @ p["wf"] + p["bf"]).astype(np.float64), grid.forward_mask(at))
            cum = np.exp(lp).cumsum(axis=1)
            action = (self.rng.random((len(active), 1)) * cum[:, -1:] >= cum).sum(axis=1)
            log_q[active] += lp[np.arange(len(active)), action]
            chosen.append(action.astype(np.int32))
            rows.append(active)
            on = action < grid.dim
            active = active[on]
            cells[active, action[on]] += 1
        rows = np.concatenate(rows)
        order = np.argsort(rows, kind="stable")  # by trajectory, then by step
        return {
            "version": version,
            "lengths": np.bincount(rows, minlength=n).astype(np.int32),
            "actions": np.concatenate(chosen)[order],
            "log_reward": grid.log_reward(cells),
            "log_behaviour": log_q,
        }


class Learner:
    """f-TB updates with Adam on the flat vector."""

    def __init__(self, grid, hidden, seed, rate, log_z_rate):
        self.grid, self.layout = grid, shapes(grid, hidden)
        self.flat = initial(self.layout, seed)
        self.m, self.v = np.zeros_like(self.flat), np.zeros_like(self.flat)
        self.rate = np.full_like(self.flat, rate)
        self.rate[-1] = log_z_rate
        self.version = 0

    def gradient(self, batch):
        """Returns the loss and its gradient."""
        grid, p = self.grid, views(self.flat, self.layout)
        actions, lengths = batch["actions"], batch["lengths"]
        n, dim = len(lengths), grid.dim
        ends = lengths.cumsum()
        owner = np.repeat(np.arange(n), lengths)
        steps = np.zeros((len(actions) + 1, dim), np.int32)  # replays the actions
        walks = actions < dim
        steps[1:][walks, actions[walks]] = 1
        steps = steps.cumsum(axis=0)
        cells = steps[:-1] - steps[ends - lengths][owner]
        ids = cells @ (grid.height ** np.arange(dim))
        _, first, at = np.unique(ids, return_index=True, return_inverse=True)
        cells = cells[first]

        x = grid.features(cells)
        h0, h1 = trunk(p, x)
        lf = log_softmax((h1 @ p["wf"] + p["bf"]).astype(np.float64), grid.forward_mask(cells))
        lb = log_softmax((h1 @ p["wb"] + p["bb"]).astype(np.float64), cells > 0)
        into = at[1:][walks[:-1]]  # the state that a step leads to comes next
        by = actions[:-1][walks[:-1]]
        log_pf = np.bincount(owner, lf[at, actions], n)
        log_pb = np.bincount(owner[:-1][walks[:-1]], lb[into, by], n)
        delta = p["log_z"][0] + log_pf - log_pb - batch["log_reward"]
        loss = np.mean(2 * delta + 4 * np.expm1(-delta / 2))
        w = -2 * np.expm1(-delta / 2) / n  # g'(delta), of the mean

        grad = np.zeros_like(self.flat)
        g = views(grad, self.layout)
        u = len(cells)
        df = np.bincount(at * (dim + 1) + actions, w[owner], u * (dim + 1)).reshape(u, -1)
        df -= df.sum(axis=1, keepdims=True) * np.exp(lf)
        db = np.bincount(into * dim + by, -w[owner[:-1][walks[:-1]]], u * dim).reshape(u, -1)
        db -= db.sum(axis=1, keepdims=True) * np.where(cells > 0, np.exp(lb), 0)
        df, db = df.astype(np.float32), db.astype(np.float32)
        g["wf"][:], g["bf"][:] = h1.T @ df, df.sum(axis=0)
        g["wb"][:], g["bb"][:] = h1.T @ db, db.sum(axis=0)
        d1 = (df @ p["wf"].T + db @ p["wb"].T) * np.where(h1 >= 0, 1, SLOPE).astype(np.float32)
        g["w1"][:], g["b1"][:] = h0.T @ d1, d1.sum(axis=0)
        d0 = (d1 @ p["w1"].T) * np.where(h0 >= 0, 1, SLOPE).astype(np.float32)
        g["w0"][:], g["b0"][:] = x.T @ d0, d0.sum(axis=0)
        g["log_z"][0] = w.sum()
        return loss, grad

    def step(self, batch):
        loss, grad = self.gradient(batch)
        self.version += 1
        self.m += 0.1 * (grad - self.m)
        self.v += 0.001 * (grad * grad - self.v)
        m, v = self.m / (1 - 0.9 ** self.version), self.v / (1 - 0.999 ** self.version)
        self.flat -= self.rate * m / (np.sqrt(v) + np.float32(1e-8))
        return loss
