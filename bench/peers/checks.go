package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
)

// check compares what the libraries make of one grid, with parameters that
// Driftmesh trained.
type check struct {
	Grid  grid               `json:"grid"`
	Sides map[library]answer `json:"sides"`
}

// checks is equal.json.
type checks struct {
	header
	Checks []check `json:"checks"`
}

// keep takes over what an earlier run with the same versions checked on other grids: a
// run of one part checks its own alone.
func (c *checks) keep(old *checks) {
	if old == nil || !maps.Equal(c.Versions, old.Versions) {
		return
	}
	here := c.Checks
	c.Checks = nil
	for _, k := range old.Checks {
		if !slices.ContainsFunc(here, func(h check) bool { return h.Grid == k.Grid }) {
			c.Checks = append(c.Checks, k)
		}
	}
	c.Checks = append(c.Checks, here...)
	slices.SortStableFunc(c.Checks, func(a, b check) int {
		return cmp.Or(cmp.Compare(a.Grid.Dim, b.Grid.Dim), cmp.Compare(a.Grid.Height, b.Grid.Height))
	})
}

// sameTV is how far float32 may carry two evaluations of one policy apart.
const sameTV = 1e-3

// agree is an error where a comparison of times would mean nothing. A few cells
// with another reward are no such case: see remark.
func (k *check) agree() error {
	a := k.Sides[ours]
	for _, lib := range libraries[1:] {
		b := k.Sides[lib]
		if a.Parameters != b.Parameters {
			return fmt.Errorf("%d parameters, %s has %d", a.Parameters, lib, b.Parameters)
		}
		if !(math.Abs(a.LogZ-b.LogZ) < 0.05) {
			return fmt.Errorf("log Z %v, %s has %v", a.LogZ, lib, b.LogZ)
		}
		if (a.TV == nil) != (b.TV == nil) {
			return fmt.Errorf("%s: the distance was computed on one side only", lib)
		}
		// Where rewards differ the targets do, and so may the distances.
		if a.TV != nil && maps.Equal(a.Cells, b.Cells) && !(math.Abs(*a.TV-*b.TV) < sameTV) {
			return fmt.Errorf("TV %v, %s has %v", *a.TV, lib, *b.TV)
		}
	}
	return nil
}

// remark says what is equal, and where rewards are not.
func (k *check) remark() (text string) {
	if tv := k.Sides[ours].TV; tv != nil {
		text = fmt.Sprintf(", TV %.4f", *tv)
	}
	for _, lib := range libraries[1:] {
		if !maps.Equal(k.Sides[ours].Cells, k.Sides[lib].Cells) {
			text += fmt.Sprintf("; %s has other rewards in %d cells", lib, differing(k.Sides[ours].Cells, k.Sides[lib].Cells))
		}
	}
	return text
}

// differing is the least number of cells that two counts by reward differ in.
func differing(a, b map[string]int) (n int) {
	for v := range a {
		n += max(0, a[v]-b[v])
	}
	return n
}
