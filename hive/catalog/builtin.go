package catalog

import (
	"fmt"
	"strings"
)

const cpuName = "cpu"

// addBuiltins adds what no entry has replaced: cpu, cuda, metal, and each preset
// under its own name.
func (c *Catalog) addBuiltins(known map[string]*preset, self string) error {
	cpu, err := fromPreset(cpuName, referenceName, known, self)
	if err != nil {
		return err
	}
	cpu.Source = SourceBuiltin
	// Also where an entry is called cpu: the self-test starts this one.
	c.reference = cpu
	c.addMissing(cpu)
	for name := range known {
		t, err := fromPreset(name, name, known, self)
		if err != nil {
			return err
		}
		c.addMissing(t)
	}
	for _, name := range []string{"cuda", "metal"} {
		c.addMissing(notConfigured(name, self))
	}
	return nil
}

func (c *Catalog) addMissing(t *Type) {
	if c.types[t.Name] == nil {
		c.types[t.Name] = t
	}
}

// fromPreset makes the type that is a preset and nothing else.
func fromPreset(name, preset string, known map[string]*preset, self string) (*Type, error) {
	t, wrong := newType(0, &Entry{Name: name, Preset: preset}, known, plainSelf(self))
	if len(wrong) > 0 {
		return nil, wrong[0]
	}
	// Only now: the sample execution had a path that is allowed.
	t.self, t.Source = self, SourcePreset
	if t.RunsHive() && strings.Contains(self, forbidden) {
		t.unavailable = fmt.Sprintf("the reference worker's command line would contain %q, as hive's own path %s does, "+
			"and rbee's keeper ends every such process when it stops a hive; install hive under another path", forbidden, self)
	}
	return t, nil
}

// notConfigured is a type that rbee's clients ask for by name and that nobody
// has said anything about.
func notConfigured(name, self string) *Type {
	p := bare(nil)
	return &Type{
		Name: name, Ports: 1, Source: SourceBuiltin, Description: "a worker on " + name + "; no program is configured",
		Ready: p.ready(&Entry{}), Stop: p.stop(), self: self,
		unavailable: fmt.Sprintf("no worker program is configured for %[1]s; add an entry to hive.yaml, for example: "+
			`workers: [{name: %[1]s, preset: llama-server}]`, name),
	}
}

// plainSelf keeps the sample execution of the built-in types from failing on a
// path that only makes them unavailable.
func plainSelf(self string) string {
	return strings.ReplaceAll(self, forbidden, "hive")
}
