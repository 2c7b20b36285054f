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
	optional bool // a text that may be empty, as it is by default
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
	maxTopK    = 4096    // objects; their diversity is over all pairs
)

// fields is keyed by dotted path; every field of Spec has an entry.
var fields = map[string]field{
	"name":            {doc: "Name of the run, and of its folder in runs/. Default: the name of the job file."},
	"seed":            {doc: "Root of every random stream: the same seed gives the same run.", max: inf},
	"reward_exponent": {doc: "Train towards R(x)^exponent; may be annealed.", max: 1e4},

	"env":        {doc: "What to build: an environment and its parameters.", required: true},
	"env.name":   {doc: "Environment, as `driftmesh envs list` prints it.", required: true},
	"env.params": {doc: "Parameters of the environment; `driftmesh envs describe` lists them. A relative path of a file is taken from the folder of the job file."},

	"reward":            {doc: "A program that whoever samples asks for rewards, in place of the environment's own; docs/PYTHON.md."},
	"reward.command":    {doc: "Program and arguments, such as [python3, reward.py]: a file of a folder that driftmesh was given by --allow-plugins (train and up: the folder of the job file).", required: true},
	"reward.params":     {doc: "Handed to the program when it starts."},
	"reward.processes":  {doc: "Most processes of it that one process of driftmesh runs; 0 for one.", max: 256},
	"reward.timeout_ms": {doc: "Milliseconds until a batch without an answer is asked again of a new process; 0 for 10 s.", max: 86_400_000},
	"reward.batch":      {doc: "Most objects of one request; 0 for 512.", max: 1 << 16},
	"reward.retries":    {doc: "How often a batch is asked again when its process died or hung; 0 for 3, -1 for never.", min: -1, max: 100},

	"policy":            {doc: "The network that holds P_F and P_B."},
	"policy.kind":       {doc: "Architecture: a perceptron, a transformer over the places and tokens of a state, a table with a logit for every state and action, one Gaussian over the places that actions lead to, or Gaussian steps through a space (continuous actions).", enum: []string{"mlp", Transformer, "tabular", "normal", "gaussian"}},
	"policy.hidden":     {doc: "mlp, gaussian: widths of the hidden layers, shared by P_F and P_B.", min: 1, max: 1 << 16},
	"policy.activation": {doc: "Non-linearity of the hidden layers; gelu of a transformer only.", enum: []string{"relu", "leaky_relu", "tanh", "gelu"}},
	"policy.drift":      {doc: "gaussian only: the network sees the point and the time (plain, the default), or the gradient of log R there as well (langevin).", enum: []string{"", "plain", "langevin"}},
	"policy.std":        {doc: "gaussian only: the standard deviation of a step is that of the reference process (fixed, the default), or learned.", enum: []string{"", "fixed", "learned"}},
	"policy.backward":   {doc: "How P_B is learned: with the loss (joint), not at all (frozen as initialised, or uniform over parents), or by maximum likelihood on sampled trajectories.", enum: []string{"joint", "frozen", "uniform", "max_likelihood"}},

	"policy.layers":      {doc: "transformer: encoder layers. Default: 2.", max: maxEncoder},
	"policy.heads":       {doc: "transformer: heads of attention in each layer, a divisor of width. Default: 4.", max: maxWide},
	"policy.width":       {doc: "transformer: width of a token between layers. Default: 64.", max: maxWide},
	"policy.feedforward": {doc: "transformer: width of the layer after attention. Default: four times width.", max: 4 * maxWide},

	"loss":               {doc: "A member of the f-TB family, its modifiers, and its normaliser."},
	"loss.divergence":    {doc: "A member, as `driftmesh losses list` prints it, with modifiers after commas: hellinger, alpha:0.75, \"forward_kl,tail:5\", \"custom:g1=tanh(delta)\"."},
	"loss.parameter":     {doc: "Overrides the member's own parameter (alpha, k); may be annealed.", min: -inf, max: inf},
	"loss.tail":          {doc: "Beyond |delta| = tail the loss goes on linearly, so that weights stay bounded; may be annealed.", max: inf, above: true},
	"loss.temper":        {doc: "Tempering g(beta delta)/beta^2; it changes the member, see the effective alpha in reports. May be annealed.", max: inf, above: true},
	"loss.normaliser":    {doc: "Where log Z comes from: a trained scalar, fitted to each batch, or known (exact) where the environment is small enough or has a closed form.", enum: []string{"learned", "batch_mean", "batch_optimal", "leave_one_out", "running", "exact"}},
	"loss.running_decay": {doc: "Weight of the past in the running normaliser.", max: 1, below: true},
	"loss.log_z_init":    {doc: "First value of a learned log Z.", min: -inf, max: inf},
	"loss.prior":         {doc: "Folder of a trained run whose sampler is to be tilted by the reward: it takes the place of P_B, and the job begins with its parameters. A relative path is taken from the folder of the job file. Default: none."},

	"loss.objective": {doc: "What the residuals are made of, as `driftmesh objectives list` prints it. Default: tb.", enum: []string{TB, SubTB, DB, FLDB, FM, ML}, optional: true},
	"loss.lambda":    {doc: "subtb: a piece of n transitions has the weight lambda^n. Default: 0.9.", max: 1e3},

	"optimiser":               {doc: "How parameters follow the gradient."},
	"optimiser.kind":          {doc: "Update rule.", enum: []string{"adam", "sgd"}},
	"optimiser.learning_rate": {doc: "Step size; may be annealed.", max: 1e3},
	"optimiser.log_z_rate":    {doc: "Step size of a learned log Z, which wants to move faster than the network; may be annealed.", max: 1e3},
	"optimiser.backward_rate": {doc: "Step size of the P_B head. Default: learning_rate.", max: 1e3},
	"optimiser.flow_rate":     {doc: "Step size of the flow head, log F(s), of objectives that have one. Default: learning_rate.", max: 1e3},
	"optimiser.beta1":         {doc: "Adam: decay of the first moment.", max: 1, below: true},
	"optimiser.beta2":         {doc: "Adam: decay of the second moment.", max: 1, below: true},
	"optimiser.epsilon":       {doc: "Adam: added to the root of the second moment.", max: 1, above: true},
	"optimiser.momentum":      {doc: "SGD: momentum.", max: 1, below: true},
	"optimiser.clip_norm":     {doc: "Largest norm of the gradient; 0 for no clipping.", max: inf},

	"sampling":             {doc: "The behaviour policy: tempered P_F mixed with uniform actions."},
	"sampling.epsilon":     {doc: "Probability of a uniform action at each step; may be annealed.", max: 1},
	"sampling.temperature": {doc: "Logits are divided by it before sampling; may be annealed.", max: 1e6, above: true},

	"sampling.reward_delay_ms": {doc: "Milliseconds that whoever samples sleeps for each trajectory, as a reward that takes time would make it; for measuring how a mesh scales.", max: 600_000},

	"train":         {doc: "The budget."},
	"train.batch":   {doc: "Trajectories per update.", min: 1, max: maxBatch},
	"train.updates": {doc: "Optimiser steps until the job is finished.", min: 1, max: 1e12},
	"train.lag":     {doc: "`driftmesh train` only: sample with the parameters of that many updates ago.", max: 1e6},

	"eval":            {doc: "When and how far to measure exactly, and what to estimate from samples."},
	"eval.every":      {doc: "Updates between evaluations; 0 for only one at the end.", max: 1e12},
	"eval.max_states": {doc: "Evaluate exactly up to this many states; 0 for never.", max: 1 << 30},
	"eval.samples":    {doc: "Trajectories of P_F, without exploration, from which each evaluation estimates bounds of log Z, modes and distances; 0 for no estimates.", max: maxBatch},
	"eval.test_set":   {doc: "Backward trajectories that estimate the log-probability of each object of the environment's test set; 0 for none.", max: 1 << 16},
	"eval.top_k":      {doc: "Best distinct objects among the samples whose reward and diversity are reported; 0 for none.", max: maxTopK},

	"data":       {doc: "Objects of a file that are trained on beside what is sampled; not in a mesh."},
	"data.file":  {doc: "File of objects in the environment's textual form: .csv or .parquet with a column object and perhaps weight, or .txt with one object a line. A relative path is taken from the folder of the job file."},
	"data.share": {doc: "Share of each batch that is drawn from the file, each object with a new trajectory backward from it; 1 for nothing else.", max: 1, above: true},

	"mesh":                   {doc: "What only a distributed run uses."},
	"mesh.window_ms":         {doc: "Shortest time between commits, in milliseconds; 0 commits as fast as the log allows.", max: 60_000},
	"mesh.max_lag":           {doc: "Oldest parameters, in updates, whose trajectories are welcome; 0 for no bound.", max: 1e12},
	"mesh.max_lag_seconds":   {doc: "The same bound in seconds since the commit of those parameters; 0 for no bound.", max: 1e9},
	"mesh.on_stale":          {doc: "What happens to older trajectories: trained on, dropped and counted, or trained on with a weight that falls with their age.", enum: []string{"admit", "drop", "downweight"}},
	"mesh.rollout":           {doc: "Trajectories that a slot samples at once.", min: 1, max: 1 << 16},
	"mesh.replay_max":        {doc: "Most trajectories waiting for the learner; at least train.batch. Default: four batches.", min: 1, max: maxBatch},
	"mesh.weight":            {doc: "Share of the workers' slots among jobs of equal priority.", max: 1e6, above: true},
	"mesh.priority":          {doc: "Jobs of higher priority take slots first.", min: -1000, max: 1000},
	"mesh.max_slots":         {doc: "Most slots that work for the job at once; 0 for no bound.", max: 1 << 20},
	"mesh.publish":           {doc: "Precision of the parameters that workers receive.", enum: []string{"float32", "bf16"}},
	"mesh.archive":           {doc: "Which accepted objects are archived: off, all, distinct, best, or a fraction such as sample:0.1."},
	"mesh.archive_copies":    {doc: "Nodes that hold an archived segment before it counts; 0 for two, or one where there is one server.", max: 5},
	"mesh.learner":           {doc: "What the node that trains this job must have."},
	"mesh.learner.cpus":      {doc: "Cores; 0 for any.", max: 4096},
	"mesh.learner.memory_mb": {doc: "Memory in MiB; 0 for any.", max: 1 << 26},
	"mesh.learner.gpus":      {doc: "GPUs; 0 for none.", max: 64},

	"replay":                    {doc: "Training again on objects of the past."},
	"replay.kind":               {doc: "Which objects are kept and drawn: none, the newest (fifo), a uniform sample, by reward, newest and best mixed (mixture), or the best that differ from each other (diverse).", enum: []string{"none", "fifo", "uniform", "reward", "mixture", "diverse"}},
	"replay.bytes":              {doc: "Most memory that the buffer takes.", min: 1 << 10, max: 1 << 40},
	"replay.samples_per_insert": {doc: "Trajectories trained on per fresh one: of each batch, train.batch divided by this are fresh.", min: 1, max: maxBatch},
	"replay.reward_exponent":    {doc: "reward and mixture draw an object with probability proportional to its reward to this power.", max: 1e3},
	"replay.recent":             {doc: "Share of the draws of a mixture that goes to the newest objects.", max: 1},
	"replay.top_k":              {doc: "Objects that diverse keeps.", min: 1, max: 1 << 24},
	"replay.min_distance":       {doc: "Least distance between objects that diverse keeps, as a share of their features.", max: 1},
}
