package main

import (
	"encoding/json"
	"flag"
	"math"
	"path/filepath"
	"testing"
	"time"
)

// converging are the members that reach the target on the small grid with one
// shared setting; those with a tail have it as their one override.
var converging = []string{
	"reverse_kl", "hellinger", "alpha:0.75", "forward_kl,tail:5", "jensen_shannon",
	"jeffreys,tail:5", "huber:1", "log_cosh", "triangular",
}

// TestMembersReachTheTarget trains every converging member on 2-D height 8,
// on-policy and at an exact lag of 50 updates: the median exact TV of three
// seeds is at most 0.08.
func TestMembersReachTheTarget(t *testing.T) {
	if testing.Short() {
		t.Skip("54 trainings")
	}
	args := []string{"losses", "table", "../../examples/members.yaml", "--json", "--lags", "0,50", "--seeds", "3",
		"--set", "train.updates=2500", "--set", "optimiser.learning_rate=cosine:2e-3:1e-5:2500", "--set", "sampling.epsilon=linear:0.1:0:1250"}
	for _, m := range converging {
		args = append(args, "--member", m)
	}
	cells := cellsOf(t, args...)
	if len(cells) != 2*len(converging) {
		t.Fatalf("%d cells, want %d", len(cells), 2*len(converging))
	}
	for _, c := range cells {
		t.Logf("%-18s lag %2d: TV %.4f", c.Member, c.Lag, float64(c.Median))
		if !(c.Median <= 0.08) {
			t.Errorf("%s at lag %d: median TV %.4f of %.4f, want at most 0.08", c.Member, c.Lag, float64(c.Median), c.TV)
		}
	}
}

func TestTableRefusesWhatTheFamilyLacks(t *testing.T) {
	cells := cellsOf(t, "losses", "table", "../../examples/members.yaml", "--json", "--lags", "0", "--seeds", "1",
		"--normalisers", "leave_one_out", "--member", "log_cosh", "--set", "train.updates=5")
	if len(cells) != 1 || cells[0].Refused == "" {
		t.Errorf("got %+v, want a refused cell: leave_one_out is for the alpha family", cells)
	}
}

func cellsOf(t *testing.T, args ...string) (cells []cell) {
	t.Helper()
	r := command(t, args...)
	if r.code != exitOK {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	if err := json.Unmarshal([]byte(r.stdout), &cells); err != nil {
		t.Fatal(err)
	}
	return cells
}

var accept = flag.Bool("accept", false, "run the main job to its end, for three seeds (minutes)")

// TestMainJob is what `make run` promises, for three seeds: `make accept`.
func TestMainJob(t *testing.T) {
	if !*accept {
		t.Skip("only with -accept")
	}
	for _, seed := range []string{"1", "2", "3"} {
		dir := t.TempDir()
		began := time.Now()
		p := start(t, "up", "../../examples/hypergrid-4d.yaml", "--plain", "--runs", dir, "--servers", "1", "--workers", "2", "--set", "seed="+seed)
		<-p.ended
		took := time.Since(began)
		t.Logf("seed %s: %.1f s\n%s%s", seed, took.Seconds(), p.stdout.String(), p.stderr.String())
		_, u, err := loadRun(filepath.Join(dir, "hypergrid-4d"))
		if err != nil {
			t.Fatal(err)
		}
		params := u.Params()
		rep, err := u.Exact(t.Context()).Model(u.Model.NewTape(), params[:len(params)-1])
		if err != nil {
			t.Fatal(err)
		}
		found, total := u.ModesFound()
		if rep.Distances.TV > 0.05 || found != 16 || total != 16 || math.Abs(u.LogZ()-rep.LogZ) > 0.03 || took.Seconds() > 120 {
			t.Errorf("seed %s: TV %.4f (≤ 0.05), %d of %d modes, log Z error %+.4f (≤ 0.03), %.0f s (≤ 120)",
				seed, rep.Distances.TV, found, total, u.LogZ()-rep.LogZ, took.Seconds())
		}
	}
}
