package operation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/input"
	"rbeehive/hive/models"
	"rbeehive/store/plain"
)

// queenOperations are rbee operations that a queen executes, not a hive.
var queenOperations = []string{
	"status", "infer", "image_generation", "image_transform", "image_inpaint", "queen_check",
	"rhai_script_save", "rhai_script_test", "rhai_script_get", "rhai_script_list", "rhai_script_delete",
}

// scriptOperation is the form of a queen's operations on scripts. A tag becomes
// the name of a job: it must be one short word.
var scriptOperation = regexp.MustCompile(`^rhai_script_[a-z_]{1,40}$`)

// loading says what to do instead of the operations of rbee that load a model into
// a worker which runs already: there is none such here.
const loading = "operation '%s' is not supported: a worker has one model from its start to its end; spawn a worker with this model (worker_spawn), or stop it"

// Decode reads an operation from a request, and checks all that can be known from the
// body alone. hiveID is the hive that the request names; empty: none. Errors are
// *errdefs.InputError.
func Decode(body []byte) (op Operation, hiveID string, err error) {
	f, err := input.Object(body, `{"operation": "hive_check"}`)
	if err != nil {
		return nil, "", err
	}
	tag, err := f.Text("operation")
	if err != nil {
		return nil, "", err
	}
	if tag == "" {
		return nil, "", errdefs.BadField("operation", `is required, as in {"operation": "worker_spawn", "worker": "cpu"}`)
	}
	switch {
	// Accepted as a job that fails, so that rbee's keeper shows the reason.
	case slices.Contains(queenOperations, tag) || scriptOperation.MatchString(tag):
		return Unsupported{tag, fmt.Sprintf("operation '%s' is not supported by a hive (send it to the queen)", tag)}, "", nil
	case tag == "model_load" || tag == "model_unload":
		return Unsupported{tag, fmt.Sprintf(loading, tag)}, "", nil
	}
	row, ok := table[tag]
	if !ok {
		known := slices.Sorted(maps.Keys(table))
		return nil, "", &errdefs.InputError{
			Kind: errdefs.ErrUnknownOperation, Field: "operation",
			Detail: fmt.Sprintf("unknown operation %q (known: %s)", plain.Short(tag), strings.Join(known, ", ")),
		}
	}
	// Not ignored: what is carried out would be something else than was meant.
	if err := f.Only(tag, append([]string{"hive_id"}, row.Fields...), "operation"); err != nil {
		return nil, "", err
	}
	if hiveID, err = f.Text("hive_id"); err != nil {
		return nil, "", err
	}
	if op, err = row.Decode(f); err != nil {
		return nil, "", err
	}
	return op, hiveID, nil
}

func decodeRestart(f input.Fields) (Operation, error) {
	id, err := worker(f)
	if err != nil {
		return nil, err
	}
	only, err := f.Bool("if_stale")
	return RestartWorker{WorkerID: id, IfStale: only}, err
}

func decodeSpawn(f input.Fields) (Operation, error) {
	s := Spawn{Wait: WaitReady}
	var err error
	// After the first mistake nothing more is read: only one is told.
	read := func(name string, check func(string) error) (v string) {
		if err != nil {
			return ""
		}
		if v, err = f.Text(name); err == nil && v != "" {
			if detail := check(v); detail != nil {
				err = errdefs.BadField(name, detail.Error())
			}
		}
		return v
	}
	s.Worker = read("worker", input.Argument)
	s.Model = read("model", input.Argument)
	s.Name = read("name", input.WorkerName)
	wait := read("wait", func(v string) error {
		if v != string(WaitReady) && v != string(WaitStarted) {
			return fmt.Errorf("is %q; expected ready or started", plain.Short(v))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if s.Worker == "" {
		return nil, errdefs.BadField("worker", "is required: the worker type to start")
	}
	if wait != "" {
		s.Wait = WaitFor(wait)
	}
	if s.Device, err = device(f); err != nil {
		return nil, err
	}
	if s.Port, err = f.Port(); err != nil {
		return nil, err
	}
	s.Params, err = params(f)
	return s, err
}

func worker(f input.Fields) (string, error) {
	id, err := f.Text("worker_id")
	if err == nil && id == "" {
		err = errdefs.BadField("worker_id", "is required: the id or the name of a worker")
	}
	return id, err
}

func pid(f input.Fields) (int, error) {
	raw, ok := f["pid"]
	if !ok || string(raw) == "null" {
		return 0, errdefs.BadField("pid", "is required: the PID of a worker's main process")
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	// rbee's hive hands any number to kill(2), to which 0 and -1 mean many processes.
	if err != nil || n < 1 || n > input.MaxPID {
		return 0, errdefs.BadField("pid", fmt.Sprintf("is %s; expected an integer from 1 to %d", plain.Short(string(raw)), input.MaxPID))
	}
	return int(n), nil
}

// device takes an integer (rbee's form) or a string.
func device(f input.Fields) (string, error) {
	raw, ok := f["device"]
	if !ok || string(raw) == "null" {
		return "", nil
	}
	if n, err := strconv.ParseUint(string(raw), 10, 32); err == nil {
		return strconv.FormatUint(n, 10), nil
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", errdefs.BadField("device", "is "+plain.Short(string(raw))+`; expected an integer or a string such as 0, "0,1" or "cpu"`)
	}
	if s == "" {
		return "", nil
	}
	if err := input.Argument(s); err != nil {
		return "", errdefs.BadField("device", err.Error())
	}
	return s, nil
}

var paramKey = regexp.MustCompile(`^[a-z0-9_]+$`)

func params(f input.Fields) (map[string]string, error) {
	raw, ok := f["params"]
	if !ok || string(raw) == "null" {
		return nil, nil
	}
	expected := errdefs.BadField("params", `expected an object of strings, as in {"ctx": "32768"}`)
	dec := json.NewDecoder(bytes.NewReader(raw))
	// As in input.Object: a number that no float64 holds must not be an error as long as it is.
	dec.UseNumber()
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return nil, expected
	}
	// Not json.Unmarshal, which takes the last of two members of one name.
	given, err := input.Members(dec, "params.")
	if err != nil {
		return nil, err
	}
	m := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(given)) {
		if !paramKey.MatchString(k) {
			return nil, errdefs.BadField("params."+plain.Short(k), "expected a key of a-z, 0-9 and _")
		}
		if m[k], err = given.Text(k); err != nil {
			return nil, expected
		}
		// Empty is allowed: it stands for no value.
		if m[k] == "" {
			continue
		}
		if err := input.Argument(m[k]); err != nil {
			return nil, errdefs.BadField("params."+plain.Short(k), err.Error())
		}
	}
	return m, nil
}

// typeID reads the worker_id of an operation on worker types. It becomes the name
// of a file.
func typeID(f input.Fields) (string, error) {
	id, err := f.Text("worker_id")
	switch {
	case err != nil:
		return "", err
	case id == "":
		return "", errdefs.BadField("worker_id", "is required: the name of a worker type, a preset or a program")
	case !catalog.ValidName(id):
		return "", errdefs.BadField("worker_id", fmt.Sprintf("is %q; expected letters, digits, '.', '_' and '-', at most 63, the first a letter or a digit", plain.Short(id)))
	}
	return id, nil
}

// modelID reads a field that names a model.
func modelID(f input.Fields, name string) (string, error) {
	id, err := f.Text(name)
	if err != nil {
		return "", err
	}
	if _, err := models.ParseID(id); err != nil {
		// Without the sentinel, which would repeat the name of the field.
		return "", errdefs.BadField(name, strings.TrimPrefix(err.Error(), models.ErrInvalidID.Error()+": "))
	}
	return id, nil
}
