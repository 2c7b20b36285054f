"""python -m unittest discover bench/ray/py"""

import unittest

import numpy as np

from grid import Grid, Learner, Sampler, shapes


class TestLearner(unittest.TestCase):
    def setUp(self):
        self.grid = Grid(2, 5, 0.1, 0.5, 2.0)
        self.learner = Learner(self.grid, (6, 5), 1, 1e-2, 0.1)
        self.sampler = Sampler(self.grid, (6, 5), 2)

    def test_gradient_is_that_of_the_loss(self):
        batch = self.sampler.sample(self.learner.flat, 0, 16)
        # In float64: differences of float32 say nothing.
        self.learner.flat = self.learner.flat.astype(np.float64)
        _, grad = self.learner.gradient(batch)
        for i in range(0, len(grad), 3):
            ends = []
            for h in (1e-6, -2e-6):
                self.learner.flat[i] += h
                ends.append(self.learner.gradient(batch)[0])
            self.learner.flat[i] += 1e-6
            self.assertAlmostEqual(grad[i], (ends[0] - ends[1]) / 2e-6, delta=1e-4)

    def test_it_learns_log_z(self):
        cells = np.stack(np.meshgrid(range(5), range(5)), -1).reshape(-1, 2)
        exact = np.log(np.exp(self.grid.log_reward(cells)).sum())
        for _ in range(1500):
            self.learner.step(self.sampler.sample(self.learner.flat, 0, 32))
        self.assertAlmostEqual(self.learner.flat[-1], exact, delta=0.1)


if __name__ == "__main__":
    unittest.main()
