package telemetry

// Nodes that offer a metric.
const (
	onServers = "servers, learners"
	onLearner = "the job's learner"
	onWorkers = "workers"
	onAll     = "all"
)

var (
	seconds  = []float64{0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30}
	versions = []float64{0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 100000}
)

// The node and the replicated log.
var (
	Info = gauge(onAll, "node_info", "1", "1; the labels say which node of which role and version this is.", "node", "cluster", "role", "version")

	RaftTerm          = gauge(onServers, "raft_term", "1", "Current raft term.")
	RaftLeader        = gauge(onServers, "raft_leader", "1", "1 while this node leads, 0 otherwise.")
	RaftHasLeader     = gauge(onServers, "raft_has_leader", "1", "1 while this node knows a leader.")
	RaftAppliedIndex  = gauge(onServers, "raft_applied_index", "1", "Index of the last log entry applied here.")
	RaftCommitIndex   = gauge(onServers, "raft_commit_index", "1", "Index of the last log entry known to be committed.")
	RaftLogBytes      = gauge(onServers, "raft_log_bytes", "bytes", "Size of the log's files.")
	RaftSnapshotBytes = gauge(onServers, "raft_snapshot_bytes", "bytes", "Size of the newest snapshot; 0 while there is none.")
	RaftSnapshotAge   = gauge(onServers, "raft_snapshot_age_seconds", "seconds", "Age of the newest snapshot; 0 while there is none.")
	RaftServers       = gauge(onServers, "raft_servers", "1", "Members of the raft configuration.", "suffrage")
	FeatureLevel      = gauge(onServers, "feature_level", "1", "Feature level that the cluster has activated.")
	Generation        = gauge(onServers, "generation", "1", "How often the cluster was restored from a backup.")
	Chain             = gauge(onServers, "chain_hash", "1", "First 32 bits of the hash chain: equal on all replicas at equal applied index.")
)

// Jobs, as the replicated state has them.
var (
	Jobs            = gauge(onServers, "jobs", "1", "Jobs by status.", "status")
	JobVersion      = gauge(onServers, "job_version", "updates", "Committed version: optimiser steps since the job began.", "job")
	JobGeneration   = gauge(onServers, "job_generation", "1", "Generation of the job's versions.", "job")
	JobEpoch        = gauge(onServers, "job_epoch", "1", "Epoch of the present lease.", "job")
	JobSessions     = gauge(onServers, "job_sessions", "1", "Open worker sessions.", "job")
	JobAdmitted     = counter(onServers, "job_trajectories_admitted_total", "trajectories", "Trajectories trained on, as committed.", "job")
	JobStale        = counter(onServers, "job_trajectories_stale_total", "trajectories", "Trajectories dropped as too old, as committed.", "job")
	JobRefused      = counter(onServers, "job_trajectories_refused_total", "trajectories", "Trajectories refused as malformed or non-finite, as committed.", "job")
	JobParamsBytes  = gauge(onServers, "job_params_bytes", "bytes", "Size of the published parameters.", "job")
	JobPrivateBytes = gauge(onServers, "job_private_bytes", "bytes", "Size of the learner's state that is not published.", "job")
)

// The learner of a job, on the node that runs it.
var (
	Updates         = counter(onLearner, "learner_updates_total", "updates", "Optimiser steps made here, committed or not.", "job")
	Trained         = counter(onLearner, "learner_trajectories_total", "trajectories", "Trajectories in those steps, reused ones counted each time.", "job")
	CommitLatency   = histogram(onLearner, "commit_latency_seconds", "seconds", "Time from proposing a Commit to its answer.", seconds, "job")
	Commits         = counter(onLearner, "commits_total", "1", "Commits by their outcome.", "job", "outcome")
	LagUpdates      = histogram(onLearner, "lag_updates", "updates", "Updates between a trajectory's parameters and its use.", versions, "job")
	LagSeconds      = histogram(onLearner, "lag_seconds", "seconds", "Age of a trajectory's parameters at its use.", seconds, "job")
	WindowLength    = gauge(onLearner, "window_seconds", "seconds", "Present length of a commit window.", "job")
	WindowsInFlight = gauge(onLearner, "windows_in_flight", "1", "Commits proposed and not answered.", "job")
	QueueLength     = gauge(onLearner, "queue_trajectories", "trajectories", "Trajectories that wait to be trained on.", "job")
	QueueBytes      = gauge(onLearner, "queue_bytes", "bytes", "Size of what waits.", "job")
	QueueSessions   = gauge(onLearner, "queue_sessions", "1", "Worker streams that share the queue.", "job")
	Credits         = gauge(onLearner, "credits", "trajectories", "Trajectories that workers may still send.", "job")
	LearnerSeconds  = counter(onLearner, "learner_seconds_total", "seconds", "Time in updates, waiting for a batch, and making commits or waiting for their answers before going on.", "job", "doing")
	Rollbacks       = counter(onLearner, "learner_failures_total", "1", "Times that a learner failed and went back to the last Commit.", "job")
)

// Traffic, archive and membership.
var (
	EgressBytes    = counter(onAll, "parameters_sent_bytes_total", "bytes", "Parameters sent to other nodes.", "to")
	BadRequests    = counter(onServers, "rpc_refused_total", "1", "Calls and streams of the mesh protocol that were refused or broken.", "method", "code")
	ArchiveSegs    = gauge(onServers, "archive_segments", "1", "Archive segments listed.", "job")
	ArchiveRows    = gauge(onServers, "archive_rows", "rows", "Rows in listed segments.", "job")
	Members        = gauge(onAll, "members", "1", "Nodes as gossip sees them.", "role", "state")
	SamplerSampled = counter(onWorkers, "sampled_trajectories_total", "trajectories", "Trajectories sampled by this process; its rate is the sampling rate.")
	SamplerSlots   = gauge(onWorkers, "slots", "1", "Sampler loops of this process, by what they do.", "state")
	ParamsVersion  = gauge(onWorkers, "parameters_version", "updates", "Newest version that a slot of this process samples with.", "job")
	ParamsAge      = gauge(onWorkers, "parameters_age_seconds", "seconds", "Time since a slot of this process got newer parameters.", "job")
	OutboxKept     = gauge(onWorkers, "outbox_trajectories", "trajectories", "Trajectories kept until a committed mark covers them.", "job")
	SamplerSeconds = counter(onWorkers, "sampler_seconds_total", "seconds", "Time of the sampler loops: sampling, reward (sampling.reward_delay_ms), and waiting for credit, for marks, or for the first parameters.", "doing")
	DroppedSeries  = counter(onAll, "telemetry_series_dropped_total", "1", "Label values that were left out of a scrape because there are too many.")
)
