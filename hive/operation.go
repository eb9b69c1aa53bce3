package hive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

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

// queenOperations are rbee operations that a queen executes, not a hive.
var queenOperations = []string{
	"status", "infer", "image_generation", "image_transform", "image_inpaint", "queen_check",
	"rhai_script_save", "rhai_script_test", "rhai_script_get", "rhai_script_list", "rhai_script_delete",
}

// scriptOperation is the form of a queen's operations on scripts. A tag becomes
// the name of a job: it must be one short word.
var scriptOperation = regexp.MustCompile(`^rhai_script_[a-z_]{1,40}$`)

// fields are the members of an operation's JSON object, apart from its tag.
type fields map[string]json.RawMessage

// decoders has an entry for every operation that is carried out here.
var decoders = map[string]struct {
	fields []string
	decode func(fields) (Operation, error)
}{
	"worker_spawn":          {[]string{"worker", "model", "device", "name", "port", "params", "wait"}, decodeSpawn},
	"worker_stop":           {[]string{"worker_id"}, func(f fields) (Operation, error) { id, err := f.worker(); return StopWorker{id}, err }},
	"worker_restart":        {[]string{"worker_id", "if_stale"}, decodeRestart},
	"worker_process_list":   {nil, func(fields) (Operation, error) { return ProcessList{}, nil }},
	"worker_process_get":    {[]string{"pid"}, func(f fields) (Operation, error) { pid, err := f.pid(); return ProcessGet{pid}, err }},
	"worker_process_delete": {[]string{"pid"}, func(f fields) (Operation, error) { pid, err := f.pid(); return ProcessDelete{pid}, err }},
	"worker_catalog_list":   {nil, func(fields) (Operation, error) { return CatalogList{}, nil }},
	"worker_catalog_get":    {[]string{"worker_id"}, func(f fields) (Operation, error) { id, err := f.typeID(); return CatalogGet{id}, err }},
	"worker_list_installed": {nil, func(fields) (Operation, error) { return InstalledList{}, nil }},
	"worker_installed_get":  {[]string{"worker_id"}, func(f fields) (Operation, error) { id, err := f.typeID(); return InstalledGet{id}, err }},
	"worker_install":        {[]string{"worker_id"}, func(f fields) (Operation, error) { id, err := f.typeID(); return Install{id}, err }},
	"worker_remove":         {[]string{"worker_id"}, func(f fields) (Operation, error) { id, err := f.typeID(); return Remove{id}, err }},
	"model_download":        {[]string{"model"}, func(f fields) (Operation, error) { id, err := f.modelID("model"); return ModelDownload{id}, err }},
	"model_list":            {nil, func(fields) (Operation, error) { return ModelList{}, nil }},
	"model_get":             {[]string{"id"}, func(f fields) (Operation, error) { id, err := f.modelID("id"); return ModelGet{id}, err }},
	"model_delete":          {[]string{"id"}, func(f fields) (Operation, error) { id, err := f.modelID("id"); return ModelDelete{id}, err }},
	"hive_check":            {[]string{"alias"}, func(fields) (Operation, error) { return Check{}, nil }},
}

// Decode reads an operation and checks all that can be known from the body
// alone. Errors are *InputError. It does not block and is safe for concurrent use.
func (h *Hive) Decode(body []byte) (Operation, error) {
	op, hiveID, err := decodeOperation(body)
	if err != nil {
		return nil, err
	}
	if hiveID != "" && hiveID != "localhost" && hiveID != h.cfg.HiveID {
		return nil, badField("hive_id", fmt.Sprintf("is %q, but this hive is %q (leave it out, or say localhost)", clip(hiveID), h.cfg.HiveID))
	}
	if s, ok := op.(Spawn); ok {
		if err := h.checkSpawn(s); err != nil {
			return nil, err
		}
	}
	return op, nil
}

func decodeOperation(body []byte) (op Operation, hiveID string, err error) {
	f, err := decodeObject(body, `{"operation": "hive_check"}`)
	if err != nil {
		return nil, "", err
	}
	tag, err := f.text("operation")
	if err != nil {
		return nil, "", err
	}
	if tag == "" {
		return nil, "", badField("operation", `is required, as in {"operation": "worker_spawn", "worker": "cpu"}`)
	}
	switch {
	case slices.Contains(queenOperations, tag) || scriptOperation.MatchString(tag):
		return Unsupported{tag, fmt.Sprintf("operation '%s' is not supported by a hive (send it to the queen)", tag)}, "", nil
	case tag == "model_load" || tag == "model_unload":
		return Unsupported{tag, fmt.Sprintf(loading, tag)}, "", nil
	}
	d, ok := decoders[tag]
	if !ok {
		known := slices.Sorted(maps.Keys(decoders))
		return nil, "", &InputError{
			Kind: ErrUnknownOperation, Field: "operation",
			Detail: fmt.Sprintf("unknown operation %q (known: %s)", clip(tag), strings.Join(known, ", ")),
		}
	}
	if err := f.only(tag, append([]string{"hive_id"}, d.fields...), "operation"); err != nil {
		return nil, "", err
	}
	if hiveID, err = f.text("hive_id"); err != nil {
		return nil, "", err
	}
	if op, err = d.decode(f); err != nil {
		return nil, "", err
	}
	return op, hiveID, nil
}

// only refuses members that are neither fields of what nor also allowed.
func (f fields) only(what string, names []string, also ...string) error {
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if !slices.Contains(names, name) && !slices.Contains(also, name) {
			return &InputError{
				Kind: ErrUnknownField, Field: clip(name),
				Detail: fmt.Sprintf("is not a field of %s (its fields: %s)", what, strings.Join(names, ", ")),
			}
		}
	}
	return nil
}

// decodeObject reads one JSON object and nothing after it. A name that comes
// twice is refused: which of the two would count is anybody's guess.
func decodeObject(body []byte, example string) (fields, error) {
	bad := func(detail string) error { return &InputError{Kind: ErrBadRequest, Detail: detail} }
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, bad("the body is empty; expected a JSON object such as " + example)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber() // a number that no float64 holds would be an error as long as the number
	tok, err := dec.Token()
	if err != nil {
		return nil, bad("the body is not JSON: " + jsonFault(err))
	}
	if tok != json.Delim('{') {
		return nil, bad("the body is not a JSON object")
	}
	f, err := members(dec, "")
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, bad("something follows the JSON object")
	}
	return f, nil
}

// members reads an object whose '{' has been read, to its end. prefix goes before
// a name in an error.
func members(dec *json.Decoder, prefix string) (fields, error) {
	bad := func(err error) error {
		return &InputError{Kind: ErrBadRequest, Detail: "the body is not JSON: " + jsonFault(err)}
	}
	f := fields{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, bad(err)
		}
		key, _ := name.(string)
		if _, twice := f[key]; twice {
			return nil, badField(prefix+clip(key), "is there twice")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, bad(err)
		}
		f[key] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, bad(err)
	}
	return f, nil
}

func jsonFault(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends in the middle"
	}
	return err.Error()
}

func decodeRestart(f fields) (Operation, error) {
	id, err := f.worker()
	if err != nil {
		return nil, err
	}
	only, err := f.truth("if_stale")
	return RestartWorker{WorkerID: id, IfStale: only}, err
}

func decodeSpawn(f fields) (Operation, error) {
	s := Spawn{Wait: WaitReady}
	var err error
	read := func(name string, check func(string) error) (v string) {
		if err != nil {
			return ""
		}
		if v, err = f.text(name); err == nil && v != "" {
			if detail := check(v); detail != nil {
				err = badField(name, detail.Error())
			}
		}
		return v
	}
	s.Worker = read("worker", argument)
	s.Model = read("model", argument)
	s.Name = read("name", workerName)
	wait := read("wait", func(v string) error {
		if v != string(WaitReady) && v != string(WaitStarted) {
			return fmt.Errorf("is %q; expected ready or started", clip(v))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if s.Worker == "" {
		return nil, badField("worker", "is required: the worker type to start")
	}
	if wait != "" {
		s.Wait = WaitFor(wait)
	}
	if s.Device, err = f.device(); err != nil {
		return nil, err
	}
	if s.Port, err = f.port(); err != nil {
		return nil, err
	}
	s.Params, err = f.params()
	return s, err
}
