package metrics

import (
	"encoding/json"
	"fmt"
	"math"
)

// Correlation says how the log-probability of objects follows their log-reward, over all
// objects there are, each counting once. NaN where it is not defined: JSON has null then,
// and Undefined says why.
type Correlation struct {
	Pearson  float64 `json:"pearson"`
	Spearman float64 `json:"spearman"`
	Objects  int     `json:"objects"`
	// Unreachable are the objects to which the model gives no probability at all. Their
	// log-probability, −∞, has the lowest rank for Spearman, which they share; Pearson is
	// not defined with one of them.
	Unreachable int    `json:"unreachable"`
	Undefined   string `json:"undefined,omitempty"`
}

// MarshalJSON writes null for what is not defined.
func (c Correlation) MarshalJSON() ([]byte, error) {
	type plain Correlation // without methods
	return json.Marshal(struct {
		Pearson  *float64 `json:"pearson"`
		Spearman *float64 `json:"spearman"`
		plain
	}{finite(c.Pearson), finite(c.Spearman), plain(c)})
}

// Follow correlates log-probabilities of a model (−Inf for none) with log-rewards, or
// log-probabilities of the target, of the same objects.
func Follow(logModel, logReward []float64) (Correlation, error) {
	if len(logModel) != len(logReward) {
		return Correlation{}, fmt.Errorf("%w: %d and %d", ErrLength, len(logModel), len(logReward))
	}
	return follow(logModel, logReward, Ranks(logReward))
}

// follow is Follow where the ranks of the log-rewards are known.
func follow(logModel, logReward, rewardRanks []float64) (c Correlation, err error) {
	c.Objects, c.Pearson, c.Spearman = len(logModel), math.NaN(), math.NaN()
	for _, lq := range logModel {
		if math.IsInf(lq, -1) {
			c.Unreachable++
		}
	}
	switch {
	case len(logModel) < 2:
		c.Undefined = "there are fewer than two objects"
		return c, nil
	case constant(logReward):
		c.Undefined = "all objects have the same reward"
		return c, nil
	case constant(logModel):
		c.Undefined = "all objects have the same probability"
		return c, nil
	case c.Unreachable > 0:
		c.Undefined = fmt.Sprintf("Pearson: the model gives %d objects no probability", c.Unreachable)
	default:
		if c.Pearson, err = Pearson(logModel, logReward); err != nil {
			return c, err
		}
	}
	c.Spearman, err = Pearson(Ranks(logModel), rewardRanks)
	return c, err
}
