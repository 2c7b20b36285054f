package main

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
)

// runEnvs runs `envs args...` and returns what it printed.
func runEnvs(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := newEnvsCmd()
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(args)
	err := cmd.Execute()
	return out.String(), err
}

func TestEnvsDescribeJSON(t *testing.T) {
	out, err := runEnvs(t, "describe", "hypergrid", "--set", "dim=2", "--set", "height=4", "--set", "r0=0.1", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if got["cells"] != 16.0 || got["max_steps"] != 7.0 || got["max_reward"] != 0.6 {
		t.Errorf("facts: %s", out)
	}
	if z, _ := got["log_z"].(float64); math.Abs(z-1.2809338454620642) > 1e-14 {
		t.Errorf("log_z = %v", got["log_z"])
	}
	if v, present := got["modes"]; !present || v != nil {
		t.Errorf("modes = %v (present %t), want null", v, present)
	}
	params, _ := got["params"].(map[string]any)
	if params["dim"] != 2.0 || params["r2"] != 2.0 || params["reward"] != "standard" {
		t.Errorf("params: %v", params)
	}
}

func TestEnvsText(t *testing.T) {
	for _, args := range [][]string{{"list"}, {"describe", "hypergrid"}, {"list", "--json"}} {
		out, err := runEnvs(t, args...)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"hypergrid", "height", "0.001"} {
			if !strings.Contains(out, want) {
				t.Errorf("envs %v: no %q in\n%s", args, want, out)
			}
		}
	}
	out, _ := runEnvs(t, "describe", "diffusion")
	if !strings.Contains(out, "points of R^2") || strings.Contains(out, "cells") {
		t.Errorf("of points:\n%s", out)
	}
	out, _ = runEnvs(t, "describe", "bitseq", "--set", "n=8", "--set", "k=4", "--set", "modes=3")
	if !strings.Contains(out, "objects     256") || strings.Contains(out, "cells") {
		t.Errorf("of strings:\n%s", out)
	}
	out, _ = runEnvs(t, "describe", "hypergrid", "--set", "height=4")
	if !strings.Contains(out, "unknown or none") {
		t.Errorf("no modes, yet:\n%s", out)
	}
}

func TestEnvsFaults(t *testing.T) {
	for _, c := range []struct {
		want string
		args []string
	}{
		{`did you mean "hypergrid"`, []string{"describe", "hypergird"}},
		{`did you mean "height"`, []string{"describe", "hypergrid", "--set", "hieght=4"}},
		{"params.height", []string{"describe", "hypergrid", "--set", "height=tall"}},
		{"params.height", []string{"describe", "hypergrid", "--set", "height=[4]"}},
		{"name=value", []string{"describe", "hypergrid", "--set", "height"}},
		{"one value", []string{"describe", "hypergrid", "--set", "dim=2", "--set", "dim=3"}},
		{"a number or text", []string{"describe", "hypergrid", "--set", "dim="}},
		{"a number or text", []string{"describe", "hypergrid", "--set", "dim={"}},
	} {
		if _, err := runEnvs(t, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("envs %v: %v; want %q", c.args, err, c.want)
		}
	}
}
