package paramserver

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/driftmesh/driftmesh/internal/piecewise"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/metrics"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/optim"
)

// ErrNonFinite says that training diverged.
var ErrNonFinite = errors.New("parameters are not finite")

// ErrState says that committed or checkpointed learner state does not fit the job.
var ErrState = errors.New("state does not fit this job")

// privateFormat is bumped when the meaning of private changes.
const privateFormat = 1

// private is the learner state that is replicated but not published: with the
// parameters it lets a successor go on exactly where the last Commit ended.
type private struct {
	Format       int       `msgpack:"f"`
	Trajectories uint64    `msgpack:"t"`
	OptimSteps   uint64    `msgpack:"s"`
	First        []byte    `msgpack:"m"` // first moments, little-endian float32
	Second       []byte    `msgpack:"v"` // second moments; empty for SGD
	Normaliser   []float64 `msgpack:"n"` // running normaliser, per group
	Modes        []byte    `msgpack:"o"` // bitset of modes found
	// Best are the best distinct objects trained on: at most maxBest, with at
	// most maxBestBytes of text. A state without them is of an older build.
	Best []fsm.Object `msgpack:"b,omitempty"`
	// Replayed counts replayed trajectories; Replay is the buffer, while it is
	// small enough to travel.
	Replayed uint64     `msgpack:"p,omitempty"`
	Replay   []byte     `msgpack:"r,omitempty"`
	Bias     *runs.Bias `msgpack:"z,omitempty"` // what staleness bounds do to the data
	Stretch  []byte     `msgpack:"x,omitempty"` // of the Recorder that is carried
}

// Marshal returns the published and the private part of the present state.
func (u *Updater) Marshal() (params, priv []byte, err error) {
	if !finiteBits(u.params) {
		return nil, nil, fmt.Errorf("version %d: %w", u.version, ErrNonFinite)
	}
	opt := u.opt.State()
	p := private{
		Format: privateFormat, Trajectories: u.trajectories,
		OptimSteps: opt.Step, First: wire.FloatBytes(opt.M), Second: wire.FloatBytes(opt.V), // copied below
		Normaliser: u.loss.State(), Best: u.best.list, Replayed: u.replayed, Bias: u.bias,
	}
	if u.mix != nil {
		if p.Replay, err = u.mix.state(); err != nil {
			return nil, nil, err
		}
	}
	if u.recorder != nil {
		if p.Stretch, err = u.recorder.state(); err != nil {
			return nil, nil, fmt.Errorf("metrics: %w", err)
		}
	}
	if u.modes != nil {
		if p.Modes, err = u.modes.MarshalBinary(); err != nil {
			return nil, nil, fmt.Errorf("modes: %w", err)
		}
	}
	size := len(p.First) + len(p.Second) + len(p.Replay) + len(p.Stretch) + len(p.Modes) + 16<<10
	buf := bytes.NewBuffer(make([]byte, 0, size)) // Grow would write zeros first
	enc := msgpack.NewEncoder(piecewise.Writer{W: buf})
	if err := enc.Encode(&p); err != nil {
		return nil, nil, fmt.Errorf("learner state: %w", err)
	}
	return wire.EncodeFloats(nil, u.params), buf.Bytes(), nil
}

// finiteBits is finite for a vector that is looked at in every window.
func finiteBits(x []float32) bool {
	const exponent = 0x7f800000 // all ones: infinity or NaN
	for _, v := range x {
		if math.Float32bits(v)&exponent == exponent {
			return false
		}
	}
	return true
}

// Restore makes the Updater continue from a committed state. A state that does
// not fit is ErrState and changes nothing.
func (u *Updater) Restore(version uint64, params, priv []byte) error {
	values, err := wire.DecodeFloats(params)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrState, err)
	}
	return u.RestoreFloats(version, values, priv)
}

// RestoreFloats is Restore for parameters that are decoded already.
func (u *Updater) RestoreFloats(version uint64, values []float32, priv []byte) error {
	p, opt, modes, err := u.decode(values, priv)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	mix := u.mix
	if mix != nil {
		if mix, err = mix.restored(u, p.Replay); err != nil {
			return fmt.Errorf("%w: %w", ErrState, err)
		}
	}
	// Either restores all of its part or nothing.
	before := u.loss.State()
	if err := u.loss.Restore(p.Normaliser); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if err := u.opt.Restore(opt); err != nil {
		return fmt.Errorf("%w: %w", ErrState, errors.Join(err, u.loss.Restore(before)))
	}
	copy(u.params, values)
	u.modes = modes
	u.SetBest(p.Best)
	u.mix, u.carried, u.bias = mix, p.Stretch, p.Bias
	if u.track != nil && u.bias == nil {
		u.bias = &runs.Bias{}
	}
	u.version, u.trajectories, u.replayed = version, p.Trajectories, p.Replayed
	return nil
}

// decode reads a state and compares its shape with this job's.
func (u *Updater) decode(values []float32, priv []byte) (p private, opt optim.State, modes *metrics.Modes, err error) {
	if len(values) != len(u.params) {
		return p, opt, nil, fmt.Errorf("%d parameters, this job's layout has %d", len(values), len(u.params))
	}
	if !finite(values) {
		return p, opt, nil, errors.New("the parameters hold NaN or infinity")
	}
	if err := msgpack.Unmarshal(priv, &p); err != nil {
		return p, opt, nil, fmt.Errorf("private part: %w", err)
	}
	if p.Format != privateFormat {
		return p, opt, nil, fmt.Errorf("learner state format %d, this build writes %d", p.Format, privateFormat)
	}
	opt.Step = p.OptimSteps
	if opt.M, err = wire.DecodeFloats(p.First); err != nil {
		return p, opt, nil, fmt.Errorf("first moments: %w", err)
	}
	if opt.V, err = wire.DecodeFloats(p.Second); err != nil {
		return p, opt, nil, fmt.Errorf("second moments: %w", err)
	}
	if err := checkBest(p.Best); err != nil {
		return p, opt, nil, err
	}
	if p.Bias != nil {
		if err := p.Bias.Check(); err != nil {
			return p, opt, nil, err
		}
	}
	if u.modes == nil {
		return p, opt, nil, nil
	}
	modes = metrics.NewModes(0)
	if err := modes.UnmarshalBinary(p.Modes); err != nil {
		return p, opt, nil, fmt.Errorf("modes: %w", err)
	}
	if modes.Len() != u.modes.Len() {
		return p, opt, nil, fmt.Errorf("%d modes, this environment has %d", modes.Len(), u.modes.Len())
	}
	return p, opt, modes, nil
}
