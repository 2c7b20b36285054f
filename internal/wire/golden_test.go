package wire_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// messages are those of the mesh protocol, by the name of their golden files.
// A new message belongs here.
func messages() map[string]any {
	out := map[string]any{}
	for _, m := range []any{
		&wire.SubmitRequest{}, &wire.SubmitReply{}, &wire.ControlRequest{}, &wire.StatusRequest{}, &wire.StatusReply{},
		&wire.AssignRequest{}, &wire.Assignment{}, &wire.OpenSessionRequest{}, &wire.OpenSessionReply{},
		&wire.SubscribeRequest{}, &wire.Snapshot{}, &wire.StateRequest{}, &wire.StateReply{}, &wire.StatePart{}, &wire.Uplink{}, &wire.Downlink{},
		&wire.WatchRequest{}, &wire.WatchReply{}, &wire.JoinRequest{}, &wire.JoinReply{},
		&wire.ChainReply{}, &wire.ChainRequest{}, &wire.ControlReply{}, &wire.FollowReply{}, &wire.FollowRequest{}, &wire.MembersReply{}, &wire.MembersRequest{},
		&wire.ReadIndexReply{}, &wire.ReadIndexRequest{}, &wire.RemoveReply{}, &wire.RemoveRequest{},
		&wire.BackupRequest{}, &wire.BackupChunk{}, &wire.EventsRequest{}, &wire.EventsReply{}, &wire.LearnerUp{}, &wire.LearnerDown{},
		&wire.PutSegmentRequest{}, &wire.PutSegmentReply{}, &wire.GetSegmentRequest{}, &wire.GetSegmentReply{}, &wire.HoldsRequest{}, &wire.HoldsReply{},
		&wire.ManifestRequest{}, &wire.ManifestReply{}, &wire.BestRequest{}, &wire.BestReply{},
	} {
		out[reflect.TypeOf(m).Elem().Name()] = m
	}
	return out
}

// fill gives every field of a message a value of its own.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.String:
		v.SetString(fmt.Sprint("text-", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64, reflect.Float32:
		v.SetFloat(float64(*n) + 0.5)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint:
		v.SetUint(uint64(*n % 200))
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int:
		v.SetInt(int64(*n % 100))
	}
}

func generic(t *testing.T, data []byte) map[string]any {
	t.Helper()
	var out map[string]any
	if err := msgpack.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestGoldenMessages reads every message that any version ever wrote. The
// newest file of a message is encoded again to the same bytes; of an older one
// no field may have changed its name or meaning. -update adds a file for a
// message that has grown, and never rewrites one.
func TestGoldenMessages(t *testing.T) {
	for name, m := range messages() {
		newest := []byte(nil)
		count := 0
		for ; ; count++ {
			text, err := os.ReadFile(filepath.Join("testdata", "golden", fmt.Sprintf("%s.%d.hex", name, count+1)))
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			data, err := hex.DecodeString(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			back := reflect.New(reflect.TypeOf(m).Elem()).Interface()
			if err := wire.Unmarshal(data, back); err != nil {
				t.Fatalf("%s of version %d: %v", name, count+1, err)
			}
			if newest, err = wire.Marshal(back); err != nil {
				t.Fatal(err)
			}
			was, now := generic(t, data), generic(t, newest)
			for key, value := range was {
				if !covers(now[key], value) {
					t.Errorf("%s of version %d: field %q was %v, is %v", name, count+1, key, value, now[key])
				}
			}
			if string(newest) != string(data) {
				newest = nil // an older file
			} else {
				newest = data
			}
		}
		n := 0
		fill(reflect.ValueOf(m).Elem(), &n)
		want, err := wire.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if string(want) == string(newest) {
			continue
		}
		if !*update {
			t.Errorf("%s has changed since its newest golden file; if it has only grown, -update adds one, and the old ones must go on to pass", name)
			continue
		}
		path := filepath.Join("testdata", "golden", fmt.Sprintf("%s.%d.hex", name, count+1))
		if err := os.WriteFile(path, []byte(hex.EncodeToString(want)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// covers says whether a value has everything that an older one had: messages
// inside messages may have grown.
func covers(now, was any) bool {
	switch was := was.(type) {
	case map[string]any:
		m, ok := now.(map[string]any)
		for key, value := range was {
			ok = ok && covers(m[key], value)
		}
		return ok
	case []any:
		list, ok := now.([]any)
		ok = ok && len(list) == len(was)
		for i := range was {
			ok = ok && covers(list[i], was[i])
		}
		return ok
	}
	return reflect.DeepEqual(now, was)
}

// TestPeersOfOtherVersions: fields that a newer peer adds are ignored, and
// those that an older one lacks are zero.
func TestPeersOfOtherVersions(t *testing.T) {
	for name, m := range messages() {
		n := 0
		fill(reflect.ValueOf(m).Elem(), &n)
		data, err := wire.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		decode := func(fields map[string]any) any {
			t.Helper()
			raw, err := msgpack.Marshal(fields)
			if err != nil {
				t.Fatal(err)
			}
			v := reflect.New(reflect.TypeOf(m).Elem()).Interface()
			if err := wire.Unmarshal(raw, v); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return v
		}
		fields := generic(t, data)
		newer := maps.Clone(fields)
		newer["~"] = map[string]any{"deep": []any{1, "x", nil, map[string]any{"y": []byte{1}}}}
		if got := decode(newer); !reflect.DeepEqual(got, m) {
			t.Errorf("%s with a field of a newer version is %+v, want %+v", name, got, m)
		}
		for _, key := range slices.Sorted(maps.Keys(fields)) {
			older := maps.Clone(fields)
			delete(older, key)
			got := reflect.ValueOf(decode(older)).Elem()
			want := reflect.ValueOf(m).Elem()
			for i := range want.NumField() {
				field := want.Type().Field(i)
				tag, _, _ := strings.Cut(field.Tag.Get("msgpack"), ",")
				if tag == key && !got.Field(i).IsZero() || tag != key && !reflect.DeepEqual(got.Field(i).Interface(), want.Field(i).Interface()) {
					t.Errorf("%s without %q: field %s is %v", name, key, field.Name, got.Field(i))
				}
			}
		}
	}
}
