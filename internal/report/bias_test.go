package report

import (
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/runs"
)

// TestBiasHasItsTable, and only where something is counted.
func TestBiasHasItsTable(t *testing.T) {
	const title = "What staleness bounds do to the data"
	d := sample()
	if _, html := write(t, "unbiased", d); strings.Contains(html, title) {
		t.Error("a table of nothing")
	}
	var b runs.Bias
	for i := range 400 {
		b.Add("worker-<1>", "LH", float64(i%20), float64(i%3)/2)
	}
	rep := b.Report()
	d.Bias = &rep
	_, html := write(t, "biased", d)
	for _, want := range []string{title, "<td class=\"text\">LH</td>", "worker-&lt;1&gt;", "266 trajectories trained on, 133 of them downweighted; 134 dropped"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}
