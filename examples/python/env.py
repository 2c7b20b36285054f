import math

import driftmesh


class Knapsack(driftmesh.Env):  # choose items that fit into it, in any order
    def __init__(self, weights=(3, 5, 7, 4, 6, 2, 8, 5), values=(2, 6, 7, 3, 5, 1, 9, 4), capacity=18):
        self.weights, self.values, self.capacity = weights, values, capacity
        self.actions = self.features = len(weights)
        self.max_steps = len(weights) + 1  # with the stop action

    def legal(self, chosen):
        left = self.capacity - sum(self.weights[i] for i in chosen)
        return [i for i in range(self.actions) if i not in chosen and self.weights[i] <= left]

    def step(self, chosen, item):
        return tuple(sorted(chosen + (item,)))

    def undo(self, chosen, item):
        return tuple(i for i in chosen if i != item) if item in chosen else None

    def active(self, chosen):
        return chosen

    def log_reward(self, chosen):
        return 3 * math.log(0.1 + sum(self.values[i] for i in chosen))


if __name__ == "__main__":
    driftmesh.serve(Knapsack)
