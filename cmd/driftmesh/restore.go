package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// restoreFlags say what a new cluster is made of.
type restoreFlags struct {
	data      string
	fromData  string
	clusterID string
	damaged   bool
	json      bool
}

func newRestoreCmd() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore (FILE | --from-data DIR) --data NEW",
		Short: "Make a new cluster's first data directory of a backup",
		Long: `Make the data directory of the first server of a new cluster, of a backup or of
the data directory of one server of the old cluster. This is for a cluster whose
quorum is lost for good; one that has a quorum replaces a dead server by another
that joins. Stop every server of the old cluster first.

The generation of the cluster and of its jobs goes up by one, so nothing of the
old cluster counts as the new one's. By default the cluster keeps its ID: workers
that still run find it at the addresses they know and begin new sessions. Start
the directory with driftmesh server --data NEW; further servers --join it.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := ""
			if len(args) == 1 {
				file = args[0]
			}
			if err := f.check(file); err != nil {
				return err
			}
			return f.run(file, cmd.OutOrStdout())
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.data, "data", "", "new `folder` of the server (required)")
	fl.StringVar(&f.fromData, "from-data", "", "data `folder` of a stopped server of the old cluster")
	fl.StringVar(&f.clusterID, "cluster-id", "keep", "`identity` of the new cluster: keep or new")
	fl.BoolVar(&f.damaged, "despite-damage", false, "with --from-data: take what is whole of a damaged log")
	fl.BoolVar(&f.json, "json", false, "as JSON")
	return cmd
}

func (f *restoreFlags) check(file string) error {
	var errs []error
	if f.data == "" {
		errs = append(errs, fielderr.New("--data", nil, "the new folder of the server"))
	}
	if (file == "") == (f.fromData == "") {
		errs = append(errs, userFault{errors.New("want either the file of a backup or --from-data, the folder of an old server")})
	}
	if f.clusterID != "keep" && f.clusterID != "new" {
		errs = append(errs, fielderr.New("--cluster-id", f.clusterID, "keep or new"))
	}
	if f.damaged && f.fromData == "" {
		errs = append(errs, fielderr.New("--despite-damage", true, "this flag with --from-data only: a damaged backup holds nothing certain"))
	}
	return errors.Join(errs...)
}

// run builds the directory beside its place and moves it there whole.
func (f *restoreFlags) run(file string, out io.Writer) error {
	dir, err := filepath.Abs(f.data)
	if err != nil {
		return err
	}
	if unused, err := emptyDir(dir); err != nil {
		return fielderr.New("--data", f.data, "a folder that is new or empty: "+err.Error())
	} else if !unused {
		return fielderr.New("--data", f.data, "a folder that is new or empty: a restored cluster never shares one with another")
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".restore-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) // nothing to do once it is renamed
	old, lost, err := f.source(file, tmp)
	if err != nil {
		return err
	}
	home := filepath.Join(tmp, "data")
	state, err := f.settle(old, home)
	if err != nil {
		return err
	}
	if err := os.Rename(home, dir); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := atomicfile.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	return f.print(out, old, state, lost)
}

// source reads what is to be restored, and says what is lost.
func (f *restoreFlags) source(file, scratch string) (state *fsm.State, lost string, err error) {
	if file != "" {
		if state, _, err = readBackup(file); err != nil {
			return nil, "", err
		}
		return state, fmt.Sprintf("whatever was committed after log index %d, when the backup was made; how much that is nobody can tell from it", state.Index()), nil
	}
	if !exists(f.fromData, "node.json") || !exists(f.fromData, raftDir) {
		return nil, "", fielderr.New("--from-data", f.fromData, "the data folder of a server: node.json and "+raftDir+" belong to it")
	}
	id, err := cluster.LoadOrCreate(f.fromData) // it is there: this locks it
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, id.Close()) }()
	s, err := replica.Salvage(filepath.Join(f.fromData, raftDir), scratch)
	if err != nil {
		return nil, "", userFault{err}
	}
	lost = fmt.Sprintf("whatever other servers committed after log index %d, where this one's log ends; its last entries count as committed", s.Last)
	if s.Damage == nil {
		return s.State, lost, nil
	}
	if !f.damaged {
		return nil, "", userFault{fmt.Errorf("%s is damaged after log index %d: %w; restore from another server's folder or a backup, or take what is whole with --despite-damage", f.fromData, s.Last, s.Damage)}
	}
	return s.State, fmt.Sprintf("everything after log index %d, where the damage begins (%v)", s.Last, s.Damage), nil
}

// settle makes the new data directory in home.
func (f *restoreFlags) settle(old *fsm.State, home string) (*fsm.State, error) {
	clusterID := old.ClusterID()
	if f.clusterID == "new" {
		fresh, err := uuid.NewRandom()
		if err != nil {
			return nil, err
		}
		clusterID = fresh.String()
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(old.Snapshot().Encode(w)) }() // ends with the reader
	state, err := fsm.Restore(r, clusterID, time.Now().UnixNano())
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	id, err := cluster.InitRestored(home, clusterID, state.Generation())
	if err != nil {
		return nil, err
	}
	err = replica.Seed(filepath.Join(home, raftDir), id.NodeID(), state.Snapshot())
	if err == nil {
		err = atomicfile.WriteBytes(filepath.Join(home, votedFile), 0o644, nil)
	}
	return state, errors.Join(err, id.Close())
}

func (f *restoreFlags) print(out io.Writer, old, state *fsm.State, lost string) error {
	if f.json {
		return json.NewEncoder(out).Encode(map[string]any{
			"data": f.data, "cluster_id": state.ClusterID(), "generation": state.Generation(),
			"from_index": old.Index(), "lost": lost, "jobs": backupJobs(state),
		})
	}
	fmt.Fprintf(out, "%s: cluster %s at generation %d, from log index %d\n", f.data, state.ClusterID(), state.Generation(), old.Index())
	fmt.Fprintf(out, "lost: %s\n", lost)
	if err := printJobs(out, backupJobs(state)); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nstart it:  driftmesh server --data %s\n", f.data)
	return nil
}
