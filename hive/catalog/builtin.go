package catalog

import (
	"fmt"
	"strings"
)

const (
	cpuName  = "cpu"
	cpuReady = "/health"
)

// cpuCommand starts the reference worker. The program is a template because a
// path may hold what a template would read as an action.
func cpuCommand() []string {
	return []string{
		"{{.Hive}}", "worker", "--port", "{{.Port}}", "--host", "{{.Host}}",
		"{{if .Model}}--model={{.Model}}{{end}}",
		"{{if .Device}}--device={{.Device}}{{end}}",
		"--worker-id", "{{.WorkerID}}",
	}
}

func (c *Catalog) addBuiltins(self string) error {
	t, err := newType(0, &Entry{Name: cpuName}, plainSelf(self))
	if err != nil {
		return err
	}
	t.self = self
	t.Source, t.Description = SourceBuiltin, "the reference worker: answers on its port and echoes completions; for trying out and for tests"
	if strings.Contains(self, forbidden) {
		t.unavailable = fmt.Sprintf("the reference worker's command line would contain %q, as hive's own path %s does, "+
			"and rbee's keeper ends every such process when it stops a hive; install hive under another path", forbidden, self)
	}
	c.reference = t
	if c.types[cpuName] == nil {
		c.types[cpuName] = t
	}
	for _, name := range []string{"cuda", "metal"} {
		if c.types[name] != nil {
			continue
		}
		c.types[name] = &Type{
			Name: name, Ports: 1, Source: SourceBuiltin, Description: "a worker on " + name + "; no program is configured",
			Ready: (&ReadyEntry{}).spec(cpuReady), Stop: (&StopEntry{}).spec(), self: self,
			unavailable: fmt.Sprintf("no worker program is configured for %[1]s; add an entry to hive.yaml, for example: "+
				`workers: [{name: %[1]s, command: ["llama-server", "--host", "{{.Host}}", "--port", "{{.Port}}", "-m", "{{.Model}}"], ready: {path: /health}}]`, name),
		}
	}
	return nil
}

// plainSelf keeps the sample execution of the built-in type from failing on a
// path that only makes the type unavailable.
func plainSelf(self string) string {
	return strings.ReplaceAll(self, forbidden, "hive")
}
