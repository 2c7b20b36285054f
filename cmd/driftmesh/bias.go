package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
)

// showBias prints the discard bias of a job as its last commit has it.
func showBias(ctx context.Context, out io.Writer, leader *cluster.Leader, req *wire.StatusRequest, asJSON bool) error {
	if req.Job == "" {
		return userFault{fielderr.New("--bias", true, "a job: driftmesh status JOB --bias")}
	}
	reply, err := cluster.CallIdempotent(ctx, leader, (*cluster.Client).State, &wire.StateRequest{ClusterID: req.ClusterID, Job: req.Job})
	if err != nil {
		return err
	}
	if len(reply.Private) == 0 {
		return fmt.Errorf("job %s: nothing is committed yet", req.Job)
	}
	b, err := paramserver.BiasOf(reply.Private)
	if err != nil {
		return fmt.Errorf("job %s: %w", req.Job, err)
	}
	rep := b.Report()
	if asJSON {
		return json.NewEncoder(out).Encode(rep)
	}
	fmt.Fprintf(out, "job %s, version %d: %d trajectories trained on, %d of them downweighted, %d dropped as stale\n",
		req.Job, reply.Info.Version, rep.Admitted, rep.Downweighted, rep.Stale)
	fmt.Fprintf(out, "mean log-reward %.4f of all, %.4f of what is trained on: shift %+.4f nats\n", rep.MeanAll, rep.MeanTrained, rep.MeanShift)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, part := range []struct {
		title string
		tv    runs.Float
		rows  []runs.BiasRow
	}{{"LOG-REWARD", rep.BinsTV, rep.Bins}, {"REGION", rep.RegionsTV, rep.Regions}, {"WORKER", rep.WorkersTV, rep.Workers}} {
		if len(part.rows) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s (TV %.4f)\tTRAINED ON\tDOWNWEIGHTED\tDROPPED\n", part.title, part.tv)
		for _, r := range part.rows {
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", r.Name, r.Admitted, r.Downweighted, r.Stale)
		}
	}
	return w.Flush()
}
