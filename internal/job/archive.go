package job

import (
	"strconv"
	"strings"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// Archive policies.
const (
	ArchiveOff      = "off"
	ArchiveAll      = "all"
	ArchiveDistinct = "distinct"
	ArchiveBest     = "best"
	ArchiveSample   = "sample"
)

// ArchivePolicy is mesh.archive, parsed.
type ArchivePolicy struct {
	Keep string  // one of the constants above
	Rate float64 // ArchiveSample: probability of keeping an object, in (0, 1]; else 1
}

// ParseArchive reads mesh.archive; the error is a *fielderr.Error of that field.
func ParseArchive(text string) (ArchivePolicy, error) {
	keep, rate, sampled := strings.Cut(text, ":")
	switch {
	case sampled && keep == ArchiveSample:
		if p, err := strconv.ParseFloat(rate, 64); err == nil && p > 0 && p <= 1 {
			return ArchivePolicy{ArchiveSample, p}, nil
		}
	case sampled:
	case keep == ArchiveOff, keep == ArchiveAll, keep == ArchiveDistinct, keep == ArchiveBest:
		return ArchivePolicy{keep, 1}, nil
	}
	return ArchivePolicy{}, fielderr.New("mesh.archive", text, "off, all, distinct, best, or a fraction above 0 and at most 1 such as sample:0.1")
}
