package hive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"rbeehive/store/plain"
)

// text returns the string in a field; empty if it is absent or null.
func (f fields) text(name string) (string, error) {
	raw, ok := f[name]
	if !ok || string(raw) == "null" {
		return "", nil
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", badField(name, "is "+clip(string(raw))+"; expected a string")
	}
	return s, nil
}

// truth returns the boolean in a field; false if it is absent or null.
func (f fields) truth(name string) (bool, error) {
	raw, ok := f[name]
	if !ok || string(raw) == "null" {
		return false, nil
	}
	var b bool
	if json.Unmarshal(raw, &b) != nil {
		return false, badField(name, "is "+clip(string(raw))+"; expected true or false")
	}
	return b, nil
}

func (f fields) worker() (string, error) {
	id, err := f.text("worker_id")
	if err == nil && id == "" {
		err = badField("worker_id", "is required: the id or the name of a worker")
	}
	return id, err
}

func (f fields) pid() (int, error) {
	raw, ok := f["pid"]
	if !ok || string(raw) == "null" {
		return 0, badField("pid", "is required: the PID of a worker's main process")
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || n < 1 || n > maxPID {
		return 0, badField("pid", fmt.Sprintf("is %s; expected an integer from 1 to %d", clip(string(raw)), maxPID))
	}
	return int(n), nil
}

// maxPID is PID_MAX_LIMIT on 64-bit systems (proc(5), pid_max).
const maxPID = 1 << 22

func (f fields) port() (uint16, error) {
	raw, ok := f["port"]
	if !ok || string(raw) == "null" {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(raw), 10, 16)
	if err != nil || n == 0 {
		return 0, badField("port", "is "+clip(string(raw))+"; expected an integer from 1 to 65535")
	}
	return uint16(n), nil
}

// device takes an integer (rbee's form) or a string.
func (f fields) device() (string, error) {
	raw, ok := f["device"]
	if !ok || string(raw) == "null" {
		return "", nil
	}
	if n, err := strconv.ParseUint(string(raw), 10, 32); err == nil {
		return strconv.FormatUint(n, 10), nil
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", badField("device", "is "+clip(string(raw))+`; expected an integer or a string such as 0, "0,1" or "cpu"`)
	}
	if s == "" {
		return "", nil
	}
	if err := argument(s); err != nil {
		return "", badField("device", err.Error())
	}
	return s, nil
}

var paramKey = regexp.MustCompile(`^[a-z0-9_]+$`)

func (f fields) params() (map[string]string, error) {
	raw, ok := f["params"]
	if !ok || string(raw) == "null" {
		return nil, nil
	}
	expected := badField("params", `expected an object of strings, as in {"ctx": "32768"}`)
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return nil, expected
	}
	given, err := members(dec, "params.")
	if err != nil {
		return nil, err
	}
	m := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(given)) {
		if !paramKey.MatchString(k) {
			return nil, badField("params."+clip(k), "expected a key of a-z, 0-9 and _")
		}
		if m[k], err = given.text(k); err != nil {
			return nil, expected
		}
		if m[k] == "" {
			continue
		}
		if err := argument(m[k]); err != nil {
			return nil, badField("params."+clip(k), err.Error())
		}
	}
	return m, nil
}

// argument refuses what could be taken for a flag, change a terminal or a log, or look
// like something else there: the value becomes part of a command line.
func argument(v string) error {
	if strings.HasPrefix(v, "-") {
		return fmt.Errorf("is %q; it may not begin with '-'", clip(v))
	}
	if flaw := plain.Flaw(v); flaw != "" {
		return errors.New(flaw)
	}
	if len(v) > 4096 {
		return errors.New("is longer than 4096 bytes")
	}
	return nil
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func workerName(v string) error {
	if !nameForm.MatchString(v) {
		return fmt.Errorf("is %q; expected at most 63 of a-z, 0-9 and '-', beginning with a letter or digit", clip(v))
	}
	return nil
}

func badField(name, detail string) error {
	return &InputError{Kind: ErrBadRequest, Field: name, Detail: detail}
}

// clip makes what came from outside fit for a message: short, and in one line
// that changes no terminal.
func clip(s string) string { return plain.Clip(s, 80) }
