"""The client, with the binary that $DRIFTMESH names and a run that it makes."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import numpy as np

import driftmesh

ROOT = pathlib.Path(__file__).resolve().parents[2]


@unittest.skipUnless(os.environ.get("DRIFTMESH"), "DRIFTMESH names no binary; go test ./cmd/driftmesh -run Python runs this")
class Runs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.client = driftmesh.Client()
        subprocess.run(
            [cls.client.binary, "train", ROOT / "examples/python/reward.yaml", "--runs", cls.folder.name, "--plain", "--set", "train.updates=200"],
            check=True, capture_output=True)
        cls.run_folder = os.path.join(cls.folder.name, "reward")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_checkpoint(self):
        got = driftmesh.load_checkpoint(self.run_folder)
        self.assertEqual(got["log_z"].shape, (1,))
        self.assertTrue(all(t.dtype == np.float32 and np.isfinite(t).all() for t in got.values()))
        self.assertIn(64, [d for t in got.values() for d in t.shape])
        with self.assertRaises(FileNotFoundError):
            driftmesh.load_checkpoint(self.folder.name + "/nowhere")

    def test_torch(self):
        try:
            import torch
        except ImportError:
            self.skipTest("torch is not installed")
        self.assertIsInstance(driftmesh.load_checkpoint(self.run_folder, torch=True)["log_z"], torch.Tensor)

    def test_metrics(self):
        rows = driftmesh.load_metrics(self.run_folder)
        self.assertEqual(rows[-1]["version"], 200)
        self.assertLess(rows[-1]["tv"], 1)

    def test_sample(self):
        got = self.client.sample(self.run_folder, n=20, seed=3, allow_plugins=[ROOT / "examples/python"])
        self.assertEqual(len(got), 20)
        x = driftmesh.numbers([g["object"] for g in got])
        self.assertEqual(x.shape, (20, 2))
        want = np.log(0.001 + (x.max(axis=1) - x.min(axis=1) >= 6))
        np.testing.assert_allclose([g["log_reward"] for g in got], want)

    def test_best(self):
        self.assertAlmostEqual(self.client.best(self.run_folder, n=3)[0]["log_reward"], np.log(1.001))

    def test_errors(self):
        with self.assertRaises(driftmesh.DriftmeshError) as e:
            self.client.sample(self.run_folder, n=1)  # without permission
        self.assertEqual(e.exception.code, 2)
        self.assertIn("--allow-plugins", str(e.exception))


class Safetensors(unittest.TestCase):
    """Files that are not what they say: a ValueError with the file's name."""

    def load(self, data):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "t.safetensors")
            path.write_bytes(data)
            return driftmesh.load_checkpoint(path)

    def file(self, header, body=bytes(range(24))):
        if not isinstance(header, bytes):
            header = json.dumps(header).encode()
        return len(header).to_bytes(8, "little") + header + body

    def test_good(self):
        got = self.load(self.file({
            "__metadata__": {"k": "v"},
            "a": {"dtype": "U8", "shape": [2, 3], "data_offsets": [4, 10]},
            "none": {"dtype": "F32", "shape": [0, 3], "data_offsets": [4, 4]},
            "scalar": {"dtype": "F32", "shape": [], "data_offsets": [20, 24]}}))
        np.testing.assert_array_equal(got["a"], [[4, 5, 6], [7, 8, 9]])
        self.assertTrue(got["a"].flags.writeable)
        self.assertEqual((got["none"].shape, got["scalar"].shape), ((0, 3), ()))

    def test_damaged(self):
        good = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
        for header in (
            b"", b"{", b"[]", b"null", b"3", b"\xff", b"[" * 100_000 + b"]" * 100_000, {"a": [1]}, {"a": {}},
            *({"a": good | change} for change in (
                {"dtype": "BF16"}, {"dtype": ["F32"]}, {"shape": "ab"}, {"shape": [-1]}, {"shape": [-2, -1]}, {"shape": [1.5]}, {"shape": [3]},
                {"shape": [2**40]}, {"data_offsets": [8, 0]}, {"data_offsets": [-8, 0]}, {"data_offsets": [20, 28]}, {"data_offsets": [0, 2**50]},
                {"data_offsets": ["0", "8"]}, {"data_offsets": [0, 4, 8]}, {"data_offsets": None}))):
            with self.subTest(header=str(header)[:60]), self.assertRaisesRegex(ValueError, "t.safetensors"):
                self.load(self.file(header))
        whole = self.file({"a": good}, bytes(8))
        for n in range(len(whole)):
            with self.assertRaisesRegex(ValueError, "t.safetensors"):
                self.load(whole[:n])
        for size in (len(whole), 2**40, 2**64 - 1):
            with self.assertRaisesRegex(ValueError, "its header has"):
                self.load(size.to_bytes(8, "little") + whole[8:])


class Dicts(unittest.TestCase):
    """Jobs as dicts, with a stand-in for the binary that keeps what it was given."""

    def test_name_is_no_path(self):
        with tempfile.TemporaryDirectory() as folder:
            binary = pathlib.Path(folder, "binary")
            binary.write_text("#!/bin/sh\ncase $2 in -) cat >/dev/null; echo '{\"job\": \"done\"}';; *) echo \"$2\" >&2; exit 2;; esac\n")
            binary.chmod(0o755)
            c = driftmesh.Client(binary=str(binary))
            for name in (os.path.join(folder, "elsewhere"), "../elsewhere", "a/b", None, 7):
                self.assertEqual(c.submit({"name": name, "env": {"name": "hypergrid"}}), "done")
            self.assertEqual(os.listdir(folder), ["binary"])


@unittest.skipUnless(os.environ.get("DRIFTMESH_SERVER"), "DRIFTMESH_SERVER names no server; go test ./cmd/driftmesh -run Python runs this")
class Mesh(unittest.TestCase):
    def test_job(self):
        c = driftmesh.Client(servers=os.environ["DRIFTMESH_SERVER"])
        name = c.submit(ROOT / "examples/python/reward.yaml", sets=["name=python-client", "train.updates=150", "mesh.archive=all"])
        versions = [s["version"] for s in c.watch(name, every=0.1)]
        self.assertEqual(versions, sorted(versions))
        end = c.status(name)
        self.assertEqual((end["status"], end["version"]), ("finished", 150))
        got = c.archive(name)
        self.assertEqual(len(got), end["trajectories"])
        x = driftmesh.numbers(list(got["object"]))
        np.testing.assert_allclose(got["log_reward"], np.log(0.001 + (x.max(axis=1) - x.min(axis=1) >= 6)))
        self.assertFalse(got.duplicated(["session", "seq"]).any())
        self.assertIn(name, [j["id"] for j in c.status()["jobs"]])
        with self.assertRaises(driftmesh.DriftmeshError):
            c.submit({"name": "bad", "env": {"name": "hypergird"}})
        home = os.getcwd()
        with tempfile.TemporaryDirectory() as folder:  # a dict's paths are from here
            try:
                os.chdir(folder)
                pathlib.Path("modes.txt").write_text("00000000\n11110000\n")
                env = {"name": "bitseq", "params": {"n": 8, "k": 4, "modes_file": "modes.txt"}}
                self.assertEqual(c.submit({"name": "python-dict", "env": env, "train": {"updates": 1}}), "python-dict")
                self.assertEqual([s["status"] for s in c.watch("python-dict", every=0.1)][-1], "finished")
            finally:
                os.chdir(home)


if __name__ == "__main__":
    unittest.main()
