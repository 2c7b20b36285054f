package cluster

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// Mesh is a node's membership in the gossip of its cluster. It is safe for
// concurrent use.
type Mesh struct {
	cfg    MeshConfig
	log    *slog.Logger
	list   *memberlist.Memberlist
	self   string // own gossip address
	metaMu sync.Mutex
	meta   []byte // what gossip tells of this node
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

	lifeMu   sync.Mutex     // orders starts of goroutines against the close of done
	loops    sync.WaitGroup // what spawn and Leave started
	left     chan struct{}  // made by Leave, closed when the good-bye is out
	leaveErr error          // before left is closed
	done     chan struct{}  // closed when Close begins
	stopped  chan struct{}  // closed when everything has ended
	closeErr error          // before stopped is closed
}

// spawn runs f on a goroutine that Close waits for; once closed, it does not and
// answers false.
func (m *Mesh) spawn(f func()) bool {
	m.lifeMu.Lock()
	defer m.lifeMu.Unlock()
	if m.closed() {
		return false
	}
	m.loops.Go(f)
	return true
}

func (m *Mesh) closed() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// NewMesh opens the gossip port and starts a mesh of one; Join makes it larger.
// A fault of the configuration is a fielderr.Error or ErrNotLoopback.
func NewMesh(cfg MeshConfig) (*Mesh, error) {
	host, port, advHost, advPort, err := cfg.check()
	if err != nil {
		return nil, err
	}
	meta, err := cfg.meta("").encode()
	if err != nil {
		return nil, fmt.Errorf("cluster: gossip: %w", err)
	}
	m := bareMesh()
	m.cfg, m.meta = cfg, meta
	if cfg.Log != nil {
		m.log = cfg.Log
	}
	m.queue.NumNodes = m.roster.countAlive
	m.queue.RetransmitMult = cfg.Preset.RetransmitMult

	mc := memberlist.DefaultLANConfig()
	cfg.Preset.apply(mc)
	// Packets are small, and a compressor for each was a tenth of an idle node's time.
	mc.EnableCompression = false
	mc.Name = cfg.NodeID
	mc.BindAddr, mc.BindPort = host, port
	mc.AdvertiseAddr, mc.AdvertisePort = advHost, advPort
	mc.Logger = log.New(debugWriter{m.log}, "", 0)
	mc.Delegate = delegate{m}
	mc.Events = delegate{m}
	mc.Alive = delegate{m}
	mc.Merge = delegate{m}
	mc.Conflict = delegate{m}
	if cfg.Transport != nil {
		if err := interpose(mc, cfg.Transport); err != nil {
			return nil, fmt.Errorf("cluster: gossip on %s: %w", cfg.Bind, err)
		}
	}
	m.list, err = memberlist.Create(mc)
	if err != nil {
		if mc.Transport != nil {
			mc.Transport.Shutdown() // memberlist closes only what it opened
		}
		return nil, fmt.Errorf("cluster: gossip on %s: %w", cfg.Bind, err)
	}
	node := m.list.LocalNode()
	m.self = net.JoinHostPort(node.Addr.String(), strconv.Itoa(int(node.Port)))
	m.spawn(m.announceLoop)
	m.spawn(m.rejoinLoop)
	return m, nil
}

// portAttempts is how often a free port is looked for that both UDP and TCP have.
const portAttempts = 10

// interpose opens the sockets as memberlist would, and puts hook around them.
func interpose(mc *memberlist.Config, hook func(memberlist.NodeAwareTransport) memberlist.NodeAwareTransport) error {
	attempts := 1
	if mc.BindPort == 0 {
		attempts = portAttempts
	}
	for {
		t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{mc.BindAddr}, BindPort: mc.BindPort, Logger: mc.Logger})
		attempts--
		if err != nil && attempts > 0 {
			continue
		}
		if err != nil {
			return err
		}
		if mc.BindPort == 0 {
			mc.BindPort = t.GetAutoBindPort()
			mc.AdvertisePort = mc.BindPort
		}
		mc.Transport = hook(t)
		return nil
	}
}

// bareMesh returns a Mesh that is on no network yet.
func bareMesh() *Mesh {
	return &Mesh{
		log:      slog.New(slog.DiscardHandler),
		roster:   newRoster(),
		hints:    newHintBook(),
		hintsNew: make(chan struct{}),
		hintWake: make(chan struct{}, 1),
		done:     make(chan struct{}),
		stopped:  make(chan struct{}),
	}
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
	for _, a := range addrs {
		if !slices.Contains(m.seeds, a) {
			m.seeds = append(m.seeds, a)
		}
	}
	m.seedMu.Unlock()
	result := make(chan error, 1)
	if !m.spawn(func() { result <- m.contact(addrs) }) {
		return fmt.Errorf("cluster: join: %w", net.ErrClosed)
	}
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
		// Others may have tried to merge with us meanwhile; this refusal counts only
		// if it is the one that memberlist quotes.
		if refusal != nil && strings.Contains(err.Error(), refusal.Error()) {
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

// Member returns what is known of one node.
func (m *Mesh) Member(id string) (Member, bool) { return m.roster.get(id) }

// Events streams members: first all known ones, then each whose record changes,
// in its latest state. A slow reader sees fewer intermediate states, never a
// stale last one. The channel is closed when ctx ends or the mesh closes.
func (m *Mesh) Events(ctx context.Context) <-chan Member {
	out := make(chan Member)
	started := m.spawn(func() {
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
	if !started {
		close(out)
	}
	return out
}

// Resolve returns the raft address of a node, the last known one if it is not
// alive; it suits raft's ServerAddressProvider.
func (m *Mesh) Resolve(id string) (raftAddr string, ok bool) {
	p, ok := m.roster.get(id)
	return p.RaftAddr, ok && p.RaftAddr != ""
}

// leaveTimeout bounds how long a departure may take to spread: some rounds of
// gossip, under a second in a small mesh.
const leaveTimeout = 5 * time.Second

// Leave tells the others that this node goes for good, so that they do not take
// it for dead, and waits until the message went out, ctx ends, or five seconds
// have passed. Close is still needed. Of a closed mesh it does nothing.
func (m *Mesh) Leave(ctx context.Context) error {
	left := m.beginLeave()
	if left == nil {
		return nil
	}
	select {
	case <-left:
		if m.leaveErr != nil {
			return fmt.Errorf("cluster: leave: %w", m.leaveErr)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cluster: leave: %w", ctx.Err())
	}
}

// beginLeave returns the channel that is closed when this node has left; nil if
// the mesh closed before anyone asked.
func (m *Mesh) beginLeave() <-chan struct{} {
	m.lifeMu.Lock()
	defer m.lifeMu.Unlock()
	if m.left == nil && !m.closed() {
		left := make(chan struct{})
		m.left = left
		m.loops.Go(func() {
			defer close(left)
			m.roster.depart(m.cfg.NodeID)
			m.sayGoodbye()
			m.leaveErr = m.list.Leave(leaveTimeout)
			m.sayGoodbye() // again: the first is lost on who had not heard of this node yet
		})
	}
	return m.left
}

// sayGoodbye sends every member one datagram. To whom all of them are lost, this
// node counts as dead instead of left, which costs a few attempts to reach it.
func (m *Mesh) sayGoodbye() {
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
	m.lifeMu.Lock()
	if !m.closed() {
		close(m.done)
		go m.shutdown(m.left)
	}
	m.lifeMu.Unlock()
	select {
	case <-m.stopped:
		return m.closeErr
	case <-ctx.Done():
		return fmt.Errorf("cluster: close gossip: %w", ctx.Err())
	}
}

// shutdown runs once; left is nil if nobody asked to leave.
func (m *Mesh) shutdown(left <-chan struct{}) {
	defer close(m.stopped)
	if left != nil {
		<-left // memberlist panics if it is told to leave after its shutdown
	}
	if err := m.list.Shutdown(); err != nil {
		m.closeErr = fmt.Errorf("cluster: close gossip: %w", err)
	}
	m.loops.Wait()
}
