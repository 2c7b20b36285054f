package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// clientFlags say where a cluster is.
type clientFlags struct {
	servers []string
	json    bool
}

func (f *clientFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.servers, "server", []string{"127.0.0.1:7400"}, "gRPC address of any server (repeatable)")
	cmd.Flags().BoolVar(&f.json, "json", false, "as JSON")
}

// connect asks the first server that answers which cluster it is.
func (f *clientFlags) connect(cmd *cobra.Command) (*cluster.Leader, string, error) {
	var last error
	for _, addr := range f.servers {
		reply, err := ask(cmd, addr)
		if err == nil {
			leader := cluster.NewLeader(reply.ClusterID, func() []string { return f.servers }, cluster.DialOptions{})
			return leader, reply.ClusterID, nil
		}
		last = fmt.Errorf("%s: %w", addr, err)
	}
	return nil, "", last
}

func ask(cmd *cobra.Command, addr string) (*wire.StatusReply, error) {
	c, err := cluster.Dial(addr, cluster.DialOptions{})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Status(cmd.Context(), &wire.StatusRequest{})
}

func newSubmitCmd() *cobra.Command {
	var f clientFlags
	var sets []string
	cmd := &cobra.Command{
		Use:   "submit JOB.yaml",
		Short: "Submit a job to a running cluster",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, u, err := (&jobFlags{sets: sets}).load(args[0])
			if err != nil {
				return err
			}
			for _, w := range u.Warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", w)
			}
			leader, id, err := f.connect(cmd)
			if err != nil {
				return err
			}
			defer leader.Close()
			data, err := spec.JSON()
			if err != nil {
				return err
			}
			reply, err := cluster.CallIdempotent(cmd.Context(), leader, (*cluster.Client).Submit, &wire.SubmitRequest{ClusterID: id, Spec: data})
			if err != nil {
				return err
			}
			if f.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"job": reply.Job, "existed": reply.Existed})
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
	cmd.Flags().StringArrayVar(&sets, "set", nil, "override a field of the job (repeatable)")
	return cmd
}

func newStatusCmd() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "status [JOB]",
		Short: "Show a cluster's nodes and jobs",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			leader, id, err := f.connect(cmd)
			if err != nil {
				return err
			}
			defer leader.Close()
			req := &wire.StatusRequest{ClusterID: id}
			if len(args) == 1 {
				req.Job = args[0]
			}
			client, err := leader.Find(cmd.Context())
			if err != nil {
				return err
			}
			reply, err := client.Status(cmd.Context(), req)
			if err != nil {
				return err
			}
			if req.Job != "" && len(reply.Jobs) == 0 {
				return fmt.Errorf("job %q: %w", req.Job, cluster.ErrNotFound)
			}
			if f.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(reply)
			}
			return printStatus(cmd.OutOrStdout(), reply)
		},
	}
	f.add(cmd)
	return cmd
}

func printStatus(out io.Writer, s *wire.StatusReply) error {
	fmt.Fprintf(out, "cluster %s, term %d, applied index %d, leader %s\n", s.ClusterID, s.Term, s.Applied, s.Leader)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "\nNODE\tROLE\tADDRESS\tALIVE")
	for _, m := range append(append([]wire.MemberInfo(nil), s.Servers...), s.Workers...) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%v\n", m.ID, m.Role, m.Addr, m.Alive)
	}
	fmt.Fprintln(w, "\nJOB\tSTATUS\tVERSION\tOF\tTRAJECTORIES\tEPOCH\tLEARNER\tREASON")
	for _, j := range s.Jobs {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", j.ID, j.Status, j.Version, j.Updates, j.Trajectories, j.Epoch, j.LearnerAddr, j.Reason)
	}
	return w.Flush()
}

func newStopCmd() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "stop JOB",
		Short: "Stop a job; what is trained is committed first",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			leader, id, err := f.connect(cmd)
			if err != nil {
				return err
			}
			defer leader.Close()
			_, err = cluster.Call(cmd.Context(), leader, (*cluster.Client).Control, &wire.ControlRequest{ClusterID: id, Job: args[0], Verb: wire.VerbStop})
			if err != nil {
				return err
			}
			if f.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"job": args[0], "status": "stopped"})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "job %s stopped\n", args[0])
			return nil
		},
	}
	f.add(cmd)
	return cmd
}
