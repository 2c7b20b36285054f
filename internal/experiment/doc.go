// Package experiment runs grids of jobs and says what they show. A study is a
// file that names a base job, axes over its fields, and seeds; every combination
// is a cell, every cell is trained once per seed, and whatever comes of it is
// published: finished, diverged, or refused by the family of losses.
//
//	exp.yaml ─Load→ Study ─Plan(set)→ cells × seeds ─Run→ cells/<id>/ ─Collect→ Results ─Write→ tables, report
//
// A task's folder is named after a digest of its job and seed, so a finished one
// is never run again, not by another set of the same study either. The package
// knows nothing of networks: what trains a job is handed to it.
package experiment
