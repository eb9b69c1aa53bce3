package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"go.yaml.in/yaml/v3"

	"rbeehive/hive/catalog"
	"rbeehive/hive/setting"
	"rbeehive/hive/trust"
	"rbeehive/hive/workertype"
)

// WithTypes is the same configuration with the files of types.d in a data directory,
// as they are now. It reads files and does not block otherwise. Errors are *Error.
func (c *Config) WithTypes(dataDir string) (*Config, error) {
	next := *c
	next.Workers = slices.DeleteFunc(slices.Clone(c.Workers), func(e catalog.Entry) bool { return e.File != "" })
	if err := next.addInstalled(dataDir); err != nil {
		return nil, err
	}
	return &next, nil
}

// addInstalled reads what worker_install has written. An entry of hive.yaml of the
// same name wins; the file is named in Shadowed then.
func (c *Config) addInstalled(dataDir string) error {
	installed, err := readTypes(filepath.Join(dataDir, workertype.TypesDir))
	if err != nil {
		return err
	}
	own := c.Workers
	c.Shadowed = nil
	for _, e := range installed {
		if slices.ContainsFunc(own, func(o catalog.Entry) bool { return o.Name == e.Name }) {
			c.Shadowed = append(c.Shadowed, e.File)
			continue
		}
		c.Workers = append(c.Workers, e)
	}
	return c.allowTypes()
}

// readTypes reads a directory of types, by name; none is no error. Hidden files are left by
// a process that was killed while it wrote a file.
func readTypes(dir string) ([]catalog.Entry, error) {
	err := trust.Dir(dir)
	if absent(dir, err) {
		return nil, nil
	}
	var names []fs.DirEntry
	if err == nil {
		names, err = os.ReadDir(dir)
	}
	if err != nil {
		return nil, unreadable(dir, err)
	}
	var entries []catalog.Entry
	for _, d := range names {
		if strings.HasPrefix(d.Name(), ".") {
			continue
		}
		e, err := readType(filepath.Join(dir, d.Name()), d)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// readType reads one file: the keys of one entry of workers.
func readType(path string, d fs.DirEntry) (e catalog.Entry, err error) {
	if err := checkTypeFile(path, d); err != nil {
		return e, err
	}
	doc, err := trust.ReadFile(path, maxFileSize)
	if err != nil {
		return e, unreadable(path, err)
	}
	var data map[string]any // first as plain data: see readFile
	if err := yaml.Unmarshal(doc, &data); err != nil {
		return e, yamlError(path, err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(doc, &root); err != nil {
		return e, yamlError(path, err)
	}
	if len(root.Content) == 0 {
		return e, &Error{Source: path + ":1", Reason: "it is empty; expected the keys of one worker entry, name first"}
	}
	top, check := root.Content[0], keyChecker{path}
	rules := fileRules().keys["workers"]
	rules.list = false
	if err := check.check(top, rules, ""); err != nil {
		return e, err
	}
	if err := decodeType(data, &e); err != nil {
		if at, ok := errors.AsType[*mapstructure.DecodeError](err); ok {
			return e, check.fail(nodeOf(top, at.Name()), at.Name(), "%v", at.Unwrap())
		}
		return e, &Error{Source: path, Reason: err.Error()}
	}
	e.File = path
	if name := strings.TrimSuffix(d.Name(), ".yaml"); e.Name != name {
		return e, check.fail(nodeOf(top, "name"), "name", "%q: expected %q, as the file is called", e.Name, name)
	}
	// On its own: what the catalog finds later it finds without the line.
	_, err = catalog.New([]catalog.Entry{e}, anyProgram)
	if wrong, ok := errors.AsType[*catalog.EntryError](err); ok {
		return e, check.fail(nodeOf(top, wrong.Key), wrong.Key, "%s", wrong.Reason)
	}
	return e, err
}

// checkTypeFile refuses what worker_install has not written.
func checkTypeFile(path string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return &Error{Source: path, Reason: err.Error()}
	}
	name, isYAML := strings.CutSuffix(d.Name(), ".yaml")
	if !isYAML || !catalog.ValidName(name) || !info.Mode().IsRegular() {
		return &Error{Source: path + ":1", Reason: "this directory holds only files NAME.yaml that worker_install writes; move it away"}
	}
	return nil
}

func decodeType(data map[string]any, e *catalog.Entry) error {
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: e, ErrorUnused: true, DecodeHook: mapstructure.DecodeHookFuncValue(func(from, to reflect.Value) (any, error) { return convert(from, to, setting.Field{}) }),
	})
	if err != nil {
		return err
	}
	return d.Decode(data)
}

// yamlError is a syntax error; the parser gives the line.
func yamlError(path string, err error) error {
	reason := yamlReason(err)
	if line, rest, found := strings.Cut(reason, ": "); found {
		if n, isLine := strings.CutPrefix(line, "line "); isLine {
			return &Error{Source: path + ":" + n, Reason: rest}
		}
	}
	return &Error{Source: path + ":1", Reason: reason}
}

// anyProgram is the reference worker's program for a catalog that is only checked.
const anyProgram = "/hive"

// nodeOf is the node of a key ("params.ctx.pattern", "params[ctx]", "args[1]") in a
// mapping, as deep as mappings go; the mapping itself if there is none.
func nodeOf(n *yaml.Node, key string) *yaml.Node {
	at := n
	for _, part := range strings.FieldsFunc(key, func(r rune) bool { return strings.ContainsRune(".[]", r) }) {
		name, value := pairOf(n, part)
		if name == nil {
			break
		}
		at, n = name, value
	}
	return at
}

// pairOf is a key of a mapping and its value; nil: there is none.
func pairOf(n *yaml.Node, key string) (name, value *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if strings.EqualFold(n.Content[i].Value, key) {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}
