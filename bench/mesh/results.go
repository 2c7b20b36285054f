package main

import (
	"encoding/json"
	"os"

	"github.com/driftmesh/driftmesh/bench/parts"
	"github.com/driftmesh/driftmesh/chaos"
)

// results is what a run publishes.
type results struct {
	Machine     parts.Hardware `json:"machine"`
	Short       bool           `json:"short,omitempty"`
	Took        float64        `json:"seconds_of_the_run"`
	Ingest      []ingest       `json:"ingest,omitempty"`
	Publication []publication  `json:"publication,omitempty"`
	Commits1    *commits       `json:"commits_one_voter,omitempty"`
	Commits3    *commits       `json:"commits_three_voters,omitempty"`
	Windows1    *windows       `json:"windows_one_voter,omitempty"`
	Windows3    *windows       `json:"windows_three_voters,omitempty"`
	Compute     *compute       `json:"compute,omitempty"`
}

// median is 0 of nothing.
func median(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	return chaos.Quantile(x, 0.5)
}

// medians is the middle of each number of several measurements.
func medians(all []committing) committing {
	of := func(f func(committing) float64) float64 {
		var x []float64
		for _, c := range all {
			x = append(x, f(c))
		}
		return median(x)
	}
	return committing{
		Rate:    of(func(c committing) float64 { return c.Rate }),
		Bytes:   of(func(c committing) float64 { return c.Bytes }),
		Latency: of(func(c committing) float64 { return c.Latency }),
		CPU:     of(func(c committing) float64 { return c.CPU }),
		All:     of(func(c committing) float64 { return c.All }),
	}
}

func (b *bench) publish(r *results) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(data, '\n'))
	return err
}
