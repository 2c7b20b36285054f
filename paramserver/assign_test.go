package paramserver

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/cluster"
)

// TestEveryJobHasItsShare: with at least as many slots as jobs, jobs differ by
// at most one slot; with fewer, each gets its turn.
func TestEveryJobHasItsShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var members []cluster.Member
		for i := range rapid.IntRange(1, 6).Draw(t, "nodes") {
			members = append(members, cluster.Member{
				ID:    fmt.Sprint(i),
				Role:  rapid.SampledFrom([]cluster.Role{cluster.RoleWorker, cluster.RoleServer}).Draw(t, "role"),
				State: rapid.SampledFrom([]cluster.State{cluster.Alive, cluster.Dead}).Draw(t, "state"),
				Slots: rapid.IntRange(1, 4).Draw(t, "slots"),
			})
		}
		jobs := rapid.IntRange(1, 9).Draw(t, "jobs")
		total := 0
		served := make([]int, jobs)
		start := time.Unix(rapid.Int64Range(0, 1<<40).Draw(t, "now"), 0)
		for turn := range jobs {
			counts := make([]int, jobs)
			total = 0
			for _, m := range members {
				if m.Role != cluster.RoleWorker || m.State != cluster.Alive {
					continue
				}
				for slot := range m.Slots {
					counts[deal(slices.Clone(members), m.ID, slot, jobs, start.Add(time.Duration(turn)*shareTurn))]++
					total++
				}
			}
			if total >= jobs && slices.Max(counts)-slices.Min(counts) > 1 {
				t.Fatalf("%d slots over %d jobs: %v", total, jobs, counts)
			}
			for i, c := range counts {
				served[i] += c
			}
		}
		if total > 0 && slices.Min(served) == 0 {
			t.Fatalf("%d slots over %d jobs in %d turns: %v", total, jobs, jobs, served)
		}
	})
}
