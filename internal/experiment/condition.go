package experiment

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// metricName is what a metric or a time may be called.
var metricName = regexp.MustCompile(`^[a-z][a-z0-9_.]{0,63}$`)

// defaultRuns is how many successive evaluations a condition must hold: one
// that is met by chance and lost again is no result.
const defaultRuns = 3

// condition is a conjunction of comparisons between metrics and numbers, such
// as "modes_found >= modes_total and modes_held >= modes_total".
type condition []comparison

type comparison struct {
	left, op, right string
	number          float64 // where right is no metric
	isNumber        bool
}

const wantCondition = `comparisons such as "tv <= 0.05" or "modes_held >= modes_total", joined by and`

func parseCondition(text string) (condition, error) {
	var out condition
	for _, part := range strings.Split(text, " and ") {
		words := strings.Fields(part)
		if len(words) != 3 || !metricName.MatchString(words[0]) {
			return nil, fielderr.New("", orMissing(text), wantCondition)
		}
		c := comparison{left: words[0], op: words[1], right: words[2]}
		switch c.op {
		case "<=", ">=", "<", ">":
		default:
			return nil, fielderr.New("", text, wantCondition)
		}
		if x, err := strconv.ParseFloat(c.right, 64); err == nil {
			c.number, c.isNumber = x, true
		} else if !metricName.MatchString(c.right) {
			return nil, fielderr.New("", text, wantCondition)
		}
		out = append(out, c)
	}
	return out, nil
}

// known says whether every metric that the condition names was evaluated.
func (c condition) known(p Point) bool {
	for _, x := range c {
		if !p.has(x.left) || !x.isNumber && !p.has(x.right) {
			return false
		}
	}
	return true
}

// has says whether a metric was evaluated.
func (p *Point) has(metric string) bool {
	_, ok := p.Values[metric]
	return ok || p.Unbounded[metric]
}

// holds says whether a row that has every metric meets the condition. A metric
// that is not finite, which a row's values lack, meets none.
func (c condition) holds(row map[string]float64) bool {
	for _, x := range c {
		left, ok := row[x.left]
		right := x.number
		if !x.isNumber && ok {
			right, ok = row[x.right]
		}
		switch x.op {
		case "<=":
			ok = ok && left <= right
		case ">=":
			ok = ok && left >= right
		case "<":
			ok = ok && left < right
		case ">":
			ok = ok && left > right
		}
		if !ok {
			return false
		}
	}
	return true
}
