package runs

import (
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
)

// Lags up to exactLags-1 have buckets of their own; above, every octave is cut
// into bucketsPerOctave equal parts, so a bucket is at most 1/64 as wide as its
// lower bound. The buckets are fixed: histograms made anywhere can be merged.
const (
	octaveBits       = 6
	bucketsPerOctave = 1 << octaveBits
	exactLags        = 2 * bucketsPerOctave
	lagBuckets       = exactLags + (62-octaveBits)*bucketsPerOctave // up to math.MaxInt64
)

// LagHistogram counts trajectories by their lag in updates. The zero value is
// empty. In JSON it is a list of pairs [lowest lag of the bucket, count],
// ascending, empty buckets left out.
type LagHistogram struct {
	counts []uint64 // by bucket, only as long as needed
}

// bucketOf returns the bucket of a lag; negative lags count as 0.
func bucketOf(lag int64) int {
	if lag < exactLags {
		return int(max(lag, 0))
	}
	// The top octaveBits+1 bits, leading one included, name the bucket.
	shift := bits.Len64(uint64(lag)) - (octaveBits + 1)
	return shift*bucketsPerOctave + int(lag>>shift)
}

// LagBucketOf returns the lowest and highest lag that are counted together
// with a lag.
func LagBucketOf(lag int64) (low, high int64) { return lagBounds(bucketOf(lag)) }

// lagBounds returns the lowest and highest lag of a bucket.
func lagBounds(bucket int) (low, high int64) {
	if bucket < exactLags {
		return int64(bucket), int64(bucket)
	}
	shift := bucket/bucketsPerOctave - 1
	low = int64(bucketsPerOctave+bucket%bucketsPerOctave) << shift
	return low, low + (int64(1)<<shift - 1)
}

// Add counts n trajectories of that lag. A negative lag, which only a fault
// upstream can make, counts as 0.
func (h *LagHistogram) Add(lag int64, n uint64) {
	if n > 0 {
		h.addBucket(bucketOf(lag), n)
	}
}

func (h *LagHistogram) addBucket(b int, n uint64) {
	for len(h.counts) <= b {
		h.counts = append(h.counts, 0)
	}
	h.counts[b] += n
}

// Merge adds the counts of o.
func (h *LagHistogram) Merge(o LagHistogram) {
	for b, n := range o.counts {
		if n > 0 {
			h.addBucket(b, n)
		}
	}
}

// Reset empties the histogram and keeps its memory.
func (h *LagHistogram) Reset() {
	h.counts = h.counts[:0]
}

// Clone returns a copy that shares nothing.
func (h LagHistogram) Clone() LagHistogram {
	return LagHistogram{counts: append([]uint64(nil), h.counts...)}
}

// Total is the number of trajectories counted.
func (h LagHistogram) Total() uint64 {
	var n uint64
	for _, c := range h.counts {
		n += c
	}
	return n
}

// LagBucket is one non-empty bucket of a histogram: Count trajectories whose
// lag is in [Low, High].
type LagBucket struct {
	Low, High int64
	Count     uint64
}

// Buckets lists the non-empty buckets, ascending.
func (h LagHistogram) Buckets() []LagBucket {
	var out []LagBucket
	for b, n := range h.counts {
		if n > 0 {
			low, high := lagBounds(b)
			out = append(out, LagBucket{Low: low, High: high, Count: n})
		}
	}
	return out
}

// Quantile returns the lower bound of the bucket that holds the trajectory of
// rank ⌈p·n⌉ (nearest rank); 0 for an empty histogram. It is exact below
// 128 updates and at most 1.6 % too low above.
func (h LagHistogram) Quantile(p float64) int64 {
	total := h.Total()
	if total == 0 {
		return 0
	}
	rank := uint64(max(1, math.Ceil(p*float64(total))))
	var seen uint64
	for b, n := range h.counts {
		if seen += n; n > 0 && seen >= rank {
			low, _ := lagBounds(b)
			return low
		}
	}
	low, _ := lagBounds(len(h.counts) - 1)
	return low
}

// MarshalJSON writes the pairs.
func (h LagHistogram) MarshalJSON() ([]byte, error) {
	pairs := [][2]uint64{}
	for _, b := range h.Buckets() {
		pairs = append(pairs, [2]uint64{uint64(b.Low), b.Count})
	}
	return json.Marshal(pairs)
}

// UnmarshalJSON reads the pairs.
func (h *LagHistogram) UnmarshalJSON(b []byte) error {
	var pairs [][2]uint64
	if err := json.Unmarshal(b, &pairs); err != nil {
		return fmt.Errorf("lag histogram: %w", err)
	}
	h.counts = nil
	for _, p := range pairs {
		if p[0] > math.MaxInt64 {
			return fmt.Errorf("lag histogram: lag %d is out of range", p[0])
		}
		h.Add(int64(p[0]), p[1])
	}
	return nil
}
