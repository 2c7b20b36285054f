package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// cliPage is the reference of the command line.
const cliPage = "../../docs/cli.md"

//go:generate go test -run TestHelp -update .

// TestHelp compares docs/cli.md with what --help prints, verb by verb.
func TestHelp(t *testing.T) {
	var page strings.Builder
	page.WriteString("# The command line\n\n" +
		"What `driftmesh VERB --help` prints; `go generate ./cmd/driftmesh` writes this page.\n\n" +
		"Exit codes: 0 done, 1 failed, 2 the input is at fault and nothing was changed,\n" +
		"130 interrupted, checkpointed, and ready to resume.\n")
	describe(t, &page, newRoot())
	if *update {
		write(t, cliPage, page.String())
	}
	want, err := os.ReadFile(cliPage)
	if err != nil {
		t.Fatal(err)
	}
	got, old := strings.Split(page.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(got), len(old)) {
		if i >= len(got) || i >= len(old) || got[i] != old[i] {
			t.Fatalf("docs/cli.md is out of date from line %d on; go generate ./cmd/driftmesh rewrites it", i+1)
		}
	}
}

// describe writes a section for a command and for each of its children.
func describe(t *testing.T, page *strings.Builder, c *cobra.Command) {
	t.Helper()
	path := strings.Fields(c.CommandPath())
	help := ok(t, append(path[1:], "--help")...)
	if c.Short == "" || !strings.Contains(help, "Usage:") {
		t.Errorf("%s has no proper help:\n%s", c.CommandPath(), help)
	}
	for _, line := range strings.Split(help, "\n") {
		if len([]rune(line)) > 120 {
			t.Errorf("%s --help: a line of more than 120 columns: %s", c.CommandPath(), line)
		}
	}
	page.WriteString("\n## " + c.CommandPath() + "\n\n```text\n" + strings.TrimRight(help, "\n") + "\n```\n")
	for _, child := range c.Commands() {
		if child.IsAvailableCommand() {
			describe(t, page, child)
		}
	}
}
