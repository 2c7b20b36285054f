package fanout

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/driftmesh/driftmesh/cluster"
)

// FanOut is how many children a group has in the tree, and how many groups take
// from replicas: what the servers send of a version is FanOut copies, however
// many nodes there are.
const FanOut = 4

// Candidate is a node that a job's parameters may be taken from.
type Candidate struct {
	Node    string // UUID
	Addr    string // gRPC address
	Replica bool   // it has them from its own state; others have them from a replica, over some hops
	local   bool   // it holds the cache folder that this process shares
}

// Plan lists where a group takes a job's parameters from, best first: its
// parent in the tree, then that one's parent and so on, then the replicas. It
// depends on nothing but its arguments, so that nodes with the same view of
// the members agree; none then has more than FanOut children, and all lead to a
// replica. A parent stands before its children in an order that does not depend
// on the view, so that nodes with different views cannot make a loop either.
//
// group is the caller's, a member's ID where it shares no cache; it takes part
// whether the view has it or not. first is the gRPC address of the replica to
// ask before the others, "" for none.
func Plan(job, group, first string, members []cluster.Member) []Candidate {
	peers := map[string][]cluster.Member{group: nil}
	var replicas []cluster.Member
	for _, m := range members {
		switch {
		case m.State != cluster.Alive || m.GRPCAddr == "":
		case m.Role != cluster.RoleWorker:
			replicas = append(replicas, m)
		case m.FollowsJob(job):
			g := GroupOf(m)
			peers[g] = append(peers[g], m)
		}
	}
	ranked := make([]string, 0, len(peers))
	for g := range peers {
		ranked = append(ranked, g)
	}
	byRank(ranked, job)

	var out []Candidate
	for i := parentOf(slices.Index(ranked, group)); i >= 0; i = parentOf(i) {
		members := peers[ranked[i]]
		sortByRank(members, job+"\x00"+group, func(m cluster.Member) string { return m.ID })
		for _, m := range members {
			out = append(out, Candidate{Node: m.ID, Addr: m.GRPCAddr})
		}
	}
	sortByRank(replicas, job+"\x00"+group, func(m cluster.Member) string { return m.ID })
	slices.SortStableFunc(replicas, func(a, b cluster.Member) int {
		return -cmp.Compare(isFirst(a, first), isFirst(b, first))
	})
	for _, m := range replicas {
		out = append(out, Candidate{Node: m.ID, Addr: m.GRPCAddr, Replica: true})
	}
	return out
}

// GroupOf returns the group of a member: itself if it shares no cache.
func GroupOf(m cluster.Member) string {
	if m.Group != "" {
		return m.Group
	}
	return m.ID
}

// parentOf returns the index of a group's parent among the ranked ones, or -1: the
// first FanOut take from replicas.
func parentOf(i int) int { return i/FanOut - 1 }

func isFirst(m cluster.Member, first string) int {
	if first != "" && m.GRPCAddr == first {
		return 1
	}
	return 0
}

func byRank(names []string, key string) {
	sortByRank(names, key, func(s string) string { return s })
}

// sortByRank orders by rendezvous hashing: by a digest of key and name, so that
// each key has an order of its own and a newcomer changes no one else's rank
// relative to one another.
func sortByRank[T any](list []T, key string, name func(T) string) {
	rank := make(map[string]uint64, len(list))
	for _, x := range list {
		n := name(x)
		sum := sha256.Sum256([]byte(key + "\x00" + n))
		rank[n] = binary.BigEndian.Uint64(sum[:])
	}
	slices.SortFunc(list, func(a, b T) int {
		return cmp.Or(cmp.Compare(rank[name(a)], rank[name(b)]), cmp.Compare(name(a), name(b)))
	})
}
