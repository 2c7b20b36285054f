"""The hypergrid with the standard reward, in batches."""

import driftmesh
import numpy as np


class Grid(driftmesh.BatchEnv):
    def __init__(self, dim=2, height=8, r0=0.001, r1=0.5, r2=2.0):
        self.actions, self.height = dim, height
        self.features, self.max_steps = dim * height, dim * (height - 1) + 1
        self.r0, self.r1, self.r2 = r0, r1, r2

    def start(self):
        return np.zeros(self.actions, dtype=np.int16)

    def legal(self, x):
        return x < self.height - 1

    def legal_back(self, x):
        return x > 0

    def step(self, x, a):
        return x + (np.arange(self.actions) == a[:, None])

    def undo(self, x, a):
        return x - (np.arange(self.actions) == a[:, None])

    def active(self, x):
        return (x[:, :, None] == np.arange(self.height)).reshape(len(x), -1)

    def log_reward(self, x):
        off = np.abs(x / (self.height - 1) - 0.5)
        return np.log(self.r0 + self.r1 * (off > 0.25).all(axis=1) + self.r2 * ((off > 0.3) & (off < 0.4)).all(axis=1))


driftmesh.serve(Grid)
