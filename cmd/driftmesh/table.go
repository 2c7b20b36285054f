package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/paramserver"
)

// tableMembers are the members of the default table. Where the bare member
// needs one, the tail is its one documented override: everything else is the
// shared setting of the job file.
var tableMembers = []string{
	"reverse_kl", "hellinger", "alpha:0.75", "forward_kl,tail:5", "jensen_shannon",
	"jeffreys,tail:5", "huber:1", "log_cosh", "triangular",
	"pearson_chi2", "neyman_chi2", "shifted_cosh", "total_variation",
}

type tableFlags struct {
	members, normalisers, sets []string
	lags                       []int
	seeds, parallel            int
	out                        string
	json                       bool
}

// cell is one entry of the table: a member under a normaliser at a lag.
type cell struct {
	Member     string `json:"member"`
	Normaliser string `json:"normaliser"`
	Lag        int    `json:"lag"`
	// TV per seed at the end of training, exact; null where training diverged.
	TV       []runs.Float `json:"tv"`
	Median   runs.Float   `json:"median"`
	Modes    []int        `json:"modes_held"`
	Diverged int          `json:"diverged"`
	Refused  string       `json:"refused,omitempty"` // the family has no such combination
}

func newLossesTableCmd() *cobra.Command {
	var f tableFlags
	cmd := &cobra.Command{
		Use:   "table JOB.yaml",
		Short: "Train a job per member, normaliser and lag, and print the exact TV",
		Long: `Train a job in this process once per member, normaliser, lag and seed, with
everything else as the job file says, and print the median exact TV over the
seeds. Every cell is published: a diverged one counts as such.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cells, err := lossTable(cmd, &f, args[0])
			if err != nil {
				return err
			}
			return f.publish(cmd.OutOrStdout(), cells)
		},
	}
	fl := cmd.Flags()
	// An array, not a comma-separated slice: members contain commas.
	fl.StringArrayVar(&f.members, "member", tableMembers, "`member` of the family (repeatable)")
	fl.StringSliceVar(&f.normalisers, "normalisers", []string{"learned"}, "normalisers, or all")
	fl.IntSliceVar(&f.lags, "lags", []int{0, 50}, "lags in updates")
	fl.IntVar(&f.seeds, "seeds", 3, "seeds per cell, from the job's on")
	fl.IntVar(&f.parallel, "parallel", runtime.NumCPU(), "runs at once")
	fl.StringArrayVar(&f.sets, "set", nil, "override a field of the job by `path=value` (repeatable)")
	fl.StringVar(&f.out, "out", "", "folder for table.json and table.md")
	fl.BoolVar(&f.json, "json", false, "as JSON")
	// As --help says them: on one line, and the same on every machine.
	fl.Lookup("member").DefValue = "a dozen, with a tail where one is needed"
	fl.Lookup("parallel").DefValue = "one per CPU"
	return cmd
}

// lossTable trains every cell, several at once. Results do not depend on how many.
func lossTable(cmd *cobra.Command, f *tableFlags, path string) ([]*cell, error) {
	if f.seeds < 1 || f.seeds > 1000 {
		return nil, fielderr.New("--seeds", f.seeds, "1 to 1000")
	}
	if f.parallel < 1 {
		return nil, fielderr.New("--parallel", f.parallel, "at least 1")
	}
	spec, src, err := job.Load(path, f.sets)
	if err != nil {
		return nil, err
	}
	if slices.Equal(f.normalisers, []string{"all"}) {
		f.normalisers = nil
		for _, n := range losses.Normalisers() {
			f.normalisers = append(f.normalisers, string(n))
		}
	}
	var cells []*cell
	type task struct {
		cell *cell
		seed int
		spec job.Spec
	}
	var tasks []task
	for _, n := range f.normalisers {
		for _, m := range f.members {
			for _, lag := range f.lags {
				c := &cell{Member: m, Normaliser: n, Lag: lag, TV: make([]runs.Float, f.seeds), Modes: make([]int, f.seeds)}
				cells = append(cells, c)
				one := *spec
				one.Loss.Divergence, one.Loss.Normaliser, one.Train.Lag = m, n, lag
				one.Eval.Every = 0
				err := one.Validate() // an objective may not take all members
				if err == nil {
					_, err = paramserver.NewUpdater(&one)
				}
				var fault *fielderr.Error
				switch {
				case errors.As(err, &fault) && fault.Path == "loss.normaliser":
					c.Refused = fault.Want // such as leave_one_out outside the alpha family
					continue
				case err != nil:
					return nil, src.Locate(err)
				}
				for seed := range f.seeds {
					one.Seed = spec.Seed + uint64(seed)
					tasks = append(tasks, task{c, seed, one})
				}
			}
		}
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		done  int
		first error
		queue = make(chan task)
	)
	for range f.parallel {
		wg.Go(func() {
			for t := range queue {
				err := trainCell(cmd.Context(), t.cell, t.seed, &t.spec)
				mu.Lock()
				done++
				if err != nil && first == nil {
					first = err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d: %s, %s, lag %d, seed %d: TV %.4f\n", done, len(tasks), t.cell.Member, t.cell.Normaliser, t.cell.Lag, t.spec.Seed, float64(t.cell.TV[t.seed]))
				mu.Unlock()
			}
		})
	}
	for _, t := range tasks {
		if cmd.Context().Err() != nil {
			break
		}
		queue <- t
	}
	close(queue)
	wg.Wait()
	for _, c := range cells {
		c.summarise()
	}
	return cells, first
}

// trainCell fills one seed of a cell. Divergence is a result, not an error.
func trainCell(ctx context.Context, c *cell, seed int, spec *job.Spec) error {
	u, err := paramserver.NewUpdater(spec)
	if err != nil {
		return err
	}
	if u.Exact(ctx) == nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fielderr.New("env", spec.Env.Name, "an environment small enough for exact evaluation")
	}
	if err := u.OpenData(); err != nil { // a fault, and no divergence
		return userFault{err}
	}
	r, err := newLocalRun(ctx, spec, u)
	if err != nil {
		return err
	}
	r.onRow = func(row runs.Row, _ runs.Timing) error {
		c.TV[seed] = *row.TV
		if row.ModesHeld != nil {
			c.Modes[seed] = *row.ModesHeld
		}
		return nil
	}
	err = r.train(ctx)
	if hasDiverged(err) {
		c.TV[seed] = runs.Float(math.NaN())
		return nil
	}
	return err
}

func (c *cell) summarise() {
	if c.Refused != "" {
		c.TV, c.Median = nil, runs.Float(math.NaN())
		return
	}
	var finite []runs.Float
	for _, tv := range c.TV {
		if tv == tv {
			finite = append(finite, tv)
		} else {
			c.Diverged++
		}
	}
	// A diverged run counts as worse than any other.
	slices.Sort(finite)
	c.Median = runs.Float(math.NaN())
	if at := (len(c.TV) - 1) / 2; at < len(finite) {
		c.Median = finite[at]
	}
}

func (c *cell) text() string {
	switch {
	case c.Refused != "":
		return "–"
	case c.Median != c.Median:
		return "diverged"
	case c.Diverged > 0:
		return fmt.Sprintf("%.4f (%d diverged)", float64(c.Median), c.Diverged)
	}
	return fmt.Sprintf("%.4f", float64(c.Median))
}

// publish prints the table, and writes it to a folder if there is one.
func (f *tableFlags) publish(out io.Writer, cells []*cell) error {
	data, err := json.MarshalIndent(cells, "", "  ")
	if err != nil {
		return err
	}
	if f.out != "" {
		if err := os.MkdirAll(f.out, 0o755); err != nil {
			return err
		}
		var md bytes.Buffer
		f.grid(&md, cells, "| ", " | ", " |")
		if err := errors.Join(
			atomicfile.WriteBytes(filepath.Join(f.out, "table.json"), 0o644, append(data, '\n')),
			atomicfile.WriteBytes(filepath.Join(f.out, "table.md"), 0o644, md.Bytes()),
		); err != nil {
			return err
		}
	}
	if f.json {
		_, err := fmt.Fprintf(out, "%s\n", data)
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	f.grid(w, cells, "", "\t", "")
	return w.Flush()
}

// grid writes one line per member, one column per normaliser and lag.
func (f *tableFlags) grid(w io.Writer, cells []*cell, before, between, after string) {
	fmt.Fprintf(w, "%smember", before)
	columns := 0
	for _, n := range f.normalisers {
		for _, lag := range f.lags {
			fmt.Fprintf(w, "%s%s, lag %d", between, n, lag)
			columns++
		}
	}
	fmt.Fprintf(w, "%s\n", after)
	if before != "" {
		fmt.Fprint(w, "|---")
		for range columns {
			fmt.Fprint(w, "|---")
		}
		fmt.Fprintln(w, "|")
	}
	for _, m := range f.members {
		fmt.Fprintf(w, "%s%s", before, m)
		for _, n := range f.normalisers {
			for _, lag := range f.lags {
				i := slices.IndexFunc(cells, func(c *cell) bool { return c.Member == m && c.Normaliser == n && c.Lag == lag })
				fmt.Fprintf(w, "%s%s", between, cells[i].text())
			}
		}
		fmt.Fprintf(w, "%s\n", after)
	}
}
