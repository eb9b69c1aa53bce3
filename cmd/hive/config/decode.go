package config

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"

	"rbeehive/hive/catalog"
	"rbeehive/hive/models"
)

// settings is the layers merged, as decoded and not yet checked.
type settings struct {
	HiveID        string     `mapstructure:"hive_id"`
	Listen        commas     `mapstructure:"listen"`
	Port          string     `mapstructure:"port"`
	DataDir       string     `mapstructure:"data_dir"`
	QueenURL      string     `mapstructure:"queen_url"`
	AllowedHosts  commas     `mapstructure:"allowed_hosts"`
	Auth          string     `mapstructure:"auth"`
	Access        accessKeys `mapstructure:"access"`
	Advertise     string     `mapstructure:"advertise"`
	Socket        socket     `mapstructure:"socket"`
	TLS           keyPair    `mapstructure:"tls"`
	Shutdown      string     `mapstructure:"shutdown"`
	LogLevel      string     `mapstructure:"log_level"`
	LogFormat     string     `mapstructure:"log_format"`
	Ports         ports      `mapstructure:"ports"`
	Jobs          jobs       `mapstructure:"jobs"`
	StartParallel int        `mapstructure:"start_parallel"`
	WorkersKeep   duration   `mapstructure:"workers_keep"`
	WorkerUser    string     `mapstructure:"worker_user"`
	Audit         audit      `mapstructure:"audit"`
	Logs          logFiles   `mapstructure:"logs"`
	Backup        backup     `mapstructure:"backup"`
	Models        library    `mapstructure:"models"`

	Workers []catalog.Entry `mapstructure:"workers"`
}

type duration = time.Duration

type socket struct {
	Path  string   `mapstructure:"path"`
	Mode  fileMode `mapstructure:"mode"`
	Group string   `mapstructure:"group"`
}

// fileMode is octal digits.
type fileMode string

// keyPair is the files of a certificate.
type keyPair struct {
	Cert string `mapstructure:"cert"`
	Key  string `mapstructure:"key"`
}

type ports struct {
	Range      string   `mapstructure:"range"`
	Reserved   commas   `mapstructure:"reserved"`
	Policy     string   `mapstructure:"policy"`
	Quarantine duration `mapstructure:"quarantine"`
	PerUser    int      `mapstructure:"per_user"`
}

type jobs struct {
	Retention   duration `mapstructure:"retention"`
	Keep        int      `mapstructure:"keep"`
	MaxQueued   int      `mapstructure:"max_queued"`
	MaxQueueAge duration `mapstructure:"max_queue_age"`
	StreamWait  duration `mapstructure:"stream_wait"`
}

type audit struct {
	Interval duration `mapstructure:"interval"`
	Orphans  string   `mapstructure:"orphans"`
}

type logFiles struct {
	MaxSize  size `mapstructure:"max_size"`
	Keep     int  `mapstructure:"keep"`
	MaxTotal size `mapstructure:"max_total"`
}

type backup struct {
	Interval duration `mapstructure:"interval"`
	Keep     int      `mapstructure:"keep"`
}

type library struct {
	Dir      string `mapstructure:"dir"`
	Endpoint string `mapstructure:"endpoint"`
}

// commas is a list that may be written as one string with commas, which is all a variable
// can hold. A command is not one: a comma is part of an argument.
type commas []string

const (
	defaultListen    = "127.0.0.1:7835"
	defaultHiveID    = "localhost"
	defaultLogFormat = "text"
)

func defaults() map[string]any {
	return map[string]any{
		"hive_id": defaultHiveID, "listen": defaultListen, "shutdown": "keep", "log_format": defaultLogFormat,
		"ports::range": "8080-9999", "ports::policy": "lowest", "ports::quarantine": "0s", "ports::per_user": 64, "access::tcp_root": true,
		"jobs::retention": "168h", "jobs::keep": 10000, "jobs::max_queued": 10000, "jobs::max_queue_age": "10m", "jobs::stream_wait": "25s",
		"start_parallel": 2, "workers_keep": "24h", "audit::interval": "30s", "audit::orphans": "keep",
		"logs::max_size": "64MiB", "logs::keep": 3, "logs::max_total": "2GiB",
		"backup::interval": "24h", "backup::keep": 7, "models::endpoint": models.DefaultEndpoint,
	}
}

// flagKeys maps keys to flags.
func flagKeys() map[string]string {
	return map[string]string{
		"data_dir": "data-dir", "listen": "listen", "port": "port", "hive_id": "hive-id",
		"queen_url": "queen-url", "log_level": "log-level", "log_format": "log-format",
	}
}

// decode is strict: without WeaklyTypedInput, which would turn true into "1" and a string
// into a list of one; convert decides about conversions.
func (l *loader) decode(s *settings) error {
	err := l.v.UnmarshalExact(s, viper.DecodeHook(mapstructure.DecodeHookFuncValue(convert)),
		func(c *mapstructure.DecoderConfig) { c.WeaklyTypedInput = false })
	if err == nil {
		return nil
	}
	// The path of the field in it leads to the line, the variable or the flag it came from.
	var at *mapstructure.DecodeError
	if !errors.As(err, &at) {
		return fmt.Errorf("decode the configuration: %w", err)
	}
	return &Error{Source: l.source(at.Name()), Reason: at.Unwrap().Error()}
}

// convert turns a value of YAML, of a variable or of a flag into what a field
// holds, or says what was expected.
func convert(from, to reflect.Value) (any, error) {
	switch data := from.Interface(); {
	case to.Type() == reflect.TypeFor[time.Duration]():
		return toDuration(data)
	case to.Type() == reflect.TypeFor[size]():
		return toSize(data)
	case to.Type() == reflect.TypeFor[commas]():
		return toCommas(data)
	case to.Type() == reflect.TypeFor[fileMode]():
		return toFileMode(data)
	case to.Type() == reflect.TypeFor[catalog.ParamEntry]():
		return toParam(data)
	case to.Kind() == reflect.String:
		return toText(data)
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
	d, err := time.ParseDuration(text)
	if err != nil || isNumber(text) {
		return nil, fmt.Errorf("%q: expected a duration with a unit, as in 30s, 10m or 24h", text)
	}
	return d, nil
}

// isNumber is for "0", the one number that ParseDuration takes without a unit.
func isNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

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
	if on, ok := data.(bool); ok {
		return on, nil
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
