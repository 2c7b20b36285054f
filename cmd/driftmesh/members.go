package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/wire"
)

func newMembersCmd() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "members",
		Short: "Show who holds a cluster's log: voters, spares and learners",
		Long: `Show who holds a cluster's log: the voters, of which a majority must answer for
anything to be committed; non-voters, which are spare servers and learners; how far
the log of each reaches; and the feature level that its binary supports. Without a
leader any server answers with what it knows.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), answerTimeout)
			defer cancel()
			leader, known, err := f.connect(ctx)
			if err != nil {
				return err
			}
			defer leader.Close()
			reply, err := members(ctx, leader, known)
			if err != nil {
				return err
			}
			if f.json {
				reply.Members = append([]wire.LogMember{}, reply.Members...)
				return json.NewEncoder(cmd.OutOrStdout()).Encode(reply)
			}
			return printMembers(cmd.OutOrStdout(), reply)
		},
	}
	f.add(cmd)
	cmd.AddCommand(newMembersRemoveCmd())
	return cmd
}

// members asks the leader, or where there is none the server that answered.
func members(ctx context.Context, clients *cluster.Leader, known *wire.StatusReply) (*wire.MembersReply, error) {
	req := &wire.MembersRequest{ClusterID: known.ClusterID}
	addrs := []string{known.Leader}
	for _, s := range known.Servers {
		if s.ID == known.Node {
			addrs = append(addrs, s.Addr)
		}
	}
	var last error
	for _, addr := range addrs {
		if addr == "" {
			continue
		}
		c, err := clients.Client(addr)
		if err != nil {
			return nil, err
		}
		brief, cancel := context.WithTimeout(ctx, answerTimeout/5) // a server that hangs must not hide the next
		reply, err := c.Members(brief, req)
		cancel()
		if err == nil {
			return reply, nil
		}
		last = err
	}
	return nil, last
}

func printMembers(out io.Writer, r *wire.MembersReply) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tROLE\tSTANDING\tSTATE\tLAST INDEX\tLEVEL\tADDRESS")
	for _, m := range r.Members {
		standing, last, level := m.Standing, "-", "-"
		if m.ID == r.Leader {
			standing = "leader"
		}
		if m.LastIndex > 0 {
			last = fmt.Sprint(m.LastIndex)
		}
		if m.Level > 0 {
			level = fmt.Sprint(m.Level)
		}
		role := m.Role
		if role == "" {
			role = "?"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.ID, role, standing, m.State, last, level, m.GRPCAddr)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%d voters, of which %d answer; %d must agree. Feature level %d.\n",
		r.Quorum.Voters, r.Quorum.Alive, r.Quorum.Needed, r.Level)
	return err
}

func newMembersRemoveCmd() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "remove NODE",
		Short: "Take a node out of a cluster's log for good",
		Long: `Take a node out of a cluster's log for good, by its ID or the beginning of it. A
removal that would leave fewer voters than must agree is refused. Stop the node's
process too; to come back it needs an empty directory and --join.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), answerTimeout)
			defer cancel()
			leader, known, err := f.connect(ctx)
			if err != nil {
				return err
			}
			defer leader.Close()
			reply, err := members(ctx, leader, known)
			if err != nil {
				return err
			}
			node, err := memberByPrefix(reply.Members, args[0])
			if err != nil {
				return err
			}
			if _, err := cluster.CallIdempotent(ctx, leader, (*cluster.Client).Remove, &wire.RemoveRequest{ClusterID: known.ClusterID, Node: node}); err != nil {
				return err
			}
			if f.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"removed": node})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "node %s is removed\n", node)
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

// memberByPrefix finds the one member whose ID begins so.
func memberByPrefix(list []wire.LogMember, prefix string) (string, error) {
	var found []string
	for _, m := range list {
		if m.Standing == wire.StandingNone {
			continue
		}
		if m.ID == prefix {
			return m.ID, nil
		}
		if prefix != "" && strings.HasPrefix(m.ID, prefix) {
			found = append(found, m.ID)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fielderr.New("NODE", prefix, "the ID of a member, or its beginning; driftmesh members lists them")
	}
	return "", fielderr.New("NODE", prefix, "more of the ID: it may be "+strings.Join(found, " or "))
}
