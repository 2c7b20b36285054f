// Package local runs a mesh of real processes on this machine's loopback: it
// starts servers, learners and workers as children, restarts those that die, and stops
// them all in order. `driftmesh up` and the tests that kill processes use it.
package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/freeport"
)

// Config describes a local mesh.
type Config struct {
	Binary   string // path of the driftmesh binary
	Dir      string // data directories and logs of the nodes go below it
	Servers  int    // 1, 3 or 5
	Learners int    // processes that only train; without any the servers train
	Workers  int    // worker processes
	Slots    int    // sampler loops per worker process
	// Plugins are the folders whose programs jobs may run in every process.
	Plugins []string
	// Event, when set, is told in a sentence of every death and restart.
	Event  func(string)
	Logger *slog.Logger // nil: none
}

// Mesh is a running local mesh. It is safe for concurrent use.
type Mesh struct {
	cfg       Config
	clusterID string
	grpc      []string // addresses of the servers
	cache     string   // folder of parameters that the workers share, "" for none

	mu       sync.Mutex
	children map[string]*child
	fatal    chan error // the first child that cannot be kept alive
	cancel   context.CancelFunc
	loops    sync.WaitGroup
}

const host = "127.0.0.1"

// Start founds the cluster if Dir holds none, and starts every process. The
// processes end when Stop is called, and also when this process dies.
func Start(cfg Config) (*Mesh, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &Mesh{cfg: cfg, children: map[string]*child{}, fatal: make(chan error, 1), cancel: cancel}
	if err := m.start(ctx); err != nil {
		return nil, errors.Join(err, m.Stop())
	}
	return m, nil
}

// Check says what is wrong with the numbers of processes, as fielderr.Error of
// the flags that carry them.
func (c *Config) Check() error {
	var errs []error
	if c.Servers != 1 && c.Servers != 3 && c.Servers != 5 {
		errs = append(errs, fielderr.New("--servers", c.Servers, "1, 3 or 5"))
	}
	if c.Learners < 0 || c.Learners > 16 {
		errs = append(errs, fielderr.New("--learners", c.Learners, "0 to 16 processes"))
	}
	if c.Workers < 1 || c.Workers > 64 {
		errs = append(errs, fielderr.New("--workers", c.Workers, "1 to 64 processes"))
	}
	if c.Slots < 1 || c.Slots > 256 {
		errs = append(errs, fielderr.New("--slots", c.Slots, "1 to 256 sampler loops a process"))
	}
	return errors.Join(errs...)
}

func (m *Mesh) start(ctx context.Context) error {
	founder := m.dir("server-1")
	id, err := free(founder)
	if err != nil {
		return err
	}
	fresh := id.ClusterID() == ""
	if err := id.Close(); err != nil {
		return err
	}
	if fresh {
		if id, err = cluster.Init(founder); err != nil {
			return err
		}
		if err := id.Close(); err != nil {
			return err
		}
	}
	if m.clusterID, err = clusterID(founder); err != nil {
		return err
	}
	ports, err := freePorts(3*(m.cfg.Servers+m.cfg.Learners) + m.cfg.Workers)
	if err != nil {
		return err
	}
	next := func() string {
		p := ports[0]
		ports = ports[1:]
		return net.JoinHostPort(host, strconv.Itoa(p))
	}
	for i := range m.cfg.Servers {
		name := fmt.Sprintf("server-%d", i+1)
		grpc, goss, raft := next(), next(), next()
		m.grpc = append(m.grpc, grpc)
		args := []string{"server", "--data", m.dir(name), "--grpc", grpc, "--gossip", goss, "--raft", raft}
		if i == 0 {
			args = append(args, "--init")
		} else {
			args = append(args, "--join", m.grpc[0])
		}
		if m.cfg.Servers == 1 && m.cfg.Learners == 0 {
			args = append(args, "--single")
		}
		if err := m.spawn(ctx, name, args); err != nil {
			return err
		}
	}
	for i := range m.cfg.Learners {
		name := fmt.Sprintf("learner-%d", i+1)
		args := []string{"learner", "--data", m.dir(name), "--grpc", next(), "--gossip", next(), "--raft", next()}
		if err := m.spawn(ctx, name, m.joining(args)); err != nil {
			return err
		}
	}
	if m.cfg.Workers > 1 {
		if m.cache, err = os.MkdirTemp("", "driftmesh-parameters-"); err != nil {
			return err
		}
	}
	for i := range m.cfg.Workers {
		name := fmt.Sprintf("worker-%d", i+1)
		args := []string{"worker", "--data", m.dir(name), "--gossip", next(), "--slots", strconv.Itoa(m.cfg.Slots), "--cache", cmp.Or(m.cache, "none")}
		if err := m.spawn(ctx, name, m.joining(args)); err != nil {
			return err
		}
	}
	return nil
}

// joining adds the addresses of all servers to the arguments of a node.
func (m *Mesh) joining(args []string) []string {
	for _, a := range m.grpc {
		args = append(args, "--join", a)
	}
	return args
}

// free opens a data directory as soon as no process uses it: when this one's
// forerunner was killed, its children notice that and take a moment to end.
func free(dir string) (*cluster.Identity, error) {
	for began := time.Now(); ; time.Sleep(firstRestart / 2) {
		id, err := cluster.LoadOrCreate(dir)
		if !errors.Is(err, cluster.ErrLocked) || time.Since(began) >= stopTimeout {
			return id, err
		}
	}
}

// clusterID reads the identity of a data directory that is not in use.
func clusterID(dir string) (string, error) {
	id, err := free(dir)
	if err != nil {
		return "", err
	}
	return id.ClusterID(), id.Close()
}

func (m *Mesh) dir(name string) string { return filepath.Join(m.cfg.Dir, name) }

// LogPath is the file that a child's log goes to.
func (m *Mesh) LogPath(name string) string { return m.dir(name) + ".log" }

// ClusterID is the identity of the cluster.
func (m *Mesh) ClusterID() string { return m.clusterID }

// Servers are the gRPC addresses of the servers.
func (m *Mesh) Servers() []string { return m.grpc }

// Failed delivers the error of a child that dies as soon as it is started.
func (m *Mesh) Failed() <-chan error { return m.fatal }

// Kill sends SIGKILL to a child, such as "server-1"; it is restarted.
func (m *Mesh) Kill(name string) error {
	m.mu.Lock()
	c := m.children[name]
	m.mu.Unlock()
	if c == nil {
		return fmt.Errorf("local mesh: no process %q", name)
	}
	return c.kill()
}

// Stop ends the workers, the learners and then the servers, politely, and waits for them.
func (m *Mesh) Stop() error {
	m.cancel() // no restarts from now on
	m.mu.Lock()
	children := m.children
	m.mu.Unlock()
	for _, prefix := range []string{"worker", "learner", "server"} {
		var wg sync.WaitGroup
		for name, c := range children {
			if len(name) > len(prefix) && name[:len(prefix)] == prefix {
				wg.Go(c.stop)
			}
		}
		wg.Wait()
	}
	m.loops.Wait()
	if m.cache == "" {
		return nil
	}
	return os.RemoveAll(m.cache)
}

func (m *Mesh) giveUp(err error) {
	select {
	case m.fatal <- err:
	default: // the first one counts
	}
}

func (m *Mesh) event(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	m.cfg.Logger.Info(text)
	if m.cfg.Event != nil {
		m.cfg.Event(text)
	}
}

// freePorts finds n ports that are free now, for TCP and UDP.
func freePorts(n int) ([]int, error) {
	out := make([]int, n)
	for i := range out {
		var err error
		if out[i], err = freeport.Find(host); err != nil {
			return nil, fmt.Errorf("free port: %w", err)
		}
	}
	return out, nil
}

func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
}
