package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// Bounds of what clients of the HTTP server can hold on to.
const (
	maxConns       = 32
	maxHeaderBytes = 8 << 10
	headerTimeout  = 2 * time.Second
	readTimeout    = 5 * time.Second
	writeTimeout   = 15 * time.Second
	idleTimeout    = 60 * time.Second
	scrapeTimeout  = 5 * time.Second
	maxScrapes     = 4 // at a time; more get 503
)

// Probe answers nil, or why not.
type Probe func() error

// Probes are the two questions that an orchestrator asks. nil: yes.
type Probes struct {
	Healthy Probe // the process does its work
	Ready   Probe // it is of use now
}

// Handler offers /metrics, /healthz and /readyz.
func Handler(r *Registry, p Probes, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.prom, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{log}, ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout,
	}))
	mux.Handle("GET /healthz", answer(p.Healthy))
	mux.Handle("GET /readyz", answer(p.Ready))
	return mux
}

func answer(probe Probe) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		text := "ok\n"
		if probe != nil {
			if err := probe(); err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				text = err.Error() + "\n"
			}
		}
		io.WriteString(w, text) // a client that has gone needs no answer
	})
}

// Serve answers on the listener until ctx ends, and closes it.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug), // what strangers send is no news
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		srv.Close() // scrapes are worth no wait
	})
	err := srv.Serve(netutil.LimitListener(l, maxConns))
	if !stop() {
		<-done
	}
	if errors.Is(err, http.ErrServerClosed) || ctx.Err() != nil && errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("http on %s: %w", l.Addr(), err)
}

// scrapeLog takes what promhttp finds wrong with a scrape.
type scrapeLog struct{ log *slog.Logger }

// Println implements promhttp.Logger.
func (l scrapeLog) Println(v ...any) { l.log.Warn("scrape", "error", fmt.Sprint(v...)) }
