package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// Sentinels that cross the wire: a handler returns one (wrapped as it likes),
// and errors.Is finds it at the client.
var (
	// ErrForeignCluster refuses a message or a member of another cluster.
	ErrForeignCluster = errors.New("another cluster")
	// ErrInvalid refuses a request that can never succeed as it is.
	ErrInvalid = errors.New("invalid request")
	// ErrNotFound: there is no such job.
	ErrNotFound = errors.New("not found")
	// ErrConflict refuses a request that contradicts the present state, such as
	// a job name taken by another spec.
	ErrConflict = errors.New("conflict")
	// ErrSession refuses an unknown or expired session; the worker opens a new one.
	ErrSession = errors.New("unknown or expired session")
	// ErrFenced: the epoch or generation is not the current one.
	ErrFenced = errors.New("fenced")
	// ErrUnavailable: the node cannot serve now; another one, or a later try, may.
	ErrUnavailable = errors.New("unavailable")
	// ErrOutcomeUnknown: the request may or may not have taken effect.
	ErrOutcomeUnknown = errors.New("outcome unknown")
)

// ErrNotLeader says that the request did nothing because another node leads.
// It is a definite answer: the same request may be sent to Addr.
type ErrNotLeader struct {
	Addr string // gRPC address of the leader, "" while none is known
}

// Error implements error.
func (e ErrNotLeader) Error() string {
	if e.Addr == "" {
		return "not the leader, and no leader is known"
	}
	return "not the leader; it is " + e.Addr
}

// domain names whose reasons they are, as errdetails.ErrorInfo asks.
const domain = "driftmesh"

const (
	reasonNotLeader = "NOT_LEADER"
	reasonField     = "FIELD"
	keyAddr         = "addr"
	keyPath         = "path"
	keyWant         = "want"
	keyString       = "string" // the faulty value, a string
	keyLiteral      = "value"  // the faulty value, anything else, as printed
)

// remoteErrors maps sentinels to what crosses the wire.
var remoteErrors = []struct {
	err    error
	code   codes.Code
	reason string
}{
	{ErrForeignCluster, codes.FailedPrecondition, "FOREIGN_CLUSTER"},
	{ErrInvalid, codes.InvalidArgument, "INVALID"},
	{ErrNotFound, codes.NotFound, "NOT_FOUND"},
	{ErrConflict, codes.AlreadyExists, "CONFLICT"},
	{ErrSession, codes.FailedPrecondition, "SESSION"},
	{ErrFenced, codes.Aborted, "FENCED"},
	{ErrUnavailable, codes.Unavailable, "UNAVAILABLE"},
	{ErrOutcomeUnknown, codes.Unknown, "OUTCOME_UNKNOWN"},
	{wire.ErrFrame, codes.InvalidArgument, "FRAME"},
	{wire.ErrTooLarge, codes.ResourceExhausted, "TOO_LARGE"},
}

// ToStatus turns an error of a handler into a gRPC status error that FromStatus
// turns back: a sentinel of this package, wire.ErrFrame, wire.ErrTooLarge,
// ErrNotLeader with its address, fielderr.Error (also several, joined), and the
// errors of context. Anything else becomes codes.Unknown with its text.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	if s, ok := status.FromError(err); ok { // a status already, such as one from gRPC itself
		return nameFrameFault(s).Err()
	}
	var notLeader ErrNotLeader
	if errors.As(err, &notLeader) {
		return withInfo(codes.FailedPrecondition, err, &errdetails.ErrorInfo{
			Reason: reasonNotLeader, Domain: domain, Metadata: map[string]string{keyAddr: notLeader.Addr},
		})
	}
	if infos := fieldInfos(err); len(infos) > 0 {
		return withInfo(codes.InvalidArgument, err, infos...)
	}
	for _, r := range remoteErrors {
		if errors.Is(err, r.err) {
			return withInfo(r.code, err, &errdetails.ErrorInfo{Reason: r.reason, Domain: domain})
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Unknown, err.Error())
}

// nameFrameFault gives errors of the codec their reason back. When a message
// does not decode, gRPC answers before any code of ours can, with the text only.
func nameFrameFault(s *status.Status) *status.Status {
	if len(s.Details()) > 0 {
		return s
	}
	for _, sentinel := range []error{wire.ErrFrame, wire.ErrTooLarge} {
		if i := strings.Index(s.Message(), sentinel.Error()); i >= 0 {
			return status.Convert(ToStatus(fmt.Errorf("%w%s", sentinel, s.Message()[i+len(sentinel.Error()):])))
		}
	}
	if s.Code() == codes.ResourceExhausted && strings.Contains(s.Message(), "larger than max") {
		return status.Convert(ToStatus(fmt.Errorf("%w: %s", wire.ErrTooLarge, strings.TrimPrefix(s.Message(), "grpc: "))))
	}
	return s
}

func withInfo(code codes.Code, err error, infos ...*errdetails.ErrorInfo) error {
	s := status.New(code, err.Error())
	for _, info := range infos {
		if d, derr := s.WithDetails(info); derr == nil {
			s = d
		}
	}
	return s.Err()
}

func fieldInfos(err error) []*errdetails.ErrorInfo {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []*errdetails.ErrorInfo
		for _, e := range joined.Unwrap() {
			out = append(out, fieldInfos(e)...)
		}
		return out
	}
	var fe *fielderr.Error
	if !errors.As(err, &fe) {
		return nil
	}
	meta := map[string]string{keyPath: fe.Path, keyWant: fe.Want}
	switch v := fe.Value.(type) {
	case nil:
	case string:
		meta[keyString] = v
	default:
		meta[keyLiteral] = fmt.Sprint(v)
	}
	return []*errdetails.ErrorInfo{{Reason: reasonField, Domain: domain, Metadata: meta}}
}

// RemoteError is an error that another node answered with. Its text is that
// node's; errors.Is and errors.As find what ToStatus knew of it.
type RemoteError struct {
	status *status.Status
	causes []error
}

// Error implements error.
func (e *RemoteError) Error() string { return e.status.Message() }

// Unwrap returns the sentinels and typed errors recovered.
func (e *RemoteError) Unwrap() []error { return e.causes }

// GRPCStatus lets status.Code read the code.
func (e *RemoteError) GRPCStatus() *status.Status { return e.status }

// FromStatus is the inverse of ToStatus, for the client. Errors that carry no
// gRPC status, io.EOF among them, are returned as they are.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	if errors.As(err, new(*RemoteError)) {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	s = nameFrameFault(s)
	e := &RemoteError{status: s}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == domain {
			e.causes = append(e.causes, causeOf(info)...)
		}
	}
	if len(e.causes) > 0 {
		return e
	}
	switch s.Code() {
	case codes.Canceled:
		e.causes = []error{context.Canceled}
	case codes.DeadlineExceeded:
		e.causes = []error{context.DeadlineExceeded}
	case codes.Unavailable:
		e.causes = []error{ErrUnavailable}
	}
	return e
}

func causeOf(info *errdetails.ErrorInfo) []error {
	meta := info.GetMetadata()
	switch info.GetReason() {
	case reasonNotLeader:
		return []error{ErrNotLeader{Addr: meta[keyAddr]}}
	case reasonField:
		fe := &fielderr.Error{Path: meta[keyPath], Want: meta[keyWant]}
		if v, ok := meta[keyString]; ok {
			fe.Value = v
		} else if v, ok := meta[keyLiteral]; ok {
			fe.Value = literal(v)
		}
		return []error{fe}
	}
	for _, r := range remoteErrors {
		if r.reason == info.GetReason() {
			return []error{r.err}
		}
	}
	return nil
}

// literal is a value known only as it prints; unlike a string it is shown
// without quotes.
type literal string
