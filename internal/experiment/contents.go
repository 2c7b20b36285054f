package experiment

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/internal/datafile"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/plugin"
	"github.com/driftmesh/driftmesh/internal/runs"
)

// contents hashes what jobs name, each file once for all cells of a plan.
type contents map[string]string

// of is the hash of a file, or of what a run has learned, in hex.
func (c contents) of(path string, run bool) (string, error) {
	if sum, known := c[path]; known {
		return sum, nil
	}
	sum, err := "", error(nil)
	if run {
		sum, err = learned(path)
	} else {
		var f *datafile.File
		if f, err = datafile.Read(path); err == nil {
			sum = f.SHA256
		}
	}
	if err == nil {
		c[path] = sum
	}
	return sum, err
}

// learned hashes a run's job and parameters: not how far its optimiser is, nor where
// it lies.
func learned(path string) (string, error) {
	c, err := runs.LoadCheckpoint(path)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	h.Write(c.Spec)
	words := make([]byte, 0, 4*len(c.Params))
	for _, x := range c.Params {
		words = binary.LittleEndian.AppendUint32(words, math.Float32bits(x))
	}
	h.Write(words)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// encode is what decides the results of a job but its seed: its fields, where files
// stand for what they hold and not for where they are, and the programs that it runs.
// A program that is elsewhere, with the workers of a mesh, is its command alone.
func (c contents) encode(spec job.Spec) ([]byte, error) {
	spec.Name, spec.Seed = "cell", 0 // a job's name changes no result
	for _, f := range spec.Files() {
		sum, err := c.of(f.Path, f.Run)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Field, err)
		}
		spec.Rename(f, sum)
	}
	data, err := json.Marshal(&spec)
	if err != nil {
		return nil, err
	}
	for _, p := range spec.Programs() {
		path, err := plugin.Find(p.Command)
		if errors.Is(err, plugin.ErrForbidden) {
			continue
		}
		var sum string
		if err == nil {
			sum, err = c.of(path, false)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Field, err)
		}
		data = fmt.Appendf(data, "\n%s %s", p.Field, sum)
	}
	return data, nil
}
