"""torchgfn, called as its own example (train_hypergrid.py) does."""

import os
from importlib.metadata import version

import torch
from gfn.estimators import DiscretePolicyEstimator
from gfn.gflownet import TBGFlowNet
from gfn.gym import HyperGrid
from gfn.preprocessors import KHotPreprocessor
from gfn.utils.modules import MLP, DiscreteUniform

import exact
import serve


class Side:
    def versions(self):
        return {p: version(p) for p in ("torchgfn", "torch")}

    def open(self, request):
        grid = self.grid = request["grid"]
        self.batch = request["batch"]
        torch.manual_seed(request["seed"])
        self.env = HyperGrid(
            grid["dim"],
            grid["height"],
            reward_fn_str="original",
            reward_fn_kwargs={"R0": grid["r0"], "R1": grid["r1"], "R2": grid["r2"]},
            debug=False,
        )
        preprocessor = KHotPreprocessor(height=grid["height"], ndim=grid["dim"])
        forward = MLP(preprocessor.output_dim, self.env.n_actions, hidden_dim=256, n_hidden_layers=2)
        if request["backward"] == "uniform":
            backward = DiscreteUniform(self.env.n_actions - 1)
        else:
            backward = MLP(preprocessor.output_dim, self.env.n_actions - 1, hidden_dim=256, n_hidden_layers=2, trunk=forward.trunk)
        self.net = TBGFlowNet(
            pf=DiscretePolicyEstimator(forward, self.env.n_actions, preprocessor=preprocessor),
            pb=DiscretePolicyEstimator(backward, self.env.n_actions, preprocessor=preprocessor, is_backward=True),
            init_logZ=0.0,
        )
        if request.get("params"):
            self.load(serve.tensors(request, grid), forward, backward)
        log_z = self.net.logz_parameters()
        ids = {id(p) for p in log_z}
        rest = [p for p in self.net.parameters() if id(p) not in ids and p.requires_grad]
        self.adam = torch.optim.Adam([{"params": rest, "lr": request["lr"]}, {"params": log_z, "lr": request["lr_z"]}], fused=True)

    def load(self, t, forward, backward):
        with torch.no_grad():
            first, second = (m for m in forward.trunk if isinstance(m, torch.nn.Linear))
            pairs = [(first, t["w0"].T, t["b0"]), (second, t["w1"].T, t["b1"]), (forward.last_layer, t["wf"], t["bf"])]
            if "wb" in t:
                pairs.append((backward.last_layer, t["wb"], t["bb"]))
            for layer, weight, bias in pairs:
                layer.weight.copy_(torch.from_numpy(weight.copy()))
                layer.bias.copy_(torch.from_numpy(bias))
            self.net.logZ.copy_(torch.tensor(float(t["log_z"])))

    def run(self, updates):
        steps = 0
        for _ in range(updates):
            # Scoring again, all steps at once, is up to a third faster here than keeping
            # the graph of every step of sampling (save_logprobs) for the backward pass.
            with torch.no_grad():
                trajectories = self.net.sample_trajectories(self.env, n=self.batch)
            self.adam.zero_grad()
            loss = self.net.loss(self.env, trajectories, recalculate_all_logprobs=True)
            loss.backward()
            self.adam.step()
            steps += int(trajectories.terminating_idx.sum())
        return steps / (updates * self.batch)

    def sample(self, batches):
        steps = 0
        with torch.no_grad():
            for _ in range(batches):
                trajectories = self.net.sample_trajectories(self.env, n=self.batch)
                trajectories.log_rewards  # computed when it is asked for
                steps += int(trajectories.terminating_idx.sum())
        return steps / (batches * self.batch)

    def states(self):
        return self.env.States(torch.tensor(exact.cells(self.grid["dim"], self.grid["height"])))

    def log_probs(self):
        with torch.no_grad():
            states = self.states()
            return self.net.pf.to_probability_distribution(states, self.net.pf(states)).logits.numpy()

    def rewards(self):
        return self.env.reward(self.states()).double().numpy()

    def parameters(self):
        return sum(p.numel() for p in self.net.parameters() if p.requires_grad)


if __name__ == "__main__":
    threads = int(os.environ["DRIFTMESH_BENCH_THREADS"])
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    serve.main(Side())
