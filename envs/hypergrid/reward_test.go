package hypergrid

import (
	"math"
	"testing"
)

// TestZonesFollowBinary64 compares the integer comparisons with the definition
// evaluated in floating point, as the reference values do.
func TestZonesFollowBinary64(t *testing.T) {
	for m := 1; m < 2000; m++ {
		for x := 0; x <= m; x++ {
			a := math.Abs(float64(x)/float64(m) - 0.5)
			want := inner
			switch {
			case 0.3 < a && a < 0.4:
				want = band
			case 0.25 < a:
				want = outer
			}
			if got := zoneOf(x, m); got != want {
				t.Fatalf("height %d, x = %d: zone %d, want %d", m+1, x, got, want)
			}
		}
	}
}

// TestZonesAreSymmetric: the border at 4/5 is the only exception.
func TestZonesAreSymmetric(t *testing.T) {
	for m := 1; m < 2000; m++ {
		for x := 0; x <= m; x++ {
			if 5*x != 4*m && 5*x != m && zoneOf(x, m) != zoneOf(m-x, m) {
				t.Fatalf("height %d: %d and %d differ", m+1, x, m-x)
			}
		}
	}
}

func TestCosineFactor(t *testing.T) {
	for x := range 17 {
		a := math.Abs(float64(x)/16 - 0.5)
		want := (math.Cos(50*a) + 1) * math.Exp(-(5*a)*(5*a)/2) / math.Sqrt(2*math.Pi)
		if got := cosineFactor(x, 16); math.Abs(got-want) > 1e-15 || got != cosineFactor(16-x, 16) || got < 0 {
			t.Errorf("factor of %d is %v, want %v", x, got, want)
		}
	}
}
