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
	"slices"

	"github.com/driftmesh/driftmesh/internal/safetensors"
)

// LoadCheckpoint reads and verifies the checkpoint at path, a run's folder or
// the checkpoint folder itself. It takes no lock: a checkpoint can be read
// while a process trains on. The errors are fs.ErrNotExist where there is none
// yet, ErrForeign for anything that is not a checkpoint of this version of
// Driftmesh, and ErrCorrupt where hash, size or content do not agree.
func LoadCheckpoint(path string) (*Checkpoint, error) {
	stat, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	if !stat.IsDir() {
		return nil, fmt.Errorf("%s: %w: want a run's folder or its %s folder", path, ErrForeign, CheckpointDir)
	}
	candidates := []string{path}
	if Exists(path) {
		current, _, old := checkpointPaths(path)
		// The writer renames current to old, then the new one to current, and
		// may do so again: whoever comes in between finds one of them.
		candidates = []string{current, old, current, old, current}
	}
	var missing error
	for _, dir := range candidates {
		c, err := loadFrom(dir)
		if err == nil {
			return c, nil
		}
		err = fmt.Errorf("%s: %w", dir, err)
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		// Not there yet, or being replaced under our hands; a file that is
		// missing for good is still missing at the end.
		if missing == nil || errors.Is(err, ErrCorrupt) {
			missing = err
		}
	}
	switch {
	case errors.Is(missing, ErrCorrupt):
		return nil, missing
	case len(candidates) == 1:
		return nil, fmt.Errorf("%s: %w: it has no %s", path, ErrForeign, StateFile)
	default:
		return nil, fmt.Errorf("%s: no checkpoint yet: %w", path, fs.ErrNotExist)
	}
}

// loadFrom reads one folder. All files are opened relative to the same open
// folder, so that a checkpoint renamed meanwhile is not mixed with its successor.
func loadFrom(dir string) (*Checkpoint, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	st, err := readState(root)
	if err != nil {
		return nil, err
	}
	files := map[string]safetensors.File{}
	for _, name := range []string{ParamsFile, OptimiserFile} {
		want, ok := st.Files[name]
		if !ok {
			return nil, fmt.Errorf("%s: %w: it does not list %s", StateFile, ErrCorrupt, name)
		}
		if files[name], err = readTensors(root, name, want); err != nil {
			return nil, err
		}
	}
	c := &Checkpoint{
		Generation: st.Generation, Version: st.Version, Trajectories: st.Trajectories,
		Spec: st.Spec, Programs: st.Programs, Layout: st.Layout, Optimiser: files[OptimiserFile].Tensors,
	}
	if c.Params, err = flatten(files[ParamsFile], st.Layout); err != nil {
		return nil, err
	}
	return c, nil
}

func readState(root *os.Root) (*state, error) {
	file, err := root.Open(StateFile)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxStateFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", StateFile, err)
	}
	if len(content) > maxStateFile {
		return nil, fmt.Errorf("%s: %w: more than %d bytes", StateFile, ErrForeign, maxStateFile)
	}
	var head struct {
		Format        string `json:"format"`
		FormatVersion int    `json:"format_version"`
	}
	if !json.Valid(content) {
		return nil, fmt.Errorf("%s: %w: not JSON", StateFile, ErrCorrupt)
	}
	if err := json.Unmarshal(content, &head); err != nil || head.Format != checkpointFormat {
		return nil, fmt.Errorf("%s: %w: its format is %q; want %q", StateFile, ErrForeign, head.Format, checkpointFormat)
	}
	if head.FormatVersion != checkpointVersion {
		return nil, fmt.Errorf("%s: %w: format version %d; this driftmesh reads %d", StateFile, ErrForeign, head.FormatVersion, checkpointVersion)
	}
	var st state
	if err := json.Unmarshal(content, &st); err != nil {
		return nil, fmt.Errorf("%s: %w: %v", StateFile, ErrCorrupt, err)
	}
	if st.Version < 0 {
		return nil, fmt.Errorf("%s: %w: version %d", StateFile, ErrCorrupt, st.Version)
	}
	return &st, nil
}

// readTensors reads a file whose size and hash are known.
func readTensors(root *os.Root, name string, want fileState) (safetensors.File, error) {
	file, err := root.Open(name)
	if err != nil {
		return safetensors.File{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return safetensors.File{}, err
	}
	if stat.Size() != want.Bytes {
		return safetensors.File{}, fmt.Errorf("%s: %w: %d bytes; %s says %d", name, ErrCorrupt, stat.Size(), StateFile, want.Bytes)
	}
	hash := sha256.New()
	out, err := safetensors.Read(io.TeeReader(file, hash), want.Bytes)
	if err != nil {
		if errors.Is(err, safetensors.ErrFormat) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return safetensors.File{}, fmt.Errorf("%s: %w", name, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != want.SHA256 {
		return safetensors.File{}, fmt.Errorf("%s: %w: SHA-256 is %.12s…, %s says %.12s…", name, ErrCorrupt, got, StateFile, want.SHA256)
	}
	return out, nil
}

// flatten puts the tensors of a file into one vector, in the layout's order.
func flatten(f safetensors.File, layout []Param) ([]float32, error) {
	if len(f.Tensors) != len(layout) {
		return nil, fmt.Errorf("%s: %w: %d tensors; the layout has %d", ParamsFile, ErrCorrupt, len(f.Tensors), len(layout))
	}
	var out []float32
	for _, p := range layout {
		t, ok := f.Tensor(p.Name)
		if !ok || !slices.Equal(t.Shape, p.Shape) {
			return nil, fmt.Errorf("%s: %w: no tensor %q of shape %v", ParamsFile, ErrCorrupt, p.Name, p.Shape)
		}
		values, err := t.Float32()
		if err != nil {
			return nil, fmt.Errorf("%s: %w: %v", ParamsFile, ErrCorrupt, err)
		}
		out = append(out, values...)
	}
	return out, nil
}
