"""A reward of one's own on a hypergrid: x is good where it is far from the diagonal."""

import driftmesh
import numpy as np


@driftmesh.reward(objects=driftmesh.numbers)
def off_diagonal(x: np.ndarray, floor: float = 0.01):
    spread = x.max(axis=1) - x.min(axis=1)  # x has one row an object
    return floor + (spread >= 6)


if __name__ == "__main__":
    driftmesh.serve(off_diagonal)
