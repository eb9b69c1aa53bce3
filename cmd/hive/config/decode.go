package config

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-viper/mapstructure/v2"

	"rbeehive/alloc"
	"rbeehive/hive/catalog"
	"rbeehive/hive/setting"
)

// settings is the layers merged, as decoded and not yet checked: what is taken as it is, and
// what the rest of Config is made of.
type settings struct {
	*Config
	Listen  []string        `key:"listen" default:"127.0.0.1:7835"`
	Port    string          `key:"port"`
	Access  accessKeys      `key:"access"`
	Socket  socketKeys      `key:"socket"`
	TLS     keyPair         `key:"tls"`
	Workers []catalog.Entry `key:"workers"` // of the file alone; see checkEntries
}

const workersKey = "workers"

func newSettings() *settings { return &settings{Config: &Config{}} }

type socketKeys struct {
	Path  string   `key:"path"`
	Mode  fileMode `key:"mode"`
	Group string   `key:"group"`
}

// fileMode is octal digits.
type fileMode string

// keyPair is the files of a certificate.
type keyPair struct {
	Cert string `key:"cert"`
	Key  string `key:"key"`
}

// defaultOf is the default of a key, as it is written in the file.
func defaultOf(key string) string {
	for _, f := range setting.Fields(newSettings()) {
		if f.Key == key {
			return f.Tag.Get("default")
		}
	}
	return ""
}

// layered is a key as viper has it: "::" instead of ".", which may stand in a key of params.
func layered(key string) string { return strings.ReplaceAll(key, ".", "::") }

// flagKeys maps keys to flags.
func flagKeys() map[string]string {
	return map[string]string{
		"data_dir": "data-dir", "listen": "listen", "port": "port", "hive_id": "hive-id",
		"queen_url": "queen-url", "log_level": "log-level", "log_format": "log-format",
	}
}

// decode decodes each setting but the entries into its field.
func (l *loader) decode(s *settings) {
	for _, f := range setting.Fields(s) {
		data := l.v.Get(layered(f.Key))
		if f.Key == "" || f.Key == workersKey || data == nil {
			continue
		}
		for _, wrong := range decodeInto(f.Value.Addr().Interface(), data, f) {
			if wrong.key != "" && !strings.HasPrefix(wrong.key, "[") {
				wrong.key = "." + wrong.key
			}
			l.fail(f.Key+wrong.key, "%s", wrong.reason)
		}
	}
}

// flaw is what is wrong with a key, which is relative to the value or entry it is in.
type flaw struct{ key, reason string }

// decodeInto decodes a value of the setting f, or of an entry. It is strict: without
// WeaklyTypedInput, which would turn true into "1"; convert decides about conversions.
func decodeInto(result, data any, f setting.Field) []flaw {
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: result, DecodeHook: mapstructure.DecodeHookFuncValue(func(from, to reflect.Value) (any, error) { return convert(from, to, f) }),
	})
	if err != nil {
		return []flaw{{"", err.Error()}}
	}
	return flaws(d.Decode(data))
}

// flaws takes apart what mapstructure has joined.
func flaws(err error) (all []flaw) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			all = append(all, flaws(e)...)
		}
		return all
	}
	if at, ok := errors.AsType[*mapstructure.DecodeError](err); ok {
		// "params[ctx]", since that is a map.
		key := strings.Replace(at.Name(), "params["+paramOf(at.Name())+"]", "params."+paramOf(at.Name()), 1)
		return []flaw{{key, at.Unwrap().Error()}}
	}
	if err != nil {
		return []flaw{{"", err.Error()}}
	}
	return nil
}

// paramOf is the x of "params[x].default".
func paramOf(key string) string {
	_, rest, _ := strings.Cut(key, "params[")
	name, _, _ := strings.Cut(rest, "]")
	return name
}

// convert turns a value of YAML, of a variable or of a flag into what a field
// holds, or says what was expected.
func convert(from, to reflect.Value, f setting.Field) (any, error) {
	switch data := from.Interface(); {
	case to.Type() == reflect.TypeFor[time.Duration]():
		return toDuration(data)
	case to.Type() == reflect.TypeFor[alloc.Range]():
		return toRange(data, f.Tag.Get("want"))
	// A command is not one: a comma is part of an argument.
	case to.Kind() == reflect.Slice && f.Value.IsValid() && to.Type() == f.Value.Type():
		return toCommas(data)
	case to.Type() == reflect.TypeFor[[]string]():
		return toList(data)
	case to.Type() == reflect.TypeFor[fileMode]():
		return toFileMode(data)
	case to.Type() == reflect.TypeFor[catalog.ParamEntry]():
		return toParam(data)
	case to.Kind() == reflect.String:
		return toText(data)
	case to.Kind() == reflect.Int64:
		return toSize(data)
	case to.Kind() == reflect.Int:
		return toInt(data)
	case to.Kind() == reflect.Bool:
		return toBool(data)
	// mapstructure would say what it expected in terms of Go.
	case to.Kind() == reflect.Slice && from.Kind() != reflect.Slice:
		return nil, errors.New(`expected a list, as in ["a", "b"]`)
	case to.Kind() == reflect.Struct && from.Kind() != reflect.Map, to.Kind() == reflect.Map && from.Kind() != reflect.Map:
		return nil, errors.New("expected 'key: value' pairs")
	default:
		return data, nil
	}
}

func toDuration(data any) (any, error) {
	text, ok := data.(string)
	if !ok {
		// mapstructure would take 5 as 5 nanoseconds.
		return nil, fmt.Errorf("%v: a duration needs a unit, as in 30s, 10m or 24h", data)
	}
	return setting.ParseDuration(text)
}

func toSize(data any) (any, error) {
	text, ok := data.(string)
	if !ok {
		return nil, fmt.Errorf("%v: a size needs a unit, as in 512KiB, 64MiB or 2GiB", data)
	}
	n, err := setting.ParseSize(text)
	return int64(n), err
}

func toRange(data any, want string) (any, error) {
	text, err := toText(data)
	if err != nil {
		return nil, err
	}
	r, err := alloc.ParseRange(text.(string)) //nolint:forcetypeassert // toText returns a string
	if err != nil {
		return nil, fmt.Errorf("%q: expected %s", text, want)
	}
	return r, nil
}

// toCommas makes a list of one string with commas, which is all a variable can hold.
func toCommas(data any) (any, error) {
	var out []any
	switch data := data.(type) {
	case []any:
		return data, nil
	case string:
		for part := range strings.SplitSeq(data, ",") {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			}
		}
		return out, nil
	// One port, say, which YAML and flags give as a number.
	case int:
		return append(out, data), nil
	}
	return nil, errors.New(`expected a list, as in ["a", "b"]`)
}

// toList takes one word for a list of it. One with a blank in it may be meant as several:
// a command, as in a shell.
func toList(data any) (any, error) {
	switch data := data.(type) {
	case []any:
		return data, nil
	case string:
		if data != "" && !strings.ContainsFunc(data, unicode.IsSpace) {
			return []any{data}, nil
		}
	case int, bool:
		return []any{data}, nil
	}
	return nil, errors.New(`expected a list, as in ["a", "b"]`)
}

func toText(data any) (any, error) {
	switch data := data.(type) {
	case string:
		return data, nil
	case int:
		return strconv.Itoa(data), nil
	case bool:
		// A true in env or in params is a text to whoever wrote it.
		return strconv.FormatBool(data), nil
	case float64, time.Time, int64, uint64:
		// 1.10 would become 1.1, and 2025-01-01 a time of day.
		return nil, errors.New("expected a string; quote it, so that it is not converted")
	}
	return nil, errors.New("expected a string")
}

// toParam expands a plain value to the mapping that it is short for.
func toParam(data any) (any, error) {
	switch data.(type) {
	case map[string]any:
		return data, nil
	case []any:
		return nil, errors.New("expected a string, or 'default', 'pattern' and 'fixed' under it")
	}
	text, err := toText(data)
	return map[string]any{"default": text}, err
}

// toFileMode wants a string: YAML has made 432 of 0660.
func toFileMode(data any) (any, error) {
	text, ok := data.(string)
	if !ok {
		return nil, errors.New(`expected a string; quote it, as in "0660"`)
	}
	return fileMode(text), nil
}

func toBool(data any) (any, error) {
	switch data {
	case true, false:
		return data, nil
	case "true", "false": // a default, or a variable
		return data == "true", nil
	}
	return nil, fmt.Errorf("%v: expected true or false", data)
}

func toInt(data any) (any, error) {
	switch data := data.(type) {
	case int:
		return data, nil
	case string:
		if n, err := strconv.Atoi(data); err == nil {
			return n, nil
		}
		return nil, fmt.Errorf("%q: expected an integer", data)
	}
	return nil, fmt.Errorf("%v: expected an integer", data)
}
