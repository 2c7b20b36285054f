package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/driftmesh/driftmesh/bench/parts"
)

// windows is what commits cost the training of a job.
type windows struct {
	Voters  int       `json:"voters"`
	Batch   int       `json:"batch"`
	Alone   stretch   `json:"without_commits"`
	Commits stretch   `json:"with_commits"`
	Others  float64   `json:"other_voters_cpu_ms_per_commit"`
	Kept    []float64 `json:"kept"` // of the rate without commits, round by round
	Cost    float64   `json:"cost"` // 1 - their median
}

// windows trains a job with commits and without, in turn, on a log of n voters.
func (b *bench) windows(ctx context.Context, n int) (*windows, error) {
	profile := b.profile
	if profile != "" {
		profile = fmt.Sprintf("%s.windows%d", profile, n)
	}
	v, _, err := startVoters(ctx, b.folder(fmt.Sprintf("windows-%d", n)), n, profile, "-job", b.job, "-batch", strconv.Itoa(b.batch))
	if err != nil {
		return nil, err
	}
	defer v.end()
	out := &windows{Voters: n, Batch: b.batch}
	var with, without []stretch
	for i := range b.rounds + 1 {
		var x, y stretch
		if err := v.ask(ctx, "alone "+b.slice.String(), &x); err != nil {
			return nil, err
		}
		before, err := parts.UsedCPU(v.pids()[1:])
		if err != nil {
			return nil, err
		}
		if err := v.ask(ctx, "commit "+b.slice.String(), &y); err != nil {
			return nil, err
		}
		after, err := parts.UsedCPU(v.pids()[1:])
		if err != nil {
			return nil, err
		}
		if i == 0 {
			continue
		}
		without, with, out.Kept = append(without, x), append(with, y), append(out.Kept, y.Rate/x.Rate)
		out.Others = 1e3 * (after - before).Seconds() / (y.Commits * b.slice.Seconds())
	}
	out.Alone, out.Commits = middle(without, (*stretch).fields), middle(with, (*stretch).fields)
	out.Cost = 1 - median(out.Kept)
	return out, nil
}

// fields are its numbers.
func (s *stretch) fields() []*float64 {
	return []*float64{&s.Rate, &s.CPU, &s.Commits, &s.Window, &s.Took}
}
