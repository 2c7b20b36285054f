package display

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/driftmesh/driftmesh/internal/runs"
)

// Escape sequences of ECMA-48 that every terminal knows.
const (
	eraseRight = "\x1b[K"
	eraseBelow = "\x1b[J"
	bold       = "1"
	faint      = "2"
	cyan       = "36"
)

func up(n int) string { return fmt.Sprintf("\x1b[%dA\r", n) }

// snapshot is what is known of the run.
type snapshot struct {
	Options
	began time.Time

	version      int64
	trajectories uint64
	last         runs.Row // the last row, its optional facts filled from earlier ones
	timing       runs.Timing
	rows         int
	tv           []float64 // of the rows so far, newest last
	refused      uint64    // trajectories of the rows so far

	// The first progress seen by this process: rates for the time left are
	// taken from there.
	first   int64
	firstAt time.Time
	started bool
	at      time.Time // of the newest progress
}

func (s *snapshot) progress(version int64, trajectories uint64, now time.Time) {
	if !s.started {
		s.first, s.firstAt, s.started = version, now, true
	}
	s.version, s.trajectories, s.at = version, trajectories, now
}

func (s *snapshot) row(row runs.Row, t runs.Timing, now time.Time) {
	s.progress(row.Version, row.Trajectories, now)
	// Rows without an evaluation keep the last one in view.
	if row.TV == nil {
		row.TV = s.last.TV
	} else if tv, ok := runs.Known(row.TV); ok {
		s.tv = append(s.tv, tv)
	}
	if row.LogZExact == nil {
		row.LogZExact = s.last.LogZExact
	}
	if row.ModesTotal == nil {
		row.ModesFound, row.ModesTotal = s.last.ModesFound, s.last.ModesTotal
	}
	s.last, s.timing = row, t
	s.refused += row.Refused
	s.rows++
	if t.Workers > 0 || t.Servers > 0 {
		s.Workers, s.Servers = t.Workers, t.Servers
	}
}

// left estimates the time until Total, from this process's own pace.
func (s *snapshot) left(now time.Time) (time.Duration, bool) {
	todo := float64(s.Total - s.version)
	if s.Total <= 0 || todo <= 0 {
		return 0, false
	}
	rate := float64(s.timing.UpdatesPerS)
	if done := s.version - s.first; done > 0 {
		rate = float64(done) / s.at.Sub(s.firstAt).Seconds()
	}
	seconds := todo/rate - now.Sub(s.at).Seconds()
	if math.IsNaN(seconds) || seconds > 1e7 { // no pace yet, or none worth a forecast
		return 0, false
	}
	return time.Duration(max(0, seconds) * float64(time.Second)), true
}

// plain is the run's state on one line.
func (s *snapshot) plain(now time.Time) string {
	parts := []string{fmt.Sprintf("%s: update %d", s.Name, s.version)}
	if s.Total > 0 {
		parts[0] += fmt.Sprintf("/%d", s.Total)
	}
	parts = append(parts, s.quality()...)
	parts = append(parts, s.pace()...)
	if d, ok := s.left(now); ok {
		parts = append(parts, clock(d)+" left")
	}
	return strings.Join(parts, ", ")
}

// view is the picture for a terminal of that width, one string a line.
func (s *snapshot) view(now time.Time, width int, color bool) []string {
	paint := func(code, text string) string {
		if !color {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	title := fmt.Sprintf("  %d updates  %s", s.version, clock(now.Sub(s.began)))
	if s.Total > 0 {
		share := min(1, float64(s.version)/float64(s.Total))
		title = fmt.Sprintf(" %3.0f %%  %d/%d updates  %s", math.Floor(100*share), s.version, s.Total, clock(now.Sub(s.began)))
		if d, ok := s.left(now); ok {
			title += fmt.Sprintf(", %s left", clock(d))
		}
		room := min(40, width-ansi.StringWidth(s.Name)-ansi.StringWidth(title)-2)
		if room >= 8 {
			full := int(share * float64(room))
			title = " " + paint(cyan, strings.Repeat("━", full)) + paint(faint, strings.Repeat("─", room-full)) + title
		}
	}
	out := []string{paint(bold, s.Name) + title}
	quality := s.quality()
	if spark := sparkline(s.tv, 24); spark != "" {
		for i, q := range quality {
			if strings.HasPrefix(q, "TV ") {
				quality[i] = q + " " + paint(cyan, spark)
			}
		}
	}
	if len(quality) > 0 {
		out = append(out, "  "+strings.Join(quality, "   "))
	}
	last := s.pace()
	if s.Workers > 0 || s.Servers > 0 {
		last = append(last, count(s.Workers, "worker")+", "+count(s.Servers, "server"))
	}
	if len(last) > 0 {
		out = append(out, "  "+strings.Join(last, "   "))
	}
	for i, l := range out {
		// A line that wraps would spoil the count of lines to move over.
		out[i] = ansi.Truncate(l, width-1, "…")
	}
	return out
}

// quality lists what the last row says of learning.
func (s *snapshot) quality() []string {
	if s.rows == 0 {
		return nil
	}
	var out []string
	if loss, ok := runs.Known(&s.last.Loss); ok {
		out = append(out, "loss "+short(loss))
	}
	if z, ok := runs.Known(&s.last.LogZ); ok {
		text := fmt.Sprintf("log Z %.3f", z)
		if exact, ok := runs.Known(s.last.LogZExact); ok {
			text += fmt.Sprintf(" (exact %.3f)", exact)
		}
		out = append(out, text)
	}
	if tv, ok := runs.Known(s.last.TV); ok {
		out = append(out, fmt.Sprintf("TV %.4f", tv))
	}
	if s.last.ModesFound != nil && s.last.ModesTotal != nil && *s.last.ModesTotal > 0 {
		out = append(out, fmt.Sprintf("modes %d/%d", *s.last.ModesFound, *s.last.ModesTotal))
	}
	return out
}

// pace lists the rates and the lag of the last row, and the trajectories that were
// refused since the display began, where there are any.
func (s *snapshot) pace() []string {
	if s.rows == 0 {
		return nil
	}
	var out []string
	if r, ok := runs.Known(&s.timing.UpdatesPerS); ok {
		out = append(out, short(r)+" updates/s")
	}
	if r, ok := runs.Known(&s.timing.TrajectoriesPerS); ok {
		out = append(out, short(r)+" trajectories/s")
	}
	lag := fmt.Sprintf("lag %d", s.last.Lag.Median)
	if s.last.Lag.P95 != s.last.Lag.Median {
		lag += fmt.Sprintf(" (p95 %d)", s.last.Lag.P95)
	}
	out = append(out, lag)
	if s.refused > 0 {
		out = append(out, fmt.Sprintf("%d refused", s.refused))
	}
	return out
}

// sparkline draws the last n values, on a logarithmic scale of their own when
// all are positive.
func sparkline(values []float64, n int) string {
	values = values[max(0, len(values)-n):]
	if len(values) < 2 {
		return ""
	}
	levels := []rune("▁▂▃▄▅▆▇█")
	place := math.Log
	for _, v := range values {
		if v <= 0 {
			place = func(x float64) float64 { return x }
		}
	}
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		lo, hi = min(lo, place(v)), max(hi, place(v))
	}
	var b strings.Builder
	for _, v := range values {
		level := 0
		if hi > lo {
			level = int(math.Round((place(v) - lo) / (hi - lo) * float64(len(levels)-1)))
		}
		b.WriteRune(levels[level])
	}
	return b.String()
}

// short writes three significant digits, large numbers in full.
func short(v float64) string {
	if math.Abs(v) >= 1000 && math.Abs(v) < 1e7 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// clock writes a duration as 42s, 3m05s or 2h07m.
func clock(d time.Duration) string {
	switch s := int(d.Round(time.Second).Seconds()); {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	default:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
