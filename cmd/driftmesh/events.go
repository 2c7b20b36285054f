package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// eventsFlags say which events are shown, and how.
type eventsFlags struct {
	servers []string
	job     string
	since   string
	format  string
	follow  bool
}

func newEventsCmd() *cobra.Command {
	var f eventsFlags
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happened in a cluster, and why",
		Long: `Show what happened in a cluster, and why: nodes that joined, died, left or were
promoted, jobs that were submitted, granted, paused and finished, sessions that
opened and expired. Every server tells the same history, whose last part the
cluster keeps. With --follow it goes on, across the loss of any server, with
each event once and in order.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			since, err := f.check(time.Now())
			if err != nil {
				return err
			}
			return f.run(cmd.Context(), cmd.OutOrStdout(), since)
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.servers, "server", []string{"127.0.0.1:7400"}, "gRPC `address` of any server (repeatable)")
	fl.StringVar(&f.job, "job", "", "only events of this `job`")
	fl.StringVar(&f.since, "since", "", "only events since then: a `time` such as 2026-01-31T12:00:00Z, or an age such as 10m")
	fl.StringVar(&f.format, "format", "text", "`form` of a line: text or json")
	fl.BoolVarP(&f.follow, "follow", "f", false, "go on with the events to come")
	return cmd
}

// check finds what is wrong with the flags and returns the time that --since
// means, zero for all.
func (f *eventsFlags) check(now time.Time) (since time.Time, err error) {
	var errs []error
	if f.format != "text" && f.format != "json" {
		errs = append(errs, fielderr.New("--format", f.format, "text or json"))
	}
	if f.since != "" {
		if age, err := time.ParseDuration(f.since); err == nil && age >= 0 {
			since = now.Add(-age)
		} else if since, err = time.Parse(time.RFC3339, f.since); err != nil {
			errs = append(errs, fielderr.New("--since", f.since, "a time such as 2026-01-31T12:00:00Z, or an age such as 10m"))
		}
	}
	return since, errors.Join(errs...)
}

// run prints events until there are no more, or with --follow until ctx ends.
// Whatever server answers, each event is printed once and in order: the next
// one is asked for what is after the last.
func (f *eventsFlags) run(ctx context.Context, out io.Writer, since time.Time) error {
	leader, known, err := (&clientFlags{servers: f.servers}).connect(ctx)
	if err != nil {
		return err
	}
	defer leader.Close()
	req := wire.EventsRequest{ClusterID: known.ClusterID, Job: f.job, Follow: f.follow}
	addrs := f.servers
	for _, s := range known.Servers { // when the one that was named dies
		if s.Alive {
			addrs = append(addrs, s.Addr)
		}
	}
	for {
		ask := func(ctx context.Context, c *cluster.Client) error {
			return readEvents(ctx, c, &req, func(e wire.EventInfo) error {
				if e.Stamp < since.UnixNano() && !since.IsZero() {
					return nil
				}
				return printEvent(out, f.format, e)
			})
		}
		err := tryServers(ctx, leader, addrs, ask)
		switch {
		case err == nil && !f.follow:
			return nil
		case ctx.Err() != nil && f.follow:
			return nil // Ctrl-C is how following ends
		case err != nil && !(f.follow && errors.Is(err, cluster.ErrUnavailable)):
			return err
		}
	}
}

// readEvents tells of the events that one server streams, and moves req after
// them. A server that ends the stream of a follower has gone: ErrUnavailable.
func readEvents(ctx context.Context, c *cluster.Client, req *wire.EventsRequest, tell func(wire.EventInfo) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Events(ctx, req)
	if err != nil {
		return err
	}
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if req.Follow {
				return fmt.Errorf("%w: the server ended the stream", cluster.ErrUnavailable)
			}
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range reply.Events {
			if e.Index <= req.After {
				continue // a server that tells of what it was not asked for
			}
			if err := tell(e); err != nil {
				return err
			}
		}
		req.After = max(req.After, reply.Index)
	}
}

func printEvent(out io.Writer, format string, e wire.EventInfo) error {
	if format == "json" {
		return json.NewEncoder(out).Encode(e)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %-17s", time.Unix(0, e.Stamp).UTC().Format("2006-01-02T15:04:05.000Z"), e.Kind)
	for _, field := range []struct {
		name  string
		value string
	}{
		{"job", e.Job}, {"node", e.Node}, {"epoch", number(e.Epoch)}, {"version", number(e.Version)},
	} {
		if field.value != "" {
			fmt.Fprintf(&b, "  %s=%s", field.name, field.value)
		}
	}
	if e.Detail != "" {
		fmt.Fprintf(&b, "  %s", e.Detail)
	}
	_, err := fmt.Fprintln(out, b.String())
	return err
}

// number prints a count; an event without it has 0.
func number(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}
