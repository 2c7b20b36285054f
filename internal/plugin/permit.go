package plugin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// ErrForbidden says that this process may not run a command.
var ErrForbidden = errors.New("not a program that this process may run")

// interpreters are the names for Python in a job. What runs is what PythonEnv
// names, or else what the PATH of this process finds.
var interpreters = map[string]bool{"python": true, "python3": true}

// PythonEnv is the environment variable with the Python that plugins run on.
const PythonEnv = "DRIFTMESH_PYTHON"

// resolve turns the command of a job into a program and its arguments, if it is a
// file of the folder: either the program itself, or a script after "python3".
// Nothing else of a command can choose what runs; an option of the interpreter
// would, and is refused.
func resolve(dir string, command []string) ([]string, error) {
	if len(command) == 0 || command[0] == "" {
		return nil, fielderr.New("command", nil, "a program, such as [python3, reward.py]")
	}
	if !interpreters[command[0]] {
		path, info, err := inside(dir, command[0])
		if err != nil {
			return nil, err
		}
		if info.Mode()&0o111 == 0 {
			return nil, fielderr.New("command", command[0], "a program that may be executed; a script of Python is [python3, "+command[0]+"]")
		}
		return append([]string{path}, command[1:]...), nil
	}
	if len(command) < 2 || strings.HasPrefix(command[1], "-") {
		return nil, fielderr.New("command", strings.Join(command, " "), "a script after the interpreter, such as [python3, reward.py]; options of the interpreter are refused")
	}
	path, _, err := inside(dir, command[1])
	if err != nil {
		return nil, err
	}
	python := os.Getenv(PythonEnv)
	if python == "" {
		python = command[0]
	}
	return append([]string{python, path}, command[2:]...), nil
}

// Find returns the file of the folders that a command of a job runs: the program, or
// the script. Where this process may run none, the error wraps ErrForbidden.
func Find(command []string) (string, error) {
	hostsMu.Lock()
	defer hostsMu.Unlock()
	faults := []error{ErrForbidden}
	for _, h := range slices.Backward(hosts) {
		for _, dir := range h.dirs {
			args, err := resolve(dir, command)
			if err != nil {
				faults = append(faults, err)
				continue
			}
			if interpreters[command[0]] {
				return args[1], nil
			}
			return args[0], nil
		}
	}
	return "", errors.Join(faults...)
}

// inside finds a regular file of the folder; links may not lead out of it.
func inside(dir, name string) (string, os.FileInfo, error) {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", nil, fmt.Errorf("folder of plugins: %w", err)
	}
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(root, path)
	}
	path, err = filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil, fmt.Errorf("%w: %s holds no %s", ErrForbidden, dir, name)
	}
	if err != nil {
		return "", nil, fmt.Errorf("command: %w", err)
	}
	if rel, err := filepath.Rel(root, path); err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return "", nil, fmt.Errorf("%w: %s is not in %s", ErrForbidden, name, dir)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", nil, fmt.Errorf("command: %w", err)
	}
	if !info.Mode().IsRegular() {
		return "", nil, fmt.Errorf("%w: %s is no file", ErrForbidden, name)
	}
	return path, info, nil
}
