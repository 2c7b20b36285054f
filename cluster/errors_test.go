package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/wire"
)

func TestErrorsKeepTheirMeaning(t *testing.T) {
	for _, sentinel := range []error{
		cluster.ErrForeignCluster, cluster.ErrInvalid, cluster.ErrNotFound, cluster.ErrConflict, cluster.ErrSession, cluster.ErrFenced,
		cluster.ErrUnavailable, cluster.ErrOutcomeUnknown, wire.ErrFrame, wire.ErrTooLarge, context.Canceled, context.DeadlineExceeded,
	} {
		err := fmt.Errorf("job grid: %w: more", sentinel)
		sent := cluster.ToStatus(err)
		got := cluster.FromStatus(sent)
		if !errors.Is(got, sentinel) || got.Error() != err.Error() {
			t.Errorf("%q became %q", err, got)
		}
		if status.Code(sent) == codes.OK || status.Code(got) != status.Code(sent) {
			t.Errorf("%q has code %v, then %v", err, status.Code(sent), status.Code(got))
		}
		// A node that passes another's error on keeps it too.
		if again := cluster.FromStatus(cluster.ToStatus(fmt.Errorf("forwarded: %w", got))); !errors.Is(again, sentinel) {
			t.Errorf("forwarded, %q became %q", err, again)
		}
	}
	if cluster.ToStatus(nil) != nil || cluster.FromStatus(nil) != nil {
		t.Error("nil is an error")
	}
	if got := cluster.FromStatus(io.EOF); got != io.EOF {
		t.Errorf("io.EOF became %v", got)
	}
	plain := cluster.FromStatus(cluster.ToStatus(errors.New("odd")))
	if status.Code(plain) != codes.Unknown || plain.Error() != "odd" {
		t.Errorf("got %v", plain)
	}
	if again := cluster.FromStatus(plain); again != plain {
		t.Errorf("translated twice: %v", again)
	}
}

func TestNotLeaderKeepsTheAddress(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:7000", ""} {
		err := fmt.Errorf("submit: %w", cluster.ErrNotLeader{Addr: addr})
		var got cluster.ErrNotLeader
		if !errors.As(cluster.FromStatus(cluster.ToStatus(err)), &got) || got.Addr != addr {
			t.Errorf("%q became %+v", err, got)
		}
	}
}

func TestFieldFaultsKeepFieldAndValue(t *testing.T) {
	faults := errors.Join(
		fielderr.New("env.params.height", 1, "an integer of at least 2"),
		fielderr.New("loss.divergence", "helinger", `"hellinger"`),
		fielderr.New("name", nil, "a name"),
	)
	got := cluster.FromStatus(cluster.ToStatus(fmt.Errorf("%w", faults)))
	if status.Code(got) != codes.InvalidArgument || got.Error() != faults.Error() {
		t.Errorf("got %v: %q", status.Code(got), got)
	}
	got = cluster.FromStatus(cluster.ToStatus(faults))
	causes := got.(*cluster.RemoteError).Unwrap()
	want := faults.(interface{ Unwrap() []error }).Unwrap()
	if len(causes) != len(want) {
		t.Fatalf("%d faults became %d", len(want), len(causes))
	}
	for i, cause := range causes {
		var fe *fielderr.Error
		if !errors.As(cause, &fe) || fe.Error() != want[i].Error() {
			t.Errorf("%q became %q", want[i], cause)
		}
	}
}
