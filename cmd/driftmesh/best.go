package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/plugin"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/archive"
	"github.com/driftmesh/driftmesh/paramserver/replay"
)

type bestFlags struct {
	clientFlags
	n        int
	archive  bool
	distinct bool
	diverse  bool
	distance float64
	allow    []string // folders of plugins
}

func newBestCmd() *cobra.Command {
	var f bestFlags
	cmd := &cobra.Command{
		Use:   "best (JOB | RUN)",
		Short: "Show the best objects of a job or a run",
		Long: `Show the best distinct objects of a job, as the servers have them, or of a
run's folder. The servers keep up to a thousand; with --archive the job's whole
archive is read. --diverse shows the best object, then the best of those that
are at least --min-distance away from it, and so on: the distance of two objects
is the share of the active features in which they differ, on a hypergrid or a
mixture of the coordinates.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd.Flags().Changed("min-distance")); err != nil {
				return err
			}
			return permitted(cmd, f.allow, func() error { return f.run(cmd, args[0]) })
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	addAllowPlugins(fl, &f.allow, noPlugins)
	fl.IntVarP(&f.n, "n", "n", 10, "objects to show")
	fl.BoolVar(&f.archive, "archive", false, "read the job's whole archive")
	fl.BoolVar(&f.distinct, "distinct", true, "each object once; --distinct=false with --archive shows every row")
	fl.BoolVar(&f.diverse, "diverse", false, "only objects that are far from all better ones")
	fl.Float64Var(&f.distance, "min-distance", 0.5, "with --diverse: least `distance` between two objects, above 0 and at most 1")
	return cmd
}

func (f *bestFlags) check(distance bool) error {
	var errs []error
	if f.n < 1 || f.n > maxCandidates {
		errs = append(errs, fielderr.New("--n", f.n, fmt.Sprintf("1 to %d", maxCandidates)))
	}
	if !(f.distance > 0 && f.distance <= 1) {
		errs = append(errs, fielderr.New("--min-distance", f.distance, "above 0 and at most 1"))
	}
	if distance && !f.diverse {
		errs = append(errs, fielderr.New("--min-distance", f.distance, "--diverse beside it"))
	}
	if !f.distinct && (f.diverse || !f.archive) {
		errs = append(errs, fielderr.New("--distinct", false, "--archive, and no --diverse: other lists have each object once"))
	}
	return errors.Join(errs...)
}

// bestObject is one object to show. The fields of an archived row are there where
// rows were read.
type bestObject struct {
	wire.ObjectInfo
	Worker  string `json:"worker,omitempty"`
	Session string `json:"session,omitempty"`
	Seq     int64  `json:"seq,omitempty"`
}

// bestOf is what best prints.
type bestOf struct {
	Job     string       `json:"job"`
	Version uint64       `json:"version"`
	From    string       `json:"from"` // state, archive or run
	Objects []bestObject `json:"objects"`
	spec    *job.Spec
}

func (f *bestFlags) run(cmd *cobra.Command, of string) error {
	var out *bestOf
	var err error
	if !exists(of, meshDir) && (strings.ContainsRune(of, os.PathSeparator) || holdsRun(of)) {
		out, err = f.ofRun(of)
	} else {
		out, err = f.ofJob(cmd.Context(), of, cmd.ErrOrStderr())
	}
	if err != nil {
		return err
	}
	slices.SortFunc(out.Objects, better)
	if f.diverse {
		if out.Objects, err = f.spread(out); err != nil {
			return err
		}
	}
	out.Objects = append([]bestObject{}, out.Objects[:min(f.n, len(out.Objects))]...)
	if f.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
	}
	return out.print(cmd.OutOrStdout())
}

// better orders by falling log-reward, then by text, then by age.
func better(a, b bestObject) int {
	return cmp.Or(cmp.Compare(b.LogReward, a.LogReward), cmp.Compare(a.Text, b.Text), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Session, b.Session), cmp.Compare(a.Seq, b.Seq))
}

// ofRun takes the objects of a run's checkpoint.
func (f *bestFlags) ofRun(path string) (*bestOf, error) {
	if f.archive {
		return nil, fielderr.New("--archive", true, "a job of a cluster, or a run of driftmesh up: driftmesh train keeps no archive")
	}
	spec, u, err := loadSampler(path)
	if err != nil {
		return nil, err
	}
	out := &bestOf{Job: spec.Name, Version: u.Version(), From: "run", spec: spec}
	for _, o := range u.Best() {
		out.Objects = append(out.Objects, bestObject{ObjectInfo: wire.ObjectInfo{Text: o.Text, LogReward: o.LogReward, Version: o.Version}})
	}
	return out, nil
}

func (f *bestFlags) ofJob(ctx context.Context, name string, notes io.Writer) (*bestOf, error) {
	src, err := openJob(ctx, &f.clientFlags, name)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	reply, err := src.best(ctx)
	if err != nil {
		return nil, err
	}
	spec, err := job.FromJSON(reply.Spec)
	if err != nil {
		return nil, err
	}
	out := &bestOf{Job: spec.Name, Version: reply.Version, From: "state", spec: spec}
	if !f.archive {
		for _, o := range reply.Objects {
			out.Objects = append(out.Objects, bestObject{ObjectInfo: o})
		}
		return out, nil
	}
	if err := keepsArchive(ctx, src); err != nil {
		return nil, err
	}
	out.From = "archive"
	p := &walkProgress{out: notes, began: time.Now()}
	c := candidates{distinct: f.distinct, at: map[string]int{}}
	err = archive.Walk(ctx, src, p.begin, func(r *archive.Row) error {
		p.row()
		c.add(bestObject{wire.ObjectInfo{Text: r.Object, LogReward: r.LogReward, Version: uint64(r.Version)}, r.Worker, r.Session, r.Seq})
		return nil
	})
	p.end()
	out.Version, out.Objects = p.version, c.list
	return out, err
}

// maxCandidates bounds the objects that are looked at together; of more than
// twice as many, the best are.
const maxCandidates = 1 << 19

// candidates keeps the best objects of a stream.
type candidates struct {
	distinct bool
	list     []bestObject
	at       map[string]int // by text
	floor    float64        // once some were dropped: what is below is of no use
	dropped  bool
}

func (c *candidates) add(o bestObject) {
	if c.dropped && o.LogReward < c.floor {
		return
	}
	if i, known := c.at[o.Text]; c.distinct && known {
		if o.LogReward > c.list[i].LogReward {
			c.list[i] = o
		}
		return
	}
	if c.distinct {
		c.at[o.Text] = len(c.list)
	}
	if c.list = append(c.list, o); len(c.list) < 2*maxCandidates {
		return
	}
	slices.SortFunc(c.list, better)
	c.list = slices.Clone(c.list[:maxCandidates])
	c.floor, c.dropped = c.list[maxCandidates-1].LogReward, true
	clear(c.at)
	if c.distinct {
		for i := range c.list {
			c.at[c.list[i].Text] = i
		}
	}
}

// spread picks from sorted objects, best first, those that are far from all that
// were picked before.
func (f *bestFlags) spread(of *bestOf) ([]bestObject, error) {
	env, err := registry.OfJob(of.spec)
	if err != nil {
		return nil, err
	}
	if envs.MarksOf(env).Features == 0 {
		return nil, fielderr.New("--diverse", true, "no --diverse: "+env.Spec().Name+" has no features to tell objects apart by")
	}
	return pickDiverse(env, of.Objects, f.n, f.distance)
}

func pickDiverse(env envs.Env, sorted []bestObject, n int, distance float64) ([]bestObject, error) {
	one, marks := env.NewStates(1), envs.MarksOf(env)
	var picked []bestObject
	var taken [][]int32
	for _, o := range sorted {
		if err := one.Parse(0, o.Text); err != nil {
			return nil, fmt.Errorf("object %.100q: %w", o.Text, err)
		}
		own := marks.Append(nil, one, 0)
		if slices.ContainsFunc(taken, func(x []int32) bool { return replay.Distance(x, own) < distance }) {
			continue
		}
		picked, taken = append(picked, o), append(taken, own)
		if len(picked) == n {
			break
		}
	}
	return picked, nil
}

func (b *bestOf) print(out io.Writer) error {
	from := map[string]string{"state": "the best the servers keep", "archive": "the best of the archive", "run": "the best of the run's checkpoint"}[b.From]
	fmt.Fprintf(out, "job %s, version %d: %s\n", b.Job, b.Version, from)
	if len(b.Objects) == 0 {
		fmt.Fprintln(out, "no objects yet")
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "\nLOG-REWARD\tOBJECT\tVERSION")
	for _, o := range b.Objects {
		fmt.Fprintf(w, "%.6g\t%s\t%d\n", o.LogReward, plugin.Printable(o.Text), o.Version)
	}
	return w.Flush()
}
