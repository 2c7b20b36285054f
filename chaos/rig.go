package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/cluster/faults"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/freeport"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// Node is one process of a Rig and what belongs to it.
type Node struct {
	*Proc
	Role    cluster.Role
	Dir     string // data directory
	GRPC    string // address; "" for none
	Control string // address of its fault control
	Journal string // file
}

// ID returns the node's UUID, once it has one.
func (n *Node) ID() (string, error) {
	data, err := os.ReadFile(filepath.Join(n.Dir, "node.json"))
	if err != nil {
		return "", fmt.Errorf("identity of %s: %w", n.Name, err)
	}
	var record struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(data, &record); err != nil {
		return "", fmt.Errorf("identity of %s: %w", n.Name, err)
	}
	return record.ID, nil
}

// RigConfig describes a Rig.
type RigConfig struct {
	Binary   string // path of the driftmesh binary
	Dir      string
	Servers  int
	Learners int // nodes that only train
	Workers  int
	Slots    int // per worker process
	Seed     uint64
	// SnapshotBytes of log make a server's snapshot due; 0: as it does by itself.
	SnapshotBytes int64
	// OneMachine lets the workers share the parameters that one of them fetched,
	// as processes of one machine do; without it they pass them on as machines do.
	OneMachine bool
	// Place, when set, gives every node an address of its own and a prefix of
	// its command line: such a mesh leaves loopback.
	Place func(name string) (host string, prefix []string, err error)
	// DirOf, when set, places a node's data directory.
	DirOf func(name string) string
	// Args are more of a node's command line, by role.
	Args map[cluster.Role][]string
}

// Rig is a mesh of real processes whose every part can be killed, stopped, cut
// off and replaced. It is safe for concurrent use.
type Rig struct {
	cfg       RigConfig
	nursery   *nursery
	clusterID string
	leader    *cluster.Leader

	mu    sync.Mutex
	nodes map[string]*Node
	gone  []*Node // that were forgotten
	next  map[cluster.Role]int
	ports int // the newest, where every node has an address of its own
}

// NewRig founds a cluster in an empty directory and starts its processes.
func NewRig(cfg RigConfig) (*Rig, error) {
	r := &Rig{cfg: cfg, nursery: newNursery(), nodes: map[string]*Node{}, next: map[cluster.Role]int{}, ports: 17000}
	if err := r.found(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Rig) found() error {
	if err := os.MkdirAll(r.cfg.Dir, 0o755); err != nil {
		return err
	}
	for range r.cfg.Servers {
		if _, err := r.Add(cluster.RoleServer); err != nil {
			return err
		}
	}
	first := r.Node("server-1")
	for wait := time.Now().Add(20 * time.Second); ; {
		reply, err := r.Status(context.Background(), first, "")
		if err == nil && reply.ClusterID != "" {
			r.clusterID = reply.ClusterID
			break
		}
		if time.Now().After(wait) || !first.Running() {
			return fmt.Errorf("server-1 does not serve: %w", err)
		}
		time.Sleep(lookEvery)
	}
	for _, group := range []struct {
		role cluster.Role
		n    int
	}{{roleLearner, r.cfg.Learners}, {cluster.RoleWorker, r.cfg.Workers}} {
		for range group.n {
			if _, err := r.Add(group.role); err != nil {
				return err
			}
		}
	}
	return nil
}

// roleLearner is the role of nodes that only train.
const roleLearner cluster.Role = "learner"

// Add starts one more node of a role, in a directory of its own.
func (r *Rig) Add(role cluster.Role) (*Node, error) {
	r.mu.Lock()
	r.next[role]++
	name := fmt.Sprintf("%s-%d", role, r.next[role])
	r.mu.Unlock()
	host := loopback
	var prefix []string
	if r.cfg.Place != nil {
		var err error
		if host, prefix, err = r.cfg.Place(name); err != nil {
			return nil, fmt.Errorf("place %s: %w", name, err)
		}
	}
	addrs := make([]string, 4)
	for i := range addrs {
		port, err := r.port(host)
		if err != nil {
			return nil, err
		}
		addrs[i] = net.JoinHostPort(host, strconv.Itoa(port))
	}
	grpc, gossip, raft, control := addrs[0], addrs[1], addrs[2], addrs[3]
	dir := filepath.Join(r.cfg.Dir, name)
	if r.cfg.DirOf != nil {
		dir = r.cfg.DirOf(name)
	}
	n := &Node{
		Role: role, Dir: dir, GRPC: grpc, Control: control, Journal: filepath.Join(r.cfg.Dir, name+".journal"),
		Proc: &Proc{Name: name, Log: filepath.Join(r.cfg.Dir, name+".log"), binary: r.cfg.Binary, nursery: r.nursery},
	}
	n.Args = []string{string(role), "--data", dir, "--gossip", gossip, "--faults", control, "--journal", n.Journal}
	if r.cfg.Place != nil {
		n.Args = append(n.Args, "--insecure-network", "--preset", "lan")
	}
	n.Prefix = prefix
	switch role {
	case cluster.RoleServer:
		n.Args = append(n.Args, "--grpc", grpc, "--raft", raft)
		if r.cfg.SnapshotBytes > 0 {
			n.Args = append(n.Args, "--snapshot-bytes", strconv.FormatInt(r.cfg.SnapshotBytes, 10))
		}
	case roleLearner:
		n.Args = append(n.Args, "--grpc", grpc, "--raft", raft)
	case cluster.RoleWorker:
		n.GRPC = ""
		cache := filepath.Join(r.cfg.Dir, "cache")
		if !r.cfg.OneMachine {
			cache = filepath.Join(cache, name)
		}
		n.Args = append(n.Args, "--slots", strconv.Itoa(r.cfg.Slots), "--cache", cache)
	}
	n.Args = append(n.Args, r.cfg.Args[role]...)
	if name == "server-1" {
		n.Args = append(n.Args, "--init")
	}
	for _, s := range r.Nodes(cluster.RoleServer) {
		n.Args = append(n.Args, "--join", s.GRPC)
	}
	if err := n.Start(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.nodes[name] = n
	if name == "server-1" {
		// A founder that comes back looks for the others; see Rejoin.
		r.leader = cluster.NewLeader("", r.servers, r.dial())
	}
	r.mu.Unlock()
	return n, nil
}

const loopback = "127.0.0.1"

func (r *Rig) dial() cluster.DialOptions {
	return cluster.DialOptions{Security: cluster.Security{OpenNetwork: r.cfg.Place != nil}}
}

// port finds a port that is free for TCP and UDP. In a network namespace of its
// own every port is.
func (r *Rig) port(host string) (int, error) {
	if r.cfg.Place == nil {
		return freeport.Find(host)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ports++
	return r.ports, nil
}

// Forget ends a node for good: Nodes no longer lists it.
func (r *Rig) Forget(n *Node) error {
	err := n.Kill()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.nodes, n.Name)
	r.gone = append(r.gone, n)
	return err
}

// everyone returns every node there ever was: journals outlive their nodes.
func (r *Rig) everyone() []*Node {
	all := r.Nodes()
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(all, r.gone...)
}

// Restart starts a node that has ended, and lets it find the others wherever
// they are now: those that it once joined through may be gone for good.
func (r *Rig) Restart(n *Node) error {
	args := make([]string, 0, len(n.Args))
	for i := 0; i < len(n.Args); i++ {
		switch n.Args[i] {
		case "--join":
			i++
		case "--init": // founding is over; it would not look for the others
		default:
			args = append(args, n.Args[i])
		}
	}
	for _, s := range r.Nodes(cluster.RoleServer) {
		if s != n {
			args = append(args, "--join", s.GRPC)
		}
	}
	n.Args = args
	return n.Start()
}

// Node returns a node by name, nil for none.
func (r *Rig) Node(name string) *Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nodes[name]
}

// Nodes returns the nodes of some roles, all without any, by name.
func (r *Rig) Nodes(roles ...cluster.Role) []*Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*Node
	for _, name := range slices.Sorted(maps.Keys(r.nodes)) {
		if n := r.nodes[name]; len(roles) == 0 || slices.Contains(roles, n.Role) {
			out = append(out, n)
		}
	}
	return out
}

// ByID returns the node with an ID, nil for none.
func (r *Rig) ByID(id string) *Node {
	for _, n := range r.Nodes() {
		if own, err := n.ID(); err == nil && own == id {
			return n
		}
	}
	return nil
}

func (r *Rig) servers() (addrs []string) {
	for _, n := range r.Nodes(cluster.RoleServer) {
		addrs = append(addrs, n.GRPC)
	}
	return addrs
}

// askTimeout bounds one question to one node.
const askTimeout = 2 * time.Second

// Status asks one server; job "" asks about all.
func (r *Rig) Status(ctx context.Context, n *Node, job string) (*wire.StatusReply, error) {
	c, err := r.leader.Client(n.GRPC)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return c.Status(ctx, &wire.StatusRequest{ClusterID: r.clusterID, Job: job})
}

// Lead returns the node that leads, once one does.
func (r *Rig) Lead(ctx context.Context) (*Node, error) {
	for {
		for _, n := range r.Nodes(cluster.RoleServer) {
			if !n.Running() || n.Frozen() {
				continue
			}
			reply, err := r.Status(ctx, n, "")
			if err != nil || reply.Leader == "" {
				continue
			}
			for _, l := range r.Nodes(cluster.RoleServer) {
				if l.GRPC == reply.Leader && l.Running() && !l.Frozen() {
					return l, nil
				}
			}
		}
		if err := clock.Rest(ctx, lookEvery); err != nil {
			return nil, fmt.Errorf("no leader: %w", err)
		}
	}
}

// Inject replaces the faults of every node that lives, and breaks the
// connections that match reset. Nodes enforce what concerns them. struck counts
// what the faults before did, and the connections that broke.
func (r *Rig) Inject(ctx context.Context, links []wire.LinkFault, reset []wire.LinkFault) (struck uint64, err error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, n := range r.Nodes() {
		if !n.Running() || n.Frozen() {
			continue
		}
		wg.Go(func() {
			reply, err := r.inject(ctx, n, links, reset)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("faults of %s: %w", n.Name, err))
				return
			}
			struck += reply.Struck + uint64(reply.Broken)
		})
	}
	wg.Wait()
	return struck, errors.Join(errs...)
}

func (r *Rig) inject(ctx context.Context, n *Node, links, reset []wire.LinkFault) (*wire.FaultsReply, error) {
	id, err := n.ID()
	if err != nil {
		return nil, err
	}
	c, err := r.leader.Client(n.Control)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return faults.Control(ctx, c, &wire.FaultsRequest{Node: id, Faults: links, Reset: reset, Seed: r.cfg.Seed})
}

// Submit gives the mesh a job.
func (r *Rig) Submit(ctx context.Context, spec []byte) error {
	_, err := cluster.CallIdempotent(ctx, r.leader, (*cluster.Client).Submit, &wire.SubmitRequest{ClusterID: r.clusterID, Spec: spec})
	return err
}

// Control pauses, resumes or stops a job.
func (r *Rig) Control(ctx context.Context, job, verb string) error {
	_, err := cluster.CallIdempotent(ctx, r.leader, (*cluster.Client).Control, &wire.ControlRequest{ClusterID: r.clusterID, Job: job, Verb: verb})
	return err
}

// State returns the committed state of a job with its sessions.
func (r *Rig) State(ctx context.Context, job string) (*wire.StateReply, error) {
	return cluster.CallIdempotent(ctx, r.leader, (*cluster.Client).State, &wire.StateRequest{ClusterID: r.clusterID, Job: job, Sessions: true})
}

// Tail returns the end of a node's log.
func (n *Node) Tail(size int) string {
	text, err := os.ReadFile(n.Log)
	if err != nil {
		return err.Error()
	}
	text = text[max(0, len(text)-size):]
	return string(bytes.TrimSpace(text))
}

// Close ends every process: workers first, servers last.
func (r *Rig) Close() error {
	var errs []error
	for _, role := range []cluster.Role{cluster.RoleWorker, roleLearner, cluster.RoleServer} {
		var wg sync.WaitGroup
		for _, n := range r.Nodes(role) {
			wg.Go(func() {
				if n.Stop() != nil { // it is killed then: of no interest at the end
					n.Kill()
				}
			})
		}
		wg.Wait()
	}
	if r.leader != nil {
		errs = append(errs, r.leader.Close())
	}
	r.nursery.close()
	return errors.Join(errs...)
}

// Voting waits until every server votes: before that the loss of one may be the
// loss of all, and nothing is promised.
func (r *Rig) Voting(ctx context.Context) error {
	for {
		reply, err := cluster.CallIdempotent(ctx, r.leader, (*cluster.Client).Members, &wire.MembersRequest{ClusterID: r.clusterID})
		if err == nil && reply.Quorum.Voters == len(r.Nodes(cluster.RoleServer)) {
			return nil
		}
		if rerr := clock.Rest(ctx, lookEvery); rerr != nil {
			return fmt.Errorf("%w: not every server votes: %w (last %w)", ErrStuck, rerr, err)
		}
	}
}

// Replaced takes a server that will not come back out of the cluster, and waits
// until fresh votes in its place.
func (r *Rig) Replaced(ctx context.Context, old string, fresh *Node) error {
	if _, err := cluster.CallIdempotent(ctx, r.leader, (*cluster.Client).Remove, &wire.RemoveRequest{ClusterID: r.clusterID, Node: old}); err != nil {
		return fmt.Errorf("%w: remove %s: %w", ErrStuck, old, err)
	}
	var last error
	for {
		id, err := fresh.ID()
		if err == nil {
			var reply *wire.MembersReply
			reply, err = cluster.CallIdempotent(ctx, r.leader, (*cluster.Client).Members, &wire.MembersRequest{ClusterID: r.clusterID})
			if err == nil && slices.ContainsFunc(reply.Members, func(m wire.LogMember) bool { return m.ID == id && m.Standing == wire.StandingVoter }) {
				return nil
			}
		}
		last = err
		if err := clock.Rest(ctx, lookEvery); err != nil {
			return fmt.Errorf("%w: %s does not vote: %w (last %w)", ErrStuck, fresh.Name, err, last)
		}
	}
}
