package operation

// Operation is one decoded and validated request. Its dynamic type is one of
// the types of this file.
type Operation interface {
	// Tag is the operation's name on the wire.
	Tag() string
}

// Spawn starts a worker.
type Spawn struct {
	Worker string            // worker type
	Model  string            // empty: the type's default
	Device string            // empty: the type's default
	Name   string            // empty: unnamed
	Port   uint16            // 0: any port of the pool
	Params map[string]string // override the type's defaults
	Wait   WaitFor
}

// WaitFor says when a spawn job ends.
type WaitFor string

// When a spawn job ends.
const (
	WaitReady   WaitFor = "ready"   // the worker is ready or failed
	WaitStarted WaitFor = "started" // its program has been executed
)

// StopWorker stops a worker, named by id or name.
type StopWorker struct{ WorkerID string }

// RestartWorker ends the process of a worker, named by id or name, and starts it
// again as the configuration says now; one that has ended is started again.
type RestartWorker struct {
	WorkerID string
	IfStale  bool // only a live worker that is stale; another stays as it is
}

// ProcessList lists the processes of live workers.
type ProcessList struct{}

// ProcessGet shows the worker whose main process has PID.
type ProcessGet struct{ PID int }

// ProcessDelete stops the worker whose main process has PID. A PID that is not
// a worker's is not_found and never signalled.
type ProcessDelete struct{ PID int }

// Check is hive_check, the self-test.
type Check struct{}

// Unsupported is an operation that is known and not done here; its job fails.
type Unsupported struct {
	Name   string
	Reason string
}

// Tag implements Operation.
func (Spawn) Tag() string { return "worker_spawn" }

// Tag implements Operation.
func (StopWorker) Tag() string { return "worker_stop" }

// Tag implements Operation.
func (RestartWorker) Tag() string { return "worker_restart" }

// Tag implements Operation.
func (ProcessList) Tag() string { return "worker_process_list" }

// Tag implements Operation.
func (ProcessGet) Tag() string { return "worker_process_get" }

// Tag implements Operation.
func (ProcessDelete) Tag() string { return "worker_process_delete" }

// Tag implements Operation.
func (Check) Tag() string { return "hive_check" }

// Tag implements Operation.
func (u Unsupported) Tag() string { return u.Name }

// Install makes a worker type of a preset or of a program that is on this machine.
type Install struct{ WorkerID string }

// Remove removes a worker type that Install has made.
type Remove struct{ WorkerID string }

// Tag implements Operation.
func (Install) Tag() string { return "worker_install" }

// Tag implements Operation.
func (Remove) Tag() string { return "worker_remove" }

// CatalogList lists the worker types.
type CatalogList struct{}

// CatalogGet shows one worker type.
type CatalogGet struct{ WorkerID string }

// InstalledList lists the worker types whose programs are on this machine.
type InstalledList struct{}

// InstalledGet shows one of them.
type InstalledGet struct{ WorkerID string }

// Tag implements Operation.
func (CatalogList) Tag() string { return "worker_catalog_list" }

// Tag implements Operation.
func (CatalogGet) Tag() string { return "worker_catalog_get" }

// Tag implements Operation.
func (InstalledList) Tag() string { return "worker_list_installed" }

// Tag implements Operation.
func (InstalledGet) Tag() string { return "worker_installed_get" }

// ModelDownload gets a model from the hub into the catalog.
type ModelDownload struct{ Model string }

// ModelList lists the models of the catalog.
type ModelList struct{}

// ModelGet shows one model of the catalog.
type ModelGet struct{ ID string }

// ModelDelete removes a model that no worker uses, and what came of one that is not whole.
type ModelDelete struct{ ID string }

// Tag implements Operation.
func (ModelDownload) Tag() string { return "model_download" }

// Tag implements Operation.
func (ModelList) Tag() string { return "model_list" }

// Tag implements Operation.
func (ModelGet) Tag() string { return "model_get" }

// Tag implements Operation.
func (ModelDelete) Tag() string { return "model_delete" }
