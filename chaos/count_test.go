package chaos

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/sampler"
)

// TestEachTrajectoryCountsOnce runs the two pure machines of the counting
// protocol, the worker's outbox and the learner's replay, against a model of
// the network and the log: streams break, learners die with what they had not
// committed, acknowledgements are late. In the end every trajectory that a
// committed mark covers was trained on exactly once by a committed update.
func TestEachTrajectoryCountsOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const session = "s"
		var (
			committed      uint64             // mark in the log
			trained        = map[uint64]int{} // by committed updates
			pending        []uint64           // trained since the last commit
			box            = sampler.NewOutbox(0)
			replay         *paramserver.Admission // nil: no learner
			connected      bool
			wireUp         []wire.Trajectory // in flight to the learner
			version        uint64
			capacity, roll = rapid.IntRange(1, 40).Draw(t, "capacity"), rapid.IntRange(1, 8).Draw(t, "rollout")
		)
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			switch rapid.IntRange(0, 8).Draw(t, "event") {
			case 0, 1: // the worker samples
				if box.Waiting() <= 1 {
					first := box.Next()
					box.Push(roll, []byte{byte(first), byte(first >> 8)})
				}
			case 2: // connect
				if replay == nil {
					replay = paramserver.NewAdmission(capacity, roll, paramserver.Bounds{})
				}
				wireUp = nil
				box.Disconnected()
				if err := box.Resume(replay.Open(session, committed)); err != nil {
					t.Fatal(err)
				}
				connected = true
			case 3: // the worker sends
				if !connected {
					continue
				}
				box.Acknowledge(committed, replay.Credit(session))
				if f, ok := box.Send(); ok {
					first := uint64(f[0]) | uint64(f[1])<<8
					for i := range roll {
						wireUp = append(wireUp, wire.Trajectory{Seq: first + uint64(i), Actions: []int32{0}})
					}
				}
			case 4: // the learner receives
				if connected && len(wireUp) > 0 {
					if err := replay.Offer(session, wireUp); err != nil {
						t.Fatal(err)
					}
					wireUp = nil
				}
			case 5: // an update
				if replay != nil {
					for _, tr := range replay.Take(rapid.IntRange(1, 5).Draw(t, "batch"), version, time.Time{}, nil) {
						pending = append(pending, tr.Seq)
					}
				}
			case 6: // a commit
				if replay == nil {
					continue
				}
				for _, m := range replay.Marks() {
					if m.Seq < committed {
						t.Fatalf("mark goes back from %d to %d", committed, m.Seq)
					}
					if m.Admitted != uint64(len(pending)) || m.Seq-committed != m.Admitted {
						t.Fatalf("mark covers %d to %d and counts %d, trained on were %v", committed+1, m.Seq, m.Admitted, pending)
					}
					committed = m.Seq
				}
				for _, seq := range pending {
					trained[seq]++
				}
				pending = nil
			case 7: // the stream breaks
				connected, wireUp = false, nil
			case 8: // the learner dies
				replay, pending, connected, wireUp = nil, nil, false, nil
			}
		}
		for seq := uint64(1); seq <= committed; seq++ {
			if trained[seq] != 1 {
				t.Fatalf("trajectory %d was trained on %d times, mark is %d", seq, trained[seq], committed)
			}
		}
		if len(trained) != int(committed) {
			t.Fatalf("%d trained on, mark is %d", len(trained), committed)
		}
	})
}
