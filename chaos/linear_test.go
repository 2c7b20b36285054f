package chaos

import (
	"path/filepath"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// op is an operation from call to back; unknown ones have no answer.
func op(client int, verb string, version uint64, call, back int64, result controlResult) porcupine.Operation {
	if result.unknown {
		back = forever
	}
	return porcupine.Operation{ClientId: client, Input: controlOp{verb, version}, Call: call, Output: result, Return: back}
}

func TestControlModel(t *testing.T) {
	saw := func(status string, version uint64) controlResult {
		return controlResult{status: status, version: version}
	}
	done, lost := controlResult{}, controlResult{unknown: true}
	for name, c := range map[string]struct {
		history []porcupine.Operation
		want    string
	}{
		"in order": {[]porcupine.Operation{
			op(0, verbCommit, 0, 0, 5, done), op(1, verbRead, 0, 1, 2, saw("running", 0)), op(0, verbCommit, 7, 10, 20, done),
			op(1, verbRead, 0, 21, 22, saw("running", 7)), op(2, wire.VerbPause, 0, 30, 40, done), op(1, verbRead, 0, 41, 42, saw("paused", 7)),
		}, Valid},
		"a stale read": {[]porcupine.Operation{
			op(0, verbCommit, 7, 10, 20, done), op(1, verbRead, 0, 21, 22, saw("running", 0)),
		}, Invalid},
		"a read from the future": {[]porcupine.Operation{
			op(1, verbRead, 0, 1, 2, saw("running", 7)), op(0, verbCommit, 7, 10, 20, done),
		}, Invalid},
		"a pause that did nothing": {[]porcupine.Operation{
			op(2, wire.VerbPause, 0, 30, 40, done), op(1, verbRead, 0, 41, 42, saw("running", 0)),
		}, Invalid},
		"unknown, and it took effect late": {[]porcupine.Operation{
			op(2, wire.VerbPause, 0, 30, 0, lost), op(1, verbRead, 0, 41, 42, saw("running", 0)), op(1, verbRead, 0, 51, 52, saw("paused", 0)),
		}, Valid},
		"unknown, and it never did": {[]porcupine.Operation{
			op(0, verbCommit, 7, 10, 0, lost), op(3, verbCommit, 9, 20, 30, done), op(1, verbRead, 0, 41, 42, saw("running", 9)),
		}, Valid},
		"unknown, and it took effect twice": {[]porcupine.Operation{
			op(2, wire.VerbPause, 0, 30, 0, lost), op(1, verbRead, 0, 41, 42, saw("paused", 0)), op(3, wire.VerbResume, 0, 50, 55, done),
			op(1, verbRead, 0, 61, 62, saw("running", 0)), op(1, verbRead, 0, 71, 72, saw("paused", 0)),
		}, Invalid},
		"a version that was lost": {[]porcupine.Operation{
			op(0, verbCommit, 7, 10, 20, done), op(1, verbRead, 0, 21, 22, saw("running", 7)), op(3, verbCommit, 5, 30, 40, done), op(1, verbRead, 0, 41, 42, saw("running", 5)),
		}, Invalid},
	} {
		if got, err := CheckControl(c.history, filepath.Join(t.TempDir(), "h.html")); got != c.want || (err != nil) != (c.want == Invalid) {
			t.Errorf("%s: %s (%v), want %s", name, got, err, c.want)
		}
	}
}
