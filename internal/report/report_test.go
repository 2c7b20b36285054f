package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"image/png"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/internal/runs"
)

var keep = flag.String("keep", "", "write the sample reports into this folder, to be looked at")

// grid is the target of a two-dimensional hypergrid with corner modes.
func grid(h int, r0 float64) []float64 {
	p := make([]float64, h*h)
	sum := 0.0
	for i := range p {
		r := r0
		a, b := math.Abs(float64(i/h)/float64(h-1)-0.5), math.Abs(float64(i%h)/float64(h-1)-0.5)
		if a > 0.25 && b > 0.25 {
			r += 0.5
		}
		if a > 0.3 && a < 0.4 && b > 0.3 && b < 0.4 {
			r += 2
		}
		p[i] = r
		sum += r
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

// blurred is the target with a relative error that varies from object to object.
func blurred(p []float64, seed uint64) []float64 {
	r := rand.New(rand.NewPCG(seed, 1))
	q := make([]float64, len(p))
	sum := 0.0
	for i := range p {
		q[i] = p[i] * math.Exp(0.4*r.NormFloat64())
		sum += q[i]
	}
	for i := range q {
		q[i] /= sum
	}
	return q
}

// sample is a run that converges, with one row every 100 updates.
func sample() Data {
	r := rand.New(rand.NewPCG(3, 4))
	d := Data{
		Name: "hypergrid-2d", Outcome: "Finished after 5,000 updates.",
		Facts:  []Fact{{"environment", "hypergrid", "2-D, height 16"}, {"loss", "hellinger", "effective alpha 0.5"}, {"normaliser", "learned", ""}},
		Config: []byte("name: hypergrid-2d\nseed: 7\nloss:\n  divergence: \"hellinger\" # <b>\n"),
		Info: runs.Info{Name: "hypergrid-2d", Seed: 7, Version: "v0.1.0", Sessions: []runs.Session{{
			Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Command: []string{"driftmesh", "train", "job.yaml"},
			Machine: runs.Machine{Go: "go1.26", OS: "linux", Arch: "amd64", CPUs: 2},
		}}},
		Best: []Object{{"(1,1)", 0.9}, {"(1,14)", 0.9}},
	}
	target := grid(16, 0.001)
	d.Objects = &Distribution{Target: target, Model: blurred(target, 1), Rows: 16, Cols: 16, RowLabel: "x₂", ColLabel: "x₁"}
	total := 4
	for v := int64(0); v <= 5000; v += 100 {
		decay := math.Exp(-float64(v) / 900)
		noise := math.Exp(0.1 * r.NormFloat64())
		found, held := min(4, int(v/400)), min(4, int(v/700))
		row := runs.Row{
			Version: v, Trajectories: uint64(16 * v), Loss: runs.Float(20 * decay * decay * noise), GradNorm: runs.Float(decay),
			LogZ: runs.Float(3.9 * (1 - decay)), LogZEstimator: "learned", LogZExact: runs.Some(3.912),
			TV: runs.Some(0.02 + 0.9*decay*noise), KL: runs.Some(decay), ModesFound: &found, ModesHeld: &held, ModesTotal: &total,
		}
		if v == 0 {
			row.Loss = runs.Float(math.NaN())
		} else {
			for i, q := range []float64{-2, -0.7, 0.1, 0.9, 2.2} {
				row.DeltaQ[i] = runs.Float(q * (decay*4 + 0.1) * noise)
			}
			for range 100 {
				row.LagCounts.Add(int64(40+15*r.ExpFloat64()), 16)
			}
			row.Lag = runs.LagStats{Min: 40, Median: 50, P95: 85, Max: 150}
		}
		d.Rows = append(d.Rows, row)
		d.Timings = append(d.Timings, runs.Timing{Version: v, Seconds: runs.Float(float64(v) / 220), EvalSeconds: runs.Float(float64(v) / 9000)})
	}
	return d
}

func write(t *testing.T, name string, d Data) (dir, html string) {
	t.Helper()
	dir = t.TempDir()
	if *keep != "" {
		dir = filepath.Join(*keep, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path, err := Write(dir, d)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return dir, string(b)
}

func TestReport(t *testing.T) {
	dir, html := write(t, "grid", sample())
	for _, want := range []string{
		"Finished after 5,000 updates.", "4 of 4", "80,000", "exact 3.9120", "22.7 s", "hellinger", "effective alpha 0.5",
		"&lt;b&gt;", "(1,14)", "driftmesh train job.yaml", "prefers-color-scheme: dark", "var(--plot-blue,#0072b2)",
	} {
		if !strings.Contains(html, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, runs.PlotsDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(f))
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := png.Decode(bytes.NewReader(b)); err != nil {
			t.Errorf("%s: %v", f, err)
		}
		if !strings.Contains(html, `href="plots/`+filepath.Base(f)+`"`) {
			t.Errorf("the page has no link to %s", f)
		}
	}
	want := []string{"delta.png", "distribution.png", "lag.png", "log_z.png", "loss.png", "modes.png", "tv_time.png", "tv_trajectories.png", "tv_updates.png"}
	if !slices.Equal(names, want) {
		t.Errorf("plots %v; want %v", names, want)
	}
	selfContained(t, html)
}

// selfContained checks that the page stands alone: nothing is loaded from
// elsewhere and no script runs.
func selfContained(t *testing.T, html string) {
	t.Helper()
	for _, re := range []string{`<script`, `<link`, `@import`, `(src|href)="(https?:)?//`, `url\((?:['"]?)https?:`, `ZgotmplZ`} {
		if at := regexp.MustCompile(re).FindString(html); at != "" {
			t.Errorf("the page has %q", at)
		}
	}
	for _, svg := range regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(html, -1) {
		dec := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := dec.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("SVG is not well-formed: %v\n%.300s", err, svg)
			}
		}
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Errorf("SVG holds numbers that are not finite: %.300s", svg)
		}
	}
}

func TestReportOfManyObjects(t *testing.T) {
	d := sample()
	var target []float64
	for _, a := range grid(8, 0.001) {
		for _, b := range grid(8, 0.001) {
			target = append(target, a*b)
		}
	}
	d.Objects = &Distribution{Target: target, Model: blurred(target, 2)}
	d.Rows[len(d.Rows)-1].LagCounts.Add(5000, 100)
	d.Rows[3].LagCounts.Add(0, 300)
	_, html := write(t, "curves", d)
	if !strings.Contains(html, "rank of the object") {
		t.Error("no curve of sorted probabilities")
	}
}

func TestReportWithoutData(t *testing.T) {
	for name, d := range map[string]Data{
		"nothing":  {Name: "empty"},
		"one row":  {Name: "one", Rows: []runs.Row{{Version: 0, Loss: 1, LogZ: 0}}},
		"nan only": {Name: "nan", Rows: []runs.Row{{Loss: runs.Float(math.NaN()), LogZ: runs.Float(math.Inf(1)), TV: runs.Some(math.NaN())}}},
		"constant": {Name: "c", Rows: []runs.Row{{Version: 1, TV: runs.Some(0)}, {Version: 2, TV: runs.Some(0)}}},
		"zeros":    {Name: "z", Objects: &Distribution{Target: make([]float64, 4), Model: make([]float64, 4), Rows: 2, Cols: 2}},
		"perfect":  {Name: "p", Objects: &Distribution{Target: []float64{0.5, 0.5}, Model: []float64{0.5, 0.5}}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, html := write(t, name, d); !strings.Contains(html, "<h1>"+d.Name) {
				t.Error("the page lacks its title")
			}
		})
	}
}

func TestDistributionMustFit(t *testing.T) {
	for _, o := range []Distribution{
		{Target: make([]float64, 4), Model: make([]float64, 3)},
		{Target: make([]float64, 4), Model: make([]float64, 4), Rows: 3, Cols: 2},
		{Target: make([]float64, 4), Model: make([]float64, 4), Rows: -2, Cols: -2},
	} {
		dir := t.TempDir()
		if _, err := Write(dir, Data{Objects: &o}); err == nil {
			t.Errorf("%+v was drawn", o)
		}
	}
}

func TestFromRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "r")
	run, err := runs.Create(dir, runs.Info{Name: "r", Seed: 1}, []byte("name: r\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		run.Append(runs.Row{Version: 10, TV: runs.Some(0.5)}), run.AppendTiming(runs.Timing{Version: 10, Seconds: 2}), run.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	d, err := FromRun(dir)
	if err != nil || d.Name != "r" || len(d.Rows) != 1 || len(d.Timings) != 1 || string(d.Config) != "name: r\n" {
		t.Fatalf("%+v, %v", d, err)
	}
	if _, err := FromRun(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("an empty folder: %v; want ErrNotExist", err)
	}
}
