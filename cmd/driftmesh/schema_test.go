package main

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestSchemaCmd(t *testing.T) {
	var out bytes.Buffer
	cmd := newSchemaCmd()
	cmd.SetOut(&out)
	cmd.SetArgs(nil)
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(out.Bytes()) || !bytes.Contains(out.Bytes(), []byte(`"$defs"`)) {
		t.Errorf("no JSON Schema: %.200s", out.Bytes())
	}
	cmd.SetArgs([]string{"extra"})
	cmd.SetErr(&out)
	if cmd.Execute() == nil {
		t.Error("an argument was accepted")
	}
}
