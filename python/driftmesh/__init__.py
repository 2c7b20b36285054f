"""Rewards and environments for Driftmesh in Python, and a client for its runs.

A reward is a decorated function, an environment a class; Driftmesh starts the
file that holds it and talks to it over pipes. See docs/PYTHON.md.
"""

from ._env import BatchEnv, Env
from ._objects import characters, numbers
from ._reward import reward
from ._serve import PROTOCOL, serve
from .client import Client, DriftmeshError, load_archive, load_checkpoint, load_metrics

__all__ = [
    "PROTOCOL", "BatchEnv", "Client", "DriftmeshError", "Env", "characters", "load_archive",
    "load_checkpoint", "load_metrics", "numbers", "reward", "serve",
]
