package paramserver

import (
	"bufio"
	"fmt"

	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// maxBackups bounds the backups that a server sends at a time: each keeps the
// state of its moment in memory until its client has got it.
const maxBackups = 2

// Backup streams a snapshot of the replicated state that contains everything
// answered before the call.
func (s *Server) Backup(_ *wire.BackupRequest, stream grpc.ServerStreamingServer[wire.BackupChunk]) error {
	if n := s.backups.Add(1); n > maxBackups {
		s.backups.Add(-1)
		return fmt.Errorf("%w: this server sends %d backups already; ask another one, or later", cluster.ErrUnavailable, maxBackups)
	}
	defer s.backups.Add(-1)
	if err := s.linearize(stream.Context()); err != nil {
		return err
	}
	view := s.Replica.View()
	first := &wire.BackupChunk{Index: view.Index()}
	view.Read(func(st *fsm.State) {
		for _, j := range st.Jobs() {
			first.Size += int64(len(j.Spec) + len(j.Params) + len(j.Private))
		}
	})
	if err := stream.Send(first); err != nil {
		return err
	}
	w := bufio.NewWriterSize(chunks{stream}, wire.MaxBackupChunk)
	if err := view.Encode(w); err != nil {
		return err
	}
	return w.Flush()
}

// chunks is the stream of a backup as a writer.
type chunks struct {
	stream grpc.ServerStreamingServer[wire.BackupChunk]
}

// Write implements io.Writer. A column of the state may come in one piece of
// any size.
func (c chunks) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		n := min(wire.MaxBackupChunk, len(p)-sent)
		if err := c.stream.Send(&wire.BackupChunk{Data: p[sent : sent+n]}); err != nil {
			return sent, err
		}
		sent += n
	}
	return sent, nil
}
