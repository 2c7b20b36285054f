package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// clientFlags say where a cluster is.
type clientFlags struct {
	servers []string
	json    bool
	open    bool // dial off loopback
}

func (f *clientFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.servers, "server", []string{"127.0.0.1:7400"}, "gRPC `address` of any server (repeatable)")
	cmd.Flags().BoolVar(&f.json, "json", false, "as JSON")
	addOpenNetwork(cmd.Flags(), &f.open)
}

func (f *clientFlags) security() cluster.Security { return cluster.Security{OpenNetwork: f.open} }

// connect asks the first server that answers which cluster it is. The reply is
// what that server knows.
func (f *clientFlags) connect(ctx context.Context) (*cluster.Leader, *wire.StatusReply, error) {
	var faults []error
	for _, addr := range f.servers {
		if err := checkAddr(f.security(), "--server", addr); err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) > 0 {
		return nil, nil, errors.Join(faults...)
	}
	var last error
	for _, addr := range f.servers {
		reply, err := ask(ctx, addr, f.security())
		if err == nil {
			leader := cluster.NewLeader(reply.ClusterID, func() []string { return f.servers }, cluster.DialOptions{Security: f.security()})
			return leader, reply, nil
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, nil, ctx.Err()
		}
		last = err
	}
	if errors.Is(last, cluster.ErrUnavailable) || errors.Is(last, context.DeadlineExceeded) {
		return nil, nil, fmt.Errorf("no server answers at %s (%w); is one running, and does --server name it?", strings.Join(f.servers, ", "), reason{last})
	}
	return nil, nil, fmt.Errorf("%s: %w", f.servers[len(f.servers)-1], last)
}

// answerTimeout bounds how long a client waits for a server, and for a leader
// to be elected.
const answerTimeout = 10 * time.Second

// drainTimeout bounds how long a job's last commit may take.
const drainTimeout = time.Minute

// reason shortens the text of a connection error to its end: gRPC wraps what
// the operating system said in several layers of quotation.
type reason struct{ error }

func (r reason) Unwrap() error { return r.error }

func (r reason) Error() string {
	text := strings.TrimRight(r.error.Error(), `"`)
	return strings.TrimSpace(text[strings.LastIndex(text, ": ")+1:])
}

func ask(ctx context.Context, addr string, security cluster.Security) (*wire.StatusReply, error) {
	c, err := cluster.Dial(addr, cluster.DialOptions{Security: security})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, answerTimeout/5) // a server that hangs must not hide the next
	defer cancel()
	return c.Status(ctx, &wire.StatusRequest{})
}

func newSubmitCmd() *cobra.Command {
	var f clientFlags
	var sets, allow []string
	cmd := &cobra.Command{
		Use:   "submit JOB.yaml",
		Short: "Submit a job to a running cluster",
		Long: `Submit a job to a running cluster: the job's file, or - for standard input. Relative
paths in the job are taken from the folder of the file, or from the working directory;
every node opens its own file at the whole path.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, src, err := job.Load(args[0], sets)
			if err != nil {
				return userFault{err}
			}
			var warnings []string
			err = permitted(cmd, besideJob(allow, args[0]), func() (err error) {
				warnings, _, err = paramserver.Check(spec)
				return err
			})
			if err != nil {
				return src.Locate(err)
			}
			for _, w := range warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", w)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), answerTimeout)
			defer cancel()
			leader, known, err := f.connect(ctx)
			if err != nil {
				return err
			}
			defer leader.Close()
			data, err := spec.JSON()
			if err != nil {
				return err
			}
			reply, err := cluster.CallIdempotent(ctx, leader, (*cluster.Client).Submit, &wire.SubmitRequest{ClusterID: known.ClusterID, Spec: data})
			if err != nil {
				return err
			}
			if f.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"job": reply.Job, "existed": reply.Existed})
			}
			if reply.Existed && reply.Status != string(fsm.Running) {
				return userFault{fmt.Errorf("job %s was submitted before and is %s; driftmesh resume %s lets it go on", reply.Job, reply.Status, reply.Job)}
			}
			if reply.Existed {
				fmt.Fprintf(cmd.OutOrStdout(), "job %s was submitted before\n", reply.Job)
			} else {
				fmt.Fprintf(cmd.OutOrStdout(), "job %s submitted; driftmesh status shows it\n", reply.Job)
			}
			return nil
		},
	}
	f.add(cmd)
	addAllowPlugins(cmd.Flags(), &allow, "otherwise its folder")
	cmd.Flags().StringArrayVar(&sets, "set", nil, "override a field of the job by `path=value` (repeatable)")
	return cmd
}

func newStatusCmd() *cobra.Command {
	var f clientFlags
	var bias bool
	cmd := &cobra.Command{
		Use:   "status [JOB]",
		Short: "Show a cluster's nodes and jobs",
		Long: `Show a cluster's nodes and jobs. With --bias: what dropping or downweighting
stale trajectories does to the data that a job learns from, by log-reward, by
region of the environment and by worker, as of its last commit.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), answerTimeout)
			defer cancel()
			leader, known, err := f.connect(ctx)
			if err != nil {
				return err
			}
			defer leader.Close()
			req := &wire.StatusRequest{ClusterID: known.ClusterID}
			if len(args) == 1 {
				req.Job = args[0]
			}
			if bias {
				return showBias(ctx, cmd.OutOrStdout(), leader, req, f.json)
			}
			reply, err := newest(ctx, leader, known, req)
			if err != nil {
				return err
			}
			if req.Job != "" && len(reply.Jobs) == 0 {
				return fmt.Errorf("job %q: %w", req.Job, cluster.ErrNotFound)
			}
			if f.json {
				// Readers of JSON expect a list where a list may be.
				reply.Servers = append([]wire.MemberInfo{}, reply.Servers...)
				reply.Workers = append([]wire.MemberInfo{}, reply.Workers...)
				reply.Learners = append([]wire.MemberInfo{}, reply.Learners...)
				reply.Jobs = append([]wire.JobInfo{}, reply.Jobs...)
				return json.NewEncoder(cmd.OutOrStdout()).Encode(reply)
			}
			return printStatus(cmd.OutOrStdout(), reply)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&bias, "bias", false, "what stale trajectories that were dropped or downweighted do to the data of JOB")
	return cmd
}

// newest asks the leader; where there is none, which is when a status matters
// most, it asks the server that is known to answer.
func newest(ctx context.Context, leader *cluster.Leader, known *wire.StatusReply, req *wire.StatusRequest) (*wire.StatusReply, error) {
	if known.Leader != "" {
		brief, cancel := context.WithTimeout(ctx, answerTimeout/5)
		defer cancel()
		if reply, err := askAbout(brief, leader, known.Leader, req); err == nil {
			return reply, nil
		}
	}
	for _, s := range known.Servers {
		if s.ID == known.Node {
			return askAbout(ctx, leader, s.Addr, req)
		}
	}
	return known, nil
}

func askAbout(ctx context.Context, clients *cluster.Leader, addr string, req *wire.StatusRequest) (*wire.StatusReply, error) {
	c, err := clients.Client(addr)
	if err != nil {
		return nil, err
	}
	return c.Status(ctx, req)
}

func printStatus(out io.Writer, s *wire.StatusReply) error {
	fmt.Fprintf(out, "cluster %s, term %d, applied index %d, leader %s\n", s.ClusterID, s.Term, s.Applied, s.Leader)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "\nNODE\tROLE\tADDRESS\tALIVE")
	for _, m := range slices.Concat(s.Servers, s.Learners, s.Workers) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%v\n", m.ID, m.Role, m.Addr, m.Alive)
	}
	if len(s.Jobs) == 0 {
		fmt.Fprintln(w, "\nno jobs; driftmesh submit adds one")
		return w.Flush()
	}
	fmt.Fprintln(w, "\nJOB\tSTATUS\tVERSION\tOF\tTRAJECTORIES\tPRIORITY\tWEIGHT\tSLOTS\tEPOCH\tLEARNER\tREASON")
	for _, j := range s.Jobs {
		slots := "?" // only the leader knows
		if j.Slots != nil {
			slots = strconv.Itoa(*j.Slots)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%v\t%s\t%d\t%s\t%s\n",
			j.ID, j.Status, j.Version, j.Updates, j.Trajectories, j.Priority, j.Weight, slots, j.Epoch, j.LearnerAddr, j.Reason)
	}
	return w.Flush()
}

func newStopCmd() *cobra.Command {
	return newControlCmd(wire.VerbStop, "stopped", "Stop a job; what is trained is committed first")
}

func newPauseCmd() *cobra.Command {
	return newControlCmd(wire.VerbPause, "paused", "Pause a job; what is trained is committed first")
}

func newResumeCmd() *cobra.Command {
	return newControlCmd(wire.VerbResume, "running", "Let a stopped, paused or failed job go on at its committed version")
}

// newControlCmd is a verb that changes a job's status.
func newControlCmd(verb, becomes, short string) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   verb + " JOB",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), answerTimeout)
			defer cancel()
			leader, known, err := f.connect(ctx)
			if err != nil {
				return err
			}
			defer leader.Close()
			if _, err := leader.Find(ctx); err != nil {
				return err
			}
			// Once there is a leader, what is trained is committed first: a large
			// state takes its time.
			ctx, cancel = context.WithTimeout(cmd.Context(), drainTimeout)
			defer cancel()
			_, err = cluster.Call(ctx, leader, (*cluster.Client).Control, &wire.ControlRequest{ClusterID: known.ClusterID, Job: args[0], Verb: verb})
			if err != nil {
				return err
			}
			if f.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"job": args[0], "status": becomes})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "job %s is %s\n", args[0], becomes)
			return nil
		},
	}
	f.add(cmd)
	return cmd
}
