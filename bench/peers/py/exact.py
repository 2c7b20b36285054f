"""The exact distribution of a policy over a grid, for the peers.

Lists over all cells are in C order: the last coordinate varies fastest. Action
i < dim steps coordinate i, action dim stops. Nothing but Python, in its binary64:
the test needs no packages, and evaluations are not timed.
"""

import itertools
import math


def cells(dim, height):
    """The coordinates of all cells."""
    return list(itertools.product(range(height), repeat=dim))


def terminating(log_probs, dim, height):
    """How likely a trajectory ends in each cell, by dynamic programming.

    log_probs[cell][action] is log P_F; what leads out of the grid is not read.
    """
    out = []
    reach = [0.0] * height**dim
    reach[0] = 1.0
    strides = [height ** (dim - 1 - i) for i in range(dim)]
    # Every step leads to a cell further on in this order.
    for here, x in enumerate(cells(dim, height)):
        for i, stride in enumerate(strides):
            if x[i] < height - 1:
                reach[here + stride] += reach[here] * math.exp(log_probs[here][i])
        out.append(reach[here] * math.exp(log_probs[here][dim]))
    return out


def total_variation(log_probs, rewards, dim, height):
    """The distance between what a policy samples and the rewards, from 0 to 1."""
    z = math.fsum(rewards)
    model = terminating(log_probs, dim, height)
    return 0.5 * math.fsum(abs(q - r / z) for q, r in zip(model, rewards))
