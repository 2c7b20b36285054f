package cluster

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/hashicorp/memberlist"

	"github.com/driftmesh/driftmesh/internal/wire"
)

const ourCluster = "11111111-1111-4111-8111-111111111111"

func encoded(t testing.TB, m nodeMeta) []byte {
	t.Helper()
	data, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestAdmit(t *testing.T) {
	good := nodeMeta{ClusterID: ourCluster, Role: RoleServer, GRPCAddr: "127.0.0.1:1", RaftAddr: "127.0.0.1:2", Slots: 3, Protocol: ProtocolVersion}
	with := func(change func(*nodeMeta)) []byte {
		m := good
		change(&m)
		return encoded(t, m)
	}
	for name, c := range map[string]struct {
		meta []byte
		is   error
	}{
		"ours":        {encoded(t, good), nil},
		"foreign":     {with(func(m *nodeMeta) { m.ClusterID = "22222222-2222-4222-8222-222222222222" }), ErrForeignCluster},
		"of none":     {with(func(m *nodeMeta) { m.ClusterID = "" }), ErrForeignCluster},
		"no meta":     {nil, wire.ErrFrame},
		"garbage":     {[]byte("\xff\xfe\xfd"), wire.ErrFrame},
		"odd role":    {with(func(m *nodeMeta) { m.Role = "king" }), wire.ErrFrame},
		"minus slots": {with(func(m *nodeMeta) { m.Slots = -1 }), wire.ErrFrame},
		"huge":        {make([]byte, memberlist.MetaMaxSize+1), wire.ErrTooLarge},
	} {
		node := &memberlist.Node{Name: "n", Addr: net.IPv4(127, 0, 0, 1), Port: 7, Meta: c.meta}
		meta, err := admit(ourCluster, node)
		if !errors.Is(err, c.is) {
			t.Errorf("%s: got %v, want %v", name, err, c.is)
		}
		if err == nil {
			want := Member{ID: "n", Role: RoleServer, GRPCAddr: "127.0.0.1:1", RaftAddr: "127.0.0.1:2", GossipAddr: "127.0.0.1:7", Slots: 3, Protocol: 1, State: Alive}
			if got := meta.member(node, Alive); got != want {
				t.Errorf("%s: got %+v, want %+v", name, got, want)
			}
		}
	}
	if _, err := admit("", &memberlist.Node{Name: "n", Meta: with(func(m *nodeMeta) { m.ClusterID = "" })}); err == nil {
		t.Error("two nodes without a cluster took each other for members")
	}
	if _, err := admit(ourCluster, &memberlist.Node{Meta: encoded(t, good)}); err == nil {
		t.Error("a node without an ID was let in")
	}
}

func TestMetaTooLargeIsRefusedAtHome(t *testing.T) {
	_, err := nodeMeta{GRPCAddr: strings.Repeat("a", 600)}.encode()
	if !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
}

func FuzzDecodeMeta(f *testing.F) {
	f.Add(encoded(f, nodeMeta{ClusterID: ourCluster, Role: RoleWorker, Slots: 2, Protocol: 1}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeMeta(data)
		if err != nil {
			return
		}
		if m.Role != RoleServer && m.Role != RoleWorker || m.Slots < 0 {
			t.Fatalf("let in %+v", m)
		}
	})
}

// FuzzGossipMessage feeds a mesh's delegate what strangers may send to its port.
func FuzzGossipMessage(f *testing.F) {
	data, err := wire.Marshal(&gossipFrame{ClusterID: ourCluster, Hints: []hint{{Job: "grid", Position: wire.Position{Version: 3}}}, Goodbye: "n"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("\xdd\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := delegate{bareMesh()}
		d.m.cfg.ClusterID = ourCluster
		d.NotifyMsg(data)
		d.MergeRemoteState(data, true)
		if hints, _ := d.m.Hints(); len(hints) > maxHintJobs {
			t.Fatalf("%d jobs are remembered", len(hints))
		}
		if len(d.m.roster.all()) != 0 {
			t.Fatal("a message made a member")
		}
	})
}
