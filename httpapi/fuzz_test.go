package httpapi_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tmaxmax/go-sse"

	"rbeehive/httpapi"
	"rbeehive/store"
)

// Whatever is in an event, a client reads it as one event with its id, type and
// data, and the events around it as they are.
func FuzzSSE(f *testing.F) {
	f.Add(uint64(41), "log", "job-1", "cpu-8080-abcdef", "two\nlines", []byte(`{"a": 1}`))
	f.Add(uint64(0), "state", "", "", "", []byte(nil))
	f.Add(uint64(1<<63), "end", "\x00", "\u2028", "\r\rdata: x\n\nid: 7\n\n", []byte(`"\n<&>\u0000\ud800"`))
	f.Add(uint64(1), "a\nb", "a\rb", "\ufeff", "\xff\xfe", []byte("[1 ,\n\r\t2e400]"))
	f.Add(uint64(1), "", "j", "w", ":", []byte(`{`))
	for _, line := range hostile {
		f.Add(uint64(2), "log", "j", "w", line, []byte(nil))
	}
	f.Fuzz(func(t *testing.T, seq uint64, typ, job, worker, message string, data []byte) {
		e := store.Event{
			Seq: seq, JobSeq: seq, Type: store.EventType(typ), JobID: job, WorkerID: worker, Message: message, Data: data,
			At: time.Unix(1700000000, 0).UTC(),
		}
		first, last := ev(store.EventState, "first", ""), ev(store.EventEnd, "last", "")
		text, err := httpapi.SSE(first, e, last)
		if err != nil {
			// Only what the store cannot hold is refused, and nothing of it is written.
			if (len(data) == 0 || json.Valid(data)) && !strings.ContainsAny(typ, "\r\n") {
				t.Fatalf("%+v is refused: %v", e, err)
			}
			return
		}
		if !utf8.ValidString(typ) {
			return // ours are words; how often a byte is replaced is up to the reader
		}
		want := []readEvent{asRead(t, first), asRead(t, e), asRead(t, last)}
		for reader, got := range map[string][]readEvent{"standard": standardSSE(text), "go-sse": readGoSSE(t, text)} {
			if !reflect.DeepEqual(want, got) {
				t.Fatalf("%s reads %q as %q, not as %q", reader, text, got, want)
			}
		}
	})
}

// readEvent is an event as a client gets it.
type readEvent struct{ id, typ, data string }

func asRead(t *testing.T, e store.Event) readEvent {
	t.Helper()
	raw, err := json.Marshal(httpapi.EventShape(e))
	if err != nil {
		t.Fatal(err)
	}
	return readEvent{strconv.FormatUint(e.JobSeq, 10), string(e.Type), string(raw)}
}

// standardSSE is the parser of the WHATWG's HTML standard, section 9.2.6, for a whole
// stream.
func standardSSE(stream string) (events []readEvent) {
	var next readEvent
	var data []string
	stream = strings.TrimPrefix(stream, "\ufeff")
	stream = strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n")
	for line := range strings.Lines(stream) {
		line, whole := strings.CutSuffix(line, "\n")
		if !whole {
			break // an event that is not finished is dropped
		}
		if line == "" {
			if data != nil {
				next.data = strings.Join(data, "\n")
				events = append(events, next)
			}
			next, data = readEvent{id: next.id}, nil
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			next.typ = value
		case "data":
			data = append(data, value)
		case "id":
			if !strings.Contains(value, "\x00") {
				next.id = value
			}
		}
	}
	return events
}

func readGoSSE(t *testing.T, stream string) (events []readEvent) {
	t.Helper()
	for e, err := range sse.Read(strings.NewReader(stream), &sse.ReadConfig{MaxEventSize: 64 << 20}) {
		if err != nil {
			t.Fatalf("go-sse cannot read %q: %v", stream, err)
		}
		events = append(events, readEvent{e.LastEventID, e.Type, e.Data})
	}
	return events
}

// The result that rbee's clients see says what the record says, and no reader
// takes it for the end of the job or for its failure.
func FuzzEscapeJSON(f *testing.F) {
	for _, raw := range []string{
		`{"reason":"mlock failed: no","Job":1}`, `"[DONE]"`, `["[DONE]","\failed: x","\\failed:","\u0066ailed:"]`, `{"failed:":"[DONE]","failed:":null}`,
		`"[ERROR]"`, `1e999`, `null`, `{"a":"\ud800"}`, `failed: Job`, `"[DONE\u005d"`, "{\"a\":\n\"b\u2028\"}",
	} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !json.Valid(raw) {
			raw = []byte(httpapi.MustJSON(map[string]string{"text": string(raw), string(raw): "Job"}))
		}
		want := decodedJSON(t, raw)
		if got := decodedJSON(t, []byte(httpapi.EscapeJSON(string(raw)))); !reflect.DeepEqual(want, got) {
			t.Fatalf("%s became %v", raw, got)
		}
		v := keeperReads(t, strings.NewReader(httpapi.Rbee("worker_spawn", ev(store.EventResult, "", string(raw)), succeeded())))
		if v.err != nil || v.failed || v.complete != 1 || v.left != "" || len(v.lines) < 2 {
			t.Fatalf("%s reads as %+v", raw, v)
		}
		if page := decodedJSON(t, []byte(v.lines[len(v.lines)-2])); !reflect.DeepEqual(want, page) {
			t.Fatalf("rbee's page reads %s as %v", raw, page)
		}
	})
}

func decodedJSON(t *testing.T, raw []byte) (v any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%q is no JSON: %v", raw, err)
	}
	return v
}
