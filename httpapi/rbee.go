package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"rbeehive/hive"
	"rbeehive/store"
)

// This file is the stream as rbee's clients read it; rbee_text.go is what is in it. A
// connection that closes without a terminator reads as success, so every end but the
// client's own is written.

// downloadWait is a little less than rbee's keeper waits for a download.
const downloadWait = 590 * time.Second

// rbeeStream tells a job's story from its beginning and ends with a terminator.
func (s *Server) rbeeStream(w http.ResponseWriter, r *http.Request, id string) error {
	job, err := s.hive.Load().Job(id)
	if err != nil {
		return err
	}
	f, err := s.follow(r, id, 0)
	if err != nil {
		return err
	}
	st := openStream(w, "text/event-stream")
	if r.Method == http.MethodHead {
		return f.stop()
	}
	text := &rbeeText{w: st, operation: job.Operation}
	ended := s.streamEvents(st, text, f)
	if err := f.stop(); err != nil {
		// The answer has begun, so its reader learns it in the words of the stream, and the
		// log by the error.
		text.failed("internal: the job's events cannot be read; request_id " + requestID(r))
		_ = st.flush()
		return fmt.Errorf("read events of %s: %w", id, err)
	}
	if !ended && r.Context().Err() == nil {
		s.endEarly(text, id)
	}
	_ = st.flush()
	return nil
}

// streamEvents writes events until the job's end, and reports whether it came to it. It
// gives up after StreamWait, or when the server shuts down or the client goes.
func (s *Server) streamEvents(st *stream, text *rbeeText, f *follower) (ended bool) {
	var timeUp <-chan time.Time // nil: never
	wait := time.Duration(s.wait.Load())
	if text.operation == "model_download" && wait > 0 {
		wait = max(wait, downloadWait)
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		timeUp = timer.C
	}
	for {
		// Sent when nothing more is there, so that a long story is not a packet for each line.
		if len(f.events) == 0 && st.flush() != nil {
			return false
		}
		select {
		case ev, ok := <-f.events:
			if !ok {
				return false
			}
			if text.event(ev) {
				return true
			}
		case <-timeUp:
			return false
		}
	}
}

// endEarly ends the stream of a job that goes on. rbee's keeper gives up with a
// bare time-out after 30 s, so something true must be said before.
//
// A spawn whose worker has been started ends as a success, with the result it
// will have but for the status "starting": rbee's own spawn ends there, and a
// model may take minutes to load. Anything else has not happened yet: [DONE]
// would be a lie, and the text of the error says that the job goes on, because
// who reads "error" alone submits it a second time.
func (s *Server) endEarly(text *rbeeText, id string) {
	h := s.hive.Load()
	job, err := h.Job(id)
	if err != nil {
		text.failed("the job cannot be read any more: " + err.Error())
		return
	}
	if job.State.Ended() { // in this very moment
		text.result = job.Result
		text.end(job.State, job.Error)
		return
	}
	if s.closing.Err() != nil {
		text.failed("hive is shutting down; once it runs again, GET /v1/jobs/" + id + " says how the job ended")
		return
	}
	if wkr, ok := startedWorker(h, job); ok {
		text.lines(fmt.Sprintf("worker %s is started and not ready yet; it is still loading, and GET /v1/workers/%s shows it",
			wkr.WorkerID, wkr.WorkerID))
		if raw, err := json.Marshal(spawnedShape(wkr)); err == nil {
			text.result = raw
			text.end(store.JobSucceeded, nil)
			return
		}
	}
	text.failed(fmt.Sprintf("job %s is still %s and continues: do not submit it again, see GET /v1/jobs/%s", id, job.State, id))
}

// startedWorker is the worker of a spawn whose program runs. One that is still
// spawning may not have passed the gate.
func startedWorker(h *hive.Hive, job store.Job) (store.Worker, bool) {
	if job.Operation != "worker_spawn" || job.WorkerID == "" {
		return store.Worker{}, false
	}
	w, err := h.Worker(job.WorkerID)
	if err != nil {
		return store.Worker{}, false
	}
	return w, w.State == store.WorkerRunning || w.State == store.WorkerLoading || w.State == store.WorkerReady
}
