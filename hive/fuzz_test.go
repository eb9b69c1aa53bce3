package hive_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"rbeehive/alloc"
	"rbeehive/hive"
	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/lease"
	"rbeehive/hive/operation"
)

// decodingHive is a hive that decodes and does nothing else.
func decodingHive(f *testing.F) *hive.Hive {
	f.Helper()
	types, err := catalog.New([]catalog.Entry{{
		Name: "web", Command: []string{"web", "{{.Port}}", "{{.Model}}", "{{.Params.ctx}}"}, Params: plain(map[string]string{"ctx": "1"}),
	}}, "/bin/hive")
	if err != nil {
		f.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	h, err := hive.Open(context.Background(), hive.Config{
		DataDir: f.TempDir(), URL: "http://127.0.0.1:1", Catalog: types, Log: log,
		Ports: hive.PortsConfig{Range: alloc.Range{First: 20000, Last: 20001}}, // nothing is leased
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := h.Close(); err != nil {
			f.Error(err)
		}
	})
	return h
}

// An operation is decoded or refused, never both; a refusal is a sentence that can
// be shown and logged; what is decoded depends on the value that the JSON stands
// for alone, and keeps what the contract promises about its fields.
func FuzzDecode(f *testing.F) {
	h := decodingHive(f)
	for _, body := range operationSeeds {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		op, err := h.Decode(body)
		if (op == nil) == (err == nil) {
			t.Fatalf("operation %v and error %v", op, err)
		}
		if err != nil {
			sentence(t, err)
			return
		}
		same, err := h.Decode(reshape(t, body))
		if err != nil {
			t.Fatalf("the same value in another form is refused: %v", err)
		}
		if diff := cmp.Diff(op, same); diff != "" {
			t.Fatalf("the same value in another form is another operation:\n%s", diff)
		}
		checkOperation(t, op)
		if s, ok := op.(operation.Spawn); ok {
			again, err := h.Decode(spawnBody(t, s))
			if err != nil {
				t.Fatalf("what was decoded is refused: %v", err)
			}
			if diff := cmp.Diff(op, again); diff != "" {
				t.Fatalf("what was decoded decodes to something else:\n%s", diff)
			}
		}
	})
}

var operationSeeds = []string{
	`{"operation":"worker_spawn","worker":"cpu","model":"test","device":0}`,
	`{"operation":"worker_spawn","worker":"web","model":"m","device":"0,1","name":"a-1","port":8080,"params":{"ctx":"2"},"wait":"started"}`,
	`{"operation":"worker_spawn","worker":"vllm","model":"-m","device":"gpu"}`,
	`{"operation":"worker_spawn","worker":"cpu","params":{"a":"b"},"port":1e3}`,
	`{"operation":"worker_spawn","worker":"web","model":"m","params":{"ctx":"1","ctx":"2"}}`,
	`{"operation":"worker_spawn","worker":"nope","device":null,"params":null}`,
	`{"operation":"worker_process_delete","pid":4294967295}`,
	`{"operation":"worker_process_get","pid":1}`,
	`{"operation":"worker_stop","worker_id":"cpu-8080-abcdef"}`,
	`{"operation":"worker_restart","worker_id":"a","if_stale":true}`,
	`{"operation":"hive_check","hive_id":"localhost","alias":[1,{"a":null}]}`,
	`{"operation":"hive_check","hive_id":"another"}`,
	`{"operation":{"a":[` + "\n" + `1]}}`,
	`{"operation":"rhai_script_save","x":"` + "\u007f" + `"}`,
	`{"operation":"infer","prompt":"\ud800","x` + "\xff" + `":1}`,
	`{"oper\u0000ation":1,"a\nb":2}`,
	"\ufeff{}", "[]", `"x"`, "{} {}", "",
}

// sentence checks a refusal.
func sentence(t *testing.T, err error) {
	t.Helper()
	input, ok := errors.AsType[*errdefs.InputError](err)
	if !ok {
		t.Fatalf("%T is no *InputError: %v", err, err)
	}
	if input.Kind == nil || input.Detail == "" {
		t.Fatalf("an error without kind or detail: %#v", input)
	}
	text := err.Error()
	if !utf8.ValidString(text) || strings.ContainsFunc(text, notShown) {
		t.Fatalf("the error cannot be shown in one line: %q", text)
	}
	if len(text) > 1000 {
		t.Fatalf("the error has %d bytes: %.200q...", len(text), text)
	}
}

// notShown is what changes a terminal or ends a line.
func notShown(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
}

var shownName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// checkOperation checks what is promised about the fields of a decoded operation.
func checkOperation(t *testing.T, op operation.Operation) {
	t.Helper()
	if !regexp.MustCompile(`^[a-z_]{1,64}$`).MatchString(op.Tag()) {
		t.Fatalf("tag %q", op.Tag())
	}
	pid := func(pid int) {
		if pid < 1 || pid > 1<<22 {
			t.Fatalf("pid %d", pid)
		}
	}
	switch op := op.(type) {
	case operation.Spawn:
		words := append(slices.Collect(maps.Values(op.Params)), op.Worker, op.Model, op.Device, op.Name)
		for _, v := range words {
			if strings.HasPrefix(v, "-") || strings.ContainsFunc(v, unicode.IsControl) || len(v) > 4096 || !utf8.ValidString(v) {
				t.Fatalf("a field is %q", v)
			}
		}
		if op.Worker == "" || op.Name != "" && !shownName.MatchString(op.Name) || op.Wait != operation.WaitReady && op.Wait != operation.WaitStarted {
			t.Fatalf("%+v", op)
		}
	case operation.StopWorker:
		if op.WorkerID == "" {
			t.Fatal("no worker_id")
		}
	case operation.RestartWorker:
		if op.WorkerID == "" {
			t.Fatal("no worker_id")
		}
	case operation.ProcessGet:
		pid(op.PID)
	case operation.ProcessDelete:
		pid(op.PID)
	}
}

// spawnBody is the request for s, with every field that is set.
func spawnBody(t *testing.T, s operation.Spawn) []byte {
	t.Helper()
	m := map[string]any{"operation": s.Tag(), "worker": s.Worker, "wait": s.Wait, "model": s.Model, "device": s.Device, "name": s.Name}
	if s.Port != 0 {
		m["port"] = s.Port
	}
	if s.Params != nil {
		m["params"] = s.Params
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// reshape writes a JSON text anew: members in the opposite order, other white
// space, strings escaped otherwise; numbers as they stand.
func reshape(t *testing.T, body []byte) []byte {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("what was decoded is no JSON: %v", err)
	}
	var out bytes.Buffer
	rewrite(&out, v)
	return out.Bytes()
}

func rewrite(out *bytes.Buffer, v any) {
	switch v := v.(type) {
	case map[string]any:
		names := slices.Sorted(maps.Keys(v))
		slices.Reverse(names)
		out.WriteString(" {\r\n")
		for i, name := range names {
			if i > 0 {
				out.WriteString("\t,")
			}
			rewrite(out, name)
			out.WriteString(" : ")
			rewrite(out, v[name])
		}
		out.WriteString("\n} ")
	case []any:
		out.WriteString("[ ")
		for i, item := range v {
			if i > 0 {
				out.WriteString(" , ")
			}
			rewrite(out, item)
		}
		out.WriteString(" ]")
	case string:
		out.WriteByte('"')
		for _, r := range v {
			if r > 0xffff {
				out.WriteRune(r)
				continue
			}
			fmt.Fprintf(out, `\u%04X`, r)
		}
		out.WriteByte('"')
	default: // null, true, false, json.Number
		raw, _ := json.Marshal(v) // cannot fail: it came out of a decoder
		out.Write(raw)
	}
}

// The bodies of POST and PUT /v1/leases, by the same rules.
func FuzzDecodeLease(f *testing.F) {
	for _, body := range []string{
		`{"pid":4711,"start_time":12345,"port":8080,"ports":3,"owner":"bob"}`, `{"ttl":"30s"}`, `{"ttl":"1h2m3.5s","owner":null}`,
		`{"lease_id":"x"}`, `{"lease_id":"x","pid":1}`, `{"lease_id":"x","ttl":"24h"}`, `{"pid":1,"ttl":"1s"}`, `{"start_time":1}`,
		`{"pid":-1}`, `{"pid":1e3}`, `{"ttl":"0"}`, `{"ttl":"9999999h"}`, `{"owner":"a\u0000b","ttl":"1s"}`, `{"start_time":18446744073709551615,"pid":1}`,
		`{"ports":0,"ttl":"5s"}`, `{"port":70000,"ttl":"5s"}`, `{"ttl":[` + "\n" + `]}`, `{}`, `[]`, ``,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		request, err := lease.DecodeRequest(body)
		if err != nil {
			sentence(t, err)
		} else {
			checkLease(t, request)
			if same, err := lease.DecodeRequest(reshape(t, body)); err != nil || same != request {
				t.Fatalf("%+v is in another form %+v: %v", request, same, err)
			}
		}
		renewal, err := lease.DecodeRenewal(body)
		if err != nil {
			sentence(t, err)
			return
		}
		if renewal.LeaseID == "" {
			t.Fatal("a renewal without lease_id")
		}
		checkHolder(t, renewal.Holder)
		if same, err := lease.DecodeRenewal(reshape(t, body)); err != nil || same != renewal {
			t.Fatalf("%+v is in another form %+v: %v", renewal, same, err)
		}
	})
}

func checkLease(t *testing.T, l lease.Request) {
	t.Helper()
	checkHolder(t, l.Holder)
	if (l.PID == 0) == (l.TTL == 0) || l.Ports < 0 || l.Ports > catalog.MaxPorts ||
		len(l.Owner) > 128 || strings.ContainsFunc(l.Owner, unicode.IsControl) || !utf8.ValidString(l.Owner) {
		t.Fatalf("%+v", l)
	}
}

func checkHolder(t *testing.T, h lease.Holder) {
	t.Helper()
	if h.PID < 0 || h.PID > 1<<22 || h.PID != 0 && h.TTL != 0 || h.PID == 0 && h.StartTime != 0 ||
		h.TTL != 0 && (h.TTL < time.Second || h.TTL > 24*time.Hour) {
		t.Fatalf("%+v", h)
	}
}
