"""A reward that answers small batches, and large ones only when FOLDER holds a file
named go: slow.py FOLDER, where it leaves a file named asked."""

import os
import sys
import time

import driftmesh


@driftmesh.reward(objects=driftmesh.numbers)
def slow(x):
    if len(x) > 8 and not os.path.exists(os.path.join(sys.argv[1], "go")):
        open(os.path.join(sys.argv[1], "asked"), "w").close()
        time.sleep(1e6)
    return 1.0 + x.sum(axis=1)


driftmesh.serve(slow)
