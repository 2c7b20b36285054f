package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// MeshConfig configures a node's membership.
type MeshConfig struct {
	NodeID    string // node UUID, unique among processes: Identity.NodeID
	ClusterID string // Identity.ClusterID; a worker may have it from JoinReply
	Role      Role
	Bind      string // gossip host:port, UDP and TCP; port 0 takes a free one
	Advertise string // host:port that others use; "" for Bind
	GRPCAddr  string // where this node serves the mesh, "" for nowhere
	RaftAddr  string // of a server's raft transport, "" for workers
	Slots     int    // sampler loops
	Preset    Preset
	Security  Security
	Log       *slog.Logger // nil for none
}

// Mesh is a node's membership in the gossip of its cluster. It is safe for
// concurrent use.
type Mesh struct {
	cfg    MeshConfig
	log    *slog.Logger
	list   *memberlist.Memberlist
	self   string // own gossip address
	meta   []byte
	roster *roster
	queue  memberlist.TransmitLimitedQueue

	refusalMu sync.Mutex
	refusal   error // the last merge refused, which memberlist reports as text only

	hintMu   sync.Mutex
	hints    *hintBook
	hintsNew chan struct{} // closed when a hint changes
	hintWake chan struct{} // tells announceLoop that something may be due

	seedMu sync.Mutex
	seeds  []string

	done     chan struct{}
	stopOnce sync.Once
	leftOnce sync.Once
	loops    sync.WaitGroup
}

// NewMesh opens the gossip port and starts a mesh of one; Join makes it larger.
// A fault of the configuration is a fielderr.Error or ErrNotLoopback.
func NewMesh(cfg MeshConfig) (*Mesh, error) {
	host, port, advHost, advPort, err := cfg.check()
	if err != nil {
		return nil, err
	}
	meta, err := nodeMeta{
		ClusterID: cfg.ClusterID, Role: cfg.Role, GRPCAddr: cfg.GRPCAddr,
		RaftAddr: cfg.RaftAddr, Slots: cfg.Slots, Protocol: ProtocolVersion,
	}.encode()
	if err != nil {
		return nil, fmt.Errorf("cluster: gossip: %w", err)
	}
	m := &Mesh{
		cfg:      cfg,
		log:      cfg.Log,
		meta:     meta,
		roster:   newRoster(),
		hints:    newHintBook(),
		hintsNew: make(chan struct{}),
		hintWake: make(chan struct{}, 1),
		done:     make(chan struct{}),
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.queue.NumNodes = m.roster.countAlive
	m.queue.RetransmitMult = cfg.Preset.RetransmitMult

	mc := memberlist.DefaultLANConfig()
	cfg.Preset.apply(mc)
	mc.Name = cfg.NodeID
	mc.BindAddr, mc.BindPort = host, port
	mc.AdvertiseAddr, mc.AdvertisePort = advHost, advPort
	mc.Logger = log.New(debugWriter{m.log}, "", 0)
	mc.Delegate = delegate{m}
	mc.Events = delegate{m}
	mc.Alive = delegate{m}
	mc.Merge = delegate{m}
	mc.Conflict = delegate{m}
	m.list, err = memberlist.Create(mc)
	if err != nil {
		return nil, fmt.Errorf("cluster: gossip on %s: %w", cfg.Bind, err)
	}
	node := m.list.LocalNode()
	m.self = net.JoinHostPort(node.Addr.String(), strconv.Itoa(int(node.Port)))
	m.loops.Go(m.announceLoop)
	m.loops.Go(m.rejoinLoop)
	return m, nil
}

func (cfg *MeshConfig) check() (host string, port int, advHost string, advPort int, err error) {
	if uuid.Validate(cfg.NodeID) != nil {
		return "", 0, "", 0, fielderr.New("node_id", cfg.NodeID, "a UUID")
	}
	if uuid.Validate(cfg.ClusterID) != nil {
		return "", 0, "", 0, fielderr.New("cluster_id", cfg.ClusterID, "the UUID of a cluster")
	}
	if cfg.Role != RoleServer && cfg.Role != RoleWorker {
		return "", 0, "", 0, fielderr.New("role", string(cfg.Role), `"server" or "worker"`)
	}
	if cfg.Preset.ProbeInterval <= 0 {
		return "", 0, "", 0, fielderr.New("preset", cfg.Preset.Name, "a preset such as Local()")
	}
	if host, port, err = cfg.split("bind", cfg.Bind); err != nil {
		return "", 0, "", 0, err
	}
	if cfg.Advertise != "" {
		if advHost, advPort, err = cfg.split("advertise", cfg.Advertise); err != nil {
			return "", 0, "", 0, err
		}
	}
	for field, addr := range map[string]string{"grpc_addr": cfg.GRPCAddr, "raft_addr": cfg.RaftAddr} {
		if addr == "" {
			continue
		}
		if _, _, err := cfg.split(field, addr); err != nil {
			return "", 0, "", 0, err
		}
	}
	return host, port, advHost, advPort, nil
}

// split checks an address and returns the IP and the port, which memberlist
// wants apart.
func (cfg *MeshConfig) split(field, addr string) (string, int, error) {
	if err := cfg.Security.CheckAddr(addr); err != nil {
		return "", 0, fmt.Errorf("%s: %w", field, err)
	}
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", field, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return "", 0, fielderr.New(field, addr, "a port from 0 to 65535")
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	return host, int(port), nil
}

// Addr returns the gossip address of this node, with the real port.
func (m *Mesh) Addr() string { return m.self }

// ID returns the node's UUID.
func (m *Mesh) ID() string { return m.cfg.NodeID }

// ClusterID returns the cluster's UUID.
func (m *Mesh) ClusterID() string { return m.cfg.ClusterID }

// Join contacts the gossip addresses and merges memberships; one that answers is
// enough. It fails with ErrForeignCluster if the nodes there belong to another
// cluster. Either way the addresses are remembered as seeds: the mesh goes on
// trying those where no live member is, so that a node that started too early,
// or was alone after a failure, finds the others by itself.
func (m *Mesh) Join(ctx context.Context, addrs ...string) error {
	for _, a := range addrs {
		if err := m.cfg.Security.CheckAddr(a); err != nil {
			return err
		}
	}
	m.seedMu.Lock()
	m.seeds = append(m.seeds, addrs...)
	m.seedMu.Unlock()
	result := make(chan error, 1)
	m.loops.Go(func() { result <- m.contact(addrs) })
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("cluster: join: %w", ctx.Err())
	}
}

func (m *Mesh) contact(addrs []string) error {
	m.setRefusal(nil)
	if n, err := m.list.Join(addrs); n == 0 && err != nil {
		m.refusalMu.Lock()
		refusal := m.refusal
		m.refusalMu.Unlock()
		if refusal != nil {
			return fmt.Errorf("cluster: join: %w", refusal)
		}
		return fmt.Errorf("cluster: join: %w", err)
	}
	return nil
}

func (m *Mesh) setRefusal(err error) {
	m.refusalMu.Lock()
	m.refusal = err
	m.refusalMu.Unlock()
}

// rejoinLoop contacts, in turn, seeds and lost members that do not take part.
func (m *Mesh) rejoinLoop() {
	tick := time.NewTicker(m.cfg.Preset.Rejoin)
	defer tick.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-m.done:
			return
		case <-tick.C:
		}
		if missing := m.missing(); len(missing) > 0 {
			if err := m.contact([]string{missing[turn%len(missing)]}); err != nil {
				m.log.Debug("rejoin", "err", err)
			}
		}
	}
}

// missing lists addresses where a member should be but none is.
func (m *Mesh) missing() []string {
	here := map[string]bool{m.self: true}
	var want []string
	for _, p := range m.roster.all() {
		switch p.State {
		case Alive:
			here[p.GossipAddr] = true
		case Dead:
			if p.Role == RoleServer { // workers come to us, not we to them
				want = append(want, p.GossipAddr)
			}
		}
	}
	m.seedMu.Lock()
	want = append(want, m.seeds...)
	m.seedMu.Unlock()
	var out []string
	for _, a := range want {
		if !here[a] {
			here[a] = true
			out = append(out, a)
		}
	}
	return out
}

// Members returns every known member by ID, this node and those dead or left
// included.
func (m *Mesh) Members() []Member { return m.roster.all() }

// Events streams members: first all known ones, then each whose record changes,
// in its latest state. A slow reader sees fewer intermediate states, never a
// stale last one. The channel is closed when ctx ends or the mesh closes.
func (m *Mesh) Events(ctx context.Context) <-chan Member {
	out := make(chan Member)
	m.loops.Go(func() {
		defer close(out)
		var seen uint64
		for {
			var batch []Member
			var changed <-chan struct{}
			batch, seen, changed = m.roster.since(seen)
			for _, p := range batch {
				select {
				case out <- p:
				case <-ctx.Done():
					return
				case <-m.done:
					return
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			case <-m.done:
				return
			}
		}
	})
	return out
}

// Resolve returns the raft address of a node, the last known one if it is not
// alive; it suits raft's ServerAddressProvider.
func (m *Mesh) Resolve(id string) (raftAddr string, ok bool) {
	p, ok := m.roster.get(id)
	return p.RaftAddr, ok && p.RaftAddr != ""
}

// AnnounceVersion tells the mesh that a version of a job is published. It
// returns at once; announcements of one job are coalesced to two a second.
func (m *Mesh) AnnounceVersion(job string, p wire.Position) {
	m.offerHints([]hint{{Job: job, Position: p}})
}

// Hints returns the newest version of each job that anyone announced, and a
// channel that is closed once that changes. Hints prove nothing; they say when
// it is worth asking.
func (m *Mesh) Hints() (map[string]wire.Position, <-chan struct{}) {
	m.hintMu.Lock()
	defer m.hintMu.Unlock()
	return maps.Clone(m.hints.known), m.hintsNew
}

func (m *Mesh) offerHints(hs []hint) {
	m.hintMu.Lock()
	news := false
	for _, h := range hs {
		news = m.hints.offer(h) || news
	}
	if news {
		close(m.hintsNew)
		m.hintsNew = make(chan struct{})
	}
	m.hintMu.Unlock()
	if news {
		select {
		case m.hintWake <- struct{}{}:
		default: // it is awake already
		}
	}
}

// announceLoop hands hints to gossip when they are due.
func (m *Mesh) announceLoop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-m.done:
			return
		case <-m.hintWake:
		case <-timer.C:
		}
		m.hintMu.Lock()
		ready, wait := m.hints.take(time.Now())
		m.hintMu.Unlock()
		for _, h := range ready {
			msg, err := wire.Marshal(&gossipFrame{ClusterID: m.cfg.ClusterID, Hints: []hint{h}})
			if err != nil {
				m.log.Error("encode a version hint", "job", h.Job, "err", err)
				continue
			}
			m.queue.QueueBroadcast(&hintBroadcast{job: h.Job, msg: msg})
		}
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}

// Leave tells the others that this node goes for good, so that they do not take
// it for dead, and waits until the message went out or ctx ends. Close is still
// needed.
func (m *Mesh) Leave(ctx context.Context) error {
	var err error
	m.leftOnce.Do(func() {
		timeout := time.Minute
		if d, ok := ctx.Deadline(); ok {
			timeout = time.Until(d)
		}
		if timeout <= 0 {
			err = fmt.Errorf("cluster: leave: %w", context.DeadlineExceeded)
			return
		}
		m.sayGoodbye()
		if lerr := m.list.Leave(timeout); lerr != nil {
			err = fmt.Errorf("cluster: leave: %w", lerr)
		}
	})
	return err
}

// sayGoodbye sends every member one datagram. If it is lost, this node counts as
// dead instead of left, which costs the others a few attempts to reach it.
func (m *Mesh) sayGoodbye() {
	m.roster.depart(m.cfg.NodeID)
	msg, err := wire.Marshal(&gossipFrame{ClusterID: m.cfg.ClusterID, Goodbye: m.cfg.NodeID})
	if err != nil {
		m.log.Error("encode a good-bye", "err", err)
		return
	}
	for _, n := range m.list.Members() {
		if n.Name == m.cfg.NodeID {
			continue
		}
		if err := m.list.SendBestEffort(n, msg); err != nil {
			m.log.Debug("say good-bye", "to", n.Name, "err", err)
		}
	}
}

// Close ends gossip and waits, until ctx ends, for everything this mesh started.
// Without Leave the others find out as after a crash.
func (m *Mesh) Close(ctx context.Context) error {
	var err error
	m.stopOnce.Do(func() {
		m.leftOnce.Do(func() {}) // memberlist cannot leave once it is shut down
		close(m.done)
		if serr := m.list.Shutdown(); serr != nil {
			err = fmt.Errorf("cluster: close gossip: %w", serr)
		}
	})
	stopped := make(chan struct{})
	go func() {
		m.loops.Wait()
		close(stopped)
	}()
	select {
	case <-stopped:
		return err
	case <-ctx.Done():
		return errors.Join(err, fmt.Errorf("cluster: close gossip: %w", ctx.Err()))
	}
}

// debugWriter turns memberlist's log lines into debug records: what an operator
// needs to know of them, delegate says itself.
type debugWriter struct{ log *slog.Logger }

var _ io.Writer = debugWriter{}
