package command

import (
	"encoding/json"

	"rbeehive/httpapi/wire"
)

// Pick is pick.
func Pick(workers []wire.Worker, ref string) (wire.Worker, error) { return pick(workers, ref) }

// ShellWords is shellWords.
func ShellWords(words []string) string { return shellWords(words) }

// YAMLOf is yamlOf.
func YAMLOf(raw json.RawMessage) ([]byte, error) { return yamlOf(raw) }

// Classify returns the exit code and the hint of an error.
func Classify(err error) (code int, hint string) {
	f := classify(err)
	return f.code, f.hint
}

// Wrap is wrap.
func Wrap(text string, width int) []string { return wrap(text, width) }

// Loopback reports whether an address gets this machine's own token unasked.
func Loopback(addr string) bool { return loopback(addr) }
