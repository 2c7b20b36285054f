package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/driftmesh/driftmesh/bench/parts"
)

// commits compares our replicated log with hashicorp/raft alone.
type commits struct {
	Voters int        `json:"voters"`
	Entry  int        `json:"entry_bytes"`
	Ours   committing `json:"ours"`
	Bare   committing `json:"bare"`
	Ratios []float64  `json:"ratios"` // of bytes per second, round by round
	Ratio  float64    `json:"ratio"`  // their median
}

// voters are the processes of one log; the first one leads.
type voters struct{ all []*parts.Child }

func (v *voters) end() {
	for _, p := range v.all {
		p.End()
	}
}

func (v *voters) pids() (out []int) {
	for _, p := range v.all {
		out = append(out, p.PID())
	}
	return out
}

// startVoters starts a log's processes; the first one leads.
func startVoters(ctx context.Context, dir string, n int, profile string, args ...string) (v *voters, first voterReady, err error) {
	v = &voters{}
	defer func() {
		if err != nil {
			v.end()
		}
	}()
	var peers []string
	for i := n - 1; i >= 0; i-- {
		id := "node-" + strconv.Itoa(i)
		line := append([]string{"voter", "-dir", filepath.Join(dir, id), "-id", id}, args...)
		if i == 0 {
			line = append(line, "-found", "-peers", strings.Join(peers, ","))
		}
		if profile != "" && i < 2 {
			line = append(line, "-profile", fmt.Sprintf("%s.%d", profile, i))
		}
		p, err := parts.Self(line...)
		if err != nil {
			return v, first, err
		}
		v.all = append([]*parts.Child{p}, v.all...)
		if err := p.Read(ctx, &first); err != nil {
			return v, first, err
		}
		peers = append(peers, id+"="+first.Addr)
	}
	return v, first, nil
}

// ask gives the leader a line and reads its answer.
func (v *voters) ask(ctx context.Context, line string, answer any) error {
	if err := v.all[0].Write(line); err != nil {
		return err
	}
	return v.all[0].Read(ctx, answer)
}

// measure lets the leader commit for a while.
func (v *voters) measure(ctx context.Context, d time.Duration) (c committing, err error) {
	before, err := parts.UsedCPU(v.pids())
	if err != nil {
		return c, err
	}
	if err := v.ask(ctx, d.String(), &c); err != nil {
		return c, err
	}
	after, err := parts.UsedCPU(v.pids())
	c.All = 1e3 * (after - before).Seconds() / (c.Rate * d.Seconds())
	return c, err
}

// commits measures both logs in turn, round after round, on the same disk.
func (b *bench) commits(ctx context.Context, n int) (*commits, error) {
	profile := b.profile
	if profile != "" {
		profile = fmt.Sprintf("%s.commits%d", profile, n)
	}
	ours, ready, err := startVoters(ctx, b.folder(fmt.Sprintf("commits-%d", n)), n, profile, "-params", strconv.Itoa(b.params))
	if err != nil {
		return nil, err
	}
	defer ours.end()
	if profile != "" {
		profile += ".bare"
	}
	bare, _, err := startVoters(ctx, b.folder(fmt.Sprintf("bare-%d", n)), n, profile, "-bare", "-size", strconv.Itoa(ready.Size))
	if err != nil {
		return nil, err
	}
	defer bare.end()
	out := &commits{Voters: n, Entry: ready.Size}
	var a, z []committing
	for i := range b.rounds + 1 {
		x, err := ours.measure(ctx, b.slice)
		if err != nil {
			return nil, err
		}
		y, err := bare.measure(ctx, b.slice)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			continue // files are new, heaps small
		}
		a, z, out.Ratios = append(a, x), append(z, y), append(out.Ratios, x.Bytes/y.Bytes)
	}
	out.Ours, out.Bare, out.Ratio = middle(a, (*committing).fields), middle(z, (*committing).fields), median(out.Ratios)
	return out, nil
}
