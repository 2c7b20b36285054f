package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/driftmesh/driftmesh/internal/telemetry"
)

// openHTTP offers a node's numbers and probes at --http until the function that
// it returns is called. Without --http there is no server; the registry is nil
// and takes everything.
//
// The listener is opened first, so that an address in use is told at once; it
// answers once serve is called.
func (f *nodeFlags) openHTTP(ctx context.Context) (*httpServer, error) {
	if f.http == "" {
		return &httpServer{}, nil
	}
	l, err := f.security().Listen(ctx, f.http)
	if err != nil {
		return nil, fmt.Errorf("--http: %w", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	h := &httpServer{Registry: telemetry.NewRegistry(), addr: l.Addr().String(), cancel: cancel}
	h.serve = func(p telemetry.Probes, log *slog.Logger) {
		h.serving.Go(func() {
			if err := telemetry.Serve(ctx, l, telemetry.Handler(h.Registry, p, log), log); err != nil {
				log.Error("metrics are not served", "error", err)
			}
		})
	}
	h.unused = l.Close
	return h, nil
}

// httpServer is a node's /metrics, /healthz and /readyz.
type httpServer struct {
	Registry *telemetry.Registry // nil without --http
	addr     string
	serve    func(telemetry.Probes, *slog.Logger)
	cancel   context.CancelFunc
	unused   func() error
	serving  sync.WaitGroup
}

// start begins to answer; info are the labels of telemetry.Info.
func (h *httpServer) start(p telemetry.Probes, log *slog.Logger, info ...string) {
	if h.Registry == nil {
		return
	}
	h.Registry.Read(func(emit telemetry.Emit) { emit(telemetry.Info, 1, info...) })
	h.serve(p, log)
	log.Info("metrics", "http", h.addr)
}

// Close ends the server and waits for it.
func (h *httpServer) Close() error {
	if h.Registry == nil {
		return nil
	}
	h.cancel()
	h.unused() // closed already if it served
	h.serving.Wait()
	return nil
}
