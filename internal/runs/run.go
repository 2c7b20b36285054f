package runs

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/filelock"
)

// Sentinels. Errors of this package wrap them and name the file.
var (
	ErrExists  = errors.New("a run is already there")
	ErrNoRun   = errors.New("there is no run")
	ErrLocked  = filelock.ErrHeld
	ErrForeign = errors.New("not a checkpoint of this job")
	ErrCorrupt = errors.New("damaged file")
)

// Names inside a run's folder.
const (
	ConfigFile    = "config.yaml"
	InfoFile      = "run.json"
	MetricsFile   = "metrics.jsonl"
	TimingsFile   = "timings.jsonl"
	CheckpointDir = "checkpoint"
	ReportFile    = "report.html"
	PlotsDir      = "plots"
	lockFile      = ".lock"
)

// Info is run.json: where a run came from.
type Info struct {
	Name    string `json:"name"`
	Seed    uint64 `json:"seed"`
	Version string `json:"driftmesh_version"`
	// Sessions has one entry for every process that trained the run.
	Sessions []Session `json:"sessions"`
}

// Session is one process that created or resumed a run.
type Session struct {
	Started time.Time `json:"started"`
	Command []string  `json:"command"`
	// From is the version that the session went on from; 0 at the beginning.
	From    int64   `json:"from_version"`
	Machine Machine `json:"machine"`
}

// Machine holds what a run's timings depend on and its metrics must not.
type Machine struct {
	Go         string `json:"go_version"`
	OS         string `json:"os"`
	Arch       string `json:"arch"`
	CPUs       int    `json:"cpus"`
	GOMAXPROCS int    `json:"gomaxprocs"`
}

// ThisMachine describes the running process.
func ThisMachine() Machine {
	return Machine{
		Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
		CPUs: runtime.NumCPU(), GOMAXPROCS: runtime.GOMAXPROCS(0),
	}
}

// Run is an open run folder, locked for this process. It is not safe for
// concurrent use.
type Run struct {
	dir     string
	info    Info
	lock    *os.File
	metrics *lines
	timings *lines
}

// Create makes a run's folder with its config.yaml and run.json and opens it.
// The folder may exist, but must hold no run: that is ErrExists.
func Create(dir string, info Info, config []byte) (*Run, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create run: %w", err)
	}
	return start(dir, func(r *Run) error {
		if Exists(dir) {
			return ErrExists
		}
		if err := atomicfile.WriteBytes(r.path(ConfigFile), 0o644, config); err != nil {
			return err
		}
		r.info = info
		return r.writeInfo() // last: run.json makes the folder a run
	})
}

// Open opens an existing run and adds the session to run.json; Session.From
// should be the version of the checkpoint that it goes on from. ErrNoRun when
// the folder holds none, ErrLocked when another process has it open. Lines
// torn by a crash are cut off.
func Open(dir string, session Session) (*Run, error) {
	if !Exists(dir) { // before the lock file is made
		return nil, fmt.Errorf("%s: %w", dir, ErrNoRun)
	}
	return start(dir, func(r *Run) (err error) {
		if r.info, err = ReadInfo(dir); err != nil {
			return err
		}
		r.info.Sessions = append(r.info.Sessions, session)
		return r.writeInfo()
	})
}

// start locks the folder, lets prepare write or read its description, and
// opens the line files.
func start(dir string, prepare func(*Run) error) (r *Run, err error) {
	r = &Run{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s: %w", dir, err), r.Close())
			r = nil
		}
	}()
	if r.lock, err = filelock.Acquire(r.path(lockFile)); err != nil {
		return r, err
	}
	if err = prepare(r); err != nil {
		return r, err
	}
	if err = settleCheckpoint(dir); err != nil {
		return r, err
	}
	if r.metrics, err = openLines(r.path(MetricsFile)); err != nil {
		return r, err
	}
	r.timings, err = openLines(r.path(TimingsFile))
	return r, err
}

// Exists says whether the folder holds a run.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, InfoFile))
	return err == nil
}

// ReadInfo reads a run's run.json without opening the run.
func ReadInfo(dir string) (Info, error) {
	path := filepath.Join(dir, InfoFile)
	content, err := os.ReadFile(path)
	if err != nil {
		return Info{}, err
	}
	var info Info
	if err := json.Unmarshal(content, &info); err != nil {
		return Info{}, fmt.Errorf("%s: %w: %v", path, ErrCorrupt, err)
	}
	return info, nil
}

// ReadConfig reads a run's job file as it was given.
func ReadConfig(dir string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, ConfigFile)) }

// ReadRows reads a run's metrics, also while it is being written; a torn last
// line is left out.
func ReadRows(dir string) ([]Row, error) { return readLines[Row](filepath.Join(dir, MetricsFile)) }

// ReadTimings reads a run's timings, as ReadRows.
func ReadTimings(dir string) ([]Timing, error) {
	return readLines[Timing](filepath.Join(dir, TimingsFile))
}

// Dir is the run's folder.
func (r *Run) Dir() string { return r.dir }

// Info is the run's description.
func (r *Run) Info() Info { return r.info }

// Last is the version of the last row; -1 while there is none.
func (r *Run) Last() int64 { return r.metrics.last }

// Append adds a row to metrics.jsonl; its version must be above Last.
func (r *Run) Append(row Row) error { return r.metrics.append(row.Version, row) }

// AppendTiming adds a line to timings.jsonl; versions rise there too.
func (r *Run) AppendTiming(t Timing) error { return r.timings.append(t.Version, t) }

// TruncateAfter drops rows and timings above a version. A run that goes on
// from a checkpoint calls it with the checkpoint's version, so that what was
// learned after it and lost leaves no rows behind.
func (r *Run) TruncateAfter(version int64) error {
	return errors.Join(r.metrics.cut(version), r.timings.cut(version))
}

// Sync makes what was appended durable.
func (r *Run) Sync() error { return errors.Join(r.metrics.sync(), r.timings.sync()) }

// Close syncs and closes the run and gives up its lock.
func (r *Run) Close() error {
	var errs []error
	for _, l := range []*lines{r.metrics, r.timings} {
		if l != nil {
			errs = append(errs, l.close())
		}
	}
	if r.lock != nil { // last: it guards the others
		errs = append(errs, r.lock.Close())
	}
	return errors.Join(errs...)
}

func (r *Run) path(name string) string { return filepath.Join(r.dir, name) }

func (r *Run) writeInfo() error {
	content, err := json.MarshalIndent(r.info, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(r.path(InfoFile), 0o644, append(content, '\n'))
}
