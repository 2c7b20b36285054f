package parts

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Transport measures how fast batches of 64 trajectories get from sampler processes
// into bounded replay, without sampling or training.
type Transport struct {
	Samplers int           // processes
	For      time.Duration // measured
	Archive  string        // folder of an archive on one disk; "": none
	Job      string        // file, whose environment replays what is admitted; without an archive the objects go to a replay buffer
	Profile  string        // file for a CPU profile of the intake, and FILE.sampler; "": none
}

// Measure runs the processes.
func (t Transport) Measure(ctx context.Context) (*Taking, error) {
	id := uuid.NewString()
	args := []string{"intake", "-cluster", id, "-for", t.For.String(), "-samplers", fmt.Sprint(t.Samplers), "-profile", t.Profile}
	if t.Archive != "" {
		args = append(args, "-archive", t.Archive)
	}
	if t.Job != "" {
		args = append(args, "-job", t.Job)
	}
	intake, err := Self(args...)
	if err != nil {
		return nil, err
	}
	defer intake.End()
	var at Ready
	if err := intake.Read(ctx, &at); err != nil {
		return nil, err
	}
	var senders []*Child
	for i := range t.Samplers {
		line := []string{"deliver", "-cluster", id, "-to", at.Addr, "-session", fmt.Sprintf("%s-%d", id, i), "-seed", fmt.Sprint(i + 1)}
		if t.Profile != "" && i == 0 {
			line = append(line, "-profile", t.Profile+".sampler")
		}
		p, err := Self(line...)
		if err != nil {
			return nil, err
		}
		defer p.End()
		senders = append(senders, p)
	}
	out := new(Taking)
	if err := intake.Read(ctx, out); err != nil {
		return nil, err
	}
	var all sent
	for _, p := range senders {
		p.End()
		var one sent
		if err := p.Scan(&one); err != nil {
			return nil, fmt.Errorf("a sampler ended early: %w\n%s", err, p.Errors())
		}
		all.Batches += one.Batches
		all.CPU += one.CPU
	}
	out.SamplersCPU = 1e6 * all.CPU / float64(all.Batches)
	return out, nil
}
