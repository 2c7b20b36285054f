package archive

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// FanIn is how many neighbours of one tier are merged into one of the next: 20
// commits a second for a day are then a few dozen segments besides the full ones.
const FanIn = 16

// Caps of what is merged; a segment above half of one is full, and stays.
const (
	mergedRows  = MaxRows / 4
	mergedBytes = MaxBytes / 2
)

// Plan returns the oldest neighbours of the lowest tier that should be merged;
// nil where none should.
func Plan(segments []fsm.Segment) []fsm.Segment {
	tiers := make([]int, len(segments))
	highest := 0
	for i, g := range segments {
		if name, ok := ParseName(g.ID); ok {
			tiers[i] = name.Tier
		}
		if full(&g) {
			tiers[i] = -1 // between two runs
		}
		highest = max(highest, tiers[i])
	}
	for tier := 0; tier <= highest; tier++ {
		for i := 0; i < len(segments); {
			if tiers[i] != tier {
				i++
				continue
			}
			j := i
			for j < len(segments) && tiers[j] == tier {
				j++
			}
			if j-i >= FanIn {
				return fitting(segments[i : i+FanIn])
			}
			i = j
		}
	}
	return nil
}

func full(g *fsm.Segment) bool { return g.Rows > mergedRows/2 || g.Bytes > mergedBytes/2 }

// fitting cuts a run to what one segment may hold: two at least, as none is full.
func fitting(run []fsm.Segment) []fsm.Segment {
	rows, size := int64(0), int64(0)
	for i, g := range run {
		rows, size = rows+g.Rows, size+g.Bytes
		if rows > mergedRows || size > mergedBytes {
			return run[:i]
		}
	}
	return run
}

// Merge makes one segment of a run: the same rows in the same order, and the same
// ranges.
func Merge(ctx context.Context, j *fsm.Job, run []fsm.Segment, fetch func(context.Context, *fsm.Segment) ([]byte, error)) (fsm.Segment, []byte, error) {
	var rows []Row
	ranges := cover{}
	tier := 0
	for i := range run {
		g := &run[i]
		ranges.add(g.Ranges)
		if name, ok := ParseName(g.ID); ok {
			tier = max(tier, name.Tier)
		}
		if g.Rows == 0 {
			continue
		}
		data, err := fetch(ctx, g)
		if err == nil {
			err = Decode(data, g.Rows, func(r *Row) error { rows = append(rows, *r); return nil })
		}
		if err != nil {
			return fsm.Segment{}, nil, fmt.Errorf("merge %s: %w", g.ID, err)
		}
	}
	last := sha256.Sum256([]byte(run[len(run)-1].ID)) // two empty ones may be made at one version
	name := Name{Generation: j.Generation, Epoch: j.Epoch, Version: j.Version, Tier: tier + 1, Tag: tag(last)}
	return build(name, rows, ranges.ranges())
}

// ranges lists the set, sorted.
func (c cover) ranges() (out []fsm.Range) {
	for _, runs := range c {
		out = append(out, runs...)
	}
	slices.SortFunc(out, func(a, b fsm.Range) int {
		if a.Session != b.Session {
			return strings.Compare(a.Session, b.Session)
		}
		if a.First < b.First {
			return -1
		}
		return 1
	})
	return out
}
