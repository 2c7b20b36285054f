package kernels

import (
	"fmt"
	"os"
)

// Level is a set of kernels.
type Level int

// Levels, the best last.
const (
	Go Level = iota
	AVX2
	AVX512
)

var names = [...]string{Go: "go", AVX2: "avx2", AVX512: "avx512"}

func (l Level) String() string { return names[l] }

// EnvVar is the environment variable that chooses the kernels.
const EnvVar = "DRIFTMESH_KERNELS"

// level is what all kernels use.
var level = best()

func init() {
	if l, err := FromEnv(); err == nil {
		level = l
	}
}

// Used returns the kernels in use.
func Used() Level { return level }

// Use chooses the kernels from now on. It is for tests and the beginning of a
// program: nothing else may run meanwhile. Those that the processor lacks are
// refused.
func Use(l Level) error {
	if l < Go || l > best() {
		return fmt.Errorf("kernels: this processor has no %s kernels; the best are %s", l, best())
	}
	level = l
	return nil
}

// FromEnv returns what EnvVar says: the best where it is not set.
func FromEnv() (Level, error) {
	name := os.Getenv(EnvVar)
	if name == "" {
		return best(), nil
	}
	for l, n := range names {
		if n != name {
			continue
		}
		if Level(l) > best() {
			return best(), fmt.Errorf("%s=%s: this processor lacks what they need; want %s or worse", EnvVar, name, best())
		}
		return Level(l), nil
	}
	return best(), fmt.Errorf("%s=%q; want avx512, avx2 or go", EnvVar, name)
}
