package wire

// Tagged is a message that says which cluster it is meant for. The receiver
// checks it before anything else reads the message, so that a process left
// over from another cluster, or pointed at the wrong port, changes nothing.
type Tagged interface {
	// Cluster returns the ID of the cluster meant. required is false where ""
	// is allowed: in a question that asks for the ID, and in the messages of a
	// stream after the first.
	Cluster() (id string, required bool)
}

// Cluster implements Tagged.
func (r *SubmitRequest) Cluster() (string, bool) { return r.ClusterID, true }

// Cluster implements Tagged.
func (r *ControlRequest) Cluster() (string, bool) { return r.ClusterID, true }

// Cluster implements Tagged; status identifies a cluster, so "" is allowed.
func (r *StatusRequest) Cluster() (string, bool) { return r.ClusterID, false }

// Cluster implements Tagged; who joins by address alone does not know the ID yet.
func (r *JoinRequest) Cluster() (string, bool) { return r.ClusterID, false }

// Cluster implements Tagged.
func (r *AssignRequest) Cluster() (string, bool) { return r.ClusterID, true }

// Cluster implements Tagged.
func (r *OpenSessionRequest) Cluster() (string, bool) { return r.ClusterID, true }

// Cluster implements Tagged.
func (r *SubscribeRequest) Cluster() (string, bool) { return r.ClusterID, true }

// Cluster implements Tagged.
func (r *StateRequest) Cluster() (string, bool) { return r.ClusterID, true }

// Cluster implements Tagged.
func (r *WatchRequest) Cluster() (string, bool) { return r.ClusterID, true }

// Cluster implements Tagged: the Hello of a trajectory stream carries the ID,
// the batches after it stand under it.
func (u *Uplink) Cluster() (string, bool) {
	if u.Hello == nil {
		return "", false
	}
	return u.Hello.ClusterID, true
}
