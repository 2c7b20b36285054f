package replica

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// bridge lets raft and its log write to a slog.Logger. Levels are the
// slog.Logger's alone, so SetLevel does nothing.
type bridge struct {
	to   *slog.Logger
	name string
	args []any
}

var _ hclog.Logger = (*bridge)(nil)

func newBridge(to *slog.Logger, name string) hclog.Logger {
	return &bridge{to: to.With("part", name), name: name}
}

// level maps raft's Info, which narrates every step of an election, to Debug.
func level(l hclog.Level) slog.Level {
	switch {
	case l >= hclog.Error:
		return slog.LevelError
	case l == hclog.Warn:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func (b *bridge) Log(l hclog.Level, msg string, args ...any) {
	ctx := context.Background()
	if !b.to.Enabled(ctx, level(l)) {
		return
	}
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			args[i] = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
	}
	b.to.Log(ctx, level(l), msg, args...)
}

func (b *bridge) enabled(l hclog.Level) bool { return b.to.Enabled(context.Background(), level(l)) }

func (b *bridge) Trace(msg string, args ...any) { b.Log(hclog.Trace, msg, args...) }
func (b *bridge) Debug(msg string, args ...any) { b.Log(hclog.Debug, msg, args...) }
func (b *bridge) Info(msg string, args ...any)  { b.Log(hclog.Info, msg, args...) }
func (b *bridge) Warn(msg string, args ...any)  { b.Log(hclog.Warn, msg, args...) }
func (b *bridge) Error(msg string, args ...any) { b.Log(hclog.Error, msg, args...) }

func (b *bridge) IsTrace() bool { return b.enabled(hclog.Trace) }
func (b *bridge) IsDebug() bool { return b.enabled(hclog.Debug) }
func (b *bridge) IsInfo() bool  { return b.enabled(hclog.Info) }
func (b *bridge) IsWarn() bool  { return b.enabled(hclog.Warn) }
func (b *bridge) IsError() bool { return b.enabled(hclog.Error) }

func (b *bridge) ImpliedArgs() []any { return b.args }

func (b *bridge) With(args ...any) hclog.Logger {
	implied := append(b.args[:len(b.args):len(b.args)], args...)
	return &bridge{to: b.to.With(args...), name: b.name, args: implied}
}

func (b *bridge) Name() string { return b.name }

func (b *bridge) Named(name string) hclog.Logger { return b.ResetNamed(b.name + "." + name) }

func (b *bridge) ResetNamed(name string) hclog.Logger {
	return &bridge{to: b.to.With("part", name), name: name, args: b.args}
}

func (b *bridge) SetLevel(hclog.Level) {}

func (b *bridge) GetLevel() hclog.Level {
	switch {
	case b.IsDebug():
		return hclog.Debug
	case b.IsWarn():
		return hclog.Warn
	}
	return hclog.Error
}

func (b *bridge) StandardLogger(opts *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(b.StandardWriter(opts), "", 0)
}

func (b *bridge) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return slog.NewLogLogger(b.to.Handler(), slog.LevelDebug).Writer()
}
