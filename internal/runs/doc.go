// Package runs keeps the folder of one training run, runs/<name>/:
//
//	config.yaml       the job file as it was given
//	run.json          seed, versions, command lines; facts of the machine apart
//	metrics.jsonl     one Row a line: learning, deterministic
//	timings.jsonl     one Timing a line: wall-clock
//	checkpoint/       the newest state: parameters, optimiser, state.json
//	report.html       written by package report
//	plots/            PNG copies of the report's plots
//
// A Run holds a lock on its folder, so that two processes cannot write to one.
// Everything that is written survives a crash at any moment: lines that were
// torn are cut off when the folder is opened, and a checkpoint is replaced as a
// whole or not at all.
package runs
