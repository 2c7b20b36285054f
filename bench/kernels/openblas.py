"""Times OpenBLAS's sgemm as NumPy carries it, on one core, and prints JSON.

usage: openblas.py SECONDS M [M...]    products (M×256)·(256×256)
"""
import json
import sys
import time

import numpy as np


def rate(m: int, seconds: float) -> float:
    """Best rate in GFLOP/s over windows of the given length in all."""
    r = np.random.default_rng(1)
    a = r.standard_normal((m, 256)).astype(np.float32)
    b = r.standard_normal((256, 256)).astype(np.float32)
    out = np.empty((m, 256), np.float32)
    flops = 2 * m * 256 * 256
    calls = max(1, int(2e8 / flops))
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        begin = time.perf_counter()
        for _ in range(calls):
            np.matmul(a, b, out=out)
        best = max(best, calls * flops / (time.perf_counter() - begin) / 1e9)
    return best


if __name__ == "__main__":
    seconds = float(sys.argv[1])
    config = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    json.dump(
        {
            "library": f"{config['name']} {config['version']} (NumPy {np.__version__})",
            "rates": {m: rate(int(m), seconds) for m in sys.argv[2:]},
        },
        sys.stdout,
    )
