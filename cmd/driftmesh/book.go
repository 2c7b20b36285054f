package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/atomicfile"
)

// bookFile holds, beside the log, where this node listened and where the other
// servers gossiped when last heard of. It is a hint and never more: who is a member
// says the log, and a wrong address is refused by the handshakes there.
const bookFile = "addresses.json"

// maxBook bounds the servers that are remembered.
const maxBook = 64

// addressBook lets a server that was started again find the others without --join.
type addressBook struct {
	Gossip  string            `json:"gossip"` // own addresses
	Raft    string            `json:"raft"`
	Servers map[string]string `json:"servers"` // gossip addresses by node ID

	path string
	log  *slog.Logger
}

// openBook reads the book of a data directory. One that cannot be read is an
// empty one: nothing depends on it but convenience.
func openBook(dir string, log *slog.Logger) *addressBook {
	b := &addressBook{}
	path := filepath.Join(dir, bookFile)
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, b)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			log.Warn("remembered addresses are not readable; --join may be needed", "file", path, "error", err)
		}
		b = &addressBook{}
	}
	if b.Servers == nil {
		b.Servers = map[string]string{}
	}
	b.path, b.log = path, log
	return b
}

// seeds are the gossip addresses of the other servers, in a fixed order.
func (b *addressBook) seeds(self string) []string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(b.Servers)) {
		if id != self {
			out = append(out, b.Servers[id])
		}
	}
	return out
}

// keep writes the book whenever the mesh has news of a server, until ctx ends.
func (b *addressBook) keep(ctx context.Context, mesh *cluster.Mesh, raft string) {
	now := addressBook{Gossip: mesh.Addr(), Raft: raft, Servers: maps.Clone(b.Servers), path: b.path, log: b.log}
	now.write()
	for m := range mesh.Events(ctx) {
		old, known := now.Servers[m.ID]
		switch {
		case m.Role != cluster.RoleServer || m.ID == mesh.ID():
			continue
		case m.State == cluster.Left && known:
			delete(now.Servers, m.ID)
		case m.State == cluster.Alive && old != m.GossipAddr && (known || len(now.Servers) < maxBook):
			now.Servers[m.ID] = m.GossipAddr
		default:
			continue
		}
		now.write()
	}
}

func (b *addressBook) write() {
	data, err := json.MarshalIndent(b, "", "  ")
	if err == nil {
		err = atomicfile.WriteBytes(b.path, 0o644, append(data, '\n'))
	}
	if err != nil {
		b.log.Warn("addresses are not remembered", "file", b.path, "error", err)
	}
}

// rebind returns the address that this node used before where the flag leaves the
// port open and it is free: the others look for it there. Else the flag.
func rebind(flag, before string) string {
	host, port, err := net.SplitHostPort(flag)
	if err != nil || port != "0" {
		return flag
	}
	if was, _, err := net.SplitHostPort(before); err != nil || was != host {
		return flag
	}
	tcp, err := net.Listen("tcp", before)
	if err != nil {
		return flag
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", before)
	if err != nil {
		return flag
	}
	udp.Close()
	return before
}
