"""Sets of up to three items, with a fault that nothing on this side looks for, as in a
language whose package checks nothing."""

import driftmesh
from driftmesh import _env

_env._Server.checked = lambda self, rows: self.nodes(rows)


class Careless(driftmesh.Env):
    actions = features = 3

    def __init__(self, fault=""):
        self.fault = fault
        self.max_steps = 3 if fault == "max_steps" else 4

    def legal(self, s):
        return [a for a in range(3) if a not in s]

    def step(self, s, a):
        if self.fault == "two ways" and (s, a) == ((2,), 1):
            return (0, 1)
        return tuple(sorted(s + (a,)))

    def undo(self, s, a):
        if self.fault == "parents" and len(s) == 2 and a == s[1]:
            return ()
        if self.fault == "claims":
            return tuple(x for x in s if x != a) if s else None
        return tuple(x for x in s if x != a) if a in s else None

    def active(self, s):
        return s

    def text(self, s):
        return "a set\n" if self.fault == "texts" and len(s) == 2 else super().text(s)

    def log_reward(self, s):
        return 0.0


driftmesh.serve(Careless)
