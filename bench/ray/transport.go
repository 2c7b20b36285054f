package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/google/uuid"
)

// transport measures how fast batches of 64 trajectories get from eight sampler
// processes into bounded replay, without sampling or training; with an archive on
// one disk, if archived.
func (c *comparison) transport(ctx context.Context, archived bool) (*taking, error) {
	id := uuid.NewString()
	args := []string{"intake", "-cluster", id, "-for", c.seconds.String()}
	if archived {
		args = append(args, "-archive", filepath.Join(c.folder("archived"), id), "-job", c.job)
	} else if c.profile != "" {
		args = append(args, "-profile", c.profile)
	}
	intake, err := c.self(args...)
	if err != nil {
		return nil, err
	}
	defer intake.end()
	var at ready
	if err := intake.read(ctx, &at); err != nil {
		return nil, err
	}
	var senders []*child
	for i := range samplers {
		line := []string{"deliver", "-cluster", id, "-to", at.Addr, "-session", fmt.Sprintf("%s-%d", id, i), "-seed", fmt.Sprint(i + 1)}
		if c.profile != "" && i == 0 && !archived {
			line = append(line, "-profile", c.profile+".sampler")
		}
		p, err := c.self(line...)
		if err != nil {
			return nil, err
		}
		defer p.end()
		senders = append(senders, p)
	}
	out := new(taking)
	if err := intake.read(ctx, out); err != nil {
		return nil, err
	}
	var all sent
	for _, p := range senders {
		p.end()
		var one sent
		if err := p.scan(&one); err != nil {
			return nil, fmt.Errorf("a sampler ended early: %w\n%s", err, tail(p.errors.Bytes()))
		}
		all.Batches += one.Batches
		all.CPU += one.CPU
	}
	out.SamplersCPU = 1e6 * all.CPU / float64(all.Batches)
	return out, nil
}
