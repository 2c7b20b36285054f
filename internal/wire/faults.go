package wire

// FaultsServiceName is the service that fault injection is controlled by.
const FaultsServiceName = "driftmesh.v1.Faults"

// MaxLinkFaults bounds the table of one node.
const MaxLinkFaults = 4096

// LinkFault is what is wrong with the bytes that travel from one node to
// another. Several that match add up: any cut cuts, delays are summed, the
// lowest rate counts.
type LinkFault struct {
	From  string `msgpack:"f" json:"from,omitempty"`  // node ID; "" for any
	To    string `msgpack:"t" json:"to,omitempty"`    // node ID; "" for any
	Plane string `msgpack:"p" json:"plane,omitempty"` // gossip | raft | parameters | rpc; "" for all
	// Cut stalls connections and drops datagrams until the fault is lifted.
	Cut bool `msgpack:"c" json:"cut,omitempty"`
	// Drop is the share of datagrams that are lost, 0 to 1.
	Drop float64 `msgpack:"d" json:"drop,omitempty"`
	// DelayMS and a uniform share of JitterMS pass before bytes arrive, in ms.
	DelayMS  float64 `msgpack:"l" json:"delay_ms,omitempty"`
	JitterMS float64 `msgpack:"j" json:"jitter_ms,omitempty"`
	// Rate limits a connection, in bytes a second; 0 for no limit.
	Rate int64 `msgpack:"r" json:"rate,omitempty"`
}

// FaultsRequest replaces a node's table of faults.
type FaultsRequest struct {
	Node   string      `msgpack:"n"` // the node meant; another one refuses
	Faults []LinkFault `msgpack:"f"`
	// Reset breaks, once, the open connections that match: only From, To and
	// Plane count, in either direction.
	Reset []LinkFault `msgpack:"r"`
	Seed  uint64      `msgpack:"s"` // of jitter and losses
}

// Cluster implements Tagged: the request names a node instead.
func (r *FaultsRequest) Cluster() (string, bool) { return "", false }

// FaultsReply says what the node's network looks like.
type FaultsReply struct {
	Connections int `msgpack:"c"` // open ones that this node dialled
	Held        int `msgpack:"h"` // bytes that wait in them
	Broken      int `msgpack:"b"` // connections that Reset broke
	// Struck counts what the table before this one did: bytes and ends of
	// connections that had to wait, dials that did, datagrams lost or late.
	Struck uint64 `msgpack:"k"`
}
