package cluster

import (
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// Preset is a set of gossip timings.
type Preset struct {
	Name string

	ProbeInterval time.Duration // between two probes, each of another member
	ProbeTimeout  time.Duration // until a probe's answer is late
	// SuspicionMult × log10(members + 1) × ProbeInterval is how long a silent
	// member may still refute, at least; SuspicionMaxMult times that, at most,
	// while nobody else confirms the silence.
	SuspicionMult    int
	SuspicionMaxMult int

	GossipInterval time.Duration // between rounds of news
	GossipNodes    int           // members told per round
	RetransmitMult int           // × log10(members + 1): how often an item is told
	PushPull       time.Duration // between full exchanges with one random member
	StreamTimeout  time.Duration // of a full exchange
	Rejoin         time.Duration // between attempts to reach seeds and lost members
}

// LAN returns the timings for machines on one network: in trials with 50 nodes
// every member saw a death within about two seconds.
func LAN() Preset {
	return Preset{
		Name:          "lan",
		ProbeInterval: 250 * time.Millisecond,
		// Far above a LAN's round trip, and above a pause of Go's scheduler on a
		// busy machine.
		ProbeTimeout:  120 * time.Millisecond,
		SuspicionMult: 3,
		// In a mesh of three nobody may be left to confirm a suspicion: the upper
		// bound is then what decides how late a death is seen.
		SuspicionMaxMult: 2,
		GossipInterval:   100 * time.Millisecond,
		GossipNodes:      4,
		RetransmitMult:   6,
		// Heals what datagrams lost; cheap at this size.
		PushPull:      2 * time.Second,
		StreamTimeout: 2 * time.Second,
		Rejoin:        time.Second,
	}
}

// Local returns the timings for processes on one machine. Links do not lose
// anything, but all processes share few cores with training at full load, so a
// probe may wait longer for its turn than on a network; a killed process is
// noticed at once through its reset connections, and gossip may take its time.
func Local() Preset {
	p := LAN()
	p.Name = "local"
	p.ProbeInterval = 300 * time.Millisecond
	p.ProbeTimeout = 250 * time.Millisecond
	p.StreamTimeout = time.Second
	p.Rejoin = 500 * time.Millisecond
	return p
}

// PresetByName returns the preset "local" or "lan".
func PresetByName(name string) (Preset, error) {
	for _, p := range []Preset{Local(), LAN()} {
		if p.Name == name {
			return p, nil
		}
	}
	return Preset{}, fielderr.New("preset", name, `"local" or "lan"`)
}

func (p Preset) apply(c *memberlist.Config) {
	c.ProbeInterval = p.ProbeInterval
	c.ProbeTimeout = p.ProbeTimeout
	c.SuspicionMult = p.SuspicionMult
	c.SuspicionMaxTimeoutMult = p.SuspicionMaxMult
	c.GossipInterval = p.GossipInterval
	c.GossipNodes = p.GossipNodes
	c.RetransmitMult = p.RetransmitMult
	c.PushPullInterval = p.PushPull
	c.TCPTimeout = p.StreamTimeout
	// A restarted process keeps its ID but may come back on another port. The
	// lock on its directory rules out that both live, so its address may be
	// replaced as soon as the old one counts as dead.
	c.DeadNodeReclaimTime = time.Millisecond
}
