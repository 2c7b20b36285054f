package telemetry

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite docs/METRICS.md")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// scrape returns the body of /metrics.
func scrape(t *testing.T, r *Registry) string {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(r, Probes{}, quiet).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("GET /metrics: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// TestPage keeps docs/METRICS.md equal to what the code declares.
func TestPage(t *testing.T) {
	const path = "../../docs/METRICS.md"
	if *update {
		if err := os.WriteFile(path, []byte(Page()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Page() {
		t.Error("docs/METRICS.md is out of date; go test ./internal/telemetry -run TestPage -update rewrites it")
	}
}

// TestNames holds every declaration to Prometheus' conventions.
func TestNames(t *testing.T) {
	seen, name := map[string]bool{}, regexp.MustCompile(`^driftmesh_[a-z][a-z0-9_]*[a-z0-9]$`)
	for _, m := range All() {
		if seen[m.Name] || !name.MatchString(m.Name) {
			t.Errorf("%s: declared twice, or no name", m.Name)
		}
		seen[m.Name] = true
		if strings.HasSuffix(m.Name, "_total") != (m.Kind == Counter) {
			t.Errorf("%s is a %s", m.Name, m.Kind)
		}
		if !strings.HasSuffix(m.Help, ".") || strings.ContainsAny(m.Help, "|\n") || m.Unit == "" || m.On == "" {
			t.Errorf("%s: help %q, unit %q, on %q", m.Name, m.Help, m.Unit, m.On)
		}
		if (m.Kind == Histogram) != (len(m.Buckets) > 0) {
			t.Errorf("%s: %d buckets", m.Name, len(m.Buckets))
		}
		for i := 1; i < len(m.Buckets); i++ {
			if m.Buckets[i] <= m.Buckets[i-1] {
				t.Errorf("%s: bucket %v after %v", m.Name, m.Buckets[i], m.Buckets[i-1])
			}
		}
	}
}

// TestEveryMetricIsScraped with its kind and labels.
func TestEveryMetricIsScraped(t *testing.T) {
	r := NewRegistry()
	labels := func(m *Metric) (out []string) {
		for i := range m.Labels {
			out = append(out, fmt.Sprint("v", i))
		}
		return out
	}
	for _, m := range All() {
		switch m.Kind {
		case Counter:
			if m != DroppedSeries {
				r.Add(m, 2, labels(m)...)
				r.Add(m, 1, labels(m)...)
			}
		case Histogram:
			for _, v := range []float64{0, m.Buckets[1], 1e9} {
				r.Observe(m, v, labels(m)...)
			}
		}
	}
	r.Read(func(emit Emit) {
		for _, m := range All() {
			if m.Kind == Gauge {
				emit(m, 3, labels(m)...)
			}
		}
	})
	text := scrape(t, r)
	for _, m := range All() {
		if !strings.Contains(text, fmt.Sprintf("# HELP %s %s\n# TYPE %s %s\n", m.Name, m.Help, m.Name, m.Kind)) {
			t.Errorf("no %s %s in the scrape", m.Kind, m.Name)
		}
		for _, l := range m.Labels {
			if !regexp.MustCompile(m.Name + `(_bucket)?\{[^}]*` + l + `="v`).MatchString(text) {
				t.Errorf("%s has no label %s", m.Name, l)
			}
		}
	}
	for _, want := range []string{
		`driftmesh_commits_total{job="v0",outcome="v1"} 3`,
		`driftmesh_commit_latency_seconds_bucket{job="v0",le="0.001"} 1`,
		`driftmesh_commit_latency_seconds_bucket{job="v0",le="0.002"} 2`,
		`driftmesh_commit_latency_seconds_bucket{job="v0",le="+Inf"} 3`,
		`driftmesh_commit_latency_seconds_count{job="v0"} 3`,
		"go_goroutines",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
}

// TestSeriesAreBounded, pushed and read ones, and the rest is counted.
func TestSeriesAreBounded(t *testing.T) {
	r := NewRegistry()
	for i := range maxSeries + 7 {
		r.Add(Updates, 1, fmt.Sprint("job-", i))
	}
	r.Read(func(emit Emit) {
		for i := range maxSeries + 5 {
			emit(JobVersion, 1, fmt.Sprint("job-", i))
			emit(JobVersion, 2, fmt.Sprint("job-", i)) // again: no fault
		}
		emit(JobEpoch, 1, "not\xffutf8")
	})
	text := scrape(t, r)
	if n := strings.Count(text, "driftmesh_learner_updates_total{"); n != maxSeries {
		t.Errorf("%d pushed series, want %d", n, maxSeries)
	}
	if n := strings.Count(text, "driftmesh_job_version{"); n != maxSeries {
		t.Errorf("%d read series, want %d", n, maxSeries)
	}
	if want := fmt.Sprintf("driftmesh_telemetry_series_dropped_total %d", 7+10); !strings.Contains(text, want) {
		t.Errorf("no %q", want)
	}
}

func TestNilRegistryTakesEverything(t *testing.T) {
	var r *Registry
	r.Add(Updates, 1, "job")
	r.Observe(CommitLatency, 1, "job")
	r.Read(func(Emit) { t.Error("a source of nobody is read") })
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	r := NewRegistry()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 200 {
				r.Add(Updates, 1, "a")
				r.Observe(LagUpdates, float64(i), "a")
			}
		})
		wg.Go(func() { scrape(t, r) })
	}
	wg.Wait()
	if text := scrape(t, r); !strings.Contains(text, `driftmesh_learner_updates_total{job="a"} 800`) {
		t.Error("counts are lost")
	}
}

// listen serves h on loopback until the test ends.
func listen(t *testing.T, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, h, quiet) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// raw sends bytes and returns the status line of the answer.
func raw(t *testing.T, addr, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("no answer and no hang-up: %v", err)
	}
	return strings.TrimSpace(line)
}

func TestBadRequests(t *testing.T) {
	addr := listen(t, Handler(NewRegistry(), Probes{
		Healthy: func() error { return nil },
		Ready:   func() error { return errors.New("no leader is known") },
	}, quiet))
	const host = "Host: localhost\r\nConnection: close\r\n"
	for _, c := range []struct{ name, request, want string }{
		{"metrics", "GET /metrics HTTP/1.1\r\n" + host + "\r\n", "HTTP/1.1 200 OK"},
		{"health", "GET /healthz HTTP/1.1\r\n" + host + "\r\n", "HTTP/1.1 200 OK"},
		{"readiness", "GET /readyz HTTP/1.1\r\n" + host + "\r\n", "HTTP/1.1 503 Service Unavailable"},
		{"another path", "GET /debug/pprof/ HTTP/1.1\r\n" + host + "\r\n", "HTTP/1.1 404 Not Found"},
		{"a write", "POST /metrics HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"},
		{"no HTTP", "\x00\x01\x02\r\n\r\n", "HTTP/1.1 400 Bad Request"},
		{"a huge header", "GET /metrics HTTP/1.1\r\n" + host + "X: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", "HTTP/1.1 431 Request Header Fields Too Large"},
		{"a slow client", "GET /metr", "HTTP/1.1 400 Bad Request"}, // after headerTimeout
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := raw(t, addr, c.request); got != c.want {
				t.Errorf("answer %q, want %q", got, c.want)
			}
		})
	}
}

func TestProbeSaysWhy(t *testing.T) {
	w := httptest.NewRecorder()
	h := Handler(NewRegistry(), Probes{Healthy: func() error { return errors.New("the replica has stopped: disk full") }}, quiet)
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
	if w.Code != http.StatusServiceUnavailable || w.Body.String() != "the replica has stopped: disk full\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}
