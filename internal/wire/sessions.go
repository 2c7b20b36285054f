package wire

// SessionInfo is one worker session as the replicated state holds it, expired
// ones included.
type SessionInfo struct {
	ID       string `msgpack:"i" json:"id"`
	Worker   string `msgpack:"w" json:"worker"` // node UUID
	Slot     int    `msgpack:"n" json:"slot"`
	Mark     uint64 `msgpack:"m" json:"mark"` // everything up to it has a disposition
	Admitted uint64 `msgpack:"a" json:"admitted"`
	Stale    uint64 `msgpack:"l" json:"stale"`
	Refused  uint64 `msgpack:"r" json:"refused"`
	Expired  bool   `msgpack:"x" json:"expired"`
}
