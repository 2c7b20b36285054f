// Package cluster joins processes into a mesh: who a node is (Identity), who
// else is there (Mesh, by gossip), and how they talk (the gRPC service, Client
// and Leader).
//
// It decides nothing. Membership is a hint: what must be true is in the
// replicated log, fenced by epochs. So a wrong guess here costs time, never
// correctness.
package cluster
