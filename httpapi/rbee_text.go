package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"

	"rbeehive/hive/errdefs"
	"rbeehive/store"
	"rbeehive/store/plain"
)

// This file is the text that rbee's clients read (rbee-keeper, job-client, November 2025).
// They know no SSE framing: they split on newlines, trim, strip one "data:", and show
// every line to a person. So there is no id, no retry and no comment here, and a line of a
// worker's log must not look like the end of the job.

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
