package job

import (
	"reflect"
	"strings"
	"testing"
)

// TestTransformerDefaults: a job that names the kind and nothing else is complete,
// has no hidden layers, and stays as it is however it travels.
func TestTransformerDefaults(t *testing.T) {
	text := "env: {name: sequence}\npolicy: {kind: transformer, width: 32}\n"
	s, _, err := Parse("job.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Policy{Kind: Transformer, Hidden: []int{}, Activation: "leaky_relu", Backward: "joint", Layers: 2, Heads: 4, Width: 32, Feedforward: 128}
	if !reflect.DeepEqual(s.Policy, want) {
		t.Errorf("got %+v, want %+v", s.Policy, want)
	}
	data, err := s.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := FromJSON(data); err != nil || !reflect.DeepEqual(back, s) {
		t.Errorf("JSON: %+v, %v", back, err)
	}
	short := `{"name":"job","env":{"name":"sequence","params":{}},"policy":{"kind":"transformer","width":32}}`
	if back, err := FromJSON([]byte(short)); err != nil || !reflect.DeepEqual(back, s) {
		t.Errorf("from %s: %+v, %v", short, back, err)
	}
	file, err := s.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if back, _, err := Parse("job.yaml", file, nil); err != nil || !reflect.DeepEqual(back, s) {
		t.Errorf("YAML: %s\n%+v, %v", file, back, err)
	}
}

// TestOtherKindsTravelAsBefore: an mlp's job has no field of a transformer.
func TestOtherKindsTravelAsBefore(t *testing.T) {
	s, _, err := Parse("job.yaml", []byte("env: {name: hypergrid}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := s.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if want := `"policy":{"kind":"mlp","hidden":[256,256],"activation":"leaky_relu","backward":"joint"}`; !strings.Contains(string(data), want) {
		t.Errorf("%s lacks %s", data, want)
	}
}
