package httpapi

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"rbeehive/hive/jobs"
	"rbeehive/httpapi/wire"
	"rbeehive/store"
)

const (
	jobsPage = 100 // how many jobs one answer has unless asked
	maxKey   = 255 // bytes of an idempotency key
)

// submitJob takes an operation. Any Content-Type will do: curl -d says
// application/x-www-form-urlencoded, and the form is never parsed.
func (s *Server) submitJob(w http.ResponseWriter, r *http.Request, p wire.SubmitJobParams) error {
	wait, err := parseWait(p.Wait)
	if err != nil {
		return err
	}
	key, err := idempotencyKey(p.IdempotencyKey)
	if err != nil {
		return err
	}
	// Last, because only this waits: a wrong header is reported immediately.
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	h := s.hive.Load()
	op, err := h.DecodeFor(body, func(hiveID string) bool { return s.isOurName(hiveID, r) })
	if err != nil {
		return err
	}
	job, err := h.SubmitFor(r.Context(), callerOf(r), key, op, body)
	if err != nil {
		return fmt.Errorf("submit %s: %w", op.Tag(), err)
	}
	// The status tells how the wait went: 200 has the job that has ended, 202 is the same
	// answer as without a wait.
	if wait > 0 {
		if job, err = s.await(r, job.JobID, wait); err != nil {
			return err
		}
		if job.State.Ended() {
			return writeJSON(w, http.StatusOK, jobShape(job))
		}
	}
	w.Header().Set("Location", "/v1/jobs/"+job.JobID)
	return writeJSON(w, http.StatusAccepted, submittedShape(job))
}

// idempotencyKey is the key that was sent; empty: none. A header that is there and
// says nothing is refused: its sender relies on it.
func idempotencyKey(sent *string) (string, error) {
	if sent == nil {
		return "", nil
	}
	key := *sent
	odd := strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' })
	if key == "" || len(key) > maxKey || odd {
		return "", badField("Idempotency-Key", fmt.Sprintf("1 to %d visible ASCII characters are expected", maxKey))
	}
	return key, nil
}

// await returns the job once it has ended, or as it is after wait, or when the
// client goes or the server shuts down.
func (s *Server) await(r *http.Request, id string, wait time.Duration) (store.Job, error) {
	noteWait(r)
	ctx, cancel := s.untilClosing(r.Context())
	defer cancel()
	ctx, cancelWait := context.WithTimeout(ctx, wait)
	defer cancelWait()
	return s.hive.Load().WaitJob(ctx, id)
}

func (s *Server) listJobs(w http.ResponseWriter, p wire.ListJobsParams) error {
	state, err := parseJobState(orZero(p.State))
	if err != nil {
		return err
	}
	jobs, next, err := s.hive.Load().Jobs(jobs.Filter{
		State: state, Operation: orZero(p.Operation), Limit: cmp.Or(int(orZero(p.Limit)), jobsPage), After: orZero(p.After),
	})
	if err != nil {
		return fmt.Errorf("list jobs: %w", err)
	}
	page := wire.Jobs{Jobs: make([]wire.Job, 0, len(jobs)), Next: next}
	for _, j := range jobs {
		page.Jobs = append(page.Jobs, jobShape(j))
	}
	return writeJSON(w, http.StatusOK, page)
}

func parseJobState(text string) (store.JobState, error) {
	switch state := store.JobState(text); state {
	case "", store.JobQueued, store.JobRunning, store.JobSucceeded, store.JobFailed, store.JobCancelled:
		return state, nil
	default:
		return "", badField("state", "one of queued, running, succeeded, failed, cancelled is expected")
	}
}

func (s *Server) getJob(w http.ResponseWriter, r *http.Request, id string, p wire.GetJobParams) error {
	wait, err := parseWait(p.Wait)
	if err != nil {
		return err
	}
	job, err := s.hive.Load().Job(id)
	if err == nil && wait > 0 && !job.State.Ended() {
		job, err = s.await(r, id, wait)
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, jobShape(job))
}

// cancelJob answers when what the job had begun is undone, which takes as long
// as a worker takes to stop.
func (s *Server) cancelJob(w http.ResponseWriter, r *http.Request, id string) error {
	ctx, cancel := s.untilClosing(r.Context())
	defer cancel()
	job, err := s.hive.Load().Cancel(ctx, callerOf(r), id)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, wire.Cancelled{JobID: job.JobID, Status: "cancelled"})
}
