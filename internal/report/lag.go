package report

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/driftmesh/driftmesh/internal/plots"
	"github.com/driftmesh/driftmesh/internal/runs"
)

// lag merges the rows' histograms and shows them as finely as maxLagBars allow.
func (d *Data) lag() (figure, bool) {
	const maxLagBars = 24
	all := d.lagCounts()
	total := all.Total()
	buckets := all.Buckets()
	if total == 0 {
		return figure{}, false
	}
	first, last := buckets[0].Low, buckets[len(buckets)-1].High
	edges := lagEdges(first, last, func(lag int64) int64 { _, high := runs.LagBucketOf(lag); return high })
	for parts := int64(16); parts >= 1 && len(edges) > maxLagBars; parts /= 2 {
		edges = lagEdges(first, last, func(lag int64) int64 { return octavePartEnd(lag, parts) })
	}
	// Many bars leave room for the lower end of each only.
	short := len(edges) > 10
	xLabel := "lag [updates]"
	if short && edges[len(edges)-1] >= first+int64(len(edges)) {
		xLabel = "lag [updates], lower end of each bar"
	}
	var bars []plots.Bar
	low := first
	for _, high := range edges {
		var n uint64
		for _, b := range buckets {
			if b.Low >= low && b.Low <= high {
				n += b.Count
			}
		}
		label := fmt.Sprint(low)
		if high > low && !short {
			label = fmt.Sprintf("%d–%d", low, high)
		}
		bars = append(bars, plots.Bar{Label: label, Value: 100 * float64(n) / float64(total)})
		low = high + 1
	}
	return figure{file: "lag", title: "Policy lag",
		caption: "Age of the trajectories when they were trained on: the version trained minus the version sampled with.",
		plot:    plots.Bars{Title: "Policy lag", XLabel: xLabel, YLabel: "share of trajectories [%]", Bars: bars},
	}, true
}

func (d *Data) lagCounts() runs.LagHistogram {
	var all runs.LagHistogram
	for _, r := range d.Rows {
		all.Merge(r.LagCounts)
	}
	return all
}

// lagEdges lists the upper ends of the bars that cover [first, last].
func lagEdges(first, last int64, end func(int64) int64) []int64 {
	var out []int64
	for lag := first; lag <= last; {
		high := end(lag)
		out = append(out, high)
		if high == math.MaxInt64 {
			break
		}
		lag = high + 1
	}
	return out
}

// octavePartEnd is the highest lag of the bar that holds a lag, when every
// octave is cut into parts bars, a power of two. Every such bar is made of
// whole buckets of the histogram.
func octavePartEnd(lag, parts int64) int64 {
	if lag < 2*parts {
		return lag
	}
	width := int64(1) << (bits.Len64(uint64(lag)) - 1) / parts
	return lag/width*width + (width - 1)
}
