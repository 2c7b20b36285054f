package main

import (
	"fmt"
	"strings"
)

// grid is one hypergrid; its fields are those that all libraries are told.
type grid struct {
	Dim    int     `json:"dim"`
	Height int     `json:"height"`
	R0     float64 `json:"r0"`
	R1     float64 `json:"r1"`
	R2     float64 `json:"r2"`
}

func (g grid) String() string { return fmt.Sprintf("%dd-h%d", g.Dim, g.Height) }

// standard is the grid with the reward of the literature.
func standard(dim, height int) grid {
	return grid{Dim: dim, Height: height, R0: 0.1, R1: 0.5, R2: 2}
}

// request is what a process of a measurement is asked to do, one line each.
type request struct {
	Op       string `json:"op"` // versions | check | update | sample | quality | steady | first; ours: prepare
	Grid     grid   `json:"grid"`
	Batch    int    `json:"batch"`
	Backward string `json:"backward"`       // joint | uniform
	Loss     string `json:"loss,omitempty"` // ours: tb (the default) or forward_kl
	Seed     uint64 `json:"seed"`

	LearningRate float64 `json:"lr"`
	LogZRate     float64 `json:"lr_z"`
	Params       string  `json:"params,omitempty"` // file of the parameters to begin with; none: the library's own

	Seconds float64 `json:"seconds,omitempty"` // of a measurement, at least
	Least   int     `json:"least,omitempty"`   // updates or batches of it, at least
	GoOn    bool    `json:"go_on,omitempty"`   // with what the last request built

	Updates int     `json:"updates,omitempty"`  // prepare: before Params is written
	Every   int     `json:"every,omitempty"`    // quality: updates between evaluations,
	Target  float64 `json:"target,omitempty"`   // a distance that is small enough,
	InARow  int     `json:"in_a_row,omitempty"` // at so many evaluations,
	Limit   float64 `json:"limit_s,omitempty"`  // after so many seconds of training at most
}

// answer is what it says; which fields are set depends on the request.
type answer struct {
	Versions  map[string]string `json:"versions,omitempty"`
	Installed int64             `json:"installed,omitempty"` // bytes on disk

	Parameters int            `json:"parameters,omitempty"`
	LogZ       float64        `json:"log_z,omitempty"` // of the reward
	Cells      map[string]int `json:"cells,omitempty"` // how many have which reward
	TV         *float64       `json:"tv,omitempty"`    // absent where there are too many cells

	MS     float64 `json:"ms,omitempty"` // per update or batch
	Count  int     `json:"count,omitempty"`
	Length float64 `json:"length,omitempty"`  // mean number of actions
	States float64 `json:"states,omitempty"`  // ours: distinct cells in a batch
	Sgemm  float64 `json:"sgemm,omitempty"`   // ours: GFLOP/s of a hidden layer's product for such a batch
	First  float64 `json:"first_s,omitempty"` // the first one, what is compiled then included
}

// training is how a run towards a distance went.
type training struct {
	Reached bool      `json:"reached"`
	Seconds float64   `json:"seconds"` // of training, until the first of the small distances
	Updates int       `json:"updates"`
	TVs     []float64 `json:"tv"`     // at every evaluation
	Length  float64   `json:"length"` // of the last trajectories
}

// library is who is measured.
type library string

const (
	ours     library = "driftmesh"
	torchgfn library = "torchgfn"
	gfnx     library = "gfnx"
)

var libraries = []library{ours, torchgfn, gfnx}

// cell is a grid and a batch size.
type cell struct {
	Grid  grid
	Batch int
}

func (c cell) String() string { return fmt.Sprintf("%s-b%d", c.Grid, c.Batch) }

// cells are those of the table, in its order, that the pattern picks.
func cells(pattern string) (out []cell, err error) {
	for _, g := range []grid{standard(2, 8), standard(4, 8), standard(4, 16), standard(4, 32)} {
		for _, batch := range []int{16, 32, 128, 512} {
			if c := (cell{g, batch}); picks(pattern, c.String()) {
				out = append(out, c)
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("-cells %q: picks none of 2d-h8-b16 … 4d-h32-b512", pattern)
	}
	return out, nil
}

// picks says whether some part of a pattern, by comma, is part of a name.
func picks(pattern, name string) bool {
	for part := range strings.SplitSeq(pattern, ",") {
		if strings.Contains(name+"-", strings.TrimSpace(part)+"-") || part == "" {
			return true
		}
	}
	return false
}
