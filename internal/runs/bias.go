package runs

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/driftmesh/driftmesh/internal/atomicfile"
)

// BiasFile is what dropping and downweighting did to a run's data, in its folder.
const BiasFile = "discard_bias.json"

const (
	// biasEdges is how many log-rewards are seen before their deciles become the
	// edges of the bins, for good.
	biasEdges = 256
	// maxBiasRows bounds regions and workers; what comes after is Others.
	maxBiasRows = 256
	// Others is the row of what has no row of its own.
	Others = "(others)"
)

// BiasCounts say what became of trajectories that admission could use.
type BiasCounts struct {
	Admitted     uint64  `msgpack:"a" json:"admitted"`     // trained on, with any weight
	Downweighted uint64  `msgpack:"d" json:"downweighted"` // of these, with a weight below 1
	Stale        uint64  `msgpack:"s" json:"stale"`        // dropped as stale
	Weight       float64 `msgpack:"w" json:"weight"`       // sum of the weights of those trained on
}

func (c *BiasCounts) add(weight float64) {
	switch {
	case weight <= 0:
		c.Stale++
		return
	case weight < 1:
		c.Downweighted++
	}
	c.Admitted++
	c.Weight += weight
}

// BiasRow is one bin, region or worker.
type BiasRow struct {
	Name       string `msgpack:"n" json:"name"`
	BiasCounts `msgpack:",inline"`
}

// Bias counts what dropping and downweighting stale trajectories does to the
// data that a job learns from: by bins of log-reward, by the environment's
// regions, and by worker. Its memory is bounded. The zero value is empty.
type Bias struct {
	// Edges of the bins are the distinct deciles of the first 256 log-rewards: bin
	// i holds those in [Edges[i−1], Edges[i]). Empty until so many were seen.
	Edges   []float64    `msgpack:"e"`
	Early   [][2]float64 `msgpack:"p,omitempty"` // log-reward and weight, before there are edges
	Bins    []BiasRow    `msgpack:"b"`
	Regions []BiasRow    `msgpack:"r"` // sorted by name
	Workers []BiasRow    `msgpack:"k"`
	Total   BiasCounts   `msgpack:"t"`
	// Sums of log-reward over all, and over those trained on times their weight.
	SumAll     float64 `msgpack:"x"`
	SumTrained float64 `msgpack:"y"`
}

// Add counts a trajectory that was trained on with a weight, or dropped as
// stale: weight 0. Without a region, or a worker, the name is empty.
func (b *Bias) Add(worker, region string, logReward, weight float64) {
	b.Total.add(weight)
	b.SumAll += logReward
	b.SumTrained += weight * logReward
	if region != "" {
		named(&b.Regions, region).add(weight)
	}
	if worker != "" {
		named(&b.Workers, worker).add(weight)
	}
	if len(b.Bins) > 0 {
		b.bin(logReward).add(weight)
		return
	}
	if b.Early = append(b.Early, [2]float64{logReward, weight}); len(b.Early) == biasEdges {
		b.fix()
	}
}

// named returns the counts of a name, of Others beyond the bound.
func named(rows *[]BiasRow, name string) *BiasCounts {
	find := func(name string) (int, bool) {
		return slices.BinarySearchFunc(*rows, name, func(r BiasRow, n string) int { return strings.Compare(r.Name, n) })
	}
	at, known := find(name)
	if !known && len(*rows) >= maxBiasRows-1 {
		name = Others
		at, known = find(name)
	}
	if !known {
		*rows = slices.Insert(*rows, at, BiasRow{Name: name})
	}
	return &(*rows)[at].BiasCounts
}

// fix makes the deciles of what was seen so far the edges, and counts it.
func (b *Bias) fix() {
	b.Edges, b.Bins = edges(b.Early), nil
	format := func(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }
	for i := range len(b.Edges) + 1 {
		low, high := "-∞", "∞"
		if i > 0 {
			low = format(b.Edges[i-1])
		}
		if i < len(b.Edges) {
			high = format(b.Edges[i])
		}
		b.Bins = append(b.Bins, BiasRow{Name: fmt.Sprintf("[%s, %s)", low, high)})
	}
	for _, e := range b.Early {
		b.bin(e[0]).add(e[1])
	}
	b.Early = nil
}

func edges(early [][2]float64) (out []float64) {
	sorted := make([]float64, len(early))
	for i, e := range early {
		sorted[i] = e[0]
	}
	slices.Sort(sorted)
	for k := 1; k < 10; k++ {
		// An edge that nothing is below would make an empty bin.
		if x := sorted[k*len(sorted)/10]; x > sorted[0] && (len(out) == 0 || x > out[len(out)-1]) {
			out = append(out, x)
		}
	}
	return out
}

func (b *Bias) bin(logReward float64) *BiasCounts {
	at, on := slices.BinarySearch(b.Edges, logReward)
	if on {
		at++
	}
	return &b.Bins[at].BiasCounts
}

// Check says whether counts that were read from elsewhere keep the bounds.
func (b *Bias) Check() error {
	if len(b.Early) >= biasEdges || len(b.Bins) > 10 || len(b.Bins) > 0 && len(b.Bins) != len(b.Edges)+1 ||
		len(b.Regions) > maxBiasRows || len(b.Workers) > maxBiasRows || !slices.IsSorted(b.Edges) {
		return fmt.Errorf("%w: discard bias of %d bins, %d regions, %d workers", ErrCorrupt, len(b.Bins), len(b.Regions), len(b.Workers))
	}
	return nil
}

// BiasReport is a Bias in numbers for people.
type BiasReport struct {
	BiasCounts
	// MeanAll is the mean log-reward of all trajectories, MeanTrained the weighted
	// mean of those trained on, MeanShift the second less the first, in nats.
	MeanAll     Float `json:"mean_log_reward_all"`
	MeanTrained Float `json:"mean_log_reward_trained"`
	MeanShift   Float `json:"mean_log_reward_shift"`
	// The total variation ½ Σ |p − q| between the shares of the bins (regions,
	// workers) in what was trained on, by weight, and in all.
	BinsTV    Float     `json:"bins_tv"`
	RegionsTV Float     `json:"regions_tv"`
	WorkersTV Float     `json:"workers_tv"`
	Bins      []BiasRow `json:"log_reward_bins"`
	Regions   []BiasRow `json:"regions"`
	Workers   []BiasRow `json:"workers"`
}

// Report sums up. What was never counted is NaN.
func (b *Bias) Report() BiasReport {
	c := *b
	if len(c.Bins) == 0 && len(c.Early) > 0 { // a short run: on a copy
		c.Early = slices.Clone(b.Early)
		c.fix()
	}
	out := BiasReport{
		BiasCounts: b.Total, Bins: append([]BiasRow{}, c.Bins...), Regions: append([]BiasRow{}, c.Regions...), Workers: append([]BiasRow{}, c.Workers...),
		MeanAll:     Float(b.SumAll / float64(b.Total.Admitted+b.Total.Stale)),
		MeanTrained: Float(b.SumTrained / b.Total.Weight),
		BinsTV:      biasTV(c.Bins), RegionsTV: biasTV(c.Regions), WorkersTV: biasTV(c.Workers),
	}
	out.MeanShift = out.MeanTrained - out.MeanAll
	return out
}

// biasTV is NaN without rows, or without anything trained on.
func biasTV(rows []BiasRow) Float {
	var all, trained, sum float64
	for _, r := range rows {
		all += float64(r.Admitted + r.Stale)
		trained += r.Weight
	}
	if all == 0 || trained == 0 {
		return Float(math.NaN())
	}
	for _, r := range rows {
		sum += math.Abs(r.Weight/trained - float64(r.Admitted+r.Stale)/all)
	}
	return Float(sum / 2)
}

// WriteBias writes the report into the run's folder.
func (r *Run) WriteBias(b *Bias) error {
	data, err := json.MarshalIndent(b.Report(), "", "  ")
	if err != nil {
		return fmt.Errorf("discard bias: %w", err)
	}
	return atomicfile.WriteBytes(r.path(BiasFile), 0o644, append(data, '\n'))
}

// ReadBias reads the report of a run; nil when there is none.
func ReadBias(dir string) (*BiasReport, error) {
	data, err := os.ReadFile(filepath.Join(dir, BiasFile))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out BiasReport
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("%s: %w: %v", filepath.Join(dir, BiasFile), ErrCorrupt, err)
	}
	return &out, nil
}
