package paramserver

import (
	"fmt"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// Marks tells how far a session is committed: its mark, and a channel that is
// closed when the mark may have changed.
type Marks func() (mark uint64, changed <-chan struct{}, err error)

// Serve is the learner's end of one session's trajectory stream, from the answer
// to its Hello on: batches up; marks and credits down. It returns when the worker
// has gone, the lease has ended, or the worker broke the protocol.
func (in *Intake) Serve(stream grpc.BidiStreamingServer[wire.Uplink, wire.Downlink], session string, marks Marks) error {
	mark, _, err := marks()
	if err != nil {
		return err
	}
	next, err := in.Open(session, mark)
	if err != nil {
		return fmt.Errorf("%w: %w", cluster.ErrUnavailable, err)
	}
	defer in.Leave(session)
	received := make(chan error, 1)
	go func() { received <- receive(stream, in, session) }() // ends with the stream's context

	down := wire.Downlink{Resume: next}
	for {
		credit, changed, open := in.Credit(session)
		if !open {
			return fmt.Errorf("%w: the learner's lease has ended", cluster.ErrUnavailable)
		}
		mark, marked, err := marks()
		if err != nil {
			return err
		}
		// Credit is told of in halves of the share, and with every mark.
		if down.Resume > 0 || mark != down.Mark || credit != down.Credit && in.short(session, down.Credit) {
			down.Mark, down.Credit = mark, credit
			if err := stream.Send(&down); err != nil {
				return err
			}
			down.Resume = 0
		}
		select {
		case err := <-received:
			return err
		case <-marked:
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

func receive(stream grpc.BidiStreamingServer[wire.Uplink, wire.Downlink], in *Intake, session string) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil // the worker has gone; it resumes on a new stream
		}
		in.spent.add(m.Spent)
		batch, err := wire.DecodeBatch(m.Batch)
		if err != nil {
			return err
		}
		trajectories, err := batch.Trajectories(session)
		if err != nil {
			return err
		}
		if err := in.Offer(session, trajectories); err != nil {
			return err
		}
	}
}
