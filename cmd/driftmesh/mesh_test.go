package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/wire"
)

var servingAt = regexp.MustCompile(`msg=serving .*\bgrpc=(\S+)`)

// startServer starts a server and returns it with its gRPC address.
func startServer(t *testing.T, args ...string) (*process, string) {
	t.Helper()
	p := start(t, append([]string{"server", "--grpc", "127.0.0.1:0", "--single"}, args...)...)
	var addr string
	p.until(t, "the server serves", func() bool {
		if m := servingAt.FindStringSubmatch(p.stderr.String()); m != nil {
			addr = m[1]
		}
		return addr != ""
	})
	return p, addr
}

// jobStatus asks for one job; nil where there is no answer yet.
func jobStatus(t *testing.T, addr, job string) map[string]any {
	t.Helper()
	r := command(t, "status", job, "--server", addr, "--json")
	if r.code != exitOK {
		return nil
	}
	jobs, _ := decode(t, r.stdout)["jobs"].([]any)
	if len(jobs) != 1 {
		t.Fatalf("status of one job: %s", r.stdout)
	}
	return jobs[0].(map[string]any)
}

// TestServerWorkerAndClients drives a server and a worker, as processes, with
// the verbs that talk to them.
func TestServerWorkerAndClients(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	data := t.TempDir()
	server, addr := startServer(t, "--data", filepath.Join(data, "server"), "--init", "--http", "127.0.0.1:0")
	worker := start(t, "worker", "--http", "127.0.0.1:0", "--data", filepath.Join(data, "worker"), "--join", addr)
	at := []string{"--server", addr}
	call := func(args ...string) result { return command(t, append(args, at...)...) }

	until(t, "a leader and a worker are alive", func() bool {
		s := decode(t, ok(t, "status", "--json", "--server", addr))
		keys(t, s, "cluster_id", "node", "leader", "term", "applied_index", "chain", "servers", "workers", "learners", "jobs")
		workers := s["workers"].([]any)
		return s["leader"] == addr && len(workers) == 1 && workers[0].(map[string]any)["alive"] == true
	})
	s := decode(t, ok(t, "status", "--json", "--server", addr))
	keys(t, s["servers"].([]any)[0], "id", "role", "addr", "alive")
	if jobs, isList := s["jobs"].([]any); !isList || len(jobs) != 0 {
		t.Errorf("no jobs are %v, want an empty list", s["jobs"])
	}

	submit := []string{"submit", quickJob, "--set", "train.updates=100000000", "--json"}
	for _, existed := range []bool{false, true} { // a client may repeat itself
		r := call(submit...)
		if reply := decode(t, r.stdout); reply["job"] != "quick" || reply["existed"] != existed {
			t.Errorf("submit: %+v, want existed %t", r, existed)
		}
	}
	if r := call(append(submit, "--set", "seed=5")...); r.code != exitBadInput || !strings.Contains(r.stderr, "quick") {
		t.Errorf("another job of the same name: %+v", r)
	}
	until(t, "the job is trained", func() bool {
		j := jobStatus(t, addr, "quick")
		return j["status"] == "running" && j["version"].(float64) > 100
	})
	keys(t, jobStatus(t, addr, "quick"), "id", "status", "generation", "epoch", "commit_epoch", "learner", "learner_addr",
		"version", "updates", "trajectories", "state_hash", "sessions", "weight", "priority", "slots", "effort")
	text := ok(t, "status", "--server", addr)
	for _, want := range []string{"NODE", "ROLE", "server", "worker", "JOB", "quick", "running"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}

	hostile(t, addr)
	if text := server.stderr.String(); !strings.Contains(text, `msg="call refused"`) || !strings.Contains(text, "method=Submit") || !strings.Contains(text, "malformed message") {
		t.Errorf("the server says nothing of a malformed frame:\n%s", text)
	}
	scraped(t, server, worker)

	if r := call("stop", "quick", "--json"); r.code != exitOK || decode(t, r.stdout)["status"] != "stopped" {
		t.Errorf("stop: %+v", r)
	}
	stopped := jobStatus(t, addr, "quick")
	if stopped["status"] != "stopped" || stopped["version"].(float64) <= 100 {
		t.Errorf("after stop: %v", stopped)
	}
	for _, verb := range []string{"stop", "status"} {
		if r := call(verb, "nothing"); r.code != exitBadInput || !strings.Contains(r.stderr, `"nothing"`) || !strings.Contains(r.stderr, "not found") {
			t.Errorf("%s of no job: %+v", verb, r)
		}
	}
	second := start(t, "server", "--data", filepath.Join(data, "server"), "--grpc", "127.0.0.1:0")
	if code := second.wait(t); code != exitBadInput || !strings.Contains(second.stderr.String(), "in use by another process") {
		t.Errorf("two servers on one folder: exit %d, %s", code, second.stderr.String())
	}

	for _, p := range []*process{worker, server} {
		p.interrupt(t)
		if code := p.wait(t); code != exitOK {
			t.Errorf("Ctrl-C: exit %d\n%s", code, p.stderr.String())
		}
	}
	_, addr = startServer(t, "--data", filepath.Join(data, "server"))
	until(t, "the server is back", func() bool {
		j := jobStatus(t, addr, "quick")
		return j != nil && j["status"] == "stopped" && j["version"] == stopped["version"] && j["state_hash"] == stopped["state_hash"]
	})
}

// hostile sends a server what no client sends. Each gives one clear error, and
// the server lives on.
func hostile(t *testing.T, addr string) {
	t.Helper()
	before := decode(t, ok(t, "status", "--json", "--server", addr))
	for name, c := range map[string]struct {
		length uint32
		body   string
		text   string
	}{
		"garbage": {7, "garbage", "malformed message"},
		"1 GiB":   {1 << 30, "the beginning of much", "larger than max (1073741824 vs. 67108864)"},
	} {
		message := rawSubmit(t, addr, c.length, c.body)
		if !strings.Contains(message, c.text) {
			t.Errorf("%s frame: the server answers %q, want %q", name, message, c.text)
		}
	}
	for name, bytes := range map[string]string{"noise": strings.Repeat("\xff", 4096), "a web request": "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		deadline, _ := patience(t).Deadline()
		if err := conn.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, bytes); err != nil {
			t.Fatal(err)
		}
		var timeout net.Error
		if _, err := io.Copy(io.Discard, conn); errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%s: the server does not hang up", name)
		}
		_ = conn.Close()
	}
	after := decode(t, ok(t, "status", "--json", "--server", addr))
	if before["term"] != after["term"] || before["node"] != after["node"] {
		t.Errorf("the server is another one afterwards: %v, %v", before, after)
	}
}

// rawSubmit makes a gRPC call by hand: a message header that claims length
// bytes, then body. It returns the message of the answer.
func rawSubmit(t *testing.T, addr string, length uint32, body string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	deadline, _ := patience(t).Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", "/" + wire.ServiceName + "/Submit"}, {":authority", addr},
		{"content-type", "application/grpc+" + wire.CodecName}, {"te", "trailers"},
	} {
		if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	fr := http2.NewFramer(conn, conn)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := errors.Join(
		fr.WriteSettings(),
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true}),
		fr.WriteData(1, int(length) == len(body), append(binary.BigEndian.AppendUint32([]byte{0}, length), body...)),
	); err != nil {
		t.Fatal(err)
	}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatalf("no answer: %v", err)
		}
		if h, isHeaders := f.(*http2.MetaHeadersFrame); isHeaders {
			for _, field := range h.Fields {
				if field.Name == "grpc-message" {
					return field.Value
				}
			}
		}
	}
}

// TestUp interrupts a local mesh, resumes it, kills a worker and then the only
// server on the way, and looks at what the run leaves.
func TestUp(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	const updates = 8000
	root := t.TempDir()
	dir := filepath.Join(root, "hypergrid-2d")
	up := []string{"up", "../../examples/hypergrid-2d.yaml", "--runs", root, "--set", "train.updates=8000", "--set", "eval.every=200"}

	p := start(t, up...)
	p.until(t, "the run folder is made", func() bool { return runs.Exists(dir) })
	p.interrupt(t) // before there is a server
	if code := p.wait(t); code != exitInterrupted || p.stderr.String() != "" {
		t.Fatalf("interrupted early: exit %d, %s", code, p.stderr.String())
	}

	p = start(t, up...)
	p.untilRow(t, dir, 0)
	p.interrupt(t)
	if code := p.wait(t); code != exitInterrupted {
		t.Fatalf("exit %d, want %d", code, exitInterrupted)
	}
	nobodyLeft(t, root, dir)
	c, err := runs.LoadCheckpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	if c.Version < 1 || c.Version >= updates {
		t.Fatalf("interrupted at version %d", c.Version)
	}
	if want := "interrupted at version " + decimal(c.Version); !strings.Contains(p.stdout.String(), want) || p.stderr.String() != "" {
		t.Errorf("want %q and no error in\n%s%s", want, p.stdout.String(), p.stderr.String())
	}

	p = start(t, up...)
	p.untilRow(t, dir, c.Version)
	at := regexp.MustCompile(`answers at (127\.0\.0\.1:\d+)\n`).FindStringSubmatch(p.stdout.String())
	if at == nil {
		t.Fatalf("no address of the server in\n%s", p.stdout.String())
	}
	if out := ok(t, "status", "hypergrid-2d", "--server", at[1]); !strings.Contains(out, "running") {
		t.Errorf("status says\n%s", out)
	}
	kill(t, p, "worker-1")
	p.until(t, "the worker's death is told", func() bool { return strings.Contains(p.stdout.String(), "worker-1 died") })
	kill(t, p, "server-1")
	if code := p.wait(t); code != exitOK {
		t.Fatalf("exit %d", code)
	}
	nobodyLeft(t, root, dir)
	out := p.stdout.String()
	m := regexp.MustCompile(`resuming at committed version (\d+) of 8000`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no word of resuming in\n%s", out)
	}
	if m[1] != decimal(c.Version) {
		t.Errorf("resumed at version %s, interrupted at %d", m[1], c.Version)
	}
	for _, want := range []string{"server-1 died", "finished after 8000 updates", "report.html"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	runFolder(t, dir, updates)
	e := decode(t, ok(t, "eval", dir, "--json"))
	if e["trajectories"] != float64(updates*16) {
		t.Errorf("%v trajectories were counted, want %d", e["trajectories"], updates*16)
	}
	if again := start(t, up...); again.wait(t) != exitOK || !strings.Contains(again.stdout.String(), "was finished already") {
		t.Errorf("once more says\n%s", again.stdout.String())
	}
}

// TestUpEndsWithAJobThatDiverges instead of waiting for somebody to resume it.
func TestUpEndsWithAJobThatDiverges(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	root := t.TempDir()
	p := start(t, "up", "../../examples/hypergrid-2d.yaml", "--runs", root, "--workers", "1",
		"--set", "optimiser.kind=sgd", "--set", "optimiser.learning_rate=1000", "--set", "optimiser.log_z_rate=1000")
	if code := p.wait(t); code != exitFailed {
		t.Errorf("exit %d, want %d", code, exitFailed)
	}
	for _, want := range []string{"hypergrid-2d is paused", "failed 3 times in a row", "non-finite"} {
		if got := p.stderr.String(); !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	nobodyLeft(t, root, filepath.Join(root, "hypergrid-2d"))
}

// TestUpSucceedsOneThatWasKilled at once, while the killed one's processes are
// still ending.
func TestUpSucceedsOneThatWasKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	root := t.TempDir()
	up := []string{"up", "../../examples/hypergrid-2d.yaml", "--runs", root, "--set", "train.updates=6000"}
	p := start(t, up...)
	p.untilRow(t, filepath.Join(root, "hypergrid-2d"), 0)
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.wait(t)
	if p = start(t, up...); p.wait(t) != exitOK || !strings.Contains(p.stdout.String(), "finished after 6000 updates") {
		t.Errorf("%s%s", p.stdout.String(), p.stderr.String())
	}
}

// untilRow waits for a metrics row after a version.
func (p *process) untilRow(t *testing.T, dir string, after int64) {
	t.Helper()
	p.until(t, "a row after version "+decimal(after), func() bool {
		rows, err := runs.ReadRows(dir)
		return err == nil && len(rows) > 0 && rows[len(rows)-1].Version > after
	})
}

// kill sends SIGKILL to a node of a mesh.
func kill(t *testing.T, up *process, node string) {
	t.Helper()
	pids := pgrep(t, "-P", strconv.Itoa(up.cmd.Process.Pid), "-f", "mesh/"+node)
	if len(pids) != 1 {
		t.Fatalf("processes of %s: %v", node, pids)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// nobodyLeft checks that no process of a mesh outlives `up`: none names the
// folder, none holds a data directory.
func nobodyLeft(t *testing.T, root, dir string) {
	t.Helper()
	if pids := pgrep(t, "-f", root); len(pids) > 0 {
		t.Errorf("processes are left over: %v", pids)
	}
	for _, node := range []string{"server-1", "worker-1", "worker-2"} {
		id, err := cluster.LoadOrCreate(filepath.Join(dir, meshDir, node))
		if err != nil {
			t.Errorf("%s: %v", node, err)
			continue
		}
		if err := id.Close(); err != nil {
			t.Error(err)
		}
	}
}

// pgrep lists the processes that match.
func pgrep(t *testing.T, args ...string) (pids []int) {
	t.Helper()
	path, err := exec.LookPath("pgrep")
	if err != nil {
		t.Skip("needs pgrep")
	}
	out, err := exec.Command(path, args...).Output()
	var none *exec.ExitError
	if err != nil && !(errors.As(err, &none) && none.ExitCode() == 1) {
		t.Fatal(err)
	}
	for _, word := range strings.Fields(string(out)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}
