package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/driftmesh/driftmesh/bench/parts"
	"github.com/driftmesh/driftmesh/chaos"
	"github.com/driftmesh/driftmesh/internal/atomicfile"
)

// results is what a run publishes; what was not measured is left out.
type results struct {
	Machine     parts.Hardware `json:"machine"`
	Short       bool           `json:"short,omitempty"`
	Took        float64        `json:"seconds_of_the_run"`
	Ingest      []ingest       `json:"ingest,omitempty"`
	Publication []publication  `json:"publication,omitempty"`
	Commits     []*commits     `json:"commits,omitempty"`
	Windows     []*windows     `json:"windows,omitempty"`
	Compute     *compute       `json:"compute,omitempty"`
}

// Targets, by the voters of a log.
const commitTarget, computeTarget = 0.9, 0.9

func costTarget(voters int) float64 {
	if voters == 1 {
		return 0.03
	}
	return 0.10
}

// median is 0 of nothing.
func median(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	return chaos.Quantile(x, 0.5)
}

// middle is the middle of each number of several measurements.
func middle[T any](all []T, fields func(*T) []*float64) (out T) {
	for i, into := range fields(&out) {
		var x []float64
		for k := range all {
			x = append(x, *fields(&all[k])[i])
		}
		*into = median(x)
	}
	return out
}

// table is the Markdown of the results.
func (r *results) table() string {
	var b strings.Builder
	mode := ""
	if r.Short {
		mode = "; a short run, for a glance only"
	}
	fmt.Fprintf(&b, "%s, %d cores, Linux %s, %s; %.0f s%s.\n", r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, math.Ceil(r.Took), mode)
	section := func(head string) {
		line := "|" + strings.Repeat("---|", strings.Count(head, "|")-1)
		fmt.Fprintf(&b, "\n%s\n%s\n", head, line)
	}
	if len(r.Ingest) > 0 {
		section("| ingest: streams | replay | trajectories/s | intake, ns of processor per trajectory | senders, ns |")
		for _, x := range r.Ingest {
			fmt.Fprintf(&b, "| %d | %s | %s | %s | %s |\n", x.Streams, yes(x.Replay), parts.Short(x.Rate), parts.Short(x.Intake), parts.Short(x.Samplers))
		}
	}
	if len(r.Publication) > 0 {
		section("| publication: workers | versions/s | age from the proposal, p50 / p95 ms | from the commit, p50 / p95 ms | copies that the servers send of a version | processor, ms per version and worker |")
		for _, x := range r.Publication {
			fmt.Fprintf(&b, "| %d | %s | %s / %s | %s / %s | %s | %s |\n", x.Workers, parts.Short(x.Rate), parts.Short(x.P50), parts.Short(x.P95),
				parts.Short(x.Transport[0]), parts.Short(x.Transport[1]), parts.Short(x.Copies), parts.Short(x.NetCPU))
		}
	}
	if len(r.Commits) > 0 {
		section("| commits: voters | entry | ours | hashicorp/raft alone | ratio (least – most) | target | processor of all voters, ms per commit: ours / alone |")
		for _, x := range r.Commits {
			fmt.Fprintf(&b, "| %d | %.0f KB | %.0f MB/s, %.1f ms | %.0f MB/s, %.1f ms | %.2f (%.2f – %.2f) | ≥ %.2f, %s | %.2f / %.2f |\n", x.Voters, float64(x.Entry)/1e3,
				x.Ours.Bytes/1e6, x.Ours.Latency, x.Bare.Bytes/1e6, x.Bare.Latency, x.Ratio, chaos.Quantile(x.Ratios, 0), chaos.Quantile(x.Ratios, 1),
				commitTarget, met(x.Ratio >= commitTarget), x.Ours.All, x.Bare.All)
		}
	}
	if len(r.Windows) > 0 {
		section("| training with commits: voters | updates/s without | with | cost (least – most) | target | window | commit |")
		for _, x := range r.Windows {
			fmt.Fprintf(&b, "| %d | %s | %s | %.1f %% (%.1f – %.1f) | ≤ %.0f %%, %s | %.0f ms | %.1f ms |\n", x.Voters, parts.Short(x.Alone.Rate), parts.Short(x.Commits.Rate),
				100*x.Cost, 100*(1-chaos.Quantile(x.Kept, 1)), 100*(1-chaos.Quantile(x.Kept, 0)), 100*costTarget(x.Voters), met(x.Cost <= costTarget(x.Voters)), x.Commits.Window, x.Commits.Took)
		}
	}
	if c := r.Compute; c != nil {
		section("| compute-bound, batch " + fmt.Sprint(c.Batch) + " | trajectories/s | lag, updates | cores used | workers' share of them | processor, µs per trajectory |")
		for _, x := range append([]course{c.OnPolicy, c.Lagged}, c.Up...) {
			fmt.Fprintf(&b, "| `%s` | %s | %.0f | %.2f | %.0f %% | %.0f |\n", x.Command, parts.Short(x.Rate), x.Lag, x.Cores, 100*x.Workers, x.CPU)
		}
		fmt.Fprintf(&b, "\n`up` is at %.0f %% of `train` at equal lag (target ≥ %.0f %%, %s), at %.0f %% of `train` on-policy; its best split is `%s`.\n",
			100*c.Kept, 100*computeTarget, met(c.Kept >= computeTarget), 100*c.KeptOn, c.Up[c.Best].Command)
	}
	return b.String()
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func met(b bool) string {
	if b {
		return "met"
	}
	return "missed"
}

// publish writes the results: numbers and a table.
func (b *bench) publish(r *results) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	text := r.table()
	os.Stdout.WriteString(text)
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	return errors.Join(
		atomicfile.WriteBytes(filepath.Join(b.out, "results.json"), 0o644, append(data, '\n')),
		atomicfile.WriteBytes(filepath.Join(b.out, "results.md"), 0o644, []byte(text)),
	)
}
