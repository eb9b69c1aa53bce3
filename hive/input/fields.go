package input

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"rbeehive/hive/errdefs"
	"rbeehive/store/plain"
)

// Fields are the members of an operation's JSON object, apart from its tag.
type Fields map[string]json.RawMessage

// Only refuses members that are neither fields of what nor also allowed.
func (f Fields) Only(what string, names []string, also ...string) error {
	// Sorted, so that the same request is always refused with the same words.
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if !slices.Contains(names, name) && !slices.Contains(also, name) {
			return &errdefs.InputError{
				Kind: errdefs.ErrUnknownField, Field: plain.Short(name),
				Detail: fmt.Sprintf("is not a field of %s (its fields: %s)", what, strings.Join(names, ", ")),
			}
		}
	}
	return nil
}

// Object reads one JSON object and nothing after it. A name that comes
// twice is refused: which of the two would count is anybody's guess.
func Object(body []byte, example string) (Fields, error) {
	bad := func(detail string) error { return &errdefs.InputError{Kind: errdefs.ErrBadRequest, Detail: detail} }
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, bad("the body is empty; expected a JSON object such as " + example)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber() // a number that no float64 holds would be an error as long as the number
	tok, err := dec.Token()
	if err != nil {
		return nil, bad("the body is not JSON: " + describeSyntax(err))
	}
	if tok != json.Delim('{') {
		return nil, bad("the body is not a JSON object")
	}
	f, err := Members(dec, "")
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, bad("something follows the JSON object")
	}
	return f, nil
}

// Members reads an object whose '{' has been read, to its end. prefix goes before
// a name in an error.
func Members(dec *json.Decoder, prefix string) (Fields, error) {
	bad := func(err error) error {
		return &errdefs.InputError{Kind: errdefs.ErrBadRequest, Detail: "the body is not JSON: " + describeSyntax(err)}
	}
	f := Fields{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, bad(err)
		}
		// Always a string: the decoder has refused any other name.
		key, _ := name.(string)
		if _, twice := f[key]; twice {
			return nil, errdefs.BadField(prefix+plain.Short(key), "is there twice")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, bad(err)
		}
		if !wellFormed(value) {
			return nil, errdefs.BadField(prefix+plain.Short(key), `is not valid UTF-8, or has half a surrogate pair such as \udce8: JSON cannot carry such a path or name, and another would be used`)
		}
		f[key] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, bad(err)
	}
	return f, nil
}

// wellFormed reports whether the texts in valid JSON are all that they say: encoding/json
// puts U+FFFD in the place of bytes that are not UTF-8, and of half a surrogate pair, which
// is how Python writes such a byte of a path.
func wellFormed(raw []byte) bool {
	if !utf8.Valid(raw) {
		return false
	}
	// A backslash is only in texts, and what follows a \u is four hexadecimal digits.
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		if i++; raw[i] != 'u' {
			continue
		}
		r := escaped(raw[i+1:])
		i += 4
		if !utf16.IsSurrogate(r) {
			continue
		}
		if !bytes.HasPrefix(raw[i+1:], []byte(`\u`)) || utf16.DecodeRune(r, escaped(raw[i+3:])) == utf8.RuneError {
			return false
		}
		i += 6
	}
	return true
}

// escaped is the number of a \u escape, by its digits.
func escaped(digits []byte) rune {
	n, _ := strconv.ParseUint(string(digits[:4]), 16, 16) // the decoder has read it
	return rune(n)
}

func describeSyntax(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends in the middle"
	}
	return err.Error()
}

// Text returns the string in a field; empty if it is absent or null.
func (f Fields) Text(name string) (string, error) {
	raw, ok := f[name]
	// Some clients write null for what they do not say.
	if !ok || string(raw) == "null" {
		return "", nil
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", errdefs.BadField(name, "is "+plain.Short(string(raw))+"; expected a string")
	}
	return s, nil
}

// Bool returns the boolean in a field; false if it is absent or null.
func (f Fields) Bool(name string) (bool, error) {
	raw, ok := f[name]
	if !ok || string(raw) == "null" {
		return false, nil
	}
	var b bool
	if json.Unmarshal(raw, &b) != nil {
		return false, errdefs.BadField(name, "is "+plain.Short(string(raw))+"; expected true or false")
	}
	return b, nil
}

// Port returns the port in the field "port"; 0 if it is absent or null.
func (f Fields) Port() (uint16, error) {
	raw, ok := f["port"]
	if !ok || string(raw) == "null" {
		return 0, nil
	}
	// Parsed from the raw text: 8080.0 and "8080" are no ports.
	n, err := strconv.ParseUint(string(raw), 10, 16)
	if err != nil || n == 0 {
		return 0, errdefs.BadField("port", "is "+plain.Short(string(raw))+"; expected an integer from 1 to 65535")
	}
	return uint16(n), nil
}

// Number returns the integer in a field; 0 if it is absent or null.
func (f Fields) Number(name string, least, most uint64) (uint64, error) {
	raw, ok := f[name]
	if !ok || string(raw) == "null" {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(raw), 10, 64)
	if err != nil || n < least || n > most {
		return 0, errdefs.BadField(name, fmt.Sprintf("is %s; expected an integer from %d to %d", plain.Short(string(raw)), least, most))
	}
	return n, nil
}

// Strings returns the strings in a field; nil if it is absent or null.
func (f Fields) Strings(name string) ([]string, error) {
	raw, ok := f[name]
	if !ok || string(raw) == "null" {
		return nil, nil
	}
	var list []string
	if json.Unmarshal(raw, &list) != nil || slices.Contains(list, "") {
		return nil, errdefs.BadField(name, "is "+plain.Short(string(raw))+`; expected a list of strings, as in ["llama"]`)
	}
	return list, nil
}

// Argument refuses what could be taken for a flag, change a terminal or a log, or look
// like something else there: the value becomes part of a command line.
func Argument(v string) error {
	if strings.HasPrefix(v, "-") {
		return fmt.Errorf("is %q; it may not begin with '-'", plain.Short(v))
	}
	if why := plain.Home(v); why != "" {
		return fmt.Errorf("%q %s", plain.Short(v), why)
	}
	if flaw := plain.Flaw(v); flaw != "" {
		return errors.New(flaw)
	}
	// PATH_MAX; Linux takes 128 KiB as one argument, but a template may repeat it.
	if len(v) > 4096 {
		return errors.New("is longer than 4096 bytes")
	}
	return nil
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// WorkerName refuses what cannot be the name of a worker.
func WorkerName(v string) error {
	if !nameForm.MatchString(v) {
		return fmt.Errorf("is %q; expected at most 63 of a-z, 0-9 and '-', beginning with a letter or digit", plain.Short(v))
	}
	return nil
}

// MaxPID is PID_MAX_LIMIT on 64-bit systems (proc(5), pid_max).
const MaxPID = 1 << 22

// MinPort is the first port that a program may bind without a privilege
// (ip_unprivileged_port_start, ip(7)). Clients take what listens below it for a
// service of the machine's administrator.
const MinPort = 1024
