package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/runs"
)

// maxPlaces is how many runs of one name are told apart by a number.
const maxPlaces = 1000

// place chooses the run's folder: runs/<name> when it is free or holds this very
// run; otherwise the first of runs/<name>-2, -3, … of which that is true, and
// the run takes that name. So the same command resumes its run, and another seed
// or another setting never touches one that is there. --fresh takes runs/<name>
// whatever it holds.
func (s *session) place(f *jobFlags, mesh bool) (string, error) {
	name := s.spec.Name
	if dir := filepath.Join(f.runs, name); f.fresh && runs.Exists(dir) {
		return dir, removeRun(dir)
	}
	var taken string
	for n := 1; n <= maxPlaces; n++ {
		if n > 1 {
			s.spec.Name = fmt.Sprintf("%s-%d", name, n)
		}
		dir := filepath.Join(f.runs, s.spec.Name)
		var why string
		if runs.Exists(dir) {
			var err error
			if why, err = occupied(dir, s.spec, mesh); err != nil {
				return "", err
			}
		}
		if why == "" {
			if err := s.spec.Validate(); err != nil { // the longer name
				return "", err
			}
			if n > 1 {
				s.note("%s; this run goes to %s (--fresh would replace the other)", taken, dir)
			}
			return dir, nil
		}
		if n == 1 {
			taken = why
		}
	}
	return "", userFault{fmt.Errorf("%s holds %d runs named %s; --set name=NEW makes another", f.runs, maxPlaces, name)}
}

// occupied says why the run in dir is not the one that this command would
// resume; "" if it is.
func occupied(dir string, spec *job.Spec, mesh bool) (string, error) {
	config, err := runs.ReadConfig(dir)
	if err != nil {
		return "", err
	}
	old, _, err := job.Parse(filepath.Join(dir, runs.ConfigFile), config, nil)
	if err != nil {
		return "", err
	}
	// Runs of before kept paths as they were written, from the working directory.
	if err := old.Resolve(func(string) string { return "." }); err != nil {
		return "", err
	}
	if d := otherJob(old, spec, mesh); d != nil {
		return fmt.Sprintf("%s holds another run (%s is %s there, %s here)", dir, d.path, literal(d.old), literal(d.now)), nil
	}
	// A mesh goes on from its own log, which knows nothing of what `train` adds:
	// one of the two would take the run back to an older version.
	switch was, trained := exists(dir, meshDir), exists(dir, runs.CheckpointDir); {
	case was && !mesh:
		return dir + " holds a run of driftmesh up", nil
	case !was && mesh && trained:
		return dir + " holds a run of driftmesh train", nil
	}
	return "", nil
}

func exists(path ...string) bool {
	_, err := os.Stat(filepath.Join(path...))
	return err == nil
}

// otherJob returns what makes two jobs different runs. In one process a run may
// change in how long it trains and how often it is looked at; the servers of a
// mesh hold the job as it was submitted.
func otherJob(old, now *job.Spec, mesh bool) *discrepancy {
	a, b := *old, *now
	if !mesh {
		a.Train.Updates, a.Eval, a.Mesh = b.Train.Updates, b.Eval, b.Mesh
	}
	a.Name = b.Name
	return firstDifference(a, b)
}

// discrepancy is a field in which two specs differ, with its JSON values.
type discrepancy struct {
	path     string // dotted
	old, now any
}

// firstDifference compares two specs field by field; nil for no difference.
func firstDifference(old, now job.Spec) *discrepancy {
	return difference("", generic(old), generic(now))
}

// generic is a spec as JSON objects.
func generic(spec job.Spec) (out any) {
	data, err := json.Marshal(spec)
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil { // a spec that was read can be written
		return err.Error()
	}
	return out
}

func difference(path string, old, now any) *discrepancy {
	mo, oko := old.(map[string]any)
	mn, okn := now.(map[string]any)
	if !oko || !okn {
		if reflect.DeepEqual(old, now) {
			return nil
		}
		return &discrepancy{path, old, now}
	}
	keys := maps.Clone(mo)
	maps.Copy(keys, mn)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if d := difference(strings.TrimPrefix(path+"."+k, "."), mo[k], mn[k]); d != nil {
			return d
		}
	}
	return nil
}

// quoted is a value that fielderr shows as it is.
type quoted string

// literal writes a value as it would stand in a job file.
func literal(v any) quoted {
	if v == nil {
		return "nothing"
	}
	text, err := json.Marshal(v)
	if err != nil {
		return quoted(fmt.Sprint(v))
	}
	return quoted(text)
}
