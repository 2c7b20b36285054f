package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBenchScaleOnALocalMesh measures one and two slots whose reward sleeps:
// the second doubles the rate, and the reward is what bounds both.
func TestBenchScaleOnALocalMesh(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	root := t.TempDir()
	p := start(t, "bench", "scale", "--workers", "2,1", "--set", "sampling.reward_delay_ms=5", "--set", "mesh.rollout=4",
		"--intervals", "3", "--interval", "400ms", "--warmup", "100ms", "--runs", root, "--json")
	if code := p.wait(t); code != exitOK {
		t.Fatalf("exit %d", code)
	}
	r := decode(t, p.stdout.String())
	keys(t, r, "job", "seed", "mode", "reward_delay_ms", "rollout", "command", "version", "machine", "started", "seconds", "interrupted", "folder", "points")
	points := r["points"].([]any)
	if len(points) != 2 {
		t.Fatalf("%d points", len(points))
	}
	for i, x := range points {
		point := x.(map[string]any)
		keys(t, point, "workers", "batch", "rate", "efficiency", "bottleneck", "load", "window_ms", "commit_ms", "interval_seconds", "rates")
		if point["workers"] != float64(i+1) || point["batch"] != 16.0 || point["bottleneck"] != "reward" || len(point["rates"].([]any)) != 3 {
			t.Errorf("point %d: %v", i, point)
		}
		// A loaded machine sleeps longer, none sleeps shorter; a rate's own error is
		// what bursts leave of it.
		if rate := point["rate"].(map[string]any)["value"].(float64); !(rate > 10 && rate < 1.2*200*float64(i+1)) {
			t.Errorf("%d workers: %v trajectories/s", i+1, rate)
		}
	}
	if e := points[1].(map[string]any)["efficiency"].(map[string]any)["value"].(float64); !(e > 0.4 && e < 2.5) {
		t.Errorf("two slots have an efficiency of %v", e)
	}
	dir := r["folder"].(string)
	if lines := strings.Count(read(t, dir, scaleLines), "\n"); lines != 6 {
		t.Errorf("%d lines of metrics; want one per interval", lines)
	}
	for _, name := range []string{"config.yaml", scaleResults, scalePlot, filepath.Join(meshDir, "server-1.log")} {
		read(t, dir, name)
	}
	if _, err := os.Stat(filepath.Join(dir, meshDir, "server-1")); err == nil {
		t.Error("the mesh's data are still there")
	}
}

// TestBenchScaleOnACluster measures slots of a cluster that is there, weakly,
// leaves no job running, and prints a table.
func TestBenchScaleOnACluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	data := t.TempDir()
	_, addr := startServer(t, "--data", filepath.Join(data, "server"), "--init")
	start(t, "worker", "--data", filepath.Join(data, "worker"), "--join", addr, "--slots", "3")
	root := filepath.Join(data, "runs")
	until(t, "the worker is known", func() bool {
		w := decode(t, ok(t, "status", "--json", "--server", addr))["workers"].([]any)
		return len(w) == 1 && w[0].(map[string]any)["slots"] == 3.0
	})
	r := command(t, "bench", "scale", "--server", addr, "--workers", "1,4", "--runs", root)
	if r.code != exitBadInput || !strings.Contains(r.stderr, "--workers: got 4; want at most 3, the slots of the cluster") || there(root) {
		t.Errorf("more slots than there are: %+v", r)
	}
	out := ok(t, "bench", "scale", quickJob, "--server", addr, "--workers", "1,2", "--weak", "--set", "sampling.reward_delay_ms=2", "--set", "mesh.rollout=4",
		"--intervals", "2", "--interval", "300ms", "--warmup", "100ms", "--runs", root)
	for _, want := range []string{"weak scaling of quick, 2 ms per reward", "WORKERS", "BOTTLENECK", scalePlot} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	jobs := decode(t, ok(t, "status", "--json", "--server", addr))["jobs"].([]any)
	if len(jobs) != 2 {
		t.Fatalf("%d jobs", len(jobs))
	}
	for _, j := range jobs {
		if j := j.(map[string]any); j["status"] != "stopped" || j["trajectories"].(float64) == 0 {
			t.Errorf("%v", j)
		}
	}
}

// there says whether there is anything at a path.
func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TestBenchScaleInterrupted ends with 130 and with what it has.
func TestBenchScaleInterrupted(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	root := t.TempDir()
	p := start(t, "bench", "scale", "--workers", "1,2", "--set", "sampling.reward_delay_ms=2", "--set", "mesh.rollout=4",
		"--intervals", "2", "--interval", "200ms", "--warmup", "1s", "--runs", root)
	p.until(t, "the first row is there", func() bool { return strings.Contains(p.stdout.String(), "reward\n") })
	p.interrupt(t)
	if code := p.wait(t); code != exitInterrupted {
		t.Errorf("exit %d", code)
	}
	r := decode(t, read(t, root, "scale-strong-hypergrid", scaleResults))
	if points := r["points"].([]any); r["interrupted"] != true || len(points) != 1 {
		t.Errorf("interrupted %v, %d points", r["interrupted"], len(points))
	}
}

// TestBenchScaleRefuses what cannot be measured, names it, and leaves nothing.
func TestBenchScaleRefuses(t *testing.T) {
	root := filepath.Join(t.TempDir(), "runs")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no slots":        {[]string{"--workers", "0"}, "--workers: got 0; want 1 to 4096 slots"},
		"too many":        {[]string{"--workers", "1,5000"}, "--workers: got 5000"},
		"words":           {[]string{"--workers", "two"}, "--workers"},
		"both modes":      {[]string{"--weak", "--strong"}, "exclude each other"},
		"one interval":    {[]string{"--intervals", "1"}, "--intervals: got 1"},
		"short interval":  {[]string{"--interval", "1ms"}, "--interval: got 1ms"},
		"negative warmup": {[]string{"--warmup", "-1s"}, "--warmup: got -1s"},
		"negative delay":  {[]string{"--set", "sampling.reward_delay_ms=-1"}, "sampling.reward_delay_ms"},
		"no such job":     {[]string{"nowhere.yaml"}, "nowhere.yaml"},
		"huge batch":      {[]string{"--weak", "--workers", "4000", "--set", "train.batch=1000"}, "with 4000 workers: "},
		"no such server":  {[]string{"--server", "127.0.0.1:1"}, "no server answers"},
		"two jobs":        {[]string{quickJob, quickJob}, "bench scale"},
	} {
		r := command(t, append([]string{"bench", "scale", "--runs", root}, c.args...)...)
		want := exitBadInput
		if name == "no such server" {
			want = exitFailed
		}
		if r.code != want || !strings.Contains(r.stderr, c.want) || r.stdout != "" {
			t.Errorf("%s: %+v, want %q", name, r, c.want)
		}
		if _, err := os.Stat(root); err == nil {
			t.Fatalf("%s: a folder was made", name)
		}
	}
}
