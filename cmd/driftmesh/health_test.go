package main

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

var metricsAt = regexp.MustCompile(`msg=metrics .*\bhttp=(\S+)`)

// get asks a node's --http server.
func get(t *testing.T, p *process, path string) (int, string) {
	t.Helper()
	m := metricsAt.FindStringSubmatch(p.stderr.String())
	if m == nil {
		t.Fatalf("no address of metrics in\n%s", p.stderr.String())
	}
	req, err := http.NewRequestWithContext(patience(t), http.MethodGet, "http://"+m[1]+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// scraped looks at what a server that leads and a worker that samples offer.
func scraped(t *testing.T, server, worker *process) {
	t.Helper()
	for _, p := range []*process{server, worker} {
		for _, path := range []string{"/healthz", "/readyz"} {
			if code, body := get(t, p, path); code != http.StatusOK {
				t.Errorf("%s: %d %s", path, code, body)
			}
		}
	}
	_, text := get(t, server, "/metrics")
	for _, want := range []string{
		"driftmesh_raft_leader 1", "driftmesh_feature_level 2", `driftmesh_jobs{status="running"} 1`, `driftmesh_job_version{job="quick"}`,
		`driftmesh_learner_updates_total{job="quick"}`, `driftmesh_commit_latency_seconds_count{job="quick"}`, `driftmesh_lag_updates_count{job="quick"}`,
		`driftmesh_lag_seconds_count{job="quick"}`, `driftmesh_window_seconds{job="quick"}`, `driftmesh_queue_trajectories{job="quick"}`,
		`driftmesh_members{role="worker",state="alive"} 1`, `driftmesh_rpc_refused_total{code="Internal",method="Submit"}`, "driftmesh_raft_log_bytes",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the server's metrics lack %s", want)
		}
	}
	_, text = get(t, worker, "/metrics")
	for _, want := range []string{
		`driftmesh_slots{state="assigned"} 1`, "driftmesh_sampled_trajectories_total", `driftmesh_parameters_version{job="quick"}`,
		`driftmesh_parameters_age_seconds{job="quick"}`, `driftmesh_outbox_trajectories{job="quick"}`, `role="worker"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the worker's metrics lack %s", want)
		}
	}
}
