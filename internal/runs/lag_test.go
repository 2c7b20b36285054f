package runs

import (
	"encoding/json"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestLagBucketsTileTheLine(t *testing.T) {
	next := int64(0)
	for b := range lagBuckets {
		low, high := lagBounds(b)
		if low != next || high < low {
			t.Fatalf("bucket %d is [%d, %d]; want it to begin at %d", b, low, high, next)
		}
		if bucketOf(low) != b || bucketOf(high) != b {
			t.Fatalf("bucket %d: its bounds [%d, %d] fall into %d and %d", b, low, high, bucketOf(low), bucketOf(high))
		}
		next = high + 1
	}
	if next != math.MinInt64 { // one past MaxInt64
		t.Fatalf("the last bucket ends at %d; want MaxInt64", next-1)
	}
}

func TestLagHistogramMatchesTheList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lags := rapid.SliceOfN(rapid.Int64Range(0, 5000), 1, 60).Draw(t, "lags")
		cut := rapid.IntRange(0, len(lags)).Draw(t, "cut")
		var whole, a, b LagHistogram
		for i, lag := range lags {
			whole.Add(lag, 1)
			if i < cut {
				a.Add(lag, 1)
			} else {
				b.Add(lag, 1)
			}
		}
		a.Merge(b)
		merged, _ := json.Marshal(a)
		direct, _ := json.Marshal(whole)
		if string(merged) != string(direct) {
			t.Fatalf("merged %s, direct %s", merged, direct)
		}
		var back LagHistogram
		if err := json.Unmarshal(direct, &back); err != nil {
			t.Fatal(err)
		}
		if again, _ := json.Marshal(back); string(again) != string(direct) {
			t.Fatalf("round trip: %s became %s", direct, again)
		}
		if whole.Total() != uint64(len(lags)) {
			t.Fatalf("total %d of %d", whole.Total(), len(lags))
		}
		p := rapid.Float64Range(0, 1).Draw(t, "p")
		exact := nearestRank(lags, p)
		got := whole.Quantile(p)
		if got > exact || exact < 128 && got != exact || float64(got) < float64(exact)*63/64 {
			t.Fatalf("quantile %g is %d; the list says %d", p, got, exact)
		}
	})
}
