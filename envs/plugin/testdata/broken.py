"""Count to three, with a fault."""

import driftmesh


class broken(driftmesh.Env):
    features, max_steps = 4, 5

    def __init__(self, fault):
        self.fault = fault
        if fault != "no actions":
            self.actions = 1
        else:
            self.actions = None
        if fault == "too many":
            self.max_steps = 1 << 30

    def start(self):
        return 0

    def legal(self, n):
        return [0] if n < 3 and self.fault != "dead end" or self.fault == "cycle" else []

    def can_stop(self, n):
        return self.fault != "dead end"

    def step(self, n, a):
        if self.fault == "raises":
            return {}["nothing"]
        return (n + 1) % 3 if self.fault == "cycle" else n + 1

    def undo(self, n, a):
        if self.fault == "one way":
            return None
        return (n - 1) % 3 if self.fault == "cycle" else n - 1 if n > 0 else None

    def active(self, n):
        return [9] if self.fault == "features" else [n]

    def log_reward(self, n):
        return 0.0


driftmesh.serve(broken)
