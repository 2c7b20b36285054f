package strictyaml

import (
	"errors"
	"reflect"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/internal/suggest"
)

const wantKind = "linear, cosine or exponential"

const wantSchedule = "a number, or a schedule such as {kind: cosine, from: 0.75, to: 1.2, over: 3000}"

// ramp is a schedule as a mapping; pointers tell what was not given.
type ramp struct {
	Kind  *string  `yaml:"kind"`
	From  *float64 `yaml:"from"`
	To    *float64 `yaml:"to"`
	Over  *int64   `yaml:"over"`
	Start int64    `yaml:"start"`
}

// schedule decodes a number, the text form of schedule.Parse, or a mapping.
// schedule.Value has decoders of its own, but those stop at the first fault
// and know no lines.
func (d *decoder) schedule(n *node, path string, v reflect.Value) {
	var value schedule.Value
	switch x := n.value.(type) {
	case int64, uint64, float64:
		f, ok := number(x)
		if !ok {
			d.wrong(n, path, "a finite number")
			return
		}
		value = schedule.Const(f)
	case string:
		var err error
		if value, err = schedule.Parse(x); err != nil {
			d.relocate(n, path, err)
			return
		}
	case []entry:
		var ok bool
		if value, ok = d.ramp(n, path); !ok {
			return
		}
	default:
		d.wrong(n, path, wantSchedule)
		return
	}
	v.Set(reflect.ValueOf(value))
}

func (d *decoder) ramp(n *node, path string) (schedule.Value, bool) {
	var r ramp
	faults := len(d.faults)
	d.mapping(n, path, reflect.ValueOf(&r).Elem())
	missing := func(key, want string, absent bool) {
		// A field that was given and refused has its fault already.
		if c := n.child(key); absent && (c == nil || c.value == nil) {
			d.relocate(n, path, fielderr.New(key, nil, want))
		}
	}
	missing("kind", wantKind, r.Kind == nil)
	missing("from", "a number", r.From == nil)
	missing("to", "a number", r.To == nil)
	missing("over", "a number of updates, at least 1", r.Over == nil)
	if r.Kind != nil {
		d.kind(n, path, *r.Kind)
	}
	if len(d.faults) > faults {
		return schedule.Value{}, false
	}
	v := schedule.Value{Kind: schedule.Kind(*r.Kind), From: *r.From, To: *r.To, Over: *r.Over, Start: r.Start}
	if err := v.Validate(); err != nil {
		d.relocate(n, path, err)
		return v, false
	}
	return v, true
}

func (d *decoder) kind(n *node, path, kind string) {
	switch schedule.Kind(kind) {
	case schedule.Linear, schedule.Cosine, schedule.Exponential:
		return
	}
	want := wantKind
	if schedule.Kind(kind) == schedule.Constant {
		want += "; a constant is a plain number"
	} else if near := suggest.Closest(kind, []string{string(schedule.Linear), string(schedule.Cosine), string(schedule.Exponential)}); near != "" {
		want += "; did you mean " + near + "?"
	}
	d.relocate(n, path, fielderr.New("kind", kind, want))
}

// relocate records a fault that is relative to the node at path.
func (d *decoder) relocate(n *node, path string, err error) {
	at := n.at
	var fe *fielderr.Error
	if errors.As(err, &fe) {
		if c := n.child(fe.Path); c != nil {
			at = c.at
		}
		moved := *fe
		if moved.Path = path; fe.Path != "" {
			moved.Path = joinPath(path, fe.Path)
		}
		err = &moved
	}
	d.faults = append(d.faults, locatedError{at, err})
}
