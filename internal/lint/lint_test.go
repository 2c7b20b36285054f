// Package lint keeps the project's habits by test: which way imports point,
// where goroutines and clocks may live, and how tests wait.
package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/driftmesh/driftmesh/"

// rank orders the top-level folders: a package may import folders of a lower
// rank, and its own.
var rank = map[string]int{
	"cmd": 5, "bench": 5, "chaos": 4, "study": 4, "sampler": 3, "paramserver": 3,
	"cluster": 2, "losses": 2, "policy": 2, "envs": 2, "metrics": 2,
	"internal": 1,
}

// siblings lists the imports inside one rank that are allowed, as "from to".
var siblings = map[string]bool{
	"policy envs": true, "metrics envs": true, "metrics policy": true,
}

type source struct {
	path string // relative to the module root, with slashes
	top  string
	test bool
	file *ast.File
	fset *token.FileSet
}

func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		rel = filepath.ToSlash(rel)
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && rel != "." || d.Name() == "runs" || d.Name() == "testdata") && rel != "internal/runs" {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		top, _, _ := strings.Cut(rel, "/")
		out = append(out, source{rel, top, strings.HasSuffix(rel, "_test.go"), f, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestImportsPointOneWay(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue // tests may use any package as an oracle
		}
		for _, imp := range s.file.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			inner, ok := strings.CutPrefix(path, module)
			if !ok {
				continue
			}
			to, _, _ := strings.Cut(inner, "/")
			if to == s.top || rank[to] < rank[s.top] || siblings[s.top+" "+to] {
				continue
			}
			t.Errorf("%s imports %s: imports point from cmd down to internal, see docs/ARCHITECTURE.md", s.path, inner)
		}
	}
}

// pure lists the folders whose packages hold no goroutine, clock, socket or
// global randomness, so that simulation can run the very same code.
var pure = []string{"envs/", "losses/", "policy/", "metrics/", "paramserver/fsm/", "paramserver/optim/", "paramserver/replay/", "paramserver/share/", "internal/schedule/", "internal/rng/"}

func TestDomainPackagesArePure(t *testing.T) {
	banned := map[string]bool{"net": true, "net/http": true, "os": true, "sync": true, "crypto/rand": true}
	for _, s := range sources(t) {
		if s.test || !hasPrefix(s.path, pure) || strings.HasPrefix(s.path, "envs/envtest/") || strings.HasPrefix(s.path, "policy/policytest/") {
			continue
		}
		for _, imp := range s.file.Imports {
			if path, _ := strconv.Unquote(imp.Path.Value); banned[path] {
				t.Errorf("%s imports %s: domain packages are pure", s.path, path)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s: goroutine in a domain package", s.fset.Position(g.Pos()))
			}
			if call, ok := selector(n); ok && (call == "time.Now" || call == "time.Since" || call == "time.Sleep") {
				t.Errorf("%s: %s in a domain package", s.fset.Position(n.Pos()), call)
			}
			return true
		})
	}
}

func TestNoGlobalRandomnessAndNoSleepInTests(t *testing.T) {
	for _, s := range sources(t) {
		for _, imp := range s.file.Imports {
			if path, _ := strconv.Unquote(imp.Path.Value); path == "math/rand" {
				t.Errorf("%s imports math/rand: use internal/rng", s.path)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := selector(n)
			if !ok {
				return true
			}
			if name, found := strings.CutPrefix(call, "rand."); found && !strings.HasPrefix(s.path, "internal/rng/") {
				switch name {
				case "Int", "IntN", "Float64", "Float32", "Uint64", "Uint32", "Perm", "Shuffle", "NormFloat64", "ExpFloat64", "Int64N", "N":
					if imports(s.file, "math/rand/v2") {
						t.Errorf("%s: global %s: use internal/rng", s.fset.Position(n.Pos()), call)
					}
				}
			}
			if s.test && call == "time.Sleep" && !imports(s.file, "testing/synctest") { // virtual time there
				t.Errorf("%s: time.Sleep in a test: wait for an event", s.fset.Position(n.Pos()))
			}
			return true
		})
	}
}

func imports(f *ast.File, want string) bool {
	for _, imp := range f.Imports {
		if p, _ := strconv.Unquote(imp.Path.Value); p == want {
			return true
		}
	}
	return false
}

// selector returns "pkg.Func" for a call of that form.
func selector(n ast.Node) (string, bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return "", false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	id, ok := sel.X.(*ast.Ident)
	if !ok {
		return "", false
	}
	return id.Name + "." + sel.Sel.Name, true
}

func hasPrefix(path string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}
