package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/chaos"
	"github.com/driftmesh/driftmesh/internal/job"
)

// tortureFields make a job that goes on through every round: it commits often
// and is never evaluated.
var tortureFields = append([]string{"name=torture", "mesh.window_ms=20", "policy.hidden=[128,128]"}, forever...)

func runTorture(ctx context.Context, o *options, args []string) error {
	rounds := o.flags.Int("rounds", 200, "rounds")
	names := o.flags.String("kinds", "", "`kinds` of rounds, by comma: "+strings.Join(chaos.KindNames(), ", ")+"; all by default")
	learners := o.flags.Int("learners", learnersByDefault, "nodes that only train")
	linearize := o.flags.Int("linearize", 5, "check linearizability in every n-th round")
	archive := o.flags.String("archive", "off", "what is archived of the job: off, all, distinct, best, or a fraction such as sample:0.1")
	if err := o.parse(args); err != nil {
		return err
	}
	spec, _, err := job.Load(o.job, append(slices.Clone(tortureFields), "mesh.archive="+*archive))
	if err != nil {
		return err
	}
	var kinds []string
	if *names != "" {
		kinds = strings.Split(*names, ",")
	}
	lines, err := os.Create(filepath.Join(o.dir, "rounds.jsonl"))
	if err != nil {
		return err
	}
	defer lines.Close()
	done, err := chaos.Torture(ctx, chaos.TortureConfig{
		Binary: o.binary, Dir: o.dir, Spec: spec, Rounds: *rounds, Seed: o.seed, Kinds: kinds,
		Servers: 3, Learners: *learners, Workers: 3, Slots: 2, Linearize: *linearize,
		Lines: io.MultiWriter(os.Stdout, lines), Log: tell,
	})
	summary := summarise(done)
	fmt.Fprint(os.Stderr, summary)
	err = errors.Join(err, os.WriteFile(filepath.Join(o.dir, "summary.md"), []byte(summary), 0o644))
	bad := slices.IndexFunc(done, func(r chaos.Round) bool { return r.Verdict == chaos.Invalid })
	switch {
	case bad >= 0:
		return errors.Join(fmt.Errorf("round %d (%s, seed %d): %s", done[bad].Round, done[bad].Kind, done[bad].Seed, done[bad].Reason), err)
	case err != nil:
		return fmt.Errorf("%w: %w", errUnknown, err)
	case slices.ContainsFunc(done, func(r chaos.Round) bool { return r.Verdict != chaos.Valid }):
		return fmt.Errorf("%w: some rounds are unknown", errUnknown)
	}
	// Logs and journals are evidence of what went wrong, and nothing did.
	return os.RemoveAll(filepath.Join(o.dir, "mesh"))
}

// summarise is a Markdown table of the rounds, by kind.
func summarise(rounds []chaos.Round) string {
	type row struct {
		valid, invalid, unknown, linear int
		recovery, took                  []float64
	}
	by := map[string]*row{}
	for _, r := range rounds {
		k := by[r.Kind]
		if k == nil {
			k = &row{}
			by[r.Kind] = k
		}
		switch r.Verdict {
		case chaos.Valid:
			k.valid++
		case chaos.Invalid:
			k.invalid++
		default:
			k.unknown++
		}
		if r.Linearizable == chaos.Valid {
			k.linear++
		}
		k.recovery, k.took = append(k.recovery, r.Recovery), append(k.took, r.Took)
	}
	var b strings.Builder
	b.WriteString("| kind | valid | invalid | unknown | linearizable histories | recovery p50 | max | round p50 | max |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, name := range append(chaos.KindNames(), "") {
		if k := by[name]; k != nil {
			fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %.2f s | %.2f s | %.1f s | %.1f s |\n", name, k.valid, k.invalid, k.unknown, k.linear,
				chaos.Quantile(k.recovery, 0.5), chaos.Quantile(k.recovery, 1), chaos.Quantile(k.took, 0.5), chaos.Quantile(k.took, 1))
		}
	}
	return b.String()
}
