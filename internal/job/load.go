package job

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/driftmesh/driftmesh/internal/strictyaml"
)

// Source remembers where each value of a job file was written: Locate gives
// lines to the faults that environments and losses find later.
type Source = strictyaml.Source

// ErrTooLarge is wrapped by the error of a job above the cap of 1 MiB.
var ErrTooLarge = errors.New("too large for a job")

// Load reads, decodes and validates a job file, with overrides "path=value"
// on top; see Parse. The path "-" is standard input. Files are named by their whole
// paths then: relative ones are taken from the folder of the job file, or the working
// directory for standard input, also those of overrides. Errors of reading wrap those
// of package os.
func Load(path string, sets []string) (*Spec, *Source, error) {
	data, err := readCapped(path)
	if err != nil {
		return nil, nil, err
	}
	spec, src, err := Parse(path, data, sets)
	if err != nil {
		return nil, src, err
	}
	return spec, src, spec.Resolve(func(string) string { return filepath.Dir(path) })
}

// readCapped looks before it reads: a mistaken path may lead to gigabytes, or
// to a device that never ends.
func readCapped(path string) ([]byte, error) {
	if path == "-" {
		data, err := io.ReadAll(io.LimitReader(os.Stdin, maxEncoded+1))
		if err != nil {
			return nil, fmt.Errorf("job on standard input: %w", err)
		}
		return data, nil // Parse refuses what is too large
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("job file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("job file: %w", err)
	}
	if info.IsDir() {
		return nil, fmt.Errorf("job file %s: is a folder; want a YAML file such as examples/hypergrid-2d.yaml", path)
	}
	if info.Size() > maxEncoded {
		return nil, tooLarge(path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxEncoded+1))
	if err != nil {
		return nil, fmt.Errorf("job file %s: %w", path, err)
	}
	return data, nil
}

func tooLarge(name string) error {
	return fmt.Errorf("%s: %w; want at most %d bytes", name, ErrTooLarge, maxEncoded)
}

// Parse decodes and validates a job written in YAML. name is what messages
// call the file, and, where the job gives no name of its own, the file's base
// name without its extension names the run.
//
// sets are overrides "path=value" with a dotted path and a YAML value, such as
// "optimiser.learning_rate=1e-4" or "env.params.height=16"; later ones win.
//
// The error joins every fault, one line each, ordered by line, faults of
// overrides last: strictyaml.Fault around fielderr.Error or
// strictyaml.ErrUnknownField. The spec is nil then; the source is nil only
// when the data were too large to look at.
func Parse(name string, data []byte, sets []string) (*Spec, *Source, error) {
	if len(data) > maxEncoded {
		return nil, nil, tooLarge(name)
	}
	spec := Default()
	src, err := strictyaml.Parse(name, data, sets, spec)
	if src.Empty() {
		return nil, src, err
	}
	return spec.settle(name, src, err)
}

// Decode is Parse for a job that is part of another document, with fields
// replaced. Its faults have the lines of the document that each value came from.
func Decode(name string, part strictyaml.Part, replaced []strictyaml.Replacement) (*Spec, *Source, error) {
	spec := Default()
	src, err := part.Decode(replaced, spec)
	if src.Empty() {
		return nil, src, err
	}
	return spec.settle(name, src, err)
}

// settle gives what was decoded the defaults that depend on other fields, and
// validates it.
func (s *Spec) settle(name string, src *Source, err error) (*Spec, *Source, error) {
	if !src.Given("name") {
		base := filepath.Base(name)
		if stem := strings.TrimSuffix(base, filepath.Ext(base)); safeName.MatchString(stem) {
			s.Name = stem
		}
	}
	s.Policy.choose(src.Given)
	if !src.Given("mesh.replay_max") && s.Train.Batch <= maxBatch {
		s.Mesh.ReplayMax = min(max(s.Mesh.ReplayMax, replayBatches*s.Train.Batch), maxBatch)
	}
	if err := src.Locate(errors.Join(err, s.Validate())); err != nil {
		return nil, src, err
	}
	return s, src, nil
}
