"""The least that a reward can do."""

import driftmesh


@driftmesh.reward
def one(texts):
    return [1.0] * len(texts)


driftmesh.serve(one)
