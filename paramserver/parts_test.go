package paramserver

import (
	"bytes"
	"errors"
	"testing"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// FuzzParts cuts a stream of bytes into parts of commands as a script says, two
// bytes a part: its length, and in the other bits whose part it is and whether it
// is the last. What comes out are exactly the parts that went in, and nothing
// but the commands of a learner.
func FuzzParts(f *testing.F) {
	commit, err := fsm.Encode(fsm.Commit{Job: "j", Version: 1, Params: make([]byte, 64)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(commit, []byte{50, 0, 255, 1})
	f.Add(commit, []byte{255, 1, 255, 1})
	f.Add(append(commit, commit...), []byte{10, 2, 255, 3, 3, 4, 200, 5})
	f.Add([]byte("nonsense"), []byte{8, 1})
	f.Fuzz(func(t *testing.T, stream, script []byte) {
		var a parts
		var want []byte // of the command under way
		id := uint64(0)
		for len(script) >= 2 {
			n, op := min(int(script[0]), len(stream)), script[1]
			p := &wire.CommandPart{ID: uint64(op >> 1), Data: stream[:n], Last: op&1 == 1}
			stream, script = stream[n:], script[2:]
			out, err := a.add(p)
			if err != nil {
				if !errors.Is(err, cluster.ErrInvalid) || out != nil {
					t.Fatalf("%v, %x", err, out)
				}
				return // the stream is over
			}
			if len(want) > 0 && p.ID != id {
				t.Fatalf("a part of command %d within command %d was taken", p.ID, id)
			}
			id, want = p.ID, append(want, p.Data...)
			if cap(a.data) > 2*len(want)+64 {
				t.Fatalf("%d bytes held for %d", cap(a.data), len(want))
			}
			if !p.Last {
				continue
			}
			if !bytes.Equal(out, want) || len(out) < 3 || out[2] != 4 && out[2] != 10 {
				t.Fatalf("%x came out of %x", out, want)
			}
			want = nil
		}
	})
}
