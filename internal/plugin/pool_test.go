package plugin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/driftmesh/driftmesh/internal/plugin"
	"github.com/driftmesh/driftmesh/internal/plugin/plugintest"
)

func TestMain(m *testing.M) {
	if err := plugintest.Prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// logs keeps what a Host logs.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(data)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func permit(t testing.TB) *logs {
	t.Helper()
	out := &logs{}
	h, err := plugin.Permit([]string{"testdata"}, slog.New(slog.NewTextHandler(out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return out
}

func open(t testing.TB, c plugin.Command, args ...string) *plugin.Pool {
	t.Helper()
	c.Args = append([]string{"python3"}, args...)
	p, err := plugin.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask returns the rewards of "(0)" to "(n-1)".
func ask(p *plugin.Pool, n int) ([]float64, []plugin.Fault, error) {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprintf("(%d)", i)
	}
	out := make([]float64, n)
	faults, err := p.LogRewards(context.Background(), &plugin.Request{Op: plugin.OpReward, Texts: texts}, func(i int) string { return texts[i] }, out)
	return out, faults, err
}

func checkAll(t *testing.T, got []float64, scale float64) {
	t.Helper()
	for i, v := range got {
		if want := math.Log(scale * float64(1+i)); math.Abs(v-want) > 1e-12 {
			t.Fatalf("log-reward of (%d) is %v, want %v", i, v, want)
		}
	}
}

func TestRewards(t *testing.T) {
	out := permit(t)
	p := open(t, plugin.Command{Processes: 2, Batch: 7, Params: map[string]any{"scale": 2.5}}, "faulty.py", "print")
	got, faults, err := ask(p, 100) // 15 requests to two processes
	if err != nil || len(faults) > 0 {
		t.Fatal(faults, err)
	}
	checkAll(t, got, 2.5)
	hello, err := p.Hello(context.Background())
	if err != nil || hello.Kind != plugin.KindReward || hello.Name != "faulty" || len(hello.Data) != 64 {
		t.Errorf("%+v, %v", hello, err)
	}
	if !strings.Contains(out.String(), "noisenoise") {
		t.Error("what the plugin printed is not in the log")
	}
	if same := open(t, plugin.Command{Processes: 2, Batch: 7, Params: map[string]any{"scale": 2.5}}, "faulty.py", "print"); same != p {
		t.Error("equal commands do not share their processes")
	}
}

// TestFailuresAreRetried: whatever a process does, another one answers, and every
// object has its reward once.
func TestFailuresAreRetried(t *testing.T) {
	for _, c := range []struct{ mode, says string }{
		{"crash", "exit status 3): out of cheese"},
		{"segfault", "signal: segmentation fault"},
		{"hang", "no answer within 1s"},
		{"exit", "I have had enough"},
		{"child", "no answer within 1s"}, // its child holds the pipe
		{"closes", "it closed its standard output and went on running"},
		{"garbage", "a frame of 1416"},
		{"noise", "breaks the plugin protocol"},
		{"overlong", "a frame of 2147483647 bytes"},
		{"bomb", "breaks the plugin protocol"},
		{"half", "the process died (exit status 0)"},
		{"fewer", "72 bytes of rewards for 10 objects; want 80"},
		{"stray", "an error of item 10 of 10"},
		{"echo", "answer 3 to request 2"},
	} {
		t.Run(c.mode, func(t *testing.T) {
			out := permit(t)
			p := open(t, plugin.Command{Timeout: time.Second, Retries: 10}, "faulty.py", c.mode, filepath.Join(t.TempDir(), "done"))
			got, faults, err := ask(p, 10)
			if err != nil || len(faults) > 0 {
				t.Fatal(faults, err)
			}
			if strings.Contains("garbage noise overlong bomb half fewer stray echo", c.mode) {
				for _, v := range got {
					if v != 0 {
						t.Fatal(got)
					}
				}
			} else {
				checkAll(t, got, 1)
			}
			if log := out.String(); !strings.Contains(log, c.says) {
				t.Errorf("the log does not say %q:\n%s", c.says, log)
			}
		})
	}
}

// TestFailuresEnd: a plugin that always fails is an error after Retries, and the
// error names the command.
func TestFailuresEnd(t *testing.T) {
	permit(t)
	for _, c := range []struct{ mode, says string }{
		{"crash", "plugin python3 faulty.py crash: plugin failed 2 times: the process died (exit status 3): out of cheese"},
		{"hang", "plugin failed 2 times: no answer within 300ms"},
		{"overlong", "plugin failed 2 times: breaks the plugin protocol"},
	} {
		p := open(t, plugin.Command{Timeout: 300 * time.Millisecond, Retries: 1}, "faulty.py", c.mode)
		if _, _, err := ask(p, 2); !errors.Is(err, plugin.ErrFailed) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.mode, err)
		}
	}
	for _, c := range []struct{ mode, says string }{
		{"protocol", "cannot be used: it speaks protocol 99; want 1"},
		{"kind", `it is a "poem"; want "reward" or "env"`},
		{"changed", "it changed while the job ran"},
	} {
		if _, _, err := ask(open(t, plugin.Command{}, "faulty.py", c.mode), 2); errors.Is(err, plugin.ErrFailed) || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.mode, err)
		}
	}
	if _, _, err := ask(open(t, plugin.Command{Params: map[string]any{"scael": 2}}, "faulty.py", "print"), 1); err == nil || !strings.Contains(err.Error(), "reward.params does not fit faulty: got an unexpected keyword argument 'scael'") {
		t.Error(err)
	}
}

// TestFaultsOfObjects: what is wrong with one object is no fault of the others.
func TestFaultsOfObjects(t *testing.T) {
	permit(t)
	for _, c := range []struct{ mode, says string }{
		{"nan", `object "(7)": reward nan; want a finite number above 0`},
		{"zero", `object "(7)": reward 0.0; want a finite number above 0`},
		{"raise", `object "(7)": ValueError: seven is not allowed`},
		// An object that kills whoever is asked about it.
		{"poison", "plugin failed 1 times: the process died (signal: aborted)"},
	} {
		got, faults, err := ask(open(t, plugin.Command{Batch: 8, Retries: -1}, "faulty.py", c.mode), 10)
		if err != nil || len(faults) != 1 || faults[0].Item != 7 || !strings.HasSuffix(faults[0].Err.Error(), c.says) || !math.IsNaN(got[7]) {
			t.Errorf("%s: %v, %v", c.mode, faults, err)
			continue
		}
		got[7] = math.Log(8)
		checkAll(t, got, 1)
	}
	for _, c := range []struct{ mode, says string }{
		{"count", "ValueError: 2 values for 1 objects"},
		{"infinite", "log-reward -Inf; want a finite number"},
	} {
		if _, faults, err := ask(open(t, plugin.Command{}, "faulty.py", c.mode), 3); err != nil || len(faults) != 3 || !strings.HasSuffix(faults[2].Err.Error(), c.says) {
			t.Errorf("%s: %v, %v", c.mode, faults, err)
		}
	}
}

// TestContextEndsACall does not wait for a reward that hangs, and neither does Close.
func TestContextEndsACall(t *testing.T) {
	h, err := plugin.Permit([]string{"testdata"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, plugin.Command{Timeout: time.Hour}, "faulty.py", "hang")
	if _, err := p.Hello(context.Background()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := p.Call(ctx, &plugin.Request{Op: plugin.OpReward, Texts: []string{"(1)"}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := p.Call(context.Background(), &plugin.Request{Op: plugin.OpReward, Texts: []string{"(1)"}})
		ended <- err
	}()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	if _, err := p.Call(context.Background(), &plugin.Request{Op: plugin.OpReward, Texts: []string{"(1)"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("a call after Close: %v", err)
	}
}

func TestOversizedRequest(t *testing.T) {
	permit(t)
	p := open(t, plugin.Command{}, "faulty.py", "print")
	_, err := p.Call(context.Background(), &plugin.Request{Op: plugin.OpReward, Texts: []string{strings.Repeat("1", plugin.MaxFrame)}})
	if err == nil || !strings.Contains(err.Error(), "make reward.batch smaller") {
		t.Error(err)
	}
	if got, _, err := ask(p, 3); err != nil { // it was nobody's fault
		t.Error(got, err)
	}
}

func BenchmarkRewards(b *testing.B) {
	h, err := plugin.Permit([]string{"testdata"}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	for _, script := range []string{"trivial_texts.py", "trivial_numbers.py"} {
		b.Run(strings.TrimSuffix(script, ".py"), func(b *testing.B) {
			p := open(b, plugin.Command{Batch: 512}, script)
			texts := make([]string, 512)
			for i := range texts {
				texts[i] = fmt.Sprintf("(%d,%d,%d,%d)", i%8, i/8%8, i/64%8, i%5)
			}
			req, out := &plugin.Request{Op: plugin.OpReward, Texts: texts}, make([]float64, len(texts))
			if _, err := p.Hello(context.Background()); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if faults, err := p.LogRewards(context.Background(), req, func(i int) string { return texts[i] }, out); err != nil || len(faults) > 0 {
					b.Fatal(faults, err)
				}
			}
			b.ReportMetric(float64(b.N)*512/b.Elapsed().Seconds(), "rewards/s")
		})
	}
}

// TestPatienceEnds: a call that no context of its own ends, such as that of a process
// which never greets, ends a while after the user's does.
func TestPatienceEnds(t *testing.T) {
	h, err := plugin.Permit([]string{"testdata"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.Within(ctx, time.Millisecond)
	p := open(t, plugin.Command{Timeout: time.Hour}, "faulty.py", "silent")
	cancel()
	if _, err := p.Hello(context.Background()); !errors.Is(err, context.Canceled) {
		t.Errorf("a process that never greets: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}
