package runs

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func nearestRank(xs []int64, p float64) int64 {
	s := slices.Sorted(slices.Values(xs))
	return s[min(len(s)-1, int(math.Max(1, math.Ceil(p*float64(len(s)))))-1)]
}

func TestFloatRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := math.Float64frombits(rapid.Uint64().Draw(t, "bits"))
		b, err := json.Marshal(Float(x))
		if err != nil {
			t.Fatal(err)
		}
		var back Float
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if math.IsNaN(x) || math.IsInf(x, 0) {
			if string(b) != "null" || !math.IsNaN(float64(back)) {
				t.Fatalf("%g became %s, then %g", x, b, back)
			}
			return
		}
		if math.Float64bits(float64(back)) != math.Float64bits(x) {
			t.Fatalf("%g became %s, then %g", x, b, back)
		}
	})
}

func TestRowJSON(t *testing.T) {
	found := 3
	row := Row{
		Version: 20, Trajectories: 320,
		Loss: Float(math.Inf(1)), LogZ: 1.5, TV: Some(0.25), ModesFound: &found,
		Lag: LagStats{Min: 1, Median: 2, P95: 3, Max: 4},
	}
	row.LagCounts.Add(50, 16)
	b, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"version":20,"trajectories":320,"loss":null,"grad_norm":0,"delta_q":[0,0,0,0,0],"c":0,"tail_share":0,` +
		`"log_z":1.5,"tv":0.25,"modes_found":3,"lag":{"min":1,"median":2,"p95":3,"max":4},"lag_counts":[[50,16]],` +
		`"stale":0,"refused":0,"learning_rate":0,"log_z_rate":0,"epsilon":0,"temperature":0,"reward_exponent":0}`
	if string(b) != want {
		t.Fatalf("got  %s\nwant %s", b, want)
	}
	var back Row
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if _, ok := Known(back.KL); ok || back.KL != nil {
		t.Fatal("KL was not evaluated, but is known after a round trip")
	}
	if tv, ok := Known(back.TV); !ok || tv != 0.25 {
		t.Fatalf("TV is %g, %t; want 0.25", tv, ok)
	}
}
