package main

import (
	"encoding/csv"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/archive"
	"github.com/driftmesh/driftmesh/paramserver/replay"
)

// TestExportOfNoArchive: a folder without one is named, and no server is asked.
func TestExportOfNoArchive(t *testing.T) {
	dir := t.TempDir()
	for _, of := range []string{dir, filepath.Join(dir, "nowhere")} {
		if r := command(t, "export", of); r.code != exitBadInput || !strings.Contains(r.stderr, of) || !strings.Contains(r.stderr, "driftmesh up") {
			t.Errorf("%s: %+v", of, r)
		}
	}
}

// TestArchiveVerbs runs a job with an archive to its end, and reads it from the
// run's folder and from a server, in every format.
func TestArchiveVerbs(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	root := t.TempDir()
	up := start(t, "up", "../../examples/archive.yaml", "--runs", root, "--workers", "1", "--plain", "--set", "train.updates=400", "--set", "eval.every=0")
	if code := up.wait(t); code != exitOK {
		t.Fatalf("up: exit %d\n%s%s", code, up.stdout.String(), up.stderr.String())
	}
	run := filepath.Join(root, "archive")
	const batch = 16
	file := func(name string) string { return filepath.Join(root, name) }
	said := ok(t, "export", run, "--out", file("all.jsonl"))
	lines := strings.Split(strings.TrimSuffix(read(t, file("all.jsonl")), "\n"), "\n")
	// The first update is all fresh, then half of each is replayed.
	want := batch + 399*batch/2
	if len(lines) != want || !strings.Contains(said, strconv.Itoa(want)+" of "+strconv.Itoa(want)+" archived rows of job archive, version 400") {
		t.Errorf("%d lines, want %d; %s", len(lines), want, said)
	}
	type trajectory struct {
		session string
		seq     float64
	}
	seen := map[trajectory]bool{}
	objects := map[string]bool{}
	high := 0
	for _, line := range lines {
		row := decode(t, line)
		keys(t, row, "object", "log_reward", "version", "time", "worker", "session", "seq")
		at := trajectory{row["session"].(string), row["seq"].(float64)}
		if seen[at] {
			t.Fatalf("%v is there twice", at)
		}
		seen[at], objects[row["object"].(string)] = true, true
		if row["log_reward"].(float64) >= 0 {
			high++
		}
	}
	ok(t, "export", run, "--out", file("all.csv"))
	records, err := csv.NewReader(strings.NewReader(read(t, file("all.csv")))).ReadAll()
	if err != nil || len(records) != want+1 || strings.Join(records[0], ",") != "object,log_reward,version,time,worker,session,seq" {
		t.Errorf("%d records of CSV, %v", len(records), err)
	}
	ok(t, "export", run, "--out", file("all.parquet"))
	rows, err := parquet.ReadFile[archive.Row](file("all.parquet"))
	if err != nil || len(rows) != want || rows[0].Object != records[1][0] || rows[want-1].Object != records[want][0] {
		t.Errorf("%d rows of Parquet, %v", len(rows), err)
	}
	if out := ok(t, "export", run, "--distinct", "--format", "csv"); strings.Count(out, "\n") != len(objects)+1 {
		t.Errorf("%d lines of %d distinct objects", strings.Count(out, "\n"), len(objects))
	}
	if out := ok(t, "export", run, "--min-log-reward", "0"); strings.Count(out, "\n") != high {
		t.Errorf("%d lines of %d with a log-reward of 0 or more", strings.Count(out, "\n"), high)
	}

	best := decode(t, ok(t, "best", run, "-n", "5", "--json"))
	keys(t, best, "job", "version", "from", "objects")
	list := best["objects"].([]any)
	if len(list) != 5 || best["from"] != "state" {
		t.Fatalf("best: %v", best)
	}
	whole := decode(t, ok(t, "best", run, "-n", "5", "--archive", "--json"))["objects"].([]any)
	for i := range list {
		a, b := list[i].(map[string]any), whole[i].(map[string]any)
		if a["log_reward"] != b["log_reward"] || a["object"] != b["object"] {
			t.Errorf("the best number %d is %v in the state and %v in the archive", i+1, a, b)
		}
		if i > 0 && a["log_reward"].(float64) > list[i-1].(map[string]any)["log_reward"].(float64) {
			t.Error("not the best first")
		}
	}
	if text := ok(t, "best", run, "-n", "3", "--archive", "--diverse", "--min-distance", "1"); strings.Count(text, "\n") != 6 {
		t.Errorf("the most diverse:\n%s", text)
	}

	// The same from a server.
	_, addr := startServer(t, "--data", filepath.Join(run, meshDir, "server-1"))
	until(t, "the server answers", func() bool { return jobStatus(t, addr, "archive") != nil })
	if remote := ok(t, "export", "archive", "--server", addr); remote != read(t, file("all.jsonl")) {
		t.Errorf("%d bytes from a server, %d from the folder", len(remote), len(read(t, file("all.jsonl"))))
	}
	if remote := decode(t, ok(t, "best", "archive", "--server", addr, "-n", "5", "--json")); len(remote["objects"].([]any)) != 5 {
		t.Errorf("best of a server: %v", remote)
	}
	for _, c := range [][]string{
		{"export", "nothing", "--server", addr}, {"best", "nothing", "--server", addr},
		{"export", run}, // its folder is in use
	} {
		if r := command(t, c...); r.code != exitBadInput {
			t.Errorf("%v: %+v", c, r)
		}
	}
	before := read(t, file("all.jsonl"))
	if r := command(t, "export", "nothing", "--server", addr, "--out", file("all.jsonl")); r.code != exitBadInput || read(t, file("all.jsonl")) != before {
		t.Errorf("a file was changed by an export that failed: %+v", r)
	}
}

func TestArchiveFlags(t *testing.T) {
	for flag, args := range map[string][]string{
		"--format":         {"export", "j", "--format", "xml"},
		"--out":            {"export", "j", "--format", "parquet"},
		"--min-log-reward": {"export", "j", "--min-log-reward", "NaN"},
		"--n":              {"best", "j", "-n", "0"},
		"--min-distance":   {"best", "j", "--diverse", "--min-distance", "0"},
		"--distinct":       {"best", "j", "--distinct=false"},
		"--archive":        {"server", "--data", t.TempDir(), "--init", "--archive", "archive"},
	} {
		if r := command(t, args...); r.code != exitBadInput || !strings.Contains(r.stderr, flag) {
			t.Errorf("%v: %+v", args, r)
		}
	}
	if r := command(t, "best", "j", "--min-distance", "0.5"); r.code != exitBadInput || !strings.Contains(r.stderr, "--diverse") {
		t.Errorf("%+v", r)
	}
}

// TestDiverse: each object that is shown is far from all better ones, and the
// best that is.
func TestDiverse(t *testing.T) {
	env, err := registry.New("hypergrid", map[string]any{"dim": 2, "height": 4})
	if err != nil {
		t.Fatal(err)
	}
	var sorted []bestObject
	for i, text := range []string{"(0,0)", "(0,1)", "(1,0)", "(1,1)", "(2,1)", "(2,2)", "(3,3)"} {
		sorted = append(sorted, bestObject{ObjectInfo: wire.ObjectInfo{Text: text, LogReward: float64(-i)}})
	}
	for distance, want := range map[float64]string{0.5: "(0,0) (0,1) (1,0) (1,1) (2,1) (2,2) (3,3)", 1: "(0,0) (1,1) (2,2) (3,3)"} {
		got, err := pickDiverse(env, sorted, 9, distance)
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, o := range got {
			texts = append(texts, o.Text)
		}
		if strings.Join(texts, " ") != want {
			t.Errorf("at distance %v: %v, want %s", distance, texts, want)
		}
		for i := range got {
			for j := range i {
				if d := replay.Distance(featuresOf(t, env, got[i].Text), featuresOf(t, env, got[j].Text)); d < distance {
					t.Errorf("%s and %s are %v apart", got[i].Text, got[j].Text, d)
				}
			}
		}
	}
	for name, params := range map[string]map[string]any{"categorical": nil, "mixture": {"cells": 9}} { // one step, one feature
		env, err := registry.New(name, params)
		if err != nil {
			t.Fatal(err)
		}
		var alone []bestObject
		for _, text := range []string{"(0)", "(2)", "(3)"} {
			alone = append(alone, bestObject{ObjectInfo: wire.ObjectInfo{Text: text}})
		}
		if got, err := pickDiverse(env, alone, 9, 1); err != nil || len(got) != 3 {
			t.Errorf("%s: %v of three, %v", name, got, err)
		}
	}
	if got, err := pickDiverse(env, sorted, 2, 1); err != nil || len(got) != 2 {
		t.Errorf("%d of 2, %v", len(got), err)
	}
}

func featuresOf(t *testing.T, env envs.Env, text string) []int32 {
	t.Helper()
	one := env.NewStates(1)
	if err := one.Parse(0, text); err != nil {
		t.Fatal(err)
	}
	return one.AppendFeatures(nil, 0)
}

// TestCandidates keeps the best of many, each once.
func TestCandidates(t *testing.T) {
	c := candidates{distinct: true, at: map[string]int{}}
	const n = 3 * maxCandidates
	for i := range n {
		c.add(bestObject{ObjectInfo: wire.ObjectInfo{Text: strconv.Itoa(i), LogReward: float64(i*7919%n) / 3}})
		c.add(bestObject{ObjectInfo: wire.ObjectInfo{Text: strconv.Itoa(i / 2), LogReward: math.Inf(-1)}}) // known, and worse
	}
	seen := map[string]bool{}
	top := 0
	for _, o := range c.list {
		if seen[o.Text] {
			t.Fatalf("%s is there twice", o.Text)
		}
		seen[o.Text] = true
		if o.LogReward*3 >= n-maxCandidates/2 {
			top++
		}
	}
	if top != maxCandidates/2 || len(c.list) >= 2*maxCandidates {
		t.Errorf("%d of the best %d among %d", top, maxCandidates/2, len(c.list))
	}
}
