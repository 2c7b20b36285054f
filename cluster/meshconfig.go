package cluster

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// MeshConfig configures a node's membership.
type MeshConfig struct {
	NodeID    string // node UUID, unique among processes: Identity.NodeID
	ClusterID string // Identity.ClusterID; a worker may have it from JoinReply
	Role      Role
	Bind      string // gossip host:port, UDP and TCP; port 0 takes a free one
	Advertise string // host:port that others use; "" for Bind
	GRPCAddr  string // where this node serves the mesh, "" for nowhere
	RaftAddr  string // of a server's raft transport, "" for workers
	Slots     int    // sampler loops
	Level     uint8  // feature level of the log that this binary supports, 0 for a worker
	Group     string // of the nodes that share one cache of parameters, "" for none
	Preset    Preset
	Security  Security
	Log       *slog.Logger // nil for none
	// Transport, when set, puts something between gossip and its sockets: fault
	// injection does.
	Transport func(memberlist.NodeAwareTransport) memberlist.NodeAwareTransport
}

// meta is what gossip tells of the node.
func (cfg *MeshConfig) meta(follows string) nodeMeta {
	return nodeMeta{
		ClusterID: cfg.ClusterID, Role: cfg.Role, GRPCAddr: cfg.GRPCAddr,
		RaftAddr: cfg.RaftAddr, Slots: cfg.Slots, Protocol: ProtocolVersion,
		Level: cfg.Level, Group: cfg.Group, Follows: follows,
	}
}

func (cfg *MeshConfig) check() (host string, port int, advHost string, advPort int, err error) {
	if uuid.Validate(cfg.NodeID) != nil {
		return "", 0, "", 0, fielderr.New("node_id", cfg.NodeID, "a UUID")
	}
	if uuid.Validate(cfg.ClusterID) != nil {
		return "", 0, "", 0, fielderr.New("cluster_id", cfg.ClusterID, "the UUID of a cluster")
	}
	if !cfg.Role.known() {
		return "", 0, "", 0, fielderr.New("role", string(cfg.Role), `"server", "learner" or "worker"`)
	}
	if cfg.Preset.ProbeInterval <= 0 {
		return "", 0, "", 0, fielderr.New("preset", cfg.Preset.Name, "a preset such as Local()")
	}
	if host, port, err = cfg.split("bind", cfg.Bind); err != nil {
		return "", 0, "", 0, err
	}
	if cfg.Advertise != "" {
		if advHost, advPort, err = cfg.split("advertise", cfg.Advertise); err != nil {
			return "", 0, "", 0, err
		}
		if advPort == 0 {
			advPort = port
		}
	}
	for field, addr := range map[string]string{"grpc_addr": cfg.GRPCAddr, "raft_addr": cfg.RaftAddr} {
		if addr == "" {
			continue
		}
		if _, _, err := cfg.split(field, addr); err != nil {
			return "", 0, "", 0, err
		}
	}
	return host, port, advHost, advPort, nil
}

// split checks an address and returns the IP and the port, which memberlist
// wants apart.
func (cfg *MeshConfig) split(field, addr string) (string, int, error) {
	if err := cfg.Security.CheckAddr(addr); err != nil {
		return "", 0, fmt.Errorf("%s: %w", field, err)
	}
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", field, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return "", 0, fielderr.New(field, addr, "a port from 0 to 65535")
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	return host, int(port), nil
}
