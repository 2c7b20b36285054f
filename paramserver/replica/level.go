package replica

import "github.com/driftmesh/driftmesh/paramserver/fsm"

// handshakeLevel is the feature level from which every member makes the
// handshake of the raft port.
const handshakeLevel = 2

func generation(*fsm.State) uint64  { return 0 }
func featureLevel(*fsm.State) uint8 { return 1 }
