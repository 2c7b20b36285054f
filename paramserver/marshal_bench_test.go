package paramserver_test

import (
	"testing"

	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// BenchmarkPropose is what a window costs the learner's own goroutine.
func BenchmarkPropose(b *testing.B) {
	spec, _, err := job.Load("../examples/hypergrid-4d.yaml", nil)
	if err != nil {
		b.Fatal(err)
	}
	u, err := paramserver.NewUpdater(spec)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		params, private, err := u.Marshal()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := fsm.Encode(&fsm.Commit{Job: spec.Name, Params: params, Private: private}); err != nil {
			b.Fatal(err)
		}
	}
}
