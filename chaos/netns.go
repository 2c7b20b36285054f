package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
)

// ErrNoRoot: network namespaces need root and ip(8).
var ErrNoRoot = errors.New("network namespaces need root and the ip command")

// namespaces is a bridge in this network namespace with one namespace per node
// on it: machines on one network, as far as sockets can tell.
type namespaces struct {
	prefix string // of every name
	mu     sync.Mutex
	names  []string
}

// subnet is a private network that machines hardly use.
const subnet = "10.213.77."

func newNamespaces() (*namespaces, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNoRoot
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRoot, err)
	}
	n := &namespaces{prefix: fmt.Sprintf("dm%d", os.Getpid())}
	err := errors.Join(
		ip("link", "add", n.bridge(), "type", "bridge"),
		ip("addr", "add", subnet+"254/24", "dev", n.bridge()),
		ip("link", "set", n.bridge(), "up"),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrNoRoot, err), n.close())
	}
	return n, nil
}

func (n *namespaces) bridge() string { return n.prefix + "br" }

// place makes a namespace for a node.
func (n *namespaces) place(string) (host string, prefix []string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	number := len(n.names) + 1
	ns, veth := fmt.Sprintf("%sn%d", n.prefix, number), fmt.Sprintf("%sv%d", n.prefix, number)
	host = fmt.Sprintf("%s%d", subnet, number)
	n.names = append(n.names, ns)
	for _, args := range [][]string{
		{"netns", "add", ns},
		{"link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", ns},
		{"link", "set", veth, "master", n.bridge(), "up"},
		{"-n", ns, "addr", "add", host + "/24", "dev", "eth0"},
		{"-n", ns, "link", "set", "eth0", "up"},
		{"-n", ns, "link", "set", "lo", "up"},
	} {
		if err := ip(args...); err != nil {
			return "", nil, err
		}
	}
	return host, []string{"ip", "netns", "exec", ns}, nil
}

// close removes every namespace, and with it its end of the link, and the bridge.
func (n *namespaces) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, ns := range n.names {
		errs = append(errs, ip("netns", "del", ns))
	}
	errs = append(errs, ip("link", "del", n.bridge()))
	return errors.Join(errs...)
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// MachinesConfig describes a mesh of machines, each a network namespace.
type MachinesConfig struct {
	Binary   string
	Dir      string // empty
	Spec     *job.Spec
	Servers  int
	Learners int
	Workers  int
	Seed     uint64
	Log      func(format string, args ...any)
}

// Machines is what was measured.
type Machines struct {
	Nodes     int     `json:"nodes"`
	Discovery float64 `json:"discovery_seconds"` // from the start of the last node until every server sees all
	Rejoin    float64 `json:"late_discovery_seconds"`
	TV        float64 `json:"tv"`
	Detail    string  `json:"detail"` // who died and who joined
}

// MeasureMachines trains on a mesh of machines of which two die and two join on
// the way.
func MeasureMachines(ctx context.Context, cfg MachinesConfig) (out *Machines, err error) {
	if cfg.Log == nil {
		cfg.Log = func(string, ...any) {}
	}
	nets, err := newNamespaces()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, nets.close()) }()
	r, err := NewRig(RigConfig{
		Binary: cfg.Binary, Dir: filepath.Join(cfg.Dir, "mesh"), Servers: cfg.Servers, Learners: cfg.Learners, Workers: cfg.Workers,
		Slots: 1, Seed: cfg.Seed, Place: nets.place,
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	out = &Machines{Nodes: len(r.Nodes())}
	if out.Discovery, err = r.discovered(ctx); err != nil {
		return out, err
	}
	cfg.Log("%d nodes found each other %.2f s after the last was started", out.Nodes, out.Discovery)
	data, err := cfg.Spec.JSON()
	if err != nil {
		return out, err
	}
	if err := r.Submit(ctx, data); err != nil {
		return out, err
	}
	if err := cfg.unrest(ctx, r, out); err != nil {
		return out, err
	}
	cfg.Log("%s", out.Detail)
	if err := r.Finished(ctx, cfg.Spec.Name); err != nil {
		return out, err
	}
	report, err := r.Quality(ctx, cfg.Spec)
	if err != nil {
		return out, err
	}
	out.TV = report.Distances.TV
	return out, nil
}

// unrest kills a worker's and a voter's machine and adds one of each.
func (cfg *MachinesConfig) unrest(ctx context.Context, r *Rig, out *Machines) error {
	updates := uint64(cfg.Spec.Train.Updates)
	if err := r.reached(ctx, cfg.Spec.Name, updates/5); err != nil {
		return err
	}
	lead, err := r.Lead(ctx)
	if err != nil {
		return err
	}
	worker := r.Node(fmt.Sprintf("worker-%d", cfg.Workers))
	dead, err := lead.ID()
	if err != nil {
		return err
	}
	if err := errors.Join(r.Forget(worker), r.Forget(lead)); err != nil {
		return err
	}
	if err := r.reached(ctx, cfg.Spec.Name, 2*updates/5); err != nil {
		return err
	}
	began := time.Now()
	server, err := r.Add(cluster.RoleServer)
	if err != nil {
		return err
	}
	fresh, err := r.Add(cluster.RoleWorker)
	if err != nil {
		return err
	}
	if _, err := r.discovered(ctx); err != nil {
		return err
	}
	out.Rejoin = time.Since(began).Seconds()
	if err := r.Replaced(ctx, dead, server); err != nil {
		return err
	}
	at, err := r.version(ctx, cfg.Spec.Name)
	if err != nil {
		return err
	}
	out.Detail = fmt.Sprintf("%s (leader) and %s died, %s and %s joined, by version %d of %d", lead.Name, worker.Name, server.Name, fresh.Name, at, updates)
	if at >= updates {
		return fmt.Errorf("%w: the job was over before the machines had changed", errSkip)
	}
	return nil
}

// discovered waits until every server sees every node alive, and nobody else.
func (r *Rig) discovered(ctx context.Context) (seconds float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, healthy)
	defer cancel()
	began := time.Now()
	for {
		want := map[string]bool{}
		for _, n := range r.Nodes() {
			if id, err := n.ID(); err == nil {
				want[id] = true
			}
		}
		all := len(want) == len(r.Nodes())
		for _, n := range r.Nodes(cluster.RoleServer) {
			reply, err := r.Status(ctx, n, "")
			if err != nil {
				all = false
				break
			}
			seen := 0
			for _, m := range slices.Concat(reply.Servers, reply.Learners, reply.Workers) {
				if m.Alive && want[m.ID] {
					seen++
				}
			}
			all = all && seen == len(want)
		}
		if all {
			return time.Since(began).Seconds(), nil
		}
		if err := clock.Rest(ctx, lookEvery); err != nil {
			return 0, fmt.Errorf("%w: the nodes do not find each other: %w", ErrStuck, err)
		}
	}
}

func (r *Rig) version(ctx context.Context, name string) (uint64, error) {
	lead, err := r.Lead(ctx)
	if err != nil {
		return 0, err
	}
	reply, err := r.Status(ctx, lead, name)
	if err != nil || len(reply.Jobs) != 1 {
		return 0, err
	}
	return reply.Jobs[0].Version, nil
}

// reached waits until a job is at a version.
func (r *Rig) reached(ctx context.Context, name string, version uint64) error {
	for {
		if at, err := r.version(ctx, name); err == nil && at >= version {
			return nil
		}
		if err := clock.Rest(ctx, lookEvery); err != nil {
			return fmt.Errorf("%w: version %d of %s is not reached: %w", ErrStuck, version, name, err)
		}
	}
}

// Print writes the measurement as a table, with what was promised.
func (m *Machines) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "what\tmeasured\tpromised")
	fmt.Fprintf(t, "nodes, each in a network namespace\t%d\t10\n", m.Nodes)
	fmt.Fprintf(t, "discovery\t%.2f s\t≤ 3 s\n", m.Discovery)
	fmt.Fprintf(t, "discovery of two that join later\t%.2f s\t≤ 3 s\n", m.Rejoin)
	fmt.Fprintf(t, "TV after training\t%.4f\t≤ 0.05\n", m.TV)
	return t.Flush()
}

// Check says which promise was not kept.
func (m *Machines) Check() error {
	var errs []error
	if !(m.Discovery <= 3) || !(m.Rejoin <= 3) {
		errs = append(errs, fmt.Errorf("%w: discovery took %.2f s, later %.2f s", ErrSlow, m.Discovery, m.Rejoin))
	}
	if !(m.TV <= 0.05) {
		errs = append(errs, fmt.Errorf("%w: TV %.4f", ErrCostly, m.TV))
	}
	return errors.Join(errs...)
}
