package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

func runLosses(args ...string) (string, error) {
	cmd := newLossesCmd()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(args)
	err := cmd.Execute()
	return out.String(), err
}

func TestLossesList(t *testing.T) {
	text, err := runLosses("list")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"hellinger", "sign(δ)/2", "strongly mode-seeking", "0.75", "alpha 0 is forward KL"} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %q:\n%s", want, text)
		}
	}
	data, err := runLosses("list", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]any
	if err := json.Unmarshal([]byte(data), &rows); err != nil || len(rows) < 14 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}

func TestLossesEval(t *testing.T) {
	data, err := runLosses("eval", "alpha:0.5", "--delta=-1.5,0,2", "--batch=0.1,-0.4,2", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var e struct {
		Delta, G, G1, G2 []*float64
		C                *float64
		EffectiveAlpha   *float64 `json:"effective_alpha"`
	}
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		t.Fatal(err)
	}
	want := 2 * math.Log((math.Exp(-0.05)+math.Exp(0.2)+math.Exp(-1))/3)
	if e.C == nil || math.Abs(*e.C-want) > 1e-14 || *e.EffectiveAlpha != 0.5 || len(e.Delta) != 3 || *e.G[1] != 0 || *e.G2[1] != 1 {
		t.Errorf("got %s", data)
	}
	if math.Abs(*e.G1[2]-2*(1-math.Exp(-1))) > 1e-15 {
		t.Errorf("g'(2) = %v", *e.G1[2])
	}
	data, err = runLosses("eval", "total_variation", "--delta=1", "--json")
	if err != nil || !strings.Contains(data, "null") || !strings.Contains(data, `"c": null`) {
		t.Errorf("g'' of total variation: %s, %v", data, err)
	}
	if text, err := runLosses("eval", "forward_kl,tail:5", "--delta=-9", "--batch=1,2"); err != nil || !strings.Contains(text, "c of the batch") {
		t.Errorf("text form: %s, %v", text, err)
	}
}

func TestLossesPlot(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"losses.svg", "losses.png", "losses.html"} {
		path := filepath.Join(dir, name)
		if _, err := runLosses("plot", "hellinger", "forward_kl,tail:3", "custom:g1=tanh(delta)", "--out", path); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		switch filepath.Ext(name) {
		case ".png":
			if _, err := png.Decode(bytes.NewReader(data)); err != nil {
				t.Error(err)
			}
		case ".svg":
			dec := xml.NewDecoder(bytes.NewReader(data))
			for {
				if _, err := dec.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
		default:
			page := string(data)
			if !strings.Contains(page, "<svg") || strings.Contains(page, "<?xml") || strings.Contains(page, "src=") || !strings.Contains(page, "forward_kl,tail:3") {
				t.Error("the page is not self-contained or lacks a member")
			}
		}
	}
}

func TestLossesFaults(t *testing.T) {
	for _, args := range [][]string{
		{"eval", "helinger"}, {"eval", "hellinger", "--delta=NaN"}, {"eval", "hellinger", "--batch=Inf"},
		{"plot", "nothing"}, {"plot", "--out", filepath.Join(t.TempDir(), "x.gif")},
	} {
		_, err := runLosses(args...)
		var fe *fielderr.Error
		if !errors.As(err, &fe) {
			t.Errorf("%v: %v", args, err)
		}
	}
	for _, args := range [][]string{{"eval"}, {"list", "x"}, {"eval", "hellinger", "--delta=x"}} {
		if _, err := runLosses(args...); err == nil {
			t.Errorf("%v succeeds", args)
		}
	}
}
