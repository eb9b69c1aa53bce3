package httpapi

import (
	"net/http"

	"rbeehive/httpapi/wire"
)

// api is the contract's ServerInterface: each operation is answered by the method
// of the server that it names, or with the error of that.
type api struct {
	*Server

	prometheus http.Handler
	docs       func() *docs // made when it is first asked for: hive is to serve at once
}

// answered sends the error of a handler, if it has one.
func (a api) answered(w http.ResponseWriter, r *http.Request, err error) {
	if err != nil {
		a.fail(w, r, err)
	}
}

// GetRoot implements ServerInterface.
func (a api) GetRoot(w http.ResponseWriter, _ *http.Request) {
	a.docs().redirect(w)
}

// GetHealth implements ServerInterface.
func (a api) GetHealth(w http.ResponseWriter, _ *http.Request) {
	// Before the hive serves the gate answers.
	if h := a.hive.Load(); h != nil {
		if fault := h.Status().Fault; fault != "" {
			writeText(w, http.StatusServiceUnavailable, "stuck: "+fault)
			return
		}
	}
	writeText(w, http.StatusOK, "ok")
}

// SubmitJob implements ServerInterface.
func (a api) SubmitJob(w http.ResponseWriter, r *http.Request, p wire.SubmitJobParams) {
	a.answered(w, r, a.submitJob(w, r, p))
}

// ListJobs implements ServerInterface.
func (a api) ListJobs(w http.ResponseWriter, r *http.Request, p wire.ListJobsParams) {
	a.answered(w, r, a.listJobs(w, p))
}

// GetJob implements ServerInterface.
func (a api) GetJob(w http.ResponseWriter, r *http.Request, id string, p wire.GetJobParams) {
	a.answered(w, r, a.getJob(w, r, id, p))
}

// CancelJob implements ServerInterface.
func (a api) CancelJob(w http.ResponseWriter, r *http.Request, id string) {
	a.answered(w, r, a.cancelJob(w, r, id))
}

// FollowJob implements ServerInterface.
func (a api) FollowJob(w http.ResponseWriter, r *http.Request, id string, p wire.FollowJobParams) {
	a.answered(w, r, a.jobEvents(w, r, id, p))
}

// FollowHive implements ServerInterface.
func (a api) FollowHive(w http.ResponseWriter, r *http.Request, p wire.FollowHiveParams) {
	a.answered(w, r, a.allEvents(w, r, p))
}

// StreamJob implements ServerInterface.
func (a api) StreamJob(w http.ResponseWriter, r *http.Request, id string) {
	a.answered(w, r, a.rbeeStream(w, r, id))
}

// ListWorkers implements ServerInterface.
func (a api) ListWorkers(w http.ResponseWriter, r *http.Request, p wire.ListWorkersParams) {
	a.answered(w, r, a.listWorkers(w, p))
}

// ListRoutes implements ServerInterface.
func (a api) ListRoutes(w http.ResponseWriter, r *http.Request) {
	a.answered(w, r, a.listRoutes(w, r))
}

// ProveReplica implements ServerInterface.
func (a api) ProveReplica(w http.ResponseWriter, r *http.Request, workerID string) {
	a.answered(w, r, a.proveReplica(w, r, workerID))
}

// GetWorker implements ServerInterface.
func (a api) GetWorker(w http.ResponseWriter, r *http.Request, ref string) {
	a.answered(w, r, a.getWorker(w, ref))
}

// RemoveWorker implements ServerInterface.
func (a api) RemoveWorker(w http.ResponseWriter, r *http.Request, ref wire.WorkerRef) {
	a.answered(w, r, a.removeWorker(w, r, ref))
}

// ListWorkerEvents implements ServerInterface.
func (a api) ListWorkerEvents(w http.ResponseWriter, r *http.Request, ref string, p wire.ListWorkerEventsParams) {
	a.answered(w, r, a.workerEvents(w, ref, p))
}

// GetWorkerLog implements ServerInterface.
func (a api) GetWorkerLog(w http.ResponseWriter, r *http.Request, ref string, p wire.GetWorkerLogParams) {
	a.answered(w, r, a.workerLogs(w, r, ref, p))
}

// ListLeases implements ServerInterface.
func (a api) ListLeases(w http.ResponseWriter, r *http.Request, p wire.ListLeasesParams) {
	a.answered(w, r, a.listLeases(w, p))
}

// AcquireLease implements ServerInterface.
func (a api) AcquireLease(w http.ResponseWriter, r *http.Request) {
	a.answered(w, r, a.acquireLease(w, r))
}

// GetLease implements ServerInterface.
func (a api) GetLease(w http.ResponseWriter, r *http.Request, port wire.Port) {
	a.answered(w, r, a.getLease(w, port))
}

// RenewLease implements ServerInterface.
func (a api) RenewLease(w http.ResponseWriter, r *http.Request, port wire.Port) {
	a.answered(w, r, a.renewLease(w, r, port))
}

// ReleaseLease implements ServerInterface.
func (a api) ReleaseLease(w http.ResponseWriter, r *http.Request, port wire.Port, p wire.ReleaseLeaseParams) {
	a.answered(w, r, a.releaseLease(w, r, port, p))
}

// GetPorts implements ServerInterface.
func (a api) GetPorts(w http.ResponseWriter, r *http.Request) {
	a.answered(w, r, a.getPorts(w, r))
}

// GetAudit implements ServerInterface.
func (a api) GetAudit(w http.ResponseWriter, r *http.Request) {
	a.answered(w, r, a.lastAudit(w))
}

// RunAudit implements ServerInterface.
func (a api) RunAudit(w http.ResponseWriter, r *http.Request, p wire.RunAuditParams) {
	a.answered(w, r, a.runAudit(w, r, p))
}

// ListTypes implements ServerInterface.
func (a api) ListTypes(w http.ResponseWriter, r *http.Request, p wire.ListTypesParams) {
	a.answered(w, r, a.listTypes(w, r, p))
}

// GetType implements ServerInterface.
func (a api) GetType(w http.ResponseWriter, r *http.Request, name string, p wire.GetTypeParams) {
	a.answered(w, r, a.getType(w, r, name, p))
}

// GetHive implements ServerInterface.
func (a api) GetHive(w http.ResponseWriter, r *http.Request) {
	a.answered(w, r, a.getHive(w))
}

// GetCapabilities implements ServerInterface.
func (a api) GetCapabilities(w http.ResponseWriter, r *http.Request, p wire.GetCapabilitiesParams) {
	a.answered(w, r, a.capabilities(w, r, p.QueenURL))
}

// GetCapabilitiesOfOld implements ServerInterface.
func (a api) GetCapabilitiesOfOld(w http.ResponseWriter, r *http.Request, p wire.GetCapabilitiesOfOldParams) {
	a.answered(w, r, a.capabilities(w, r, p.QueenURL))
}

// FollowHeartbeats implements ServerInterface.
func (a api) FollowHeartbeats(w http.ResponseWriter, r *http.Request, p wire.FollowHeartbeatsParams) {
	a.answered(w, r, a.heartbeats(w, r, p))
}

// GetDoctor implements ServerInterface.
func (a api) GetDoctor(w http.ResponseWriter, r *http.Request) {
	a.answered(w, r, a.getDoctor(w, r))
}

// GetVersion implements ServerInterface.
func (a api) GetVersion(w http.ResponseWriter, r *http.Request) {
	a.answered(w, r, a.getVersion(w))
}

// ListTokens implements ServerInterface.
func (a api) ListTokens(w http.ResponseWriter, r *http.Request) {
	a.answered(w, r, a.listTokens(w))
}

// AddToken implements ServerInterface.
func (a api) AddToken(w http.ResponseWriter, r *http.Request) {
	a.answered(w, r, a.addToken(w, r))
}

// RotateToken implements ServerInterface.
func (a api) RotateToken(w http.ResponseWriter, r *http.Request, name string) {
	a.answered(w, r, a.rotateToken(w, r, name))
}

// RevokeToken implements ServerInterface.
func (a api) RevokeToken(w http.ResponseWriter, r *http.Request, name string) {
	a.answered(w, r, a.revokeToken(w, r, name))
}

// GetBackup implements ServerInterface.
func (a api) GetBackup(w http.ResponseWriter, r *http.Request) {
	a.answered(w, r, a.getBackup(w, r))
}

// Reload implements ServerInterface.
func (a api) Reload(w http.ResponseWriter, r *http.Request, p wire.ReloadParams) {
	a.answered(w, r, a.reload(w, r, p))
}

// Shutdown implements ServerInterface.
func (a api) Shutdown(w http.ResponseWriter, r *http.Request) {
	a.answered(w, r, a.shutdown(w))
}

// GetContract implements ServerInterface.
func (a api) GetContract(w http.ResponseWriter, _ *http.Request) {
	a.docs().contract(w)
}

// GetContractJSON implements ServerInterface.
func (a api) GetContractJSON(w http.ResponseWriter, _ *http.Request) {
	a.docs().contractJSON(w)
}

// GetDocs implements ServerInterface.
func (a api) GetDocs(w http.ResponseWriter, _ *http.Request) {
	a.docs().page(w)
}

// GetMetrics implements ServerInterface.
func (a api) GetMetrics(w http.ResponseWriter, r *http.Request) { a.prometheus.ServeHTTP(w, r) }

// GetDocsFile implements ServerInterface.
func (a api) GetDocsFile(w http.ResponseWriter, r *http.Request, file string) {
	a.answered(w, r, a.docs().file(w, r, file))
}
