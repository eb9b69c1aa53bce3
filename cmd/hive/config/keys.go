package config

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"rbeehive/alloc"
	"rbeehive/hive/input"
)

// rule is what is allowed under one key of the file.
type rule struct {
	keys   map[string]rule // a mapping with these keys; nil: a plain value or list
	list   bool            // a list of such mappings
	params bool            // a mapping with keys of the user's own, each a plain value or a mapping with these keys
	refuse string          // the key is known and refused, with this sentence
}

// fileRules is every key of hive.yaml.
func fileRules() rule {
	top := rulesOf(reflect.TypeOf(newSettings()).Elem())
	top.keys["port"] = rule{refuse: "is only a flag and a variable; in the file use listen, as in " + defaultOf("listen")}
	top.keys["take_over"] = rule{refuse: "is only a flag (--take-over): it applies to one start, not to every"}
	return top
}

// isGroup reports whether a key of the file has keys below it.
func isGroup(key string) bool {
	r := fileRules().keys[strings.ToLower(key)]
	return r.keys != nil && !r.list
}

// rulesOf is the keys of what is decoded into a type, by the tags of its fields.
func rulesOf(t reflect.Type) rule {
	switch {
	case t == reflect.TypeFor[alloc.Range](): // a text
		return rule{}
	case t.Kind() == reflect.Pointer:
		return rulesOf(t.Elem())
	case t.Kind() == reflect.Slice:
		r := rulesOf(t.Elem())
		r.list = r.keys != nil
		return r
	case t.Kind() == reflect.Map:
		r := rulesOf(t.Elem())
		r.params = r.keys != nil
		return r
	case t.Kind() != reflect.Struct:
		return rule{}
	}
	r := rule{keys: map[string]rule{}}
	for f := range t.Fields() {
		name := cmp.Or(f.Tag.Get("key"), f.Tag.Get("mapstructure"))
		switch section, key, dotted := strings.Cut(name, "."); {
		case f.Anonymous && name == "":
			merge(r.keys, rulesOf(f.Type).keys)
		case name == "" || name == "-": // no key
		case dotted: // one of a section of which the other keys are elsewhere
			merge(r.keys, map[string]rule{section: {keys: map[string]rule{key: rulesOf(f.Type)}}})
		default:
			merge(r.keys, map[string]rule{name: rulesOf(f.Type)})
		}
	}
	return r
}

// merge adds the keys of more to keys; of a section that both have, those of both.
func merge(keys, more map[string]rule) {
	for name, r := range more {
		if had, ok := keys[name]; ok && had.keys != nil {
			merge(had.keys, r.keys)
			continue
		}
		keys[name] = r
	}
}

// checkKeys checks the keys of n, which is at path, by r. viper could find unknown keys, but
// it has no line numbers, loses empty values and lower-cases the keys of params.
func (d *document) checkKeys(n *yaml.Node, r rule, path string) {
	// Of an anchor the parser has one node: its line is where the mistake is.
	n = resolved(n)
	// A key with nothing under it counts as left out, as to viper.
	if r.keys == nil || isNull(n) {
		return
	}
	if r.list {
		d.checkList(n, r, path)
		return
	}
	if n.Kind != yaml.MappingNode {
		d.addNew(d.mistake(n.Line, path, "expected 'key: value' lines under it"))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		d.checkPair(n.Content[i], n.Content[i+1], r, path, seen)
	}
}

func (d *document) checkList(n *yaml.Node, r rule, path string) {
	if n.Kind != yaml.SequenceNode {
		d.addNew(d.mistake(n.Line, path, "expected a list, each entry beginning with '- name:'"))
		return
	}
	r.list = false
	for i, item := range n.Content {
		d.checkKeys(item, r, fmt.Sprintf("%s[%d]%s", path, i, label(item)))
	}
}

func (d *document) checkPair(key, value *yaml.Node, r rule, path string, seen map[string]bool) {
	if key.Tag == "!!merge" { // <<: *base
		d.checkMerge(value, r, path)
		return
	}
	// viper lower-cases keys: Port and port would be one, and one of them lost.
	name := strings.ToLower(key.Value)
	if r.params {
		if name != key.Value {
			d.add(d.mistake(key.Line, path+"."+key.Value, "a parameter's name is made of a-z, 0-9 and '_'"))
			return
		}
		// One that is plain has no keys.
		if resolved(value).Kind == yaml.MappingNode {
			d.checkKeys(value, rule{keys: r.keys}, path+"."+name)
		}
		return
	}
	sub, known := r.keys[name]
	if !known {
		d.add(d.mistake(key.Line, path, "unknown key %q%s", key.Value, input.DidYouMean(name, slices.Collect(maps.Keys(r.keys)))))
		return
	}
	if seen[name] {
		d.addNew(d.mistake(key.Line, path, "duplicate key %q", key.Value))
		return
	}
	seen[name] = true
	full := join(path, name)
	if sub.refuse != "" {
		d.add(d.mistake(key.Line, full, "%s", sub.refuse))
		return
	}
	d.checkKeys(value, sub, full)
}

// checkMerge checks what a merge key brings in: one mapping or a list of them.
func (d *document) checkMerge(n *yaml.Node, r rule, path string) {
	if n.Kind != yaml.SequenceNode {
		d.checkKeys(n, r, path)
		return
	}
	for _, item := range n.Content {
		d.checkKeys(item, r, path)
	}
}

func join(path, name string) string {
	switch {
	case path == "":
		return name
	case strings.HasSuffix(path, ")") || strings.HasSuffix(path, "]"):
		return path + ": " + name
	}
	return path + "." + name
}

// label is the name of a worker entry, for errors: " (web)".
func label(n *yaml.Node) string {
	n = resolved(n)
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if strings.EqualFold(n.Content[i].Value, "name") && n.Content[i+1].Value != "" {
			return " (" + n.Content[i+1].Value + ")"
		}
	}
	return ""
}
