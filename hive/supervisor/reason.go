package supervisor

// Reason is why a worker was started again, as the label of hive_worker_restarts_total.
type Reason string

// Why a worker can be started again.
const (
	ReasonExited    Reason = "exited"    // its process ended by itself
	ReasonNotReady  Reason = "not_ready" // it was given up before it was ready
	ReasonLiveness  Reason = "liveness"  // it was ready and served no longer
	ReasonRequested Reason = "requested" // worker_restart
	ReasonReload    Reason = "reload"    // it was stale, and its type says reload: restart
	ReasonRecovery  Reason = "recovery"  // it was not alive when hive was started
)

// Reasons returns all reasons.
func Reasons() []Reason {
	return []Reason{ReasonExited, ReasonNotReady, ReasonLiveness, ReasonRequested, ReasonReload, ReasonRecovery}
}
