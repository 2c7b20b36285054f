package job

import "math"

// field describes one entry of the job file: what it means, and what its
// values may be. Validate and Schema both read this table, so an editor and
// the program never disagree. For a schedule the bounds hold at every update,
// for a list for each element.
type field struct {
	doc      string
	enum     []string
	min, max float64 // inclusive, unless said otherwise below; ±Inf: no bound
	above    bool    // min itself is not allowed
	below    bool    // max itself is not allowed
	required bool
}

var inf = math.Inf(1)

// Sizes are capped where a slip of the keyboard would otherwise take the
// machine's memory rather than give an error.
const (
	maxLayers  = 16
	maxName    = 64
	maxMember  = 2000    // characters of loss.divergence; a custom member is one line
	maxBatch   = 1 << 20 // trajectories
	maxEncoded = 1 << 20 // bytes of a job, as YAML or JSON
)

// fields is keyed by dotted path; every field of Spec has an entry.
var fields = map[string]field{
	"name":            {doc: "Name of the run, and of its folder in runs/. Default: the name of the job file."},
	"seed":            {doc: "Root of every random stream: the same seed gives the same run.", max: inf},
	"reward_exponent": {doc: "Train towards R(x)^exponent; may be annealed.", max: 1e4},

	"env":        {doc: "What to build: an environment and its parameters.", required: true},
	"env.name":   {doc: "Environment, as `driftmesh envs list` prints it.", required: true},
	"env.params": {doc: "Parameters of the environment; `driftmesh envs describe` lists them."},

	"policy":            {doc: "The network that holds P_F and P_B."},
	"policy.kind":       {doc: "Architecture.", enum: []string{"mlp"}},
	"policy.hidden":     {doc: "Widths of the hidden layers, shared by P_F and P_B.", min: 1, max: 1 << 16},
	"policy.activation": {doc: "Non-linearity of the hidden layers.", enum: []string{"relu", "leaky_relu", "tanh"}},
	"policy.backward":   {doc: "How P_B is learned: with the loss (joint), not at all (frozen as initialised, or uniform over parents), or by maximum likelihood on sampled trajectories.", enum: []string{"joint", "frozen", "uniform", "max_likelihood"}},

	"loss":               {doc: "A member of the f-TB family, its modifiers, and its normaliser."},
	"loss.divergence":    {doc: "A member, as `driftmesh losses list` prints it, with modifiers after commas: hellinger, alpha:0.75, \"forward_kl,tail:5\", \"custom:g1=tanh(delta)\"."},
	"loss.parameter":     {doc: "Overrides the member's own parameter (alpha, k); may be annealed.", min: -inf, max: inf},
	"loss.tail":          {doc: "Beyond |delta| = tail the loss goes on linearly, so that weights stay bounded; may be annealed.", max: inf, above: true},
	"loss.temper":        {doc: "Tempering g(beta delta)/beta^2; it changes the member, see the effective alpha in reports. May be annealed.", max: inf, above: true},
	"loss.normaliser":    {doc: "Where log Z comes from: a trained scalar, or fitted to each batch.", enum: []string{"learned", "batch_mean", "batch_optimal", "leave_one_out", "running"}},
	"loss.running_decay": {doc: "Weight of the past in the running normaliser.", max: 1, below: true},
	"loss.log_z_init":    {doc: "First value of a learned log Z.", min: -inf, max: inf},

	"optimiser":               {doc: "How parameters follow the gradient."},
	"optimiser.kind":          {doc: "Update rule.", enum: []string{"adam", "sgd"}},
	"optimiser.learning_rate": {doc: "Step size; may be annealed.", max: 1e3},
	"optimiser.log_z_rate":    {doc: "Step size of a learned log Z, which wants to move faster than the network; may be annealed.", max: 1e3},
	"optimiser.backward_rate": {doc: "Step size of the P_B head. Default: learning_rate.", max: 1e3},
	"optimiser.beta1":         {doc: "Adam: decay of the first moment.", max: 1, below: true},
	"optimiser.beta2":         {doc: "Adam: decay of the second moment.", max: 1, below: true},
	"optimiser.epsilon":       {doc: "Adam: added to the root of the second moment.", max: 1, above: true},
	"optimiser.momentum":      {doc: "SGD: momentum.", max: 1, below: true},
	"optimiser.clip_norm":     {doc: "Largest norm of the gradient; 0 for no clipping.", max: inf},

	"sampling":             {doc: "The behaviour policy: tempered P_F mixed with uniform actions."},
	"sampling.epsilon":     {doc: "Probability of a uniform action at each step; may be annealed.", max: 1},
	"sampling.temperature": {doc: "Logits are divided by it before sampling; may be annealed.", max: 1e6, above: true},

	"train":         {doc: "The budget."},
	"train.batch":   {doc: "Trajectories per update.", min: 1, max: maxBatch},
	"train.updates": {doc: "Optimiser steps until the job is finished.", min: 1, max: 1e12},
	"train.lag":     {doc: "`driftmesh train` only: sample with the parameters of that many updates ago.", max: 1e6},

	"eval":            {doc: "When and how far to measure exactly."},
	"eval.every":      {doc: "Updates between evaluations; 0 for only one at the end.", max: 1e12},
	"eval.max_states": {doc: "Evaluate exactly up to this many states; 0 for never.", max: 1 << 30},

	"mesh":            {doc: "What only a distributed run uses."},
	"mesh.window_ms":  {doc: "Shortest time between commits, in milliseconds; 0 commits as fast as the log allows.", max: 60_000},
	"mesh.max_lag":    {doc: "Oldest parameters, in updates, whose trajectories are welcome; 0 for no bound.", max: 1e12},
	"mesh.on_stale":   {doc: "What happens to trajectories older than max_lag.", enum: []string{"admit", "drop"}},
	"mesh.rollout":    {doc: "Trajectories that a slot samples at once.", min: 1, max: 1 << 16},
	"mesh.replay_max": {doc: "Most trajectories waiting for the learner; at least train.batch. Default: four batches.", min: 1, max: maxBatch},
}
