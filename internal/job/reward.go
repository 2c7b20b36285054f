package job

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// Reward replaces the environment's reward by that of a plugin: a program that
// whoever samples runs and asks about batches of objects. 0 stands for the default.
type Reward struct {
	Command   []string       `json:"command" yaml:"command"` // program and arguments
	Params    map[string]any `json:"params,omitempty" yaml:"params,omitempty"`
	Processes int            `json:"processes,omitempty" yaml:"processes,omitempty"`   // most at once in one process of driftmesh
	TimeoutMS int            `json:"timeout_ms,omitempty" yaml:"timeout_ms,omitempty"` // of one batch
	Batch     int            `json:"batch,omitempty" yaml:"batch,omitempty"`           // objects of a request
	Retries   int            `json:"retries,omitempty" yaml:"retries,omitempty"`       // of a batch whose process died or hung; −1: none
}

// Timeout is TimeoutMS as a duration.
func (r *Reward) Timeout() time.Duration { return time.Duration(r.TimeoutMS) * time.Millisecond }

const (
	maxCommand  = 64   // words
	maxArgument = 4096 // bytes of one
)

// reward checks what the table of fields cannot say.
func (c *checker) reward(r *Reward) {
	if r == nil {
		return
	}
	if n := len(r.Command); n == 0 || n > maxCommand {
		var value any
		if n > 0 {
			value = fmt.Sprintf("%d words", n)
		}
		c.fault("reward.command", value, fmt.Sprintf("a program and its arguments, such as [python3, reward.py], at most %d words", maxCommand))
	}
	for i, word := range r.Command[:min(len(r.Command), maxCommand)] {
		if word == "" || len(word) > maxArgument {
			c.fault(fmt.Sprintf("reward.command[%d]", i), given(shorten(word)), fmt.Sprintf("1 to %d bytes", maxArgument))
		}
	}
	c.free("reward.params", r.Params, 0)
}

// Check finds the faults of a Reward that stands alone, as *fielderr.Error with
// paths inside it.
func (r *Reward) Check() error {
	c := &checker{}
	c.walk("reward", reflect.ValueOf(r))
	c.reward(r)
	for i, err := range c.faults {
		var field *fielderr.Error
		if errors.As(err, &field) {
			field.Path = strings.TrimPrefix(field.Path, "reward.")
			c.faults[i] = field
		}
	}
	if len(c.faults) == 1 {
		return c.faults[0]
	}
	return errors.Join(c.faults...)
}
