package job

import (
	"fmt"
	"maps"
	"path/filepath"
)

// File is a file, or the folder of a run, that a job names.
type File struct {
	Field string // dotted path in the job
	Path  string
	Run   bool // the folder of a run
}

// EnvFile is the parameter of an environment that names a file.
type EnvFile struct {
	Param   string
	Builtin string // a value that names no file; "" for none
}

// EnvFiles has the environments with such a parameter; a test of the registry holds
// it against the environments' own tables.
var EnvFiles = map[string]EnvFile{
	"bitseq":   {Param: "modes_file"},
	"sequence": {Param: "table", Builtin: "tfbind8"},
}

// Files lists the files that the job names. Programs are not among them: they are
// looked for in the folders that a process was given for them.
func (s *Spec) Files() []File {
	var out []File
	if s.Data != nil && s.Data.File != "" {
		out = append(out, File{Field: "data.file", Path: s.Data.File})
	}
	if s.Loss.Prior != "" {
		out = append(out, File{Field: "loss.prior", Path: s.Loss.Prior, Run: true})
	}
	if f, ok := EnvFiles[s.Env.Name]; ok {
		if path, _ := s.Env.Params[f.Param].(string); path != "" && path != f.Builtin {
			out = append(out, File{Field: "env.params." + f.Param, Path: path})
		}
	}
	return out
}

// Rename gives one of Files another path. What the job shares with copies of it stays
// as it is.
func (s *Spec) Rename(f File, path string) {
	switch f.Field {
	case "data.file":
		s.Data = &Data{File: path, Share: s.Data.Share}
	case "loss.prior":
		s.Loss.Prior = path
	default:
		s.Env.Params = maps.Clone(s.Env.Params)
		s.Env.Params[EnvFiles[s.Env.Name].Param] = path
	}
}

// Resolve makes the relative paths of the job's files absolute: they are taken from
// the folder of the file that names them, which folder says of a field. So a job
// means the same wherever it is trained, and from wherever its run is resumed.
func (s *Spec) Resolve(folder func(field string) string) error {
	for _, f := range s.Files() {
		if filepath.IsAbs(f.Path) {
			continue
		}
		path, err := filepath.Abs(filepath.Join(folder(f.Field), f.Path))
		if err != nil {
			return fmt.Errorf("%s: %w", f.Field, err)
		}
		s.Rename(f, path)
	}
	return nil
}

// Program is a command of a plugin that a job names.
type Program struct {
	Field   string
	Command []string
}

// Programs lists the plugins that the job names.
func (s *Spec) Programs() []Program {
	var out []Program
	if s.Reward != nil {
		out = append(out, Program{"reward.command", s.Reward.Command})
	}
	if words, ok := s.Env.Params["command"].([]any); ok && s.Env.Name == "plugin" {
		p := Program{Field: "env.params.command"}
		for _, w := range words {
			p.Command = append(p.Command, fmt.Sprint(w))
		}
		out = append(out, p)
	}
	return out
}
