package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

func newBackupCmd() *cobra.Command {
	var f clientFlags
	var out string
	cmd := &cobra.Command{
		Use:   "backup --out FILE",
		Short: "Save the committed state of all jobs to a file",
		Long: `Save the committed state of all jobs of a running cluster to a file. It contains
everything that any client was told before. The file is written whole or not at
all, and read back and verified before it gets its name. driftmesh restore makes
a new cluster of it. The samples of an archive are files of their own: copy
those beside it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return fielderr.New("--out", nil, "the file to write")
			}
			leader, known, err := f.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer leader.Close()
			p := newTransfer(cmd.ErrOrStderr())
			state, size, err := saveBackup(cmd.Context(), leader, known, f.servers, out, p)
			if err != nil {
				return err
			}
			return printBackup(cmd.OutOrStdout(), f.json, out, size, state)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVarP(&out, "out", "o", "", "`file` to write (required)")
	cmd.AddCommand(newBackupVerifyCmd())
	return cmd
}

func newBackupVerifyCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Read a backup to its end and compare every hash",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			state, size, err := readBackup(args[0])
			if err != nil {
				return err
			}
			return printBackup(cmd.OutOrStdout(), asJSON, args[0], size, state)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// saveBackup streams a backup into a temporary file, reads that back, and gives
// it its name. The leader is asked where the first server cannot answer.
func saveBackup(ctx context.Context, clients *cluster.Leader, known *wire.StatusReply, servers []string, path string, p *transfer) (*fsm.State, int64, error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return nil, 0, fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { // nothing to do once it is renamed
		tmp.Close()
		os.Remove(tmp.Name())
	}()
	err = tryServers(ctx, clients, servers, func(ctx context.Context, c *cluster.Client) error {
		if err := rewind(tmp); err != nil {
			return err
		}
		return receiveBackup(ctx, c, known.ClusterID, tmp, p)
	})
	if err != nil {
		return nil, 0, fmt.Errorf("backup: %w", err)
	}
	p.note("verifying")
	if err := errors.Join(tmp.Sync(), tmp.Chmod(0o600)); err != nil {
		return nil, 0, fmt.Errorf("write %s: %w", path, err)
	}
	state, size, err := readBackup(tmp.Name())
	if err != nil {
		return nil, 0, fmt.Errorf("what arrived is not what was sent: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return nil, 0, fmt.Errorf("write %s: %w", path, err)
	}
	p.end()
	return state, size, atomicfile.SyncDir(filepath.Dir(path))
}

func rewind(f *os.File) error {
	_, err := f.Seek(0, io.SeekStart)
	return errors.Join(err, f.Truncate(0))
}

// tryServers calls f with one server after the other, and with the leader that
// one of them names, until one succeeds. Servers that do not answer are tried
// again for as long as a leader may take to be elected.
func tryServers(ctx context.Context, clients *cluster.Leader, servers []string, f func(context.Context, *cluster.Client) error) error {
	deadline := time.Now().Add(answerTimeout)
	for {
		var last error
		next := append([]string(nil), servers...)
		for i := 0; i < len(next) && i < 2*len(servers); i++ {
			c, err := clients.Client(next[i])
			if err == nil {
				err = f(ctx, c)
			}
			var elsewhere cluster.ErrNotLeader
			switch {
			case err == nil:
				return nil
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.As(err, &elsewhere) && elsewhere.Addr != "":
				next = append(next, elsewhere.Addr)
			case !errors.As(err, &elsewhere) && !errors.Is(err, cluster.ErrUnavailable):
				return fmt.Errorf("%s: %w", next[i], err)
			}
			last = fmt.Errorf("%s: %w", next[i], err)
		}
		if time.Now().After(deadline) {
			return last
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func receiveBackup(ctx context.Context, c *cluster.Client, clusterID string, out io.Writer, p *transfer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Backup(ctx, &wire.BackupRequest{ClusterID: clusterID})
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(out, wire.MaxBackupChunk)
	got := int64(0)
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return w.Flush()
		}
		if err != nil {
			return err
		}
		p.begin(chunk.Size)
		if _, err := w.Write(chunk.Data); err != nil {
			return err
		}
		got += int64(len(chunk.Data))
		p.at(got)
	}
}

// readBackup reads a backup to its end. Damage is told with the place where
// reading stopped.
func readBackup(path string) (*fsm.State, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	r := &countingReader{r: bufio.NewReaderSize(f, 1<<20)}
	state, err := fsm.DecodeSnapshot(r)
	if err == nil && r.n != info.Size() {
		err = fmt.Errorf("%w: %d bytes follow its end", fsm.ErrDamagedSnapshot, info.Size()-r.n)
	}
	if err != nil {
		return nil, 0, userFault{fmt.Errorf("%s: byte %d of %d: %w", path, r.n, info.Size(), err)}
	}
	return state, info.Size(), nil
}

// countingReader knows how far it was read.
type countingReader struct {
	r io.Reader
	n int64
}

// Read implements io.Reader.
func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// backupJob is one job of a backup as it is printed.
type backupJob struct {
	ID           string `json:"id"`
	Status       string `json:"status"`
	Generation   uint64 `json:"generation"`
	Version      uint64 `json:"version"`
	Trajectories uint64 `json:"trajectories"`
	StateHash    string `json:"state_hash"`
}

func backupJobs(state *fsm.State) []backupJob {
	out := []backupJob{}
	for _, j := range state.Jobs() {
		out = append(out, backupJob{
			ID: j.ID, Status: string(j.Status), Generation: j.Generation, Version: j.Version,
			Trajectories: j.Trajectories(), StateHash: hex.EncodeToString(j.StateHash[:]),
		})
	}
	return out
}

func printBackup(out io.Writer, asJSON bool, path string, size int64, state *fsm.State) error {
	if asJSON {
		return json.NewEncoder(out).Encode(map[string]any{
			"file": path, "bytes": size, "cluster_id": state.ClusterID(), "index": state.Index(), "jobs": backupJobs(state),
		})
	}
	fmt.Fprintf(out, "%s: %d bytes, cluster %s, log index %d: intact\n", path, size, state.ClusterID(), state.Index())
	return printJobs(out, backupJobs(state))
}

func printJobs(out io.Writer, jobs []backupJob) error {
	if len(jobs) == 0 {
		fmt.Fprintln(out, "no jobs")
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "\nJOB\tSTATUS\tGENERATION\tVERSION\tTRAJECTORIES\tSTATE")
	for _, j := range jobs {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%.16s\n", j.ID, j.Status, j.Generation, j.Version, j.Trajectories, j.StateHash)
	}
	return w.Flush()
}

// transfer shows on a terminal how far a backup is; elsewhere it is silent.
type transfer struct {
	out   io.Writer // nil: silent
	total int64
	shown time.Time
}

func newTransfer(out io.Writer) *transfer {
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &transfer{out: out}
	}
	return &transfer{}
}

func (t *transfer) begin(total int64) { t.total = max(t.total, total) }

func (t *transfer) at(n int64) {
	if t.out == nil || time.Since(t.shown) < 100*time.Millisecond {
		return
	}
	t.shown = time.Now()
	if t.total > 0 {
		fmt.Fprintf(t.out, "\r\033[K%.1f of %.1f MiB", float64(n)/(1<<20), float64(max(n, t.total))/(1<<20))
	} else {
		fmt.Fprintf(t.out, "\r\033[K%.1f MiB", float64(n)/(1<<20))
	}
}

func (t *transfer) note(text string) {
	if t.out != nil {
		fmt.Fprintf(t.out, "\r\033[K%s", text)
	}
}

func (t *transfer) end() { t.note("") }
