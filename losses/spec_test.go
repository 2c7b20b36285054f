package losses_test

import (
	"errors"
	"testing"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/losses"
)

// TestNormalisersSuitAnnealedMembers: a member that is reverse KL at first is another
// one later, and then its normaliser must suit that.
func TestNormalisersSuitAnnealedMembers(t *testing.T) {
	to := func(from, to float64) *schedule.Value {
		return &schedule.Value{Kind: schedule.Linear, From: from, To: to, Over: 100, Start: 50}
	}
	for _, c := range []struct {
		loss    job.Loss
		batch   int
		refused bool
		warned  bool
	}{
		{job.Loss{Divergence: "alpha", Parameter: to(1, 0), Normaliser: "batch_optimal"}, 2, true, false},
		{job.Loss{Divergence: "alpha", Parameter: to(0, 1), Normaliser: "batch_optimal"}, 2, true, false},
		{job.Loss{Divergence: "alpha", Parameter: to(1, 0), Normaliser: "batch_optimal"}, 8, false, true},
		{job.Loss{Divergence: "alpha", Parameter: to(1, 0.5), Normaliser: "batch_mean"}, 64, false, true},
		{job.Loss{Divergence: "alpha", Parameter: to(1, 0), Normaliser: "batch_optimal"}, 16, false, false},
		{job.Loss{Divergence: "alpha:1", Normaliser: "batch_optimal"}, 2, false, false},
	} {
		_, warnings, err := losses.FromSpec(c.loss, "uniform", c.batch)
		var fault *fielderr.Error
		if (err != nil) != c.refused || err != nil && (!errors.As(err, &fault) || fault.Path != "normaliser") {
			t.Errorf("%+v, batches of %d: %v", c.loss, c.batch, err)
		}
		if (len(warnings) > 0) != c.warned {
			t.Errorf("%+v, batches of %d: warnings %v", c.loss, c.batch, warnings)
		}
	}
}
