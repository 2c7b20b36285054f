package registry

import (
	"fmt"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/bitseq"
	"github.com/driftmesh/driftmesh/envs/sequence"
	"github.com/driftmesh/driftmesh/internal/datafile"
	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// Environments are pure. Where one needs a file it is read here, once, when the
// environment is opened. The paths of a job are whole ones by then (job.Load); in a
// mesh every node opens its own file.

func openBitseq(c bitseq.Config) (envs.Env, error) {
	if c.ModesFile != "" {
		f, err := read("modes_file", c.ModesFile, c.SHA256)
		if err != nil {
			return nil, err
		}
		if c.Given, err = f.Lines(); err != nil {
			return nil, fileFault("modes_file", c.ModesFile, err)
		}
	}
	return bitseq.New(c)
}

func openSequence(c sequence.Config) (envs.Env, error) {
	if c.Table != "" && c.Table != sequence.TFBind8 {
		f, err := read("table", c.Table, c.SHA256)
		if err != nil {
			return nil, err
		}
		c.File = f
	}
	return sequence.New(c)
}

// read reads the file that a parameter names, and checks its hash if one is given.
func read(param, path, sum string) (*datafile.File, error) {
	f, err := datafile.Read(path)
	if err != nil {
		return nil, fileFault(param, path, err)
	}
	if err := f.Check(sum); err != nil {
		return nil, fielderr.New("sha256", sum, err.Error())
	}
	return f, nil
}

func fileFault(param, path string, err error) error {
	return fielderr.New(param, path, fmt.Sprintf("a file that can be read: %v", err))
}
