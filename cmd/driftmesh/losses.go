package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/losses"
)

// newLossesCmd returns `driftmesh losses`: the family as a table, as plots,
// and as numbers.
func newLossesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "losses",
		Short: "List, plot and evaluate the f-TB family of losses",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLossesListCmd(), newLossesPlotCmd(), newLossesEvalCmd(), newLossesTableCmd())
	return cmd
}

func newLossesListCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Print the members with their g', behaviour and effective alpha",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), losses.Table())
			}
			return printLosses(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printLosses(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "MEMBER\tg'(δ)\tALPHA\tON-POLICY BEHAVIOUR")
	for _, row := range losses.Table() {
		a := "–"
		if row.EffectiveAlpha != nil {
			a = fmt.Sprintf("%g", *row.EffectiveAlpha)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", row.Example, row.Slope, a, row.Behaviour)
	}
	fmt.Fprintln(tw, "custom:g1=tanh(delta)\texpression of delta\t–\tyours; custom:f2=<expression of u> gives f''(u)")
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nb = 1 − alpha. Modifiers follow after commas: temper:β (g(βδ)/β²), temper_linear:β (g(βδ)/β), tail:k (linear beyond |δ| = k).\n%s\n",
		losses.Convention)
	return err
}

func newLossesEvalCmd() *cobra.Command {
	var delta, batch []float64
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "eval SPEC",
		Short:   "Evaluate g, g' and g'' at residuals, and the optimal normaliser of a batch",
		Example: "  driftmesh losses eval alpha:0.5 --delta=-1.5,0,2 --batch=0.1,-0.4,2 --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := evaluateLoss(args[0], delta, batch)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), e)
			}
			return e.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().Float64SliceVar(&delta, "delta", nil, "residuals δ at which to evaluate")
	cmd.Flags().Float64SliceVar(&batch, "batch", nil, "residuals (log Z = 0) of a batch whose optimal normaliser c to find")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// lossEvaluation is the answer of `losses eval`. Numbers that do not exist are null.
type lossEvaluation struct {
	Name           string     `json:"name"`
	Behaviour      string     `json:"behaviour"`
	EffectiveAlpha *float64   `json:"effective_alpha"`
	Delta          []float64  `json:"delta"`
	G              []*float64 `json:"g"`
	G1             []*float64 `json:"g1"`
	G2             []*float64 `json:"g2"`
	C              *float64   `json:"c"`
}

func evaluateLoss(spec string, delta, batch []float64) (*lossEvaluation, error) {
	d, err := losses.Parse(spec)
	if err != nil {
		return nil, err
	}
	if err := checkFinite("delta", delta); err != nil {
		return nil, err
	}
	if err := checkFinite("batch", batch); err != nil {
		return nil, err
	}
	e := &lossEvaluation{
		Name: d.Name(), Behaviour: d.Behaviour(), Delta: append([]float64{}, delta...),
		G: make([]*float64, len(delta)), G1: make([]*float64, len(delta)), G2: make([]*float64, len(delta)),
	}
	if a, ok := d.EffectiveAlpha(); ok {
		e.EffectiveAlpha = &a
	}
	for i, x := range delta {
		e.G[i], e.G1[i] = existing(d.G(x)), existing(d.G1(x))
		if d.Smooth() {
			e.G2[i] = existing(d.G2(x))
		}
	}
	if len(batch) > 0 {
		e.C = existing(losses.Optimal(d, batch, nil))
	}
	return e, nil
}

func checkFinite(flag string, values []float64) error {
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fielderr.New("--"+flag, v, "finite numbers")
		}
	}
	return nil
}

func existing(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

func (e *lossEvaluation) print(w io.Writer) error {
	fmt.Fprintf(w, "%s: %s\n", e.Name, e.Behaviour)
	if e.EffectiveAlpha != nil {
		fmt.Fprintf(w, "effective alpha %g (%s)\n", *e.EffectiveAlpha, losses.Convention)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(e.Delta) > 0 {
		fmt.Fprintln(tw, "δ\tg\tg'\tg''")
	}
	for i, x := range e.Delta {
		fmt.Fprintf(tw, "%g\t%s\t%s\t%s\n", x, orDash(e.G[i]), orDash(e.G1[i]), orDash(e.G2[i]))
	}
	if e.C != nil {
		fmt.Fprintf(tw, "c of the batch\t%s\n", orDash(e.C))
	}
	return tw.Flush()
}

func orDash(v *float64) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf("%.12g", *v)
}

func newLossesPlotCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:     "plot [members…]",
		Short:   "Draw g, g' and f of members as SVG, PNG or HTML",
		Example: "  driftmesh losses plot hellinger forward_kl,tail:3 --out losses.html",
		RunE: func(cmd *cobra.Command, args []string) error {
			var members []losses.Divergence
			if len(args) == 0 {
				args = []string{"reverse_kl", "forward_kl", "hellinger", "jensen_shannon", "huber:1", "triangular"}
			}
			for _, spec := range args {
				d, err := losses.Parse(spec)
				if err != nil {
					return err
				}
				members = append(members, d)
			}
			return plotToFile(cmd.OutOrStdout(), members, out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "losses.svg", "file to write; its ending chooses svg, png or html")
	return cmd
}

func plotToFile(w io.Writer, members []losses.Divergence, path string) error {
	format := strings.TrimPrefix(strings.ToLower(filepath.Ext(path)), ".")
	data, err := drawLosses(members, format)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return fmt.Errorf("write plot: %w", err)
	}
	_, err = fmt.Fprintf(w, "wrote %s (%d members)\n", path, len(members))
	return err
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
