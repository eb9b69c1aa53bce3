package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"rbeehive/hive"
	"rbeehive/hive/errdefs"
	"rbeehive/store"
	"rbeehive/store/plain"
)

// This file is the stream as rbee's clients read it (rbee-keeper, job-client,
// November 2025). They know no SSE framing: they split on newlines, trim, strip
// one "data:", and show every line to a person. So there is no id, no retry and
// no comment here, and a line of a worker's log must not look like the end of
// the job. A connection that closes without a terminator reads as success.

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
	ended := s.tell(st, text, f)
	if err := f.stop(); err != nil {
		// The answer has begun, so its reader learns it in the words of the stream, and the
		// log by the error.
		text.failed("internal: the job's events cannot be read; request_id " + requestID(r))
		_ = st.flush()
		return fmt.Errorf("read events of %s: %w", id, err)
	}
	if !ended && r.Context().Err() == nil {
		s.cutShort(text, id)
	}
	_ = st.flush()
	return nil
}

// tell writes events until the job's end, and reports whether it came to it. It
// gives up after StreamWait, or when the server shuts down or the client goes.
func (s *Server) tell(st *stream, text *rbeeText, f *follower) (ended bool) {
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

// cutShort ends the stream of a job that goes on. rbee's keeper gives up with a
// bare time-out after 30 s, so something true must be said before.
//
// A spawn whose worker has been started ends as a success, with the result it
// will have but for the status "starting": rbee's own spawn ends there, and a
// model may take minutes to load. Anything else has not happened yet: [DONE]
// would be a lie, and the text of the error says that the job goes on, because
// who reads "error" alone submits it a second time.
func (s *Server) cutShort(text *rbeeText, id string) {
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
		text.lines(fmt.Sprintf("worker %s is started and not ready yet; it goes on loading, and GET /v1/workers/%s shows it",
			wkr.WorkerID, wkr.WorkerID))
		if raw, err := json.Marshal(spawnedShape(wkr)); err == nil {
			text.result = raw
			text.end(store.JobSucceeded, nil)
			return
		}
	}
	text.failed(fmt.Sprintf("job %s is still %s and goes on: do not submit it again, ask GET /v1/jobs/%s", id, job.State, id))
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

// rbeeText writes a job's story as rbee's text.
type rbeeText struct {
	w         io.Writer // a buffer: does not fail
	operation string
	result    json.RawMessage // held back to the end, where rbee's page looks for it
}

// event writes one event and reports whether it was the last one.
func (t *rbeeText) event(ev store.Event) (ended bool) {
	switch ev.Type {
	case store.EventResult:
		t.result = ev.Data
		return false
	case store.EventEnd:
		var end struct {
			State store.JobState  `json:"state"`
			Error *store.JobError `json:"error"`
		}
		if err := json.Unmarshal(ev.Data, &end); err != nil {
			t.failed("internal: the job's last event cannot be read")
			return true
		}
		t.end(end.State, end.Error)
		return true
	default:
		t.lines(ev.Message)
		return false
	}
}

// end writes the result and the terminator.
func (t *rbeeText) end(state store.JobState, jobErr *store.JobError) {
	switch state {
	case store.JobSucceeded:
		t.payload()
		t.line("[DONE]")
	case store.JobCancelled:
		t.line("[CANCELLED]")
	default:
		t.failed(errorText(jobErr))
	}
}

func errorText(e *store.JobError) string {
	if e == nil {
		return errdefs.CodeInternal + ": no cause was recorded"
	}
	// The keeper's users know this sentence from rbee; it names the operation
	// and says where to send it, so a code adds nothing.
	if e.Code == errdefs.CodeUnsupportedOperation {
		return e.Message
	}
	return e.Code + ": " + e.Message
}

// payload writes the result for programs; and for the two operations whose last
// line rbee's page parses as JSON, also as the last line. Of worker_list_installed
// it parses the first line with braces, so there the result comes before.
func (t *rbeeText) payload() {
	if len(t.result) == 0 {
		return
	}
	var compact bytes.Buffer
	if json.Compact(&compact, t.result) != nil {
		return // not JSON: the job's record would be broken too, and says so
	}
	result := escapeJSON(compact.String())
	if t.operation == "worker_list_installed" {
		t.line(result)
	}
	fmt.Fprintf(t.w, "event: data\ndata: {\"action\":%q,\"payload\":%s}\n\n", t.operation, result)
	if t.operation == "worker_spawn" || t.operation == "worker_process_list" {
		t.line(result)
	}
}

// failed writes the terminator of a job that failed, as one line.
func (t *rbeeText) failed(why string) {
	t.line("[ERROR] " + escapeDone(strings.Join(splitLines(why), " ")))
}

// lines writes text for people, escaped.
func (t *rbeeText) lines(text string) {
	for _, line := range splitLines(text) {
		t.line(escapeLine(line))
	}
}

func (t *rbeeText) line(text string) {
	fmt.Fprintf(t.w, "data: %s\n\n", text)
}

// splitLines cuts at every kind of line end: a lone CR, as progress bars write
// it, ends a line in SSE too. Empty lines are dropped. The keeper prints a line as it is,
// so each is made plain text.
func splitLines(text string) []string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	for i, line := range lines {
		lines[i] = plain.Text(line)
	}
	return lines
}

// The keeper looks into every line it shows: a "failed:" anywhere, or "Job" and
// "failed" together, makes it say that the whole job failed, and a "[DONE]"
// anywhere that it is complete. llama-server says "mlock failed: ..." and goes on.
var failedMark = regexp.MustCompile(`(?i)(failed):`)

// escapeLine makes a line harmless and leaves it readable.
func escapeLine(line string) string {
	line = failedMark.ReplaceAllString(line, "$1 :")
	if strings.Contains(line, "Job") {
		line = strings.ReplaceAll(line, "failed", "Failed")
	}
	line = escapeDone(line)
	if looksTerminal(line) {
		return `\` + line
	}
	return line
}

func escapeDone(line string) string { return strings.ReplaceAll(line, "[DONE]", "[DONE ]") }

// escapeJSON does the same to one line of JSON without changing what it says:
// both words can only be in strings. The last letter is escaped, because the
// first may be the end of a "\f".
func escapeJSON(raw string) string {
	raw = strings.ReplaceAll(raw, "failed", `faile\u0064`)
	return strings.ReplaceAll(raw, "[DONE]", `[DONE\u005d`)
}

// looksTerminal reports whether a reader that trims spaces and strips "data:",
// perhaps more than once, could take the line for the end of the job.
func looksTerminal(line string) bool {
	for {
		line = strings.TrimSpace(line)
		rest, found := strings.CutPrefix(line, "data:")
		if !found {
			break
		}
		line = rest
	}
	for _, terminator := range []string{"[DONE", "[CANCELLED]", "[ERROR]"} {
		if strings.HasPrefix(line, terminator) {
			return true
		}
	}
	return false
}
