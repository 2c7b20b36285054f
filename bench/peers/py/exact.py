"""The exact distribution of a policy over a grid, for the peers.

Arrays over all cells are in C order: the last coordinate varies fastest. Action
i < dim steps coordinate i, action dim stops. Everything is in float64.
"""

import numpy as np


def cells(dim, height):
    """The coordinates of all cells, [height ** dim, dim]."""
    return np.stack(np.unravel_index(np.arange(height**dim), (height,) * dim), axis=-1)


def terminating(log_probs, dim, height):
    """How likely a trajectory ends in each cell, by dynamic programming.

    log_probs: [height ** dim, dim + 1], log P_F of every action in every cell.
    """
    x = cells(dim, height)
    probs = np.exp(np.asarray(log_probs, np.float64))
    reach = np.zeros(len(x))
    reach[0] = 1
    level = x.sum(-1)  # every step leads one level up
    order = np.argsort(level, kind="stable")
    ends = np.cumsum(np.bincount(level))
    for begin, end in zip(np.concatenate([[0], ends[:-1]]), ends):
        here = order[begin:end]
        for i in range(dim):
            moving = here[x[here, i] < height - 1]
            reach[moving + height ** (dim - 1 - i)] += reach[moving] * probs[moving, i]
    return reach * probs[:, dim]


def total_variation(log_probs, rewards, dim, height):
    """The distance between what a policy samples and the rewards, from 0 to 1."""
    rewards = np.asarray(rewards, np.float64)
    target = rewards / rewards.sum()
    return 0.5 * float(np.abs(terminating(log_probs, dim, height) - target).sum())
