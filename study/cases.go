package study

import (
	"fmt"
	"math"
	"strings"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/params"
	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/envs/sequence"
	"github.com/driftmesh/driftmesh/internal/datafile"
)

// Case is an environment whose trajectories can all be listed.
type Case struct {
	Env    string
	Params map[string]any
	file   *datafile.File // of a sequence whose table is not on a disk
}

// Cases are small instances of every environment whose trajectories can be listed
// without a file, the hypergrid with each of its rewards: a new environment joins by a
// line here. A deceptive grid has its high bumps from 7 cells a side on. Sites of an
// Ising lattice come in one order, for in any order even 3 × 3 have 10⁸.
func Cases() []Case {
	return []Case{
		{Env: "hypergrid", Params: map[string]any{"dim": 2, "height": 4, "r0": 0.1}},
		{Env: "hypergrid", Params: map[string]any{"dim": 2, "height": 5, "r0": 0.1, "reward": "cosine"}},
		{Env: "hypergrid", Params: map[string]any{"dim": 2, "height": 5, "r0": 0.1, "reward": "sparse"}},
		{Env: "hypergrid", Params: map[string]any{"dim": 2, "height": 7, "r0": 0.1, "reward": "deceptive"}},
		{Env: "hypergrid", Params: map[string]any{"dim": 2, "height": 5, "r0": 0.1, "reward": "corner"}},
		{Env: "hypergrid_conditional", Params: map[string]any{"dim": 2, "height": 3, "r0": 0.1}},
		{Env: "bitseq", Params: map[string]any{"n": 8, "k": 4, "modes": 2}},
		{Env: "sequence", Params: map[string]any{"order": "any", "scale": 1.0, "exponent": 1.0}, file: words()},
		{Env: "ising", Params: map[string]any{"l1": 3, "l2": 3, "sigma": 0.2, "order": "left"}},
		{Env: "mixture", Params: map[string]any{"cells": 24}},
		{Env: "categorical"},
	}
}

// words are all words of three letters, with values between 0.1 and 1.1 that no letter
// alone decides.
func words() *datafile.File {
	var b strings.Builder
	b.WriteString("sequence,value\n")
	for i := range 64 {
		value := 0.6 + 0.5*math.Sin(float64(i*i))
		fmt.Fprintf(&b, "%c%c%c,%.6f\n", "ACGT"[i/16], "ACGT"[i/4%4], "ACGT"[i%4], value)
	}
	return datafile.New("words of three letters", []byte(b.String()))
}

// casesWith puts the sequences of a file, if there is one, in the place of the words.
func casesWith(file string) []Case {
	out := Cases()
	for i := range out {
		if out[i].file != nil && file != "" {
			out[i].Params["table"], out[i].file = file, nil
		}
	}
	return out
}

func (c Case) open() (envs.Env, error) {
	if c.file == nil {
		return registry.New(c.Env, c.Params)
	}
	table := sequence.Default()
	if err := params.Decode(sequence.Bind(&table), c.Params); err != nil {
		return nil, err
	}
	table.Table, table.File = c.file.Name, c.file
	return sequence.New(table)
}

// name is the environment's, with its reward where it has several.
func (c Case) name() string {
	if reward, ok := c.Params["reward"]; ok {
		return fmt.Sprintf("%s, %v", c.Env, reward)
	}
	return c.Env
}

// describe is the name with what the instance is.
func (c Case) describe() string {
	parts := []string{c.name()}
	for _, p := range []string{"dim", "height", "cells", "n", "k", "l1", "l2", "order"} {
		if v, ok := c.Params[p]; ok {
			parts = append(parts, fmt.Sprintf("%s %v", p, v))
		}
	}
	return strings.Join(parts, " ")
}
