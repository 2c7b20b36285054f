"""A trivial reward of an array."""

import driftmesh


@driftmesh.reward(objects=driftmesh.numbers)
def total(x):
    return 1.0 + x.sum(axis=1)


driftmesh.serve(total)
