package launch_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
)

// What a start would fail for at once is found before a port is leased for it, and before a
// serving worker is stopped for it.
func TestWhatAStartWouldFailForAtOnce(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	script := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o700))
		return path
	}
	file := script("file", "")
	command := func(program string) []string { return []string{program, "{{.Port}}", "{{.Model}}"} }
	for name, c := range map[string]struct {
		entry catalog.Entry
		want  string // empty: it can be started
	}{
		"a model that is there":         {catalog.Entry{Command: command("/bin/true"), Model: file}, ""},
		"a model that is not":           {catalog.Entry{Command: command("/bin/true"), Model: dir + "/typo.gguf"}, "model " + dir + "/typo.gguf does not exist"},
		"a model beside it":             {catalog.Entry{Command: command("/bin/true"), Model: "./file", Dir: dir}, ""},
		"no model beside it":            {catalog.Entry{Command: command("/bin/true"), Model: "./models/typo", Dir: dir}, "model " + dir + "/models/typo does not exist"},
		"a name that it finds itself":   {catalog.Entry{Command: command("/bin/true"), Model: "typo.gguf", Dir: dir}, ""},
		"a name that is a path to it":   {catalog.Entry{Preset: "llama-server", Program: "/bin/true", Model: "typo.gguf", Dir: dir}, "model " + dir + "/typo.gguf does not exist"},
		"of a name nothing is known":    {catalog.Entry{Command: command("/bin/true"), Model: "org/name"}, ""},
		"a path inside of a container":  {catalog.Entry{Command: command("/bin/true"), Model: "/models/m.gguf", Listener: "any"}, ""},
		"a dir":                         {catalog.Entry{Command: command("/bin/true"), Model: "m", Dir: dir}, ""},
		"a dir that is not there":       {catalog.Entry{Command: command("/bin/true"), Model: "m", Dir: dir + "/none"}, "dir " + dir + "/none does not exist"},
		"a dir that is a file":          {catalog.Entry{Command: command("/bin/true"), Model: "m", Dir: file}, "dir " + file + " is not a directory"},
		"a script":                      {catalog.Entry{Command: command(script("ok", "#! /bin/sh -e\ntrue")), Model: "m"}, ""},
		"a script without a line's end": {catalog.Entry{Command: command(script("short", "#!/bin/sh")), Model: "m"}, ""},
		"an interpreter that is not there": {
			catalog.Entry{Command: command(script("py", "#!/opt/none/python3 -u\nprint()")), Model: "m"},
			"the interpreter /opt/none/python3 in the first line of " + dir + "/py does not exist",
		},
		"CR LF": {
			catalog.Entry{Command: command(script("dos", "#!/bin/sh\r\ntrue\r\n")), Model: "m"},
			"the lines of " + dir + `/dos end in CR LF: the kernel looks for an interpreter /bin/sh\r; convert them, as with: sed -i 's/\r$//' ` + dir + "/dos",
		},
		"no interpreter": {
			catalog.Entry{Command: command(script("nobody", "#!\ntrue")), Model: "m"},
			dir + "/nobody names no interpreter in its first line",
		},
	} {
		t.Run(name, func(t *testing.T) {
			typ := typeOf(t, c.entry)
			rec := r.record(typ)
			_, err := r.Prepare(t.Context(), typ, &rec)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			f := requireFailure(t, err, errdefs.CodeExecFailed)
			require.Equal(t, c.want, f.Message)
		})
	}
}
