package runs

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// TestBiasShows what dropping one worker's good objects does.
func TestBiasShows(t *testing.T) {
	var b Bias
	for i := range 1000 {
		lr := float64(i % 10)
		weight := 1.0
		worker := "fast"
		if i%2 == 1 { // odd log-rewards come from the slow one, and are dropped from 5 on
			worker = "slow"
			if lr >= 5 {
				weight = 0
			}
		}
		b.Add(worker, fmt.Sprint("region ", i%4), lr, weight)
	}
	r := b.Report()
	if r.Admitted != 700 || r.Stale != 300 || r.Downweighted != 0 || r.Weight != 700 {
		t.Errorf("%+v", r.BiasCounts)
	}
	mean := (0. + 1 + 2 + 3 + 4 + 6 + 8) / 7
	if math.Abs(float64(r.MeanAll)-4.5) > 1e-9 || math.Abs(float64(r.MeanTrained)-mean) > 1e-9 || math.Abs(float64(r.MeanShift)-(mean-4.5)) > 1e-9 {
		t.Errorf("means %v and %v, shift %v", r.MeanAll, r.MeanTrained, r.MeanShift)
	}
	// 256 of ten values have their ninth decile at 8: 8 and 9 share a bin.
	if len(r.Bins) != 9 || math.Abs(float64(r.BinsTV)-0.9/3.5) > 1e-9 {
		t.Errorf("%d bins, TV %v: %+v", len(r.Bins), r.BinsTV, r.Bins)
	}
	if len(r.Workers) != 2 || r.Workers[1].Stale != 300 || math.Abs(float64(r.WorkersTV)-(5./7-0.5)) > 1e-9 {
		t.Errorf("%+v, TV %v", r.Workers, r.WorkersTV)
	}
	if len(r.Regions) != 4 {
		t.Errorf("%+v", r.Regions)
	}
}

// TestBiasIsBounded, also against names without end, and survives encoding.
func TestBiasIsBounded(t *testing.T) {
	var b Bias
	for i := range 5000 {
		b.Add(fmt.Sprint("worker ", i), fmt.Sprint("region ", i), math.Sin(float64(i)), 0.5)
	}
	if len(b.Workers) != maxBiasRows || len(b.Regions) != maxBiasRows || b.Early != nil {
		t.Errorf("%d workers, %d regions, %d early", len(b.Workers), len(b.Regions), len(b.Early))
	}
	n := uint64(0)
	for _, r := range b.Workers {
		n += r.Admitted
	}
	if n != 5000 {
		t.Errorf("%d counted", n)
	}
	data, err := msgpack.Marshal(&b)
	if err != nil || len(data) > 64<<10 {
		t.Fatal(len(data), err)
	}
	var c Bias
	if err := msgpack.Unmarshal(data, &c); err != nil || c.Check() != nil {
		t.Fatal(err, c.Check())
	}
	if fmt.Sprint(b.Report()) != fmt.Sprint(c.Report()) || c.Total.Downweighted != 5000 {
		t.Error("another report after decoding")
	}
}

// TestShortRunsHaveBins: before the edges are fixed the report has some of its own.
func TestShortRunsHaveBins(t *testing.T) {
	var b Bias
	if r := b.Report(); !math.IsNaN(float64(r.MeanShift)) || !math.IsNaN(float64(r.BinsTV)) {
		t.Errorf("of nothing: %+v", r)
	}
	for i := range 20 {
		b.Add("", "", float64(i), 1)
	}
	if r := b.Report(); len(r.Bins) < 5 || len(b.Bins) != 0 || len(b.Early) != 20 {
		t.Errorf("%d bins; %d fixed", len(r.Bins), len(b.Bins))
	}
	dir := t.TempDir()
	run, err := Create(dir, Info{Name: "x", Sessions: []Session{{Started: time.Unix(0, 0)}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	if none, err := ReadBias(dir); none != nil || err != nil {
		t.Error(none, err)
	}
	if err := run.WriteBias(&b); err != nil {
		t.Fatal(err)
	}
	if back, err := ReadBias(dir); err != nil || back.Admitted != 20 || len(back.Bins) < 5 {
		t.Errorf("%+v, %v", back, err)
	}
}
