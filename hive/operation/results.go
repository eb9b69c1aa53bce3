package operation

import (
	"rbeehive/hive/endpoint"
	"rbeehive/hive/lifecycle"
	"rbeehive/hive/models"
	"rbeehive/store"
)

// Spawned is the result of worker_spawn.
type Spawned struct {
	WorkerID string   `json:"worker_id"`
	Name     *string  `json:"name"`
	Port     uint16   `json:"port"`
	Ports    []uint16 `json:"ports"`
	PID      int      `json:"pid"`
	URL      string   `json:"url"`
	LeaseID  string   `json:"lease_id"`
	Status   string   `json:"status"`
}

// SpawnedOf is the result for a worker that has been started.
func SpawnedOf(rec store.Worker) Spawned {
	s := Spawned{
		WorkerID: rec.WorkerID, Name: OrNull(rec.Name), Port: rec.Port, Ports: rec.Ports,
		URL: endpoint.URL(rec), LeaseID: rec.LeaseID, Status: "starting",
	}
	if rec.Identity != nil {
		s.PID = rec.Identity.PID
	}
	if rec.State == store.WorkerReady {
		s.Status = "ready"
	}
	return s
}

// Stopped is the result of worker_stop and worker_process_delete.
type Stopped struct {
	Name     *string `json:"name"`
	Port     uint16  `json:"port"`
	Status   string  `json:"status"` // always stopped
	WorkerID string  `json:"worker_id"`
}

// StoppedOf is the result for a worker that has been stopped.
func StoppedOf(rec store.Worker) Stopped {
	return Stopped{WorkerID: rec.WorkerID, Name: OrNull(rec.Name), Port: rec.Port, Status: "stopped"}
}

// Removed is the result of worker_remove.
type Removed struct {
	Status   string `json:"status"` // always removed
	WorkerID string `json:"worker_id"`
}

// Deleted is the result of model_delete.
type Deleted struct {
	ID     string `json:"id"`
	Status string `json:"status"` // always deleted
}

// Checked is the result of hive_check.
type Checked struct {
	OK    bool        `json:"ok"`
	Steps []CheckStep `json:"steps"`
}

// CheckStep is one step of a self-test that has succeeded.
type CheckStep struct {
	Name   string  `json:"name"`
	TookMS float64 `json:"took_ms"`
}

// Process is one row of worker_process_list. pid, model and device are what
// rbee's page reads.
type Process struct {
	PID      int     `json:"pid"`
	WorkerID string  `json:"worker_id"`
	Name     *string `json:"name"`
	Type     string  `json:"type"`
	Model    *string `json:"model"`
	Device   *string `json:"device"`
	Port     uint16  `json:"port"`
	URL      string  `json:"url"`
	State    string  `json:"state"`
}

// ProcessOf is the row of a worker.
func ProcessOf(w store.Worker) Process {
	p := Process{
		WorkerID: w.WorkerID, Name: OrNull(w.Name), Type: w.Type, Model: OrNull(w.Spec.Model), Device: OrNull(w.Spec.Device),
		Port: w.Port, URL: endpoint.URL(w), State: lifecycle.PublicState(w.State),
	}
	// Else it has no process at present (backoff), and pid is 0.
	if w.Identity != nil {
		p.PID = w.Identity.PID
	}
	return p
}

// OrNull is a text that may be missing, as JSON has it: null for an empty one.
func OrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// CatalogEntry is a worker type as worker_catalog_list shows it. worker_type is what
// a spawn takes as worker.
type CatalogEntry struct {
	ID          string  `json:"id"`
	Name        string  `json:"name"`
	WorkerType  string  `json:"worker_type"`
	Platform    string  `json:"platform"`
	Description string  `json:"description"`
	Source      string  `json:"source"`
	Preset      *string `json:"preset"`
	Installed   bool    `json:"installed"`
	Program     *string `json:"program"`
	Reason      *string `json:"reason"`
}

// CatalogEntries is the result of worker_catalog_list.
type CatalogEntries struct {
	Workers []CatalogEntry `json:"workers"`
}

// InstalledProgram is a worker type whose program is here. id to added_at are what
// rbee's page reads; its size is a number of bytes, its added_at when the type was
// installed, else when its program was.
type InstalledProgram struct {
	ID         string  `json:"id"`
	Name       string  `json:"name"`
	WorkerType string  `json:"worker_type"`
	Platform   string  `json:"platform"`
	Version    *string `json:"version"`
	Size       int64   `json:"size"`
	Path       string  `json:"path"`
	AddedAt    string  `json:"added_at"`
	SHA256     *string `json:"sha256"`
	Source     string  `json:"source"`
	Preset     *string `json:"preset"`
}

// InstalledPrograms is the result of worker_list_installed.
type InstalledPrograms struct {
	Workers []InstalledProgram `json:"workers"`
}

// ModelEntry is a model as clients see it. id, name, size, size_bytes, path, status
// and loaded are what rbee's page reads.
type ModelEntry struct {
	ID        string        `json:"id"`
	Name      string        `json:"name"`
	Size      string        `json:"size"` // for a person
	SizeBytes int64         `json:"size_bytes"`
	Path      string        `json:"path"`
	Status    string        `json:"status"`
	Loaded    bool          `json:"loaded"`
	Workers   []string      `json:"workers"` // live ones that use it
	Repo      string        `json:"repo"`
	File      *string       `json:"file"`
	Commit    *string       `json:"commit"`
	Files     []models.File `json:"files"`
	AddedAt   *string       `json:"added_at"`
}

// ModelEntries is the result of model_list.
type ModelEntries struct {
	Models []ModelEntry `json:"models"`
}
