package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// -update rewrites the expected texts of testdata and docs/cli.md.
var update = flag.Bool("update", false, "rewrite the expected texts")

// asCommand, set in the environment, makes the test binary the command itself:
// so tests start real processes, and `up` its children, without building.
const asCommand = "DRIFTMESH_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

// result is what a command line came to.
type result struct {
	code           int
	stdout, stderr string
}

// command runs a command line in this process.
func command(t testing.TB, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := execute(t.Context(), args, &out, &errs)
	return result{code, out.String(), errs.String()}
}

// ok runs a command line that must succeed and returns what it printed.
func ok(t testing.TB, args ...string) string {
	t.Helper()
	r := command(t, args...)
	if r.code != exitOK || r.stderr != "" {
		t.Fatalf("driftmesh %s: exit %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// decode reads one JSON document without losing unknown keys.
func decode(t testing.TB, text string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return out
}

// keys fails the test unless an object has exactly the keys named.
func keys(t testing.TB, object any, want ...string) {
	t.Helper()
	m, isObject := object.(map[string]any)
	if !isObject {
		t.Fatalf("%v is no object; want one with the keys %v", object, want)
	}
	for _, k := range want {
		if _, there := m[k]; !there {
			t.Errorf("no key %q in %v", k, object)
		}
	}
	if len(m) != len(want) {
		t.Errorf("%d keys in %v; want %v", len(m), object, want)
	}
}

// contents maps every file below dir to a digest, folders to "folder".
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			out[path] = "folder"
			return err
		}
		data, err := os.ReadFile(path)
		out[path] = fmt.Sprintf("%x", sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t testing.TB, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// transcript collects what a process prints; readers may look meanwhile.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// process is a driftmesh in a process of its own.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr transcript
	ended          chan struct{}
}

// start starts a process, which is killed at the end of the test if it still runs.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startBinary(t, binary, args...)
}

// startBinary is start of another build.
func startBinary(t *testing.T, binary string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(binary, args...), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), asCommand+"=1")
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // the exit code is in ProcessState
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("driftmesh %s:\n%s%s", strings.Join(args, " "), p.stdout.String(), p.stderr.String())
		}
	})
	return p
}

// interrupt is Ctrl-C.
func (p *process) interrupt(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
}

// wait returns the exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-patience(t).Done():
		t.Fatal("the process does not end")
		return -1
	}
}

// patience bounds every wait of a test; what is waited for takes a second or two.
func patience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// until looks again and again until what is so; it never is once the process
// has ended.
func (p *process) until(t *testing.T, what string, so func() bool) {
	t.Helper()
	until(t, what, func() bool {
		if so() {
			return true
		}
		select {
		case <-p.ended:
			t.Fatalf("the process ended before %s", what)
		default:
		}
		return false
	})
}

// until looks again and again until what is so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	ctx, tick := patience(t), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}
