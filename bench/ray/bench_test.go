package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/driftmesh/driftmesh/bench/parts"
	"github.com/driftmesh/driftmesh/internal/plots"
)

func requirePython(t *testing.T) string {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	if err := exec.Command(python, "-c", "pass").Run(); err != nil {
		t.Skip("python3 does not run")
	}
	return python
}

// TestPythonSideParses: its own tests need numpy and Ray, this one does not.
func TestPythonSideParses(t *testing.T) {
	python := requirePython(t)
	files, err := filepath.Glob("py/*.py")
	if err != nil || len(files) < 4 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		if out, err := exec.Command(python, "-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())", f).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", f, err, out)
		}
	}
}

// TestSettingsAreTheJobs: the Python side learns what our side does.
func TestSettingsAreTheJobs(t *testing.T) {
	c := &comparison{id: uuid.NewString(), job: "../../examples/hypergrid-4d.yaml", seconds: time.Second, params: 7}
	s, err := c.settings()
	if err != nil {
		t.Fatal(err)
	}
	if s.Dim != 4 || s.Height != 8 || s.R0 != 0.001 || s.R2 != 2 || len(s.Hidden) != 2 || s.Window != 0.05 || s.LearningRate != 2e-3 || s.Params != 7 {
		t.Errorf("%+v", s)
	}
	c.job = "../../examples/hypergrid-2d.yaml"
	if _, err := c.settings(); err == nil || !strings.Contains(err.Error(), "4 dimensions") {
		t.Errorf("a grid of two dimensions: %v", err)
	}
}

// TestRatiosFavourTheBetter: of more where more is better, of less where less is,
// round by round; what was not measured has no row.
func TestRatiosFavourTheBetter(t *testing.T) {
	r := &results{Rounds: []round{
		{side{Transport: &parts.Taking{Rate: 100}, Memory: &memory{Slot: 2, Process: 10}}, side{Transport: &parts.Taking{Rate: 10}, Memory: &memory{Slot: 40, Process: 5}}},
		{side{Transport: &parts.Taking{Rate: 300}, Memory: &memory{Slot: 1, Process: 10}}, side{Transport: &parts.Taking{Rate: 10}, Memory: &memory{Slot: 40, Process: 5}}},
		{side{Transport: &parts.Taking{Rate: 200}, Memory: &memory{Slot: 1, Process: 10}}, side{Transport: &parts.Taking{Rate: 10}, Memory: &memory{Slot: 40, Process: 5}}},
	}}
	rows := r.rows()
	if len(rows) != 3 {
		t.Fatalf("%d rows: %+v", len(rows), rows)
	}
	if w := rows[0]; w.Driftmesh != 200 || w.Ray != 10 || w.Ratio != 20 || w.Least != 10 || w.Most != 30 {
		t.Errorf("more is better: %+v", w)
	}
	if w := rows[1]; w.Ratio != 40 || w.Least != 20 {
		t.Errorf("less is better: %+v", w)
	}
	if w := rows[2]; w.Ratio != 0.5 {
		t.Errorf("where Ray is better: %+v", w)
	}
	if text := r.table(rows); !strings.Contains(text, "| 200.0 trajectories/s | 10.00 trajectories/s | 20.0× (10.0 – 30.0) | ≥ 10× |") {
		t.Errorf("%s", text)
	}
	if _, err := plots.PNG(figure(rows)); err != nil {
		t.Error(err)
	}
	if _, err := json.Marshal(rows); err != nil {
		t.Error(err)
	}
}

func TestVerdicts(t *testing.T) {
	one := 1
	for want, d := range map[string]*headDeath{
		"never: updates went on for 61 s, then the job ended with exit code 1": {Last: 61.2, Watched: 61.3, Ended: true, ExitCode: &one},
		"never: no update after 2 s, watched for 90 s":                         {Last: 2, Watched: 90},
		"still going on 90 s after the death":                                  {Last: 89.9, Watched: 90},
	} {
		if got := d.verdict(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestReapFindsGrandchildren, which their parent left behind in another session.
func TestReapFindsGrandchildren(t *testing.T) {
	id := uuid.NewString()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("sh", "-c", "setsid sh -c 'echo here >&3; sleep 600; :' >/dev/null 2>&1 &")
	cmd.Env = append(os.Environ(), marker+"="+id)
	cmd.ExtraFiles = []*os.File{w}
	err = cmd.Run()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if said, err := bufio.NewReader(r).ReadString('\n'); err != nil { // it is past its exec
		t.Fatalf("the grandchild says %q, %v", said, err)
	}
	if n, err := reap(id); n == 0 || err != nil {
		t.Errorf("%d were killed, %v", n, err)
	}
	if pids, err := carriers([]byte(marker + "=" + id)); len(pids) > 0 || err != nil {
		t.Errorf("%v are left, %v", pids, err)
	}
	if n, err := reap(uuid.NewString()); n != 0 || err != nil {
		t.Errorf("of another run: %d, %v", n, err)
	}
}
