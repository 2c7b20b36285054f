"""python -m unittest discover bench/peers/py"""

import json
import pathlib
import unittest

import exact


class TestExact(unittest.TestCase):
    def test_it_is_what_driftmesh_computes(self):
        path = pathlib.Path(__file__).parent.parent / "testdata" / "exact.json"
        for case in json.loads(path.read_text()):
            dim, height = case["dim"], case["height"]
            model = exact.terminating(case["log_probs"], dim, height)
            self.assertAlmostEqual(sum(model), 1, delta=1e-6)
            for got, want in zip(model, case["terminating"], strict=True):
                self.assertAlmostEqual(got, want, delta=1e-9)
            tv = exact.total_variation(case["log_probs"], case["rewards"], dim, height)
            self.assertAlmostEqual(tv, case["tv"], delta=1e-9)


if __name__ == "__main__":
    unittest.main()
