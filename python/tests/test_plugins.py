"""The plugin's side by itself: what a request is answered with."""

import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

import msgpack
import numpy as np

import driftmesh
from driftmesh._reward import judged

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Process:
    """A plugin as Driftmesh runs it."""

    def __init__(self, *command):
        self.p = subprocess.Popen([sys.executable, *map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ask(self, **request):
        body = msgpack.packb({"id": 7, **request}, unicode_errors="surrogateescape")
        self.p.stdin.write(struct.pack(">I", len(body)) + body)
        self.p.stdin.flush()
        (size,) = struct.unpack(">I", self.p.stdout.read(4))
        answer = msgpack.unpackb(self.p.stdout.read(size))
        assert answer["id"] == 7
        return answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.stdin.close()
        self.p.wait(timeout=60)  # the end of its input ends it
        self.p.stdout.close()
        self.p.stderr.close()


class Objects(unittest.TestCase):
    def test_numbers(self):
        got = driftmesh.numbers(["(3,0,7)", "(1,2,3)"])
        self.assertEqual(got.tolist(), [[3, 0, 7], [1, 2, 3]])
        self.assertEqual(got.dtype, np.int64)
        self.assertEqual(driftmesh.numbers(["[0.5, -2]"]).tolist(), [[0.5, -2.0]])
        self.assertEqual(driftmesh.numbers(["(1e3)"]).tolist(), [[1000.0]])
        for bad in (["(1,2)", "(1)"], [], ["()"], ["(a)"], ["beta (1)"], ["beta=? (1)"]):
            with self.assertRaises(ValueError):
                driftmesh.numbers(bad)
        with self.assertRaisesRegex(ValueError, "'ACGT'.*characters"):
            driftmesh.numbers(["(1)", "ACGT"])

    def test_numbers_with_a_condition(self):
        got = driftmesh.numbers(["beta=0.25 (3,0)", "beta=1 (12,7)"])
        self.assertEqual(got.tolist(), [[0.25, 3, 0], [1, 12, 7]])
        alone = driftmesh.numbers(["beta=1 (3,0)"])  # a temperature is a float in every batch
        self.assertEqual((alone.tolist(), alone.dtype), ([[1, 3, 0]], np.float64))
        self.assertEqual(driftmesh.numbers(["beta=1e-05 (3,0)"]).tolist(), [[1e-5, 3, 0]])

    def test_characters(self):
        self.assertEqual((driftmesh.characters(["ACG", "GGG"]) == ord("G")).sum(axis=1).tolist(), [1, 3])
        with self.assertRaises(ValueError):
            driftmesh.characters(["AC", "ACGT"])


class Rewards(unittest.TestCase):
    def values(self, answer):
        return np.frombuffer(answer["log_rewards"]).tolist()

    def test_judged(self):
        good = judged(["a", "b"], lambda x: [1, np.e], log=False)
        self.assertEqual(self.values(good), [0, 1])
        self.assertNotIn("errors", good)
        bad = judged(["a", "b", "c"], lambda x: [1, -1, np.inf], log=False)
        self.assertEqual([i for i, _ in bad["errors"]], [1, 2])
        self.assertTrue(np.isnan(self.values(bad)[1:]).all())
        self.assertEqual(self.values(judged(["a"], lambda x: [-3.5], log=True)), [-3.5])

    def test_one_by_one(self):
        def values(objects):
            if "b" in objects:
                raise KeyError("b")
            return [2.0] * len(objects)

        got = judged(["a", "b", "c"], values, log=True)
        self.assertEqual(got["errors"], [[1, "KeyError: 'b'"]])
        self.assertEqual([self.values(got)[i] for i in (0, 2)], [2, 2])

    def test_each_and_params(self):
        @driftmesh.reward(each=True)
        def length(text, scale=1.0):
            return scale * len(text)

        self.assertEqual(length("abc"), 3)
        bound = length._bind({"scale": 2.0})
        self.assertAlmostEqual(self.values(bound.answer({"op": "reward", "texts": ["abc"]}))[0], np.log(6))
        with self.assertRaisesRegex(TypeError, "reward.params does not fit length"):
            length._bind({"wrong": 1})

    def test_data_is_in_the_hash(self):
        with tempfile.TemporaryDirectory() as d:
            script, table = pathlib.Path(d, "r.py"), pathlib.Path(d, "t.csv")
            script.write_text("import driftmesh\n@driftmesh.reward(data=['t.csv'])\ndef r(t):\n    return [1.0] * len(t)\ndriftmesh.serve(r)\n")
            hashes = set()
            for content in ("a", "b", "a"):
                table.write_text(content)
                with Process(script) as p:
                    hashes.add(p.ask(op="hello", protocol=1)["data"])
        self.assertEqual(len(hashes), 2)

    def test_protocol(self):
        with Process(ROOT / "examples/python/reward.py") as p:
            self.assertIn("a request before hello", p.ask(op="reward", texts=["(1,2)"])["error"])
            self.assertIn("protocol 2", p.ask(op="hello", protocol=2)["error"])
            self.assertEqual(p.ask(op="hello", protocol=1, params={"floor": 1})["kind"], "reward")
            self.assertIn("cannot answer 'step'", p.ask(op="step", states=[])["error"])
            self.assertEqual(self.values(p.ask(op="reward", texts=["(1,2)", "(0,7)"])), [0, np.log(2)])


class Environments(unittest.TestCase):
    def test_example(self):
        with Process(ROOT / "examples/python/env.py") as p:
            hello = p.ask(op="hello", protocol=1, params={"capacity": 7})
            self.assertEqual(hello["kind"], "env")
            self.assertEqual(hello["spec"]["actions"], 8)
            self.assertEqual(hello["texts"], ["[]"])
            step = p.ask(op="step", states=hello["states"] * 2, actions=np.array([3, 8], dtype="<i4").tobytes())
            self.assertEqual(step["texts"], ["[3]", "[]"])
            self.assertEqual(step["terminal"], b"\x00\x01")
            self.assertEqual(p.ask(op="parse", texts=["[0,3]"])["terminal"], b"\x01")
            for text in ("[3,0]", "[0, 3]", "[0,99]", "[6]", "7", "", "[[0]]", "\udcff[0]"):
                self.assertIn("error", p.ask(op="parse", texts=[text]), text)

    def test_max_steps_too_small(self):
        with Process(ROOT / "envs/plugin/testdata/careless.py") as p:
            p.ask(op="hello", protocol=1, params={"fault": "max_steps"})
            self.assertEqual(p.ask(op="parse", texts=["[0,2]"])["texts"], ["[0,2]"])
            self.assertIn("max_steps is 3, and '[0,1,2]' is further from the start", p.ask(op="parse", texts=["[0,1,2]"])["error"])

    def test_faults_of_methods(self):
        """What would be learned wrongly without a word: an undo that finds parents
        which are none, and actions that numpy counts from the end."""

        class Sets(driftmesh.Env):
            actions = features = 3
            max_steps = 4

            def legal(self, s):
                return [a for a in range(3) if a not in s]

            def step(self, s, a):
                return sorted(s + (a,))  # a list is as good as a tuple

            def undo(self, s, a):
                return tuple(x for x in s if x != a) if a in s else None

            def active(self, s):
                return s

            def log_reward(self, s):
                return 0.0

        class Undo(Sets):
            def undo(self, s, a):
                return s[:-1] if s else None

        class Negative(Sets):
            def legal(self, s):
                return [-1]

        class Stop(Sets):
            def legal(self, s):
                return [*super().legal(s), 3]

        class Grid(driftmesh.BatchEnv):
            actions, features, max_steps = 2, 6, 5

            def start(self):
                return np.zeros(2, dtype=np.int64)

            def legal(self, x):
                return x < 2

            def step(self, x, a):
                return x + np.eye(2, dtype=np.int64)[a]

            def legal_back(self, x):
                return x > 0

            def undo(self, x, a):
                return x - np.eye(2, dtype=np.int64)[a]

            def active(self, x):
                return np.eye(3, dtype=bool)[x].reshape(len(x), 6)

            def log_reward(self, x):
                return np.zeros(len(x))

        class Back(Grid):
            def legal_back(self, x):
                return np.ones_like(x, dtype=bool)

            def undo(self, x, a):
                return np.maximum(super().undo(x, a), 0)

        class Swapped(Grid):
            def undo(self, x, a):
                return super().undo(x, 1 - a)

        def walk(env):
            """Three steps from the start, then one back, each of every action that is legal."""
            server = env._bind({})
            nodes = server.hello()
            for op in ("step", "step", "step", "undo"):
                n = len(nodes["states"])
                legal = np.frombuffer(nodes["forward" if op == "step" else "backward"], dtype=np.uint8).reshape(n, -1)[:, :server.env.actions]
                if not legal.any():
                    return
                at, actions = np.nonzero(legal)
                nodes = server.answer({"op": op, "states": [nodes["states"][i] for i in at], "actions": actions.astype("<i4").tobytes()})

        for env in (Sets, Grid):
            walk(env)
        for env, says in (
            (Undo, r"undo\(\(0,\), [12]\) gives \(\), from which action [12] does not lead back|undo\(\(1,\), [02]\)|undo\(\(2,\), [01]\)"),
            (Negative, r"legal\(\(\)\) gives \[-1\]; want actions from 0 to 2"),
            (Stop, r"legal\(\(\)\) gives \[0, 1, 2, 3\]; want actions from 0 to 2"),
            (Back, r"undo of .* does not lead back"),
            (Swapped, r"undo of .* does not lead back"),
        ):
            with self.subTest(env=env.__name__), self.assertRaisesRegex(ValueError, says):
                walk(env)


if __name__ == "__main__":
    unittest.main()
