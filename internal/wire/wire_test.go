package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/internal/wire"
)

var update = flag.Bool("update", false, "rewrite the golden frames")

// golden messages: one of each shape that matters to a peer of another version.
func golden() map[string]any {
	return map[string]any{
		"submit_request": &wire.SubmitRequest{ClusterID: "c-1", Spec: []byte(`{"name":"a"}`)},
		"snapshot": &wire.Snapshot{
			Job: "grid", Position: wire.Position{Generation: 1, Version: 170}, Epoch: 3, Stamp: 1_700_000_000_000_000_000,
			Hash: []byte{0xde, 0xad}, Params: wire.EncodeFloats(nil, []float32{1, -0.5, float32(math.Inf(1))}),
		},
		"follow_request": &wire.FollowRequest{ClusterID: "c-1", Job: "grid", After: wire.Position{Version: 7}, Group: "g-1", Kind: wire.PeerWorker, Have: []byte{0xbe}},
		"follow_reply": &wire.FollowReply{
			Route: []string{"n-1", "g-2"}, Part: []byte{1, 2, 3, 4},
			Head: &wire.Head{Job: "grid", Position: wire.Position{Generation: 1, Version: 170}, Epoch: 3, Stamp: 1_700_000_000_000_000_000, Encoding: wire.BF16, Hash: []byte{0xde}, Size: 8},
		},
		"uplink_hello": &wire.Uplink{Hello: &wire.Hello{ClusterID: "c-1", Job: "grid", Session: "s-1"}},
		"uplink_batch": &wire.Uplink{Batch: []byte{1, 2, 3}},
		"downlink":     &wire.Downlink{Resume: 5, Mark: 4, Credit: 400},
		"status_reply": &wire.StatusReply{
			ClusterID: "c-1", Node: "n-1", Leader: "127.0.0.1:7000", Term: 2, Applied: 99, Chain: []byte{7},
			Servers: []wire.MemberInfo{{ID: "n-1", Role: "server", Addr: "127.0.0.1:7000", Alive: true}},
			Jobs:    []wire.JobInfo{{ID: "grid", Status: "running", Version: 170, Updates: 3000}},
		},
		"join_request": &wire.JoinRequest{ClusterID: "c-1", NodeID: "n-1", RaftAddr: "127.0.0.1:7001", GRPCAddr: "127.0.0.1:7000"},
		"join_learner": &wire.JoinRequest{ClusterID: "c-1", NodeID: "n-1", RaftAddr: "127.0.0.1:7001", Role: "learner"},
		"chain_reply":  &wire.ChainReply{Node: "n-1", Generation: 1, Checkpoints: []wire.ChainPoint{{Index: 64, Chain: []byte{0xab}}}},
		"members_reply": &wire.MembersReply{
			Leader: "n-1", LastIndex: 99, Level: 2, Quorum: wire.MembersQuorum{Voters: 3, Alive: 2, Needed: 2},
			Members: []wire.LogMember{{ID: "n-1", Role: "server", Standing: wire.StandingVoter, State: "alive", GRPCAddr: "127.0.0.1:7000", RaftAddr: "127.0.0.1:7001", LastIndex: 99, Level: 2}},
		},
		"join_reply": &wire.JoinReply{ClusterID: "c-1", Gossip: []string{"127.0.0.1:7946"}},
	}
}

func goldenBatch() *wire.Batch {
	return &wire.Batch{
		FirstSeq: 41, Epoch: 2, Version: 170,
		Lengths:      []int32{3, 0, 1},
		Actions:      []int32{0, 1, 300, 4},
		LogReward:    []float64{-6.5, 0, 0.91},
		LogBehaviour: []float64{-2.25, math.NaN(), -1},
	}
}

// TestGoldenFrames pins the bytes, so that a change that would cut off peers of
// another version is seen.
func TestGoldenFrames(t *testing.T) {
	check := func(name string, got []byte) []byte {
		path := filepath.Join("testdata", name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s is %x on the wire, want %x", name, got, want)
		}
		return want
	}
	for name, msg := range golden() {
		data, err := wire.Marshal(msg)
		if err != nil {
			t.Fatal(err)
		}
		want := check(name, data)
		back := reflect.New(reflect.TypeOf(msg).Elem()).Interface()
		if err := wire.Unmarshal(want, back); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(back, msg) {
			t.Errorf("%s decodes to %+v, want %+v", name, back, msg)
		}
	}
	data, err := wire.EncodeBatch(nil, goldenBatch())
	if err != nil {
		t.Fatal(err)
	}
	b, err := wire.DecodeBatch(check("batch", data))
	if err != nil {
		t.Fatal(err)
	}
	requireSameBatch(t, b, goldenBatch())
}

func TestUnmarshalSkipsUnknownFields(t *testing.T) {
	data, err := wire.Marshal(&struct {
		Job  string         `msgpack:"j"`
		Next map[string]any `msgpack:"zz"`
	}{"grid", map[string]any{"deep": []any{1, "x", nil}}})
	if err != nil {
		t.Fatal(err)
	}
	var reply wire.SubmitReply
	if err := wire.Unmarshal(data, &reply); err != nil || reply.Job != "grid" {
		t.Fatalf("got %+v, %v", reply, err)
	}
}

func TestMarshalRefusesOversize(t *testing.T) {
	_, err := wire.Marshal(&wire.Snapshot{Params: make([]byte, wire.MaxFrame+1)})
	if !errors.Is(err, wire.ErrTooLarge) {
		t.Fatalf("got %v, want ErrTooLarge", err)
	}
	// Just below the cap by payload, above it with the rest.
	_, err = wire.Marshal(&wire.Snapshot{Params: make([]byte, wire.MaxFrame)})
	if !errors.Is(err, wire.ErrTooLarge) {
		t.Fatalf("got %v, want ErrTooLarge", err)
	}
}

// TestMalformed lists faults with the words that a user gets to read.
func TestMalformed(t *testing.T) {
	deep := append(make([]byte, 0, 64), strings.Repeat("\x91", 40)...)
	for _, c := range []struct {
		name, data string
		is         error
		text       string
	}{
		{"empty", "", wire.ErrFrame, "wire: malformed message: ends too early at byte 0 of 0"},
		{"text", "GET / HTTP/1.1\r\n", wire.ErrFrame, "wire: malformed message: 15 bytes follow the message"},
		{"unused type byte", "\xc1", wire.ErrFrame, "wire: malformed message: type byte 0xc1 is not used here at byte 0 of 1"},
		{"extension", "\xd4\x01\x00", wire.ErrFrame, "wire: malformed message: type byte 0xd4 is not used here at byte 0 of 3"},
		{"cut number", "\xcf\x00", wire.ErrFrame, "wire: malformed message: ends inside a number at byte 0 of 2"},
		{"cut length", "\xc6\x00", wire.ErrFrame, "wire: malformed message: ends inside a length at byte 0 of 2"},
		{"1 GiB column", "\x81\xa1s\xc6\x40\x00\x00\x00", wire.ErrTooLarge, "wire: message too large: a field claims 1073741824 bytes or elements, the cap is 67108864 at byte 3 of 8"},
		{"1 MiB column", "\x81\xa1s\xc6\x00\x10\x00\x00", wire.ErrFrame, "wire: malformed message: a field claims 1048576 bytes where 0 are left, at byte 8 of 8"},
		{"long list", "\xdd\x00\x10\x00\x00", wire.ErrFrame, "wire: malformed message: a list claims 1048576 elements where 0 bytes are left, at byte 5 of 5"},
		{"deep", string(deep), wire.ErrFrame, "wire: malformed message: nested deeper than 16"},
		{"two messages", "\x80\x80", wire.ErrFrame, "wire: malformed message: 1 bytes follow the message"},
		{"another shape", "\x81\xa1s\xa1x\x00", wire.ErrFrame, "wire: malformed message: 1 bytes follow the message"},
	} {
		err := wire.Unmarshal([]byte(c.data), &wire.SubmitRequest{})
		if !errors.Is(err, c.is) || err.Error() != c.text {
			t.Errorf("%s: got %q, want %q", c.name, err, c.text)
		}
	}
	if err := wire.Unmarshal([]byte("\x81\xa1n\xa1x"), &wire.AssignRequest{}); err != nil {
		t.Errorf("an unknown field is an error: %v", err)
	}
	if err := wire.Unmarshal([]byte("\x81\xa1s\xa1x"), &wire.AssignRequest{}); !errors.Is(err, wire.ErrFrame) {
		t.Errorf("a string where a number belongs: got %v, want ErrFrame", err)
	}
}

// TestListsCannotAmplify sends the cheapest elements there are, of the largest
// type there is.
func TestListsCannotAmplify(t *testing.T) {
	data := append([]byte("\x81\xa1j\xdd\x00\x40\x00\x00"), make([]byte, 1<<22)...)
	for i := 8; i < len(data); i++ {
		data[i] = 0xc0
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := wire.Unmarshal(data, &wire.StatusReply{})
	runtime.ReadMemStats(&after)
	if !errors.Is(err, wire.ErrTooLarge) {
		t.Fatalf("got %v, want ErrTooLarge", err)
	}
	if spent := after.TotalAlloc - before.TotalAlloc; spent > 1<<16 {
		t.Errorf("refusing it allocated %d bytes", spent)
	}
}

func TestFloats(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.SliceOf(rapid.Uint32()).Draw(t, "bits")
		v := make([]float32, len(bits))
		for i, b := range bits {
			v[i] = math.Float32frombits(b)
		}
		data := wire.EncodeFloats([]byte{9}, v)
		if len(data) != 1+4*len(v) || data[0] != 9 {
			t.Fatalf("%d floats were not appended as %d bytes", len(v), 4*len(v))
		}
		back, err := wire.DecodeFloats(data[1:])
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range bits {
			if math.Float32bits(back[i]) != b {
				t.Fatalf("bits %x came back as %x", b, math.Float32bits(back[i]))
			}
		}
	})
	if _, err := wire.DecodeFloats(make([]byte, 5)); !errors.Is(err, wire.ErrFrame) {
		t.Errorf("5 bytes: got %v, want ErrFrame", err)
	}
	if _, err := wire.DecodeFloats(make([]byte, wire.MaxParameters+4)); !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("over the cap: got %v, want ErrTooLarge", err)
	}
}

// TestFloatBytes: the memory of a vector is what other machines write element by element.
func TestFloatBytes(t *testing.T) {
	for _, v := range [][]float32{nil, {}, {1}, {0, float32(math.Copysign(0, -1)), -1.5, math.MaxFloat32, float32(math.NaN()), float32(math.Inf(-1))}} {
		got := wire.FloatBytes(v)
		if got == nil || !bytes.Equal(got, wire.Swapped(v)) || !bytes.Equal(got, wire.EncodeFloats(nil, v)) {
			t.Errorf("%v: %x, element by element %x", v, got, wire.Swapped(v))
		}
	}
	big := make([]float32, 700_000) // more than one piece
	for i := range big {
		big[i] = float32(i) / 3
	}
	data := wire.EncodeFloats([]byte("head"), big)
	if !bytes.Equal(data[4:], wire.Swapped(big)) {
		t.Error("pieces do not make the whole")
	}
	back, err := wire.DecodeFloats(data[4:])
	if err != nil || !slices.Equal(back, big) {
		t.Errorf("another vector came back, %v", err)
	}
}
