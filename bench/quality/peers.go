package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/driftmesh/driftmesh/internal/atomicfile"
)

// peerRun is one line of with_gfnx.py.
type peerRun struct {
	Task     string             `json:"task"`
	Seed     uint64             `json:"seed"`
	Args     string             `json:"args"` // of the command that made it
	Measured map[string]float64 `json:"measured"`
	Settings map[string]any     `json:"settings"`
	Versions map[string]string  `json:"versions"`
}

// ourNames are those of what gfnx's side calls otherwise.
var ourNames = map[string]string{"log_z": "eval_log_z", "ess": "eval_ess", "elbo": "eval_elbo", "modes": "modes_found", "spearman": "test_spearman"}

// seeds of gfnx, and of what is compared with it.
const peerSeeds = 5

func readPeers(path string) ([]peerRun, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usageError{fmt.Errorf("%s is not there; -peers trains gfnx", path)}
	}
	if err != nil {
		return nil, err
	}
	var out []peerRun
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

// trainPeers trains gfnx on the tasks and seeds that the file does not have at these
// arguments, one run a core, and writes the file after each run.
func (o *options) trainPeers(ctx context.Context, chosen []task, path string) error {
	known, err := readPeers(path)
	if err != nil && !errors.As(err, new(usageError)) {
		return err
	}
	var lock sync.Mutex // of known and of the file
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, t := range chosen {
		for seed := range uint64(peerSeeds) {
			if has(known, t, seed) {
				continue
			}
			group.Go(func() error {
				r, err := o.trainPeer(ctx, t, seed)
				if err != nil {
					return err
				}
				lock.Lock()
				defer lock.Unlock()
				fmt.Printf("gfnx, %s, seed %d: %s %.4g\n", t.name, seed, t.metric, t.value(r.Measured))
				known = append(slices.DeleteFunc(known, func(k peerRun) bool { return k.Task == t.name && k.Seed == seed }), *r)
				slices.SortFunc(known, func(a, b peerRun) int { return cmp.Or(cmp.Compare(a.Task, b.Task), cmp.Compare(a.Seed, b.Seed)) })
				return writeJSON(path, known)
			})
		}
	}
	return group.Wait()
}

func has(known []peerRun, t task, seed uint64) bool {
	return slices.ContainsFunc(known, func(k peerRun) bool { return k.Task == t.name && k.Seed == seed && k.Args == strings.Join(t.peer, " ") })
}

// trainPeer trains gfnx once, on one thread: the runs share the cores.
func (o *options) trainPeer(ctx context.Context, t task, seed uint64) (*peerRun, error) {
	args := append([]string{"bench/quality/py/with_gfnx.py", "--seed", strconv.FormatUint(seed, 10)}, t.peer...)
	cmd := exec.CommandContext(ctx, o.python, args...)
	cmd.Env = append(os.Environ(), "XLA_FLAGS=--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1", "OMP_NUM_THREADS=1")
	cmd.Stderr = os.Stderr
	data, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("gfnx, %s, seed %d: %w", t.name, seed, err)
	}
	r, err := readPeer(t.name, seed, data)
	if err == nil {
		r.Args = strings.Join(t.peer, " ")
	}
	return r, err
}

// readPeer reads the last line that with_gfnx.py printed.
func readPeer(name string, seed uint64, data []byte) (*peerRun, error) {
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	var raw map[string]any
	if err := json.Unmarshal(lines[len(lines)-1], &raw); err != nil {
		return nil, fmt.Errorf("gfnx, %s, seed %d: %w", name, seed, err)
	}
	r := &peerRun{Task: name, Seed: seed, Measured: map[string]float64{}, Versions: map[string]string{}}
	r.Settings, _ = raw["settings"].(map[string]any)
	if v, ok := raw["versions"].(map[string]any); ok {
		for k, x := range v {
			r.Versions[k] = fmt.Sprint(x)
		}
	}
	for k, x := range raw {
		if v, ok := x.(float64); ok && k != "seconds" && k != "compile_seconds" {
			if ours := ourNames[k]; ours != "" {
				k = ours
			}
			r.Measured[k] = v
		}
	}
	return r, nil
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(path, 0o644, append(data, '\n'))
}
