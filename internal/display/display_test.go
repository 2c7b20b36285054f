package display

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/driftmesh/driftmesh/internal/runs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func row(version int64, tv float64) (runs.Row, runs.Timing) {
	found, total := int(version/1000), 4
	return runs.Row{
			Version: version, Trajectories: uint64(16 * version), Loss: runs.Float(1 / float64(version)), LogZ: 3.9, LogZExact: runs.Some(3.912),
			TV: runs.Some(tv), ModesFound: &found, ModesTotal: &total, Lag: runs.LagStats{Median: 50, P95: 85},
		}, runs.Timing{
			Version: version, UpdatesPerS: 200, TrajectoriesPerS: 3200, Workers: 2, Servers: 1,
		}
}

func TestPlainLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := New(&out, Options{Name: "demo", Total: 4000})
		d.Note("starting\n")
		for v := int64(1000); v <= 4000; v += 1000 {
			time.Sleep(5 * time.Second) // of the test's fake clock
			d.Row(row(v, 1000/float64(v)))
			synctest.Wait()
		}
		d.Note("done")
		d.Close()
		d.Close()
		d.Note("too late")
		const want = `starting
demo: update 1000/4000, loss 0.001, log Z 3.900 (exact 3.912), TV 1.0000, modes 1/4, 200 updates/s, 3200 trajectories/s, lag 50 (p95 85), 15s left
demo: update 2000/4000, loss 0.0005, log Z 3.900 (exact 3.912), TV 0.5000, modes 2/4, 200 updates/s, 3200 trajectories/s, lag 50 (p95 85), 10s left
demo: update 3000/4000, loss 0.000333, log Z 3.900 (exact 3.912), TV 0.3333, modes 3/4, 200 updates/s, 3200 trajectories/s, lag 50 (p95 85), 5s left
demo: update 4000/4000, loss 0.00025, log Z 3.900 (exact 3.912), TV 0.2500, modes 4/4, 200 updates/s, 3200 trajectories/s, lag 50 (p95 85)
done
`
		if got := out.String(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// Rows that come faster than anybody reads are thinned; the last is shown.
func TestPlainLinesAreThinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := New(&out, Options{Name: "demo"})
		for v := int64(1); v <= 2001; v++ {
			time.Sleep(time.Millisecond)
			d.Row(row(v, 0.5))
			synctest.Wait()
		}
		d.Close()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) > 5 || !strings.HasPrefix(lines[0], "demo: update 1,") || !strings.HasPrefix(lines[len(lines)-1], "demo: update 2001,") {
			t.Errorf("got %d lines:\n%s", len(lines), out.String())
		}
	})
}

func TestLivePictureIsRedrawnInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := start(&out, Options{Name: "demo", Total: 4000, Workers: 2, Servers: 1}, true, true, func() int { return 100 })
		d.Row(row(1000, 0.9))
		time.Sleep(refresh)
		synctest.Wait()
		d.Note("worker b has joined")
		synctest.Wait()
		time.Sleep(10 * time.Second)
		d.Row(row(3000, 0.1))
		d.Close()
		screen := newScreen()
		screen.write(out.String())
		want := []string{
			"worker b has joined",
			"demo ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━──────────  75 %  3000/4000 updates  10s, 5s left",
			"  loss 0.000333   log Z 3.900 (exact 3.912)   TV 0.1000 █▁   modes 3/4",
			"  200 updates/s   3200 trajectories/s   lag 50 (p95 85)   2 workers, 1 server",
		}
		if got := screen.text(); got != strings.Join(want, "\n") {
			t.Errorf("the screen shows\n%s\nwant\n%s", got, strings.Join(want, "\n"))
		}
	})
}

// No line may be as wide as the terminal, whatever is shown: one that wraps
// would leave remains behind.
func TestViewFitsTheTerminal(t *testing.T) {
	s := snapshot{Options: Options{Name: strings.Repeat("näme", 9), Total: 10}}
	for v := int64(1); v < 40; v++ {
		r, timing := row(v*1000, 1/float64(v))
		s.row(r, timing, time.Unix(v, 0))
	}
	for width := range 160 {
		if width < 2 {
			continue
		}
		for _, line := range s.view(time.Unix(50, 0), width, true) {
			if w := ansi.StringWidth(line); w >= width {
				t.Fatalf("width %d: %d columns: %q", width, w, line)
			}
		}
	}
}

func TestUnknownThingsAreLeftOut(t *testing.T) {
	var s snapshot
	s.Name = "demo"
	now := time.Unix(100, 0)
	s.began = now
	if got := s.plain(now); got != "demo: update 0" {
		t.Errorf("before the first row: %q", got)
	}
	r := runs.Row{Version: 5, Loss: runs.Float(math.NaN()), LogZ: runs.Float(math.Inf(1)), TV: runs.Some(0.5)}
	s.row(r, runs.Timing{UpdatesPerS: runs.Float(math.Inf(1)), TrajectoriesPerS: 3}, now)
	if got := s.plain(now); got != "demo: update 5, TV 0.5000, 3 trajectories/s, lag 0" {
		t.Errorf("got %q", got)
	}
	s.row(runs.Row{Version: 6, Loss: 1}, runs.Timing{UpdatesPerS: 1, TrajectoriesPerS: 3}, now)
	if got := s.plain(now); !strings.Contains(got, "TV 0.5000") {
		t.Errorf("a row without an evaluation hides the last one: %q", got)
	}
}

// TestRefusedAreTold: once there are any, with all of them so far.
func TestRefusedAreTold(t *testing.T) {
	s := snapshot{Options: Options{Name: "demo"}}
	now := time.Unix(100, 0)
	for version, c := range []struct {
		refused uint64
		want    string
	}{{0, ""}, {5, ", lag 0, 5 refused"}, {0, ", lag 0, 5 refused"}, {2, ", lag 0, 7 refused"}} {
		s.row(runs.Row{Version: int64(version), Refused: c.refused}, runs.Timing{}, now)
		if got := s.plain(now); !strings.HasSuffix(got, c.want) || c.want == "" && strings.Contains(got, "refused") {
			t.Errorf("row %d: %q", version, got)
		}
		if got := strings.Join(s.view(now, 100, false), "\n"); strings.Contains(got, "refused") != (c.want != "") {
			t.Errorf("row %d: %q", version, got)
		}
	}
}

func TestForecast(t *testing.T) {
	now := time.Unix(100, 0)
	s := snapshot{Options: Options{Total: 100}}
	if _, ok := s.left(now); ok {
		t.Error("a forecast before any progress")
	}
	s.progress(40, 0, now)
	s.progress(60, 0, now.Add(10*time.Second))
	if d, ok := s.left(now.Add(12 * time.Second)); !ok || d != 18*time.Second {
		t.Errorf("%v, %t; want 18s", d, ok)
	}
	if d, ok := s.left(now.Add(time.Hour)); !ok || d != 0 {
		t.Errorf("a stalled run: %v, %t; want 0", d, ok)
	}
}

func TestSparkline(t *testing.T) {
	for want, values := range map[string][]float64{
		"":     {1},
		"█▆▁":  {1, 0.1, 0.001},
		"▁█":   {0, 5},
		"▁▁▁":  {2, 2, 2},
		"▁▃▆█": {9, 8, 1, 2, 4, 8}, // only the last four
	} {
		if got := sparkline(values, 4); got != want {
			t.Errorf("%v: %q; want %q", values, got, want)
		}
	}
}

func TestClock(t *testing.T) {
	for want, d := range map[string]time.Duration{"0s": 0, "42s": 42 * time.Second, "3m05s": 185 * time.Second, "2h07m": 127*time.Minute + 3*time.Second} {
		if got := clock(d); got != want {
			t.Errorf("%v: %q; want %q", d, got, want)
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestABrokenOutputStopsNothing(t *testing.T) {
	d := New(broken{}, Options{Name: "demo"})
	d.Row(row(1, 1))
	d.Progress(2, 32)
	d.Alive(3, 4)
	d.Close()
}

// screen is as much of a terminal as the display uses.
type screen struct {
	lines []string
	at    int
}

func newScreen() *screen { return &screen{lines: []string{""}} }

func (s *screen) write(text string) {
	for text != "" {
		switch {
		case strings.HasPrefix(text, eraseRight):
			text = text[len(eraseRight):] // every line is written from its beginning
		case strings.HasPrefix(text, eraseBelow):
			s.lines = s.lines[:s.at+1]
			s.lines[s.at] = ""
			text = text[len(eraseBelow):]
		case strings.HasPrefix(text, "\n"):
			if s.at++; s.at == len(s.lines) {
				s.lines = append(s.lines, "")
			}
			text = text[1:]
		case strings.HasPrefix(text, "\x1b[") && text[3] == 'A':
			s.at -= int(text[2] - '0')
			text = text[len("\x1b[1A\r"):]
		default:
			end := strings.Index(text, eraseRight)
			s.lines[s.at] = ansi.Strip(text[:end])
			text = text[end:]
		}
	}
}

func (s *screen) text() string { return strings.TrimRight(strings.Join(s.lines, "\n"), "\n") }
