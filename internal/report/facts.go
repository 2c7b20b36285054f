package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/driftmesh/driftmesh/internal/runs"
)

// headline lists the facts at the top of the page: the latest value of each
// quantity that the rows hold, then the caller's.
func (d *Data) headline() []Fact {
	var out []Fact
	add := func(name, value, note string) { out = append(out, Fact{name, value, note}) }
	if v, ok := latest(d.Rows, tv); ok {
		note := "exact, over all objects"
		if kl, ok := latest(d.Rows, func(r runs.Row) *runs.Float { return r.KL }); ok {
			note = fmt.Sprintf("exact; KL %s nats", significant(kl))
		}
		add("total variation", significant(v), note)
	}
	if found, held, total := d.latestModes(); total != nil {
		value := fmt.Sprintf("? of %d", *total)
		if found != nil {
			value = fmt.Sprintf("%d of %d", *found, *total)
		}
		note := ""
		if held != nil {
			note = fmt.Sprintf("%d held", *held)
		}
		add("modes found", value, note)
	}
	if v, ok := latest(d.Rows, func(r runs.Row) *runs.Float { return &r.LogZ }); ok {
		note := "exact value unknown"
		if exact, ok := latest(d.Rows, func(r runs.Row) *runs.Float { return r.LogZExact }); ok {
			note = fmt.Sprintf("exact %.4f, error %s", exact, signed(v-exact))
		}
		add("log Z", fmt.Sprintf("%.4f", v), note)
	}
	if n := len(d.Rows); n > 0 {
		last := d.Rows[n-1]
		add("updates", thousands(uint64(max(0, last.Version))), "")
		note := ""
		if d.staleCount() > 0 {
			note = fmt.Sprintf("%s more were too old", thousands(d.staleCount()))
		}
		add("trajectories", thousands(last.Trajectories), note)
	}
	if n := len(d.Timings); n > 0 {
		t := d.Timings[n-1]
		note := ""
		if e := float64(t.EvalSeconds); e > 0 {
			note = fmt.Sprintf("and %s of evaluations", seconds(e))
		}
		add("training time", seconds(float64(t.Seconds)), note)
	}
	if lag := d.lagCounts(); lag.Total() > 0 {
		buckets := lag.Buckets()
		note := fmt.Sprintf("95 %% up to %s", thousands(uint64(lag.Quantile(0.95))))
		if m := d.maxLag(); m == 0 {
			note = "on-policy"
		} else if buckets[0].Low == buckets[len(buckets)-1].Low {
			note = "the same for all"
		}
		add("median lag", thousands(uint64(d.medianLag(lag))), note)
	}
	return append(out, d.Facts...)
}

// medianLag is exact where one row says it for all, otherwise the histogram's.
func (d *Data) medianLag(lag runs.LagHistogram) int64 {
	if m := d.maxLag(); len(lag.Buckets()) == 1 {
		return m
	}
	return lag.Quantile(0.5)
}

func (d *Data) maxLag() int64 {
	m := int64(0)
	for _, r := range d.Rows {
		m = max(m, r.Lag.Max)
	}
	return m
}

func (d *Data) staleCount() uint64 {
	var n uint64
	for _, r := range d.Rows {
		n += r.Stale
	}
	return n
}

func (d *Data) latestModes() (found, held, total *int) {
	for _, r := range d.Rows {
		if r.ModesTotal != nil {
			found, held, total = r.ModesFound, r.ModesHeld, r.ModesTotal
		}
	}
	if total != nil && *total == 0 {
		total = nil
	}
	return found, held, total
}

// latest is the last known value of a quantity.
func latest(rows []runs.Row, y func(runs.Row) *runs.Float) (float64, bool) {
	for i := len(rows) - 1; i >= 0; i-- {
		if v, ok := runs.Known(y(rows[i])); ok {
			return v, true
		}
	}
	return 0, false
}

// evaluation is one line of the table.
type evaluation struct {
	Updates, Trajectories, Seconds, Loss, TV, LogZ, LogZError, Modes, Lag string
}

// evaluations picks at most maxEvaluations rows with exact metrics, evenly,
// the first and the last among them; any rows when none has such metrics.
func (d *Data) evaluations() []evaluation {
	const maxEvaluations = 16
	var rows []runs.Row
	for _, r := range d.Rows {
		if r.TV != nil {
			rows = append(rows, r)
		}
	}
	if len(rows) == 0 {
		rows = d.Rows
	}
	times := map[int64]float64{}
	for _, t := range d.Timings {
		times[t.Version] = float64(t.Seconds)
	}
	n := min(len(rows), maxEvaluations)
	var out []evaluation
	for i := range n {
		r := rows[len(rows)-1]
		if n > 1 {
			r = rows[i*(len(rows)-1)/(n-1)]
		}
		e := evaluation{
			Updates: thousands(uint64(max(0, r.Version))), Trajectories: thousands(r.Trajectories),
			Loss: optional(&r.Loss, significant), TV: optional(r.TV, significant),
			LogZ: optional(&r.LogZ, func(v float64) string { return fmt.Sprintf("%.4f", v) }),
			Lag:  thousands(uint64(max(0, r.Lag.Median))), Seconds: "–", LogZError: "–", Modes: "–",
		}
		if s, ok := times[r.Version]; ok {
			e.Seconds = fmt.Sprintf("%.1f", s)
		}
		if exact, ok := runs.Known(r.LogZExact); ok {
			e.LogZError = signed(float64(r.LogZ) - exact)
		}
		if r.ModesFound != nil {
			e.Modes = strconv.Itoa(*r.ModesFound)
		}
		out = append(out, e)
	}
	return out
}

type bestObject struct{ Text, LogReward string }

func (d *Data) best() []bestObject {
	const most = 10
	var out []bestObject
	for _, o := range d.Best[:min(most, len(d.Best))] {
		out = append(out, bestObject{o.Text, fmt.Sprintf("%.4f", o.LogReward)})
	}
	return out
}

func optional(f *runs.Float, write func(float64) string) string {
	if v, ok := runs.Known(f); ok {
		return write(v)
	}
	return "–"
}

// significant writes three significant digits.
func significant(v float64) string {
	if a := math.Abs(v); v != 0 && (a < 1e-4 || a >= 1e6) {
		return minus(strconv.FormatFloat(v, 'e', 2, 64))
	}
	if math.Abs(v) >= 1000 {
		return minus(strconv.FormatFloat(v, 'f', 0, 64))
	}
	digits := 2
	if v != 0 {
		digits = max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	}
	return minus(strconv.FormatFloat(v, 'f', digits, 64))
}

func signed(v float64) string { return minus(fmt.Sprintf("%+.4f", v)) }

func minus(s string) string { return strings.ReplaceAll(s, "-", "−") }

// seconds writes a duration for reading.
func seconds(s float64) string {
	switch {
	case s < 60:
		return fmt.Sprintf("%.1f s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %02d s", int(s)/60, int(s)%60)
	default:
		return fmt.Sprintf("%d h %02d min", int(s)/3600, int(s)/60%60)
	}
}

// thousands groups digits by commas.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
