package parts

import (
	"fmt"

	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/replay"
	"github.com/driftmesh/driftmesh/policy"
)

// memory does with a batch what a learner with a replay buffer does besides
// training on it: the actions are replayed in the environment, and the objects go
// into a bounded buffer.
type memory struct {
	asm      *policy.Assembler
	buffer   replay.Buffer
	batch    policy.Batch
	actions  [][]int32
	inserted uint64
}

func newMemory(jobFile string) (*memory, error) {
	spec, _, err := job.Load(jobFile, nil)
	if err != nil {
		return nil, err
	}
	env, err := registry.New(spec.Env.Name, spec.Env.Params)
	if err != nil {
		return nil, err
	}
	buffer, err := replay.New(job.Replay{Kind: "fifo", Bytes: 16 << 20}, spec.Seed)
	return &memory{asm: policy.NewAssembler(env), buffer: buffer}, err
}

func (m *memory) add(batch []wire.Trajectory) error {
	m.actions = m.actions[:0]
	for i := range batch {
		m.actions = append(m.actions, batch[i].Actions)
	}
	if err := m.asm.Assemble(m.actions, &m.batch); err != nil {
		return err
	}
	states := m.asm.States()
	for i := range batch {
		m.inserted++
		item := replay.Item{Text: states.Text(i), LogReward: batch[i].LogReward, Version: batch[i].Version, Worker: batch[i].Session, Insert: m.inserted}
		if err := m.buffer.Insert(item, nil); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
	}
	return nil
}
