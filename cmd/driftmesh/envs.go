package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/plugin"
	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/fielderr"
)

func newEnvsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "envs",
		Short: "List, describe and draw the environments",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newEnvsListCmd(), newEnvsDescribeCmd(), newEnvsDrawCmd())
	return cmd
}

func newEnvsListCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the environments with their parameters",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return writeEnvJSON(cmd.OutOrStdout(), registry.List())
			}
			return writeEnvTable(cmd.OutOrStdout(), registry.List())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newEnvsDescribeCmd() *cobra.Command {
	var (
		asJSON   bool
		settings []string
		allow    []string
	)
	cmd := &cobra.Command{
		Use:   "describe NAME",
		Short: "Print the exact facts about an environment",
		Long: `Print the exact facts about an environment: its number of objects, its longest
trajectory, log Z, modes and largest reward, as far as they are known. As JSON the
number of objects is "cells".`,
		Example: `  driftmesh envs describe hypergrid --set dim=3 --set height=9 --set r0=0.05 --json
  driftmesh envs describe plugin --set 'command=[python3, env.py]' --allow-plugins examples/python`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return openEnv(cmd, args[0], settings, allow, func(env envs.Env, params map[string]any) error {
				d := envDescription{Name: args[0], Params: params, Facts: envs.FactsOf(env), points: env.Spec().ActionDim}
				if asJSON {
					return writeEnvJSON(cmd.OutOrStdout(), d)
				}
				return d.writeText(cmd.OutOrStdout())
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON; facts that are not known are null")
	addEnvFlags(cmd, &settings, &allow)
	return cmd
}

func addEnvFlags(cmd *cobra.Command, settings, allow *[]string) {
	// An array, not a slice: a value may contain commas.
	cmd.Flags().StringArrayVar(settings, "set", nil, "set a parameter, as `name=value`; may be repeated")
	addAllowPlugins(cmd.Flags(), allow, noPlugins)
}

// openEnv hands an environment and all its parameters to use. One of a plugin is listed
// where it is small enough, and its program runs until use returns.
func openEnv(cmd *cobra.Command, name string, settings, allow []string, use func(envs.Env, map[string]any) error) error {
	given, err := parseEnvSettings(settings)
	if err != nil {
		return err
	}
	if name == plugin.Name && given["command"] == nil {
		return fielderr.New("params.command", nil, "a program of a folder that --allow-plugins names, such as --set 'command=[python3, env.py]' --allow-plugins DIR")
	}
	return permitted(cmd, allow, func() error {
		env, params, err := registry.Open(name, given)
		if err != nil {
			return err
		}
		if l, ok := env.(envs.Lister); ok {
			listed, err := l.List(cmd.Context(), envs.MaxStates)
			if err == nil {
				env = listed
			} else if !errors.Is(err, envs.ErrNotEnumerable) {
				return err
			}
		}
		return use(env, params)
	})
}

// envDescription is what `envs describe` prints.
type envDescription struct {
	Name   string         `json:"name"`
	Params map[string]any `json:"params"`
	envs.Facts
	points int // coordinates of an object that is a point; 0 for others
}

func (d envDescription) writeText(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "%s\n\n", d.Name)
	names := make([]string, 0, len(d.Params))
	for name := range d.Params {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(table, "  %s\t%v\n", name, d.Params[name])
	}
	fmt.Fprintln(table)
	row := func(name string, v *float64) {
		text := "unknown or none"
		if v != nil {
			text = strconv.FormatFloat(*v, 'g', -1, 64)
		}
		fmt.Fprintf(table, "  %s\t%s\n", name, text)
	}
	if d.points > 0 {
		fmt.Fprintf(table, "  objects\tpoints of R^%d\n", d.points)
	} else {
		row("objects", d.Cells)
	}
	fmt.Fprintf(table, "  max_steps\t%d\n", d.MaxSteps)
	row("log_z", d.LogZ)
	row("modes", d.Modes)
	row("max_reward", d.MaxReward)
	return table.Flush()
}

func writeEnvTable(w io.Writer, list []registry.Info) error {
	for i, info := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s: %s\n\n", info.Name, info.Summary)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(table, "  parameter\ttype\tdefault\tmeaning\n")
		for _, p := range info.Params {
			fmt.Fprintf(table, "  %s\t%s\t%v\t%s\n", p.Name, p.Type, p.Default, p.Doc)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func writeEnvJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// parseEnvSettings reads name=value settings; values are YAML scalars, so that
// the flag and a job file give a parameter the same type.
func parseEnvSettings(settings []string) (map[string]any, error) {
	out := make(map[string]any, len(settings))
	for _, s := range settings {
		name, text, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, fielderr.New("--set", s, "name=value, such as height=8")
		}
		if _, twice := out[name]; twice {
			return nil, fielderr.New("--set", s, fmt.Sprintf("one value for %s", name))
		}
		var value any
		if err := yaml.Unmarshal([]byte(text), &value); err != nil || value == nil {
			return nil, fielderr.New("--set", s, "a number or text after the equals sign")
		}
		out[name] = signed(value)
	}
	return out, nil
}

// signed is a YAML value with its whole numbers as job files have them.
func signed(value any) any {
	switch v := value.(type) {
	case uint64:
		if v <= math.MaxInt64 {
			return int64(v)
		}
	case []any:
		for i := range v {
			v[i] = signed(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = signed(v[name])
		}
	}
	return value
}
