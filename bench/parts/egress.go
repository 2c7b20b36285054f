package parts

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"

	"github.com/driftmesh/driftmesh/chaos"
	"github.com/driftmesh/driftmesh/cluster"
)

// withMetrics makes servers serve their numbers.
var withMetrics = map[cluster.Role][]string{cluster.RoleServer: {"--http", "127.0.0.1:0"}}

var (
	metricsAt = regexp.MustCompile(`msg=metrics .*\bhttp=(\S+)`)
	sentBytes = regexp.MustCompile(`(?m)^\w*parameters_sent_bytes_total(?:\{[^}]*\})? (\S+)$`)
)

// egress is how many bytes of parameters all servers of a rig have sent.
func egress(ctx context.Context, rig *chaos.Rig) (sum float64, err error) {
	for _, n := range rig.Nodes(cluster.RoleServer) {
		m := metricsAt.FindStringSubmatch(n.Tail(1 << 20))
		if m == nil {
			return 0, fmt.Errorf("%s does not say where its metrics are", n.Name)
		}
		text, err := fetch(ctx, "http://"+m[1]+"/metrics")
		if err != nil {
			return 0, fmt.Errorf("metrics of %s: %w", n.Name, err)
		}
		sent, err := counted(text)
		if err != nil {
			return 0, fmt.Errorf("metrics of %s: %w", n.Name, err)
		}
		sum += sent
	}
	return sum, nil
}

// counted adds up the bytes sent in a text of metrics; none is 0.
func counted(text []byte) (sum float64, err error) {
	for _, m := range sentBytes.FindAllSubmatch(text, -1) {
		v, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, nil
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, 1<<22))
}
