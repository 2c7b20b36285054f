package paramserver

import (
	"bytes"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// TestMarshalIsTheRecord: a state is written without a copy of its moments, byte by
// byte as the record with their encodings would be, empty ones included.
func TestMarshalIsTheRecord(t *testing.T) {
	for name, sets := range map[string][]string{
		"adam": nil, "momentum": {"optimiser.kind=sgd", "optimiser.momentum=0.9"}, "sgd": {"optimiser.kind=sgd"},
	} {
		spec, _, err := job.Load("../examples/hypergrid-2d.yaml", sets)
		if err != nil {
			t.Fatal(err)
		}
		u, err := NewUpdater(spec)
		if err != nil {
			t.Fatal(err)
		}
		opt := u.opt.State()
		for i := range opt.M {
			opt.M[i] = float32(i) / 7
		}
		params, got, err := u.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		var p private
		if err := msgpack.Unmarshal(got, &p); err != nil {
			t.Fatal(err)
		}
		p.First, p.Second = wire.EncodeFloats(nil, opt.M), wire.EncodeFloats(nil, opt.V)
		want, err := msgpack.Marshal(&p)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) || !bytes.Equal(params, wire.EncodeFloats(nil, u.params)) {
			t.Errorf("%s: another record, %d bytes and %d", name, len(got), len(want))
		}
		u.params[0] = 7
		for i := range opt.M {
			opt.M[i] = -1
		}
		if after, _, _ := u.Marshal(); bytes.Equal(after, params) || !bytes.Equal(got, want) {
			t.Errorf("%s: what was written changes with the learner", name)
		}
	}
}
