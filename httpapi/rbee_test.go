package httpapi_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi"
	"rbeehive/store"
)

// keeperView is what rbee-keeper makes of a stream: its job-client splits on
// newlines, trims, strips one "data:" and shows the rest; its own code looks for
// words in what is shown.
type keeperView struct {
	lines    []string // shown to the user, the terminator included
	err      error    // the keeper's exit; nil is success
	complete int      // how often it said "Complete" or "Failed"
	failed   bool     // it took the job for failed while reading
	left     string   // what came after the terminator
}

var (
	errKeeperCancelled = errors.New("the keeper reads: cancelled")
	errKeeperFailed    = errors.New("the keeper reads: failed")
)

func keeperReads(t *testing.T, r io.Reader) keeperView {
	t.Helper()
	var v keeperView
	in := bufio.NewReader(r)
	for {
		raw, err := in.ReadString('\n')
		line := strings.TrimSpace(raw)
		data, found := strings.CutPrefix(line, "data: ")
		if !found {
			data = strings.TrimPrefix(line, "data:")
		}
		if data != "" && v.show(data) {
			rest, readErr := io.ReadAll(in)
			require.NoError(t, readErr)
			v.left = strings.TrimSpace(string(rest))
			return v
		}
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			return v
		}
	}
}

func (v *keeperView) show(data string) (ended bool) {
	v.lines = append(v.lines, data)
	if strings.Contains(data, "failed:") || (strings.Contains(data, "Job") && strings.Contains(data, "failed")) {
		v.failed = true
	}
	if strings.Contains(data, "[DONE]") {
		v.complete++
	}
	switch {
	case data == "[DONE]":
		return true
	case data == "[CANCELLED]":
		v.err = errKeeperCancelled
		return true
	case strings.HasPrefix(data, "[ERROR]"):
		v.err = errKeeperFailed
		return true
	}
	return false
}

// webView is the last line before [DONE], which rbee's page parses as JSON.
func (v keeperView) webView(t *testing.T, into any) {
	t.Helper()
	require.GreaterOrEqual(t, len(v.lines), 2)
	require.Equal(t, "[DONE]", v.lines[len(v.lines)-1])
	require.NoError(t, json.Unmarshal([]byte(v.lines[len(v.lines)-2]), into))
}

func ev(typ store.EventType, message, data string) store.Event {
	e := store.Event{Type: typ, Message: message}
	if data != "" {
		e.Data = json.RawMessage(data)
	}
	return e
}

func succeeded() store.Event { return ev(store.EventEnd, "", `{"state":"succeeded","error":null}`) }

func TestRbeeSpawnIsReadByKeeperAndPage(t *testing.T) {
	text := httpapi.Rbee("worker_spawn",
		ev(store.EventState, "worker_spawn queued", ""),
		ev(store.EventPort, "port 8080", `{"port":8080}`),
		ev(store.EventResult, "done", "{\"worker_id\": \"cpu-8080-abc\",\n \"pid\": 12}"),
		succeeded())
	require.NotContains(t, text, "id:")
	require.NotContains(t, text, "retry:")
	for line := range strings.Lines(text) {
		require.False(t, strings.HasPrefix(line, ":"), "a comment would be shown to the user: %q", line)
	}
	v := keeperReads(t, strings.NewReader(text))
	require.NoError(t, v.err)
	require.Equal(t, 1, v.complete)
	require.Empty(t, v.left)
	require.Equal(t, []string{
		"worker_spawn queued", "port 8080",
		"event: data", `{"action":"worker_spawn","payload":{"worker_id":"cpu-8080-abc","pid":12}}`,
		`{"worker_id":"cpu-8080-abc","pid":12}`, "[DONE]",
	}, v.lines)
	var result struct {
		PID int `json:"pid"`
	}
	v.webView(t, &result)
	require.Equal(t, 12, result.PID)
}

func TestRbeeProcessListEndsWithTheArray(t *testing.T) {
	text := httpapi.Rbee("worker_process_list", ev(store.EventResult, "done", `[]`), succeeded())
	var rows []map[string]any
	keeperReads(t, strings.NewReader(text)).webView(t, &rows)
	require.NotNil(t, rows)
	require.Contains(t, text, `{"action":"worker_process_list","payload":[]}`)
}

func TestRbeeOtherOperationsHaveNoBareJSONLine(t *testing.T) {
	text := httpapi.Rbee("hive_check", ev(store.EventResult, "done", `{"ok":true}`), succeeded())
	require.Equal(t, "event: data\ndata: {\"action\":\"hive_check\",\"payload\":{\"ok\":true}}\n\ndata: [DONE]\n\n", text)
}

func TestRbeeTerminators(t *testing.T) {
	tests := []struct {
		name, end, want string
	}{
		{"cancelled", `{"state":"cancelled","error":null}`, "[CANCELLED]"},
		{"failed", `{"state":"failed","error":{"code":"exited_early","message":"it ended\nat once","log":[]}}`, "[ERROR] exited_early: it ended at once"},
		{
			"queen operation",
			`{"state":"failed","error":{"code":"unsupported_operation","message":"operation 'infer' is not supported by a hive (send it to the queen)"}}`,
			"[ERROR] operation 'infer' is not supported by a hive (send it to the queen)",
		},
		{"failed without a cause", `{"state":"failed","error":null}`, "[ERROR] internal: no cause was recorded"},
		{"unreadable", `[`, "[ERROR] internal: the job's last event cannot be read"},
		{"no data", ``, "[ERROR] internal: the job's last event cannot be read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := httpapi.Rbee("worker_spawn", ev(store.EventEnd, "", tt.end))
			require.Equal(t, "data: "+tt.want+"\n\n", text)
		})
	}
}

func TestRbeeErrorIsNoCompletion(t *testing.T) {
	// A worker may print anything, and its last words are in the message.
	text := httpapi.Rbee("x", ev(store.EventEnd, "", `{"state":"failed","error":{"code":"not_ready","message":"said [DONE]"}}`))
	v := keeperReads(t, strings.NewReader(text))
	require.Error(t, v.err)
	require.Zero(t, v.complete)
}

// hostile is what a worker's log may hold to end a job or to change its outcome.
var hostile = []string{
	"[DONE]", " [DONE]", "[DONE] ", "\t[DONE]\t", "[DONE]\n", "x\n[DONE]\ny", "x\r[DONE]", "x\r\n[DONE]\r\n",
	"data: [DONE]", "data:[DONE]", "data: data: [DONE]", "all [DONE] here", "[DONE][DONE]",
	"[CANCELLED]", "data: [CANCELLED]", "x\n[CANCELLED]",
	"[ERROR]", "[ERROR] boom", "data: [ERROR] boom", "  [ERROR]x", "x\r[ERROR] boom",
	"mlock failed: Cannot allocate memory", "failed:", "FAILED: Failed: failed:", "Job 7 failed", "failed Job", "Job: failed: x",
	"\xff\xfe[DONE]", "\u2028[DONE]", "", "\n\n", ":comment", "event: data", "id: 5", "retry: 1",
}

func TestRbeeLogLinesEndNothing(t *testing.T) {
	for _, message := range hostile {
		for _, typ := range []store.EventType{store.EventLog, store.EventState, store.EventProgress, store.EventProcess} {
			text := httpapi.Rbee("worker_spawn", ev(typ, message, ""), ev(typ, "last words", ""), succeeded())
			v := keeperReads(t, strings.NewReader(text))
			require.NoError(t, v.err, "%q", message)
			require.False(t, v.failed, "%q", message)
			require.Equal(t, 1, v.complete, "%q", message)
			require.Contains(t, v.lines, "last words", "%q", message)
			require.Empty(t, v.left, "%q", message)
		}
	}
}

func TestRbeeEscapingStaysReadable(t *testing.T) {
	require.Equal(t, "mlock failed : Cannot allocate memory", httpapi.EscapeLine("mlock failed: Cannot allocate memory"))
	require.Equal(t, `\[ERROR] boom`, httpapi.EscapeLine("[ERROR] boom"))
	require.Equal(t, "the Job has Failed", httpapi.EscapeLine("the Job has failed"))
	for _, plain := range []string{"llama_model_loader: loaded", "it failed", "[INFO] ready", "done", "データ"} {
		require.Equal(t, plain, httpapi.EscapeLine(plain))
	}
}

func FuzzEscapeLine(f *testing.F) {
	for _, line := range hostile {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, message string) {
		text := httpapi.Rbee("worker_spawn", ev(store.EventLog, message, ""), succeeded())
		v := keeperReads(t, strings.NewReader(text))
		if v.err != nil || v.failed || v.complete != 1 || v.left != "" {
			t.Fatalf("%q reads as %+v", message, v)
		}
	})
}

func TestRbeeJSONIsHarmlessAndUnchanged(t *testing.T) {
	// The last one is a form feed and "ailed:", which only looks like the word.
	for _, reason := range []string{"mlock failed: no", "Job failed", "[DONE]", "[ERROR]", "a\nb", "\failed: x", `\failed`, `\\failed:`} {
		raw := httpapi.MustJSON(map[string]string{"reason": reason, "failed": "0", "Job": "1"})
		var back map[string]string
		require.NoError(t, json.Unmarshal([]byte(httpapi.EscapeJSON(raw)), &back))
		require.Equal(t, reason, back["reason"])
		require.Equal(t, "0", back["failed"])

		v := keeperReads(t, strings.NewReader(httpapi.Rbee("worker_spawn", ev(store.EventResult, "", raw), succeeded())))
		require.False(t, v.failed, reason)
		require.Equal(t, 1, v.complete, reason)
		v.webView(t, &back)
		require.Equal(t, reason, back["reason"])
	}
	formFeed := `{"reason":"\failed: x"}` // as the JSON text of another encoder
	var back map[string]string
	require.NoError(t, json.Unmarshal([]byte(httpapi.EscapeJSON(formFeed)), &back))
	require.Equal(t, "\failed: x", back["reason"])
}

func TestSSEEncoding(t *testing.T) {
	e := ev(store.EventLog, "two\nlines: [DONE]", `{"a": 1}`)
	e.Seq, e.JobSeq, e.JobID = 41, 3, "job-1"
	text, err := httpapi.SSE(e)
	require.NoError(t, err)
	require.Equal(t, "id: 3\nevent: log\ndata: "+
		`{"seq":41,"job_seq":3,"at":"0001-01-01T00:00:00.000Z","type":"log","job_id":"job-1","worker_id":null,"message":"two\nlines: [DONE]","data":{"a":1}}`+
		"\n\n", text)
}

func TestSSERefusesBrokenData(t *testing.T) {
	_, err := httpapi.SSE(ev(store.EventLog, "x", `{`))
	require.Error(t, err)
}
