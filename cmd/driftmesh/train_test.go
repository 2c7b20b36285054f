package main

import (
	"bytes"
	"encoding/json"
	"image/png"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/runs"
)

const quickJob = "testdata/bad/quick.yaml"

// trainQuick trains the quick job in a folder of its own and returns the folder
// of the run.
func trainQuick(t *testing.T, args ...string) string {
	t.Helper()
	root := t.TempDir()
	ok(t, append([]string{"train", quickJob, "--runs", root, "--set", "train.updates=300", "--set", "eval.every=50"}, args...)...)
	return filepath.Join(root, "quick")
}

// TestSameSeedSameBits: equal seeds give equal metrics and parameters, bit for
// bit, however many threads there are; another seed gives others.
func TestSameSeedSameBits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for name, c := range map[string]struct {
		args    []string
		threads []int
	}{
		"on-policy": {nil, []int{1, 2, 8}},
		"lag":       {[]string{"--lag", "20", "--set", "sampling.epsilon=0.05"}, []int{8}},
	} {
		args := c.args
		first := trainQuick(t, args...)
		want := read(t, first, runs.MetricsFile)
		if n := strings.Count(want, "\n"); n != 6 {
			t.Fatalf("%s: %d rows, want 6", name, n)
		}
		for _, threads := range c.threads {
			runtime.GOMAXPROCS(threads)
			again := trainQuick(t, args...)
			if got := read(t, again, runs.MetricsFile); got != want {
				t.Errorf("%s: metrics at GOMAXPROCS %d differ:\n%s\nfrom\n%s", name, threads, got, want)
			}
			if !slices.Equal(parameters(t, first), parameters(t, again)) {
				t.Errorf("%s: parameters at GOMAXPROCS %d differ", name, threads)
			}
		}
		if other := trainQuick(t, append(args, "--set", "seed=2")...); read(t, other, runs.MetricsFile) == want {
			t.Errorf("%s: another seed gives the same metrics", name)
		}
	}
}

func parameters(t testing.TB, dir string) []float32 {
	t.Helper()
	c, err := runs.LoadCheckpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c.Params
}

// TestInterruptedTrainingResumes: a run that is interrupted, resumed, and
// interrupted again ends with the very parameters of one that was left alone.
func TestInterruptedTrainingResumes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	job := []string{"train", quickJob, "--set", "train.updates=8000", "--set", "eval.every=250", "--set", "policy.hidden=[24]"}
	undisturbed := t.TempDir()
	ok(t, append(job, "--runs", undisturbed)...)

	root := t.TempDir()
	dir := filepath.Join(root, "quick")
	var at int64
	for range 2 {
		p := start(t, append(job, "--runs", root)...)
		p.untilRow(t, dir, at)
		p.interrupt(t)
		if code := p.wait(t); code != exitInterrupted {
			t.Fatalf("exit %d, want %d", code, exitInterrupted)
		}
		resumed := strings.Contains(p.stdout.String(), "resuming at version "+decimal(at)+" of 8000")
		if resumed != (at > 0) {
			t.Errorf("resumed from %d, says:\n%s", at, p.stdout.String())
		}
		c, err := runs.LoadCheckpoint(dir)
		if err != nil {
			t.Fatal(err)
		}
		if c.Version <= at || c.Version >= 8000 {
			t.Fatalf("interrupted at version %d after %d", c.Version, at)
		}
		at = c.Version
		if want := "interrupted at version " + decimal(at) + "; the same command resumes"; !strings.Contains(p.stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, p.stdout.String())
		}
		if p.stderr.String() != "" {
			t.Errorf("on standard error:\n%s", p.stderr.String())
		}
	}
	out := ok(t, append(job, "--runs", root)...)
	if !strings.Contains(out, "resuming at version "+decimal(at)) || !strings.Contains(out, "finished after 8000 updates") {
		t.Errorf("the end says\n%s", out)
	}
	if !slices.Equal(parameters(t, dir), parameters(t, filepath.Join(undisturbed, "quick"))) {
		t.Error("the parameters differ from those of the undisturbed run")
	}
	if got, want := read(t, dir, runs.MetricsFile), read(t, filepath.Join(undisturbed, "quick"), runs.MetricsFile); got != want {
		t.Errorf("the metrics differ from those of the undisturbed run:\n%s\nfrom\n%s", got, want)
	}
	risingRows(t, dir, 8000)
	before := contents(t, filepath.Join(dir, runs.CheckpointDir))
	if out := ok(t, append(job, "--runs", root)...); !strings.Contains(out, "was finished already, at version 8000") || strings.Contains(out, "resuming") {
		t.Errorf("once more says\n%s", out)
	}
	if len(changes(before, contents(t, filepath.Join(dir, runs.CheckpointDir)))) > 0 {
		t.Error("a command with nothing to do changes the checkpoint")
	}
	if info, err := runs.ReadInfo(dir); err != nil || len(info.Sessions) != 4 || info.Sessions[2].From != at {
		t.Errorf("sessions of the run: %+v, %v", info, err)
	}
	if out := ok(t, append(job, "--runs", root, "--fresh", "--set", "train.updates=10")...); !strings.Contains(out, "finished after 10 updates") {
		t.Errorf("--fresh says\n%s", out)
	}
}

func decimal(v int64) string {
	text, _ := json.Marshal(v)
	return string(text)
}

// risingRows checks that versions rise strictly, up to the last one, and so do
// trajectories, but where none is fresh.
func risingRows(t *testing.T, dir string, last int64) {
	t.Helper()
	rows, err := runs.ReadRows(dir)
	if err != nil || len(rows) == 0 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for i := 1; i < len(rows); i++ {
		fresh := rows[i].Trajectories > rows[i-1].Trajectories || rows[i].Replayed > 0 // none of data alone
		if rows[i].Version <= rows[i-1].Version || rows[i].Trajectories < rows[i-1].Trajectories || !fresh {
			t.Errorf("row %d: version %d, %d trajectories after %d, %d", i, rows[i].Version, rows[i].Trajectories, rows[i-1].Version, rows[i-1].Trajectories)
		}
	}
	if got := rows[len(rows)-1].Version; got != last {
		t.Errorf("the last row is of version %d, want %d", got, last)
	}
}

// TestExamples trains every example for a moment and looks at what it leaves.
func TestExamples(t *testing.T) {
	jobs, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(jobs) < 5 {
		t.Fatalf("%d examples, %v", len(jobs), err)
	}
	for _, job := range jobs {
		name := strings.TrimSuffix(filepath.Base(job), ".yaml")
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			small := "policy.hidden=[16]"
			if strings.Contains(name, "transformer") {
				small = "policy.width=16"
			}
			args := []string{"--set", "train.updates=40", "--set", "eval.every=20", "--set", small}
			if name == "prior-tuning" { // which begins with another example's run
				runs := t.TempDir()
				ok(t, append([]string{"train", "../../examples/diffusion-25.yaml", "--runs", runs}, args...)...)
				args = append(args, "--set", "loss.prior="+filepath.Join(runs, "diffusion-25"))
			}
			out := ok(t, append([]string{"train", job, "--runs", root}, args...)...)
			if !strings.Contains(out, "finished after 40 updates") || !strings.Contains(out, "report.html") {
				t.Errorf("says\n%s", out)
			}
			dirs, err := filepath.Glob(filepath.Join(root, "*"))
			if err != nil || len(dirs) != 1 {
				t.Fatalf("run folders %v, %v", dirs, err)
			}
			runFolder(t, dirs[0], 40)
			if r := command(t, "best", dirs[0], "--diverse"); name == "diffusion-25" && (r.code != exitBadInput || !strings.Contains(r.stderr, "no features")) {
				t.Errorf("points that are far apart: %+v", r)
			}
		})
	}
}

// runFolder checks that a run's folder holds what it should.
func runFolder(t *testing.T, dir string, version float64) {
	t.Helper()
	risingRows(t, dir, int64(version))
	if timings, err := runs.ReadTimings(dir); err != nil || len(timings) == 0 || timings[len(timings)-1].Version != int64(version) {
		t.Errorf("timings %+v, %v", timings, err)
	}
	info := decode(t, read(t, dir, runs.InfoFile))
	keys(t, info, "name", "seed", "driftmesh_version", "sessions")
	if !strings.Contains(read(t, dir, runs.ConfigFile), "name: ") {
		t.Error("config.yaml names no environment")
	}
	page := read(t, dir, runs.ReportFile)
	if !strings.Contains(page, "</html>") || strings.Contains(page, "src=\"http") {
		t.Error("the report is no self-contained page")
	}
	plots, err := filepath.Glob(filepath.Join(dir, runs.PlotsDir, "*.png"))
	if err != nil || len(plots) < 5 {
		t.Errorf("plots %v, %v", plots, err)
	}
	for _, path := range plots {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := png.DecodeConfig(bytes.NewReader(data)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if e := decode(t, ok(t, "eval", dir, "--json", "--samples", "64")); e["version"] != version {
		t.Errorf("eval of version %v, want %v", e["version"], version)
	}
	if n := strings.Count(ok(t, "sample", dir, "-n", "5"), "\n"); n != 5 {
		t.Errorf("%d samples, want 5", n)
	}
}
