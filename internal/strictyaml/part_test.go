package strictyaml_test

import (
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/strictyaml"
)

type inner struct {
	Size  int      `yaml:"size"`
	Names []string `yaml:"names"`
}

type shared struct {
	About string `yaml:"about"`
}

type outer struct {
	shared
	Base  strictyaml.Part `yaml:"base"`
	Items []item          `yaml:"items"`
	Sets  []set           `yaml:"sets"`
}

type item struct {
	Name string `yaml:",key"`
	shared
	On bool `yaml:"on"`
}

type set struct {
	Path  string          `yaml:",key"`
	Value strictyaml.Part `yaml:",value"`
}

const nested = `about: outside
base:
  size: 3
items:
  second: {about: inside, on: true}
  first: {}
sets:
  size: 7
  names: [a, b]
`

func TestKeyedListsKeepTheOrder(t *testing.T) {
	var o outer
	if _, err := strictyaml.Parse("x.yaml", []byte(nested), nil, &o); err != nil {
		t.Fatal(err)
	}
	if o.About != "outside" || len(o.Items) != 2 || o.Items[0].Name != "second" || o.Items[0].About != "inside" || !o.Items[0].On || o.Items[1].Name != "first" {
		t.Errorf("got %+v", o)
	}
	for _, c := range []struct{ old, new, want string }{
		{"on: true", "of: true", "x.yaml:5:27: items.second.of: unknown field; did you mean on?"},
		{"on: true", "on: 1", "x.yaml:5:31: items.second.on: got 1; want true or false"},
		{"  first: {}", "  first: 3", "x.yaml:6:10: items.first: got 3; want a mapping with about, on"},
		{"about: outside", "abut: outside", "x.yaml:1:1: abut: unknown field; did you mean about?"},
	} {
		_, err := strictyaml.Parse("x.yaml", []byte(strings.Replace(nested, c.old, c.new, 1)), nil, &outer{})
		if err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

// TestPartsKeepTheirPlaces decodes one part twice, with other values put in:
// each value's faults have the line and the file that it came from.
func TestPartsKeepTheirPlaces(t *testing.T) {
	var o outer
	if _, err := strictyaml.Parse("x.yaml", []byte(nested), nil, &o); err != nil {
		t.Fatal(err)
	}
	base, err := strictyaml.Document("base.yaml", []byte("# a comment\nsize: 5\n"))
	if err != nil {
		t.Fatal(err)
	}
	replaced := []strictyaml.Replacement{{Path: "names", Value: o.Sets[1].Value}}
	for _, c := range []struct {
		part strictyaml.Part
		size int
		at   string
	}{{o.Base, 3, "x.yaml:3:9"}, {base, 5, "base.yaml:2:7"}} {
		var in inner
		src, err := c.part.Decode(replaced, &in)
		if err != nil || in.Size != c.size || len(in.Names) != 2 {
			t.Fatalf("got %+v, %v", in, err)
		}
		if got := src.Locate(fielderr.New("size", 0, "more")); got.Error() != c.at+": size: got 0; want more" {
			t.Errorf("got %v", got)
		}
		if got := src.Locate(fielderr.New("names[1]", "b", "c")); got.Error() != `x.yaml:9:14: names[1]: got "b"; want c` {
			t.Errorf("got %v", got)
		}
		if src.Given("other") || !src.Given("size") {
			t.Error("what is given is not known")
		}
	}
	_, err = base.Decode([]strictyaml.Replacement{{Path: "size", Value: o.Sets[1].Value}}, &inner{})
	if err == nil || err.Error() != "x.yaml:9:10: size: got a list; want an integer" {
		t.Errorf("got %v", err)
	}
	_, err = base.Decode([]strictyaml.Replacement{{Path: "sise", Value: o.Sets[0].Value}}, &inner{})
	if err == nil || err.Error() != "x.yaml:8:9: sise: unknown field; did you mean size?" {
		t.Errorf("got %v", err)
	}
	if _, err := strictyaml.Document("base.yaml", []byte("# nothing\n")); err == nil {
		t.Error("an empty document is one")
	}
	if v, err := base.Value(); err != nil || v.(map[string]any)["size"] != int64(5) {
		t.Errorf("value %v, %v", v, err)
	}
}
