package runs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/safetensors"
)

// Files of a checkpoint folder.
const (
	StateFile     = "state.json"
	ParamsFile    = "params.safetensors"
	OptimiserFile = "optimiser.safetensors"
)

const (
	checkpointFormat  = "driftmesh-checkpoint"
	checkpointVersion = 1
	maxStateFile      = 16 << 20 // bytes of state.json that are read
)

// Param names one tensor of the flat parameter vector; tensors follow each
// other in the layout's order, without gaps.
type Param struct {
	Name  string `json:"name"`
	Shape []int  `json:"shape"`
	Group string `json:"group"` // optimiser group
}

// Len returns the number of elements of the tensor.
func (p Param) Len() int {
	n := 1
	for _, d := range p.Shape {
		n *= d
	}
	return n
}

// Checkpoint is everything that a job needs to go on.
type Checkpoint struct {
	Generation   uint64
	Version      int64           // optimiser steps since the job began
	Trajectories uint64          // trained on since the job began
	Spec         json.RawMessage // job spec as JSON
	// Programs are hashes that the plugins of the job gave of themselves, by the field
	// that names each.
	Programs map[string]string
	Layout   []Param
	Params   []float32 // flat, in the order of Layout
	// Optimiser holds moments, counters and whatever else the learner keeps
	// for itself, as the learner names it.
	Optimiser []safetensors.Tensor
}

// state is state.json.
type state struct {
	Format        string               `json:"format"`
	FormatVersion int                  `json:"format_version"`
	Generation    uint64               `json:"generation"`
	Version       int64                `json:"version"`
	Trajectories  uint64               `json:"trajectories"`
	Files         map[string]fileState `json:"files"`
	Layout        []Param              `json:"layout"`
	Spec          json.RawMessage      `json:"spec"`
	Programs      map[string]string    `json:"programs,omitempty"`
}

type fileState struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Match says whether the checkpoint's tensors are those of layout; if not, the
// error is ErrForeign and names the first that differs.
func (c *Checkpoint) Match(layout []Param) error {
	for i, want := range layout {
		if i >= len(c.Layout) {
			return fmt.Errorf("%w: it lacks the tensor %q", ErrForeign, want.Name)
		}
		got := c.Layout[i]
		if got.Name != want.Name || got.Group != want.Group || !slices.Equal(got.Shape, want.Shape) {
			return fmt.Errorf("%w: tensor %d is %q of shape %v in group %q; the job has %q of shape %v in group %q",
				ErrForeign, i, got.Name, got.Shape, got.Group, want.Name, want.Shape, want.Group)
		}
	}
	if len(c.Layout) > len(layout) {
		return fmt.Errorf("%w: it has a tensor %q; the job has none", ErrForeign, c.Layout[len(layout)].Name)
	}
	return nil
}

// tensors cuts the flat parameter vector along the layout.
func (c *Checkpoint) tensors() ([]safetensors.Tensor, error) {
	var out []safetensors.Tensor
	rest := c.Params
	for _, p := range c.Layout {
		n := p.Len()
		if n < 0 || n > len(rest) {
			return nil, fmt.Errorf("tensor %q of shape %v: %d parameters are left for it", p.Name, p.Shape, len(rest))
		}
		out = append(out, safetensors.FromFloat32(p.Name, p.Shape, rest[:n]))
		rest = rest[n:]
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d parameters lie behind the layout", len(rest))
	}
	return out, nil
}

// SaveCheckpoint replaces the run's checkpoint and makes it and every row
// appended before it durable. A crash leaves the old checkpoint or the new one,
// whole: the new one is written beside the old, and takes its name only when
// all of it is on disk.
func (r *Run) SaveCheckpoint(c *Checkpoint) error {
	if err := r.Sync(); err != nil {
		return err
	}
	if err := saveCheckpoint(r.dir, c); err != nil {
		return fmt.Errorf("save checkpoint of version %d in %s: %w", c.Version, r.dir, err)
	}
	return nil
}

func saveCheckpoint(dir string, c *Checkpoint) error {
	params, err := c.tensors()
	if err != nil {
		return err
	}
	current, next, old := checkpointPaths(dir)
	if err := os.RemoveAll(next); err != nil {
		return err
	}
	if err := os.Mkdir(next, 0o755); err != nil {
		return err
	}
	st := state{
		Format: checkpointFormat, FormatVersion: checkpointVersion,
		Generation: c.Generation, Version: c.Version, Trajectories: c.Trajectories,
		Files: map[string]fileState{}, Layout: c.Layout, Spec: c.Spec, Programs: c.Programs,
	}
	for name, tensors := range map[string][]safetensors.Tensor{ParamsFile: params, OptimiserFile: c.Optimiser} {
		if st.Files[name], err = writeTensors(filepath.Join(next, name), tensors); err != nil {
			return err
		}
	}
	content, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	if err := atomicfile.WriteBytes(filepath.Join(next, StateFile), 0o644, append(content, '\n')); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(dir); err != nil {
		return err
	}
	// From here on the new checkpoint is whole. Between the two renames the
	// old one is found under its second name.
	if err := os.Rename(current, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(next, current); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(dir); err != nil {
		return err
	}
	return os.RemoveAll(old)
}

func checkpointPaths(dir string) (current, next, old string) {
	current = filepath.Join(dir, CheckpointDir)
	return current, current + ".new", current + ".old"
}

// settleCheckpoint repairs what a crash within saveCheckpoint left.
func settleCheckpoint(dir string) error {
	current, next, old := checkpointPaths(dir)
	if _, err := os.Stat(current); errors.Is(err, fs.ErrNotExist) {
		if err := os.Rename(old, current); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return errors.Join(os.RemoveAll(next), os.RemoveAll(old))
}

func writeTensors(path string, tensors []safetensors.Tensor) (fileState, error) {
	hash := sha256.New()
	var size counter
	err := atomicfile.Write(path, 0o644, func(w io.Writer) error {
		return safetensors.Write(io.MultiWriter(w, hash, &size), safetensors.File{Tensors: tensors})
	})
	return fileState{Bytes: int64(size), SHA256: hex.EncodeToString(hash.Sum(nil))}, err
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}
