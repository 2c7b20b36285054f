"""A reward that crashes at its third batch, hangs at its sixth, and knows nothing of
one object: flaky.py FOLDER, where it counts."""

import os
import sys
import time

import driftmesh
import numpy as np


@driftmesh.reward(objects=driftmesh.numbers)
def flaky(x):
    path = os.path.join(sys.argv[1], "batches")
    with open(path, "a") as f:
        f.write(".")
    batches = os.path.getsize(path)
    if batches == 3:
        os.abort()
    if batches == 6:
        time.sleep(1e6)
    return np.where((x == 3).all(axis=1), np.nan, 1.0 + x.sum(axis=1))


driftmesh.serve(flaky)
