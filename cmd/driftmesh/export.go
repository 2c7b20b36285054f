package main

import (
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/paramserver/archive"
)

// exportFormats by the end of a file's name.
var exportFormats = []string{"jsonl", "csv", "parquet"}

type exportFlags struct {
	clientFlags
	format   string
	out      string
	distinct bool
	least    float64
}

func newExportCmd() *cobra.Command {
	f := exportFlags{}
	cmd := &cobra.Command{
		Use:   "export (JOB | RUN)",
		Short: "Write the archived objects of a job or a run to a file",
		Long: `Write the archived objects of a job to a file, or as JSON lines or CSV to
standard output: every object that was listed when the export began, once. A
file is written whole or not at all. The job may go on meanwhile. Of a run of
driftmesh up that has ended, its folder is enough: no server need run.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return f.run(cmd.Context(), args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.servers, "server", []string{"127.0.0.1:7400"}, "gRPC `address` of any server (repeatable)")
	addOpenNetwork(fl, &f.open)
	fl.StringVar(&f.format, "format", "", "jsonl, csv or parquet; by default what the name of --out ends in, or jsonl")
	fl.StringVarP(&f.out, "out", "o", "", "`file` to write; by default standard output")
	fl.BoolVar(&f.distinct, "distinct", false, "only the first row of each object")
	fl.Float64Var(&f.least, "min-log-reward", math.Inf(-1), "only objects with at least this log-reward")
	return cmd
}

// check finds what is wrong with the flags, and the format that they mean.
func (f *exportFlags) check() error {
	var errs []error
	if f.format == "" {
		f.format = "jsonl"
		if end := strings.TrimPrefix(filepath.Ext(f.out), "."); slices.Contains(exportFormats, end) {
			f.format = end
		}
	}
	if !slices.Contains(exportFormats, f.format) {
		errs = append(errs, fielderr.New("--format", f.format, "jsonl, csv or parquet"))
	}
	if f.format == "parquet" && f.out == "" {
		errs = append(errs, fielderr.New("--out", nil, "a file: Parquet is not for standard output"))
	}
	if math.IsNaN(f.least) {
		errs = append(errs, fielderr.New("--min-log-reward", f.least, "a number"))
	}
	return errors.Join(errs...)
}

func (f *exportFlags) run(ctx context.Context, of string, out, notes io.Writer) error {
	src, err := openJob(ctx, &f.clientFlags, of)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := keepsArchive(ctx, src); err != nil {
		return err
	}
	p := &walkProgress{out: notes, began: time.Now()}
	var written int64
	fill := func(w io.Writer) error {
		written = 0
		return f.write(ctx, src, w, p, &written)
	}
	if f.out == "" {
		return fill(out)
	}
	if err := atomicfile.Write(f.out, 0o644, fill); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s: %d of %d archived rows of job %s, version %d\n", f.out, written, p.total, p.job, p.version)
	return err
}

// keepsArchive refuses a job that has none, which is no empty one.
func keepsArchive(ctx context.Context, src archive.Source) error {
	m, err := src.Manifest(ctx)
	if err != nil || len(m.Segments) > 0 {
		return err
	}
	spec, err := job.FromJSON(m.Spec)
	if err != nil {
		return err
	}
	if policy, err := job.ParseArchive(spec.Mesh.Archive); err != nil || policy.Keep == job.ArchiveOff {
		return errors.Join(err, userFault{fmt.Errorf("job %s keeps no archive: mesh.archive is %s", m.Job, spec.Mesh.Archive)})
	}
	return nil
}

// write streams the rows that are wanted.
func (f *exportFlags) write(ctx context.Context, src archive.Source, w io.Writer, p *walkProgress, written *int64) error {
	to, err := newRowWriter(f.format, w)
	if err != nil {
		return err
	}
	seen := map[[16]byte]struct{}{}
	err = archive.Walk(ctx, src, p.begin, func(r *archive.Row) error {
		p.row()
		if r.LogReward < f.least || f.distinct && !novel(seen, r.Object) {
			return nil
		}
		*written++
		return to.row(r)
	})
	p.end()
	return errors.Join(err, to.close())
}

// novel enters a text, by half of its SHA-256.
func novel(seen map[[16]byte]struct{}, text string) bool {
	sum := sha256.Sum256([]byte(text))
	key := [16]byte(sum[:])
	_, known := seen[key]
	seen[key] = struct{}{}
	return !known
}

// rowWriter writes rows in one format.
type rowWriter interface {
	row(*archive.Row) error
	close() error
}

func newRowWriter(format string, w io.Writer) (rowWriter, error) {
	switch format {
	case "csv":
		c := &csvRows{w: csv.NewWriter(w)}
		return c, c.w.Write(exportColumns)
	case "parquet":
		return &parquetRows{w: archive.NewWriter(w)}, nil
	}
	return &jsonRows{json.NewEncoder(w)}, nil
}

// exportColumns are the names of a row's fields, the same in every format.
var exportColumns = []string{"object", "log_reward", "version", "time", "worker", "session", "seq"}

const exportTime = "2006-01-02T15:04:05.000000Z07:00"

type jsonRows struct{ enc *json.Encoder }

func (j *jsonRows) row(r *archive.Row) error {
	return j.enc.Encode(struct {
		Object    string  `json:"object"`
		LogReward float64 `json:"log_reward"`
		Version   int64   `json:"version"`
		Time      string  `json:"time"`
		Worker    string  `json:"worker"`
		Session   string  `json:"session"`
		Seq       int64   `json:"seq"`
	}{r.Object, r.LogReward, r.Version, time.UnixMicro(r.Time).UTC().Format(exportTime), r.Worker, r.Session, r.Seq})
}

func (j *jsonRows) close() error { return nil }

type csvRows struct{ w *csv.Writer }

func (c *csvRows) row(r *archive.Row) error {
	return c.w.Write([]string{
		r.Object, strconv.FormatFloat(r.LogReward, 'g', -1, 64), strconv.FormatInt(r.Version, 10),
		time.UnixMicro(r.Time).UTC().Format(exportTime), r.Worker, r.Session, strconv.FormatInt(r.Seq, 10),
	})
}

func (c *csvRows) close() error {
	c.w.Flush()
	return c.w.Error()
}

// parquetRows hands rows over in batches.
type parquetRows struct {
	w     *parquet.GenericWriter[archive.Row]
	batch []archive.Row
}

func (p *parquetRows) row(r *archive.Row) error {
	if p.batch = append(p.batch, *r); len(p.batch) < 1024 {
		return nil
	}
	return p.flush()
}

func (p *parquetRows) flush() error {
	_, err := p.w.Write(p.batch)
	p.batch = p.batch[:0]
	return err
}

func (p *parquetRows) close() error { return errors.Join(p.flush(), p.w.Close()) }

// walkProgress tells how far the reading of an archive is: on a terminal in
// place, elsewhere a line now and then.
type walkProgress struct {
	out     io.Writer
	began   time.Time
	total   int64
	job     string
	version uint64
	done    int64
	shown   time.Time
	inPlace bool
}

func (p *walkProgress) begin(m *archive.Manifest) {
	p.total, p.job, p.version = m.Rows, m.Job, m.Version
	if f, ok := p.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.inPlace = true
	}
	p.shown = p.began
}

func (p *walkProgress) row() {
	if p.done++; p.done%1024 != 0 {
		return
	}
	every := 10 * time.Second
	if p.inPlace {
		every = 100 * time.Millisecond
	}
	now := time.Now()
	if now.Sub(p.shown) < every {
		return
	}
	p.shown = now
	rate := float64(p.done) / now.Sub(p.began).Seconds()
	left := time.Duration(float64(p.total-p.done) / rate * float64(time.Second)).Round(time.Second)
	text := fmt.Sprintf("%d of %d rows, %.0f rows/s, %s left", p.done, p.total, rate, left)
	if p.inPlace {
		fmt.Fprintf(p.out, "\r\033[K%s", text)
	} else {
		fmt.Fprintln(p.out, text)
	}
}

func (p *walkProgress) end() {
	if p.inPlace {
		fmt.Fprint(p.out, "\r\033[K")
	}
}
