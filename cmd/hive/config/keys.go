package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
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
	values := func(names string) map[string]rule {
		m := map[string]rule{}
		for _, name := range strings.Fields(names) {
			m[name] = rule{}
		}
		return m
	}
	worker := values("name preset program command host model device args env port ports listener dir user no_new_privileges env_file before_start autostart reload")
	worker["allow"] = rule{keys: values("users groups tokens")}
	worker["params"] = rule{params: true, keys: values("default pattern fixed")}
	worker["ready"] = rule{keys: values("path status stall timeout")}
	worker["stop"] = rule{keys: values("signal grace scope command")}
	worker["live"] = rule{keys: values("path interval timeout failures action")}
	worker["restart"] = rule{keys: values("policy max window backoff max_backoff")}

	top := values("hive_id listen data_dir queen_url advertise allowed_hosts auth shutdown start_parallel workers_keep worker_user log_level log_format")
	top["port"] = rule{refuse: "is only a flag and a variable; in the file use listen, as in " + defaultListen}
	top["take_over"] = rule{refuse: "is only a flag (--take-over): it applies to one start, not to every"}
	callers := rule{keys: values("users groups")}
	top["access"] = rule{keys: map[string]rule{"admin": callers, "read": callers, "tcp_root": {}}}
	top["socket"] = rule{keys: values("path mode group")}
	top["tls"] = rule{keys: values("cert key")}
	top["ports"] = rule{keys: values("range reserved policy quarantine per_user")}
	top["jobs"] = rule{keys: values("retention keep max_queued max_queue_age stream_wait")}
	top["audit"] = rule{keys: values("interval orphans")}
	top["backup"] = rule{keys: values("interval keep")}
	top["logs"] = rule{keys: values("max_size keep max_total")}
	top["models"] = rule{keys: values("dir endpoint")}
	top["workers"] = rule{keys: worker, list: true}
	return rule{keys: top}
}

// keyChecker walks a document. viper could find unknown keys, but it has no line numbers,
// loses empty values and lower-cases the keys of params.
type keyChecker struct{ file string }

func (c keyChecker) fail(n *yaml.Node, path, format string, a ...any) error {
	source := fmt.Sprintf("%s:%d", c.file, n.Line)
	if path != "" {
		source += ": " + path
	}
	return &Error{Source: source, Reason: fmt.Sprintf(format, a...)}
}

// check checks n, which is at path, by r.
func (c keyChecker) check(n *yaml.Node, r rule, path string) error {
	// Of an anchor the parser has one node: its line is where the mistake is.
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	// A key with nothing under it counts as left out, as to viper.
	if r.keys == nil || isNull(n) {
		return nil
	}
	if r.list {
		return c.checkList(n, r, path)
	}
	if n.Kind != yaml.MappingNode {
		return c.fail(n, path, "expected 'key: value' lines under it")
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if err := c.checkPair(n.Content[i], n.Content[i+1], r, path, seen); err != nil {
			return err
		}
	}
	return nil
}

func (c keyChecker) checkList(n *yaml.Node, r rule, path string) error {
	if n.Kind != yaml.SequenceNode {
		return c.fail(n, path, "expected a list, each entry beginning with '- name:'")
	}
	r.list = false
	for i, item := range n.Content {
		if err := c.check(item, r, fmt.Sprintf("%s[%d]%s", path, i, label(item))); err != nil {
			return err
		}
	}
	return nil
}

func (c keyChecker) checkPair(key, value *yaml.Node, r rule, path string, seen map[string]bool) error {
	if key.Tag == "!!merge" { // <<: *base
		return c.checkMerge(value, r, path)
	}
	// viper lower-cases keys: Port and port would be one, and one of them lost.
	name := strings.ToLower(key.Value)
	if r.params {
		if name != key.Value {
			return c.fail(key, path+"."+key.Value, "a parameter's name is made of a-z, 0-9 and '_'")
		}
		return c.checkParam(value, r, path+"."+name)
	}
	sub, known := r.keys[name]
	if !known {
		return c.fail(key, path, "unknown key %q%s", key.Value, suggestion(name, slices.Collect(maps.Keys(r.keys))))
	}
	if seen[name] {
		return c.fail(key, path, "duplicate key %q", key.Value)
	}
	seen[name] = true
	full := join(path, name)
	if sub.refuse != "" {
		return c.fail(key, full, "%s", sub.refuse)
	}
	return c.check(value, sub, full)
}

// checkParam checks the value of a parameter, which may be plain.
func (c keyChecker) checkParam(n *yaml.Node, r rule, path string) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return nil
	}
	return c.check(n, rule{keys: r.keys}, path)
}

// checkMerge checks what a merge key brings in: one mapping or a list of them.
func (c keyChecker) checkMerge(n *yaml.Node, r rule, path string) error {
	if n.Kind != yaml.SequenceNode {
		return c.check(n, r, path)
	}
	for _, item := range n.Content {
		if err := c.check(item, r, path); err != nil {
			return err
		}
	}
	return nil
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

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
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if strings.EqualFold(n.Content[i].Value, "name") && n.Content[i+1].Value != "" {
			return " (" + n.Content[i+1].Value + ")"
		}
	}
	return ""
}

// suggestion is "; did you mean ...?" when a known name is close.
func suggestion(name string, known []string) string {
	// Of two that are as close the same one is suggested each time.
	slices.Sort(known)
	best, bestDistance := "", 3
	for _, k := range known {
		// Of a short word hardly a letter may differ, or everything would be close to it.
		if d := distance(name, k); d < bestDistance && d < len(k)/2+1 {
			best, bestDistance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is the number of letters to insert, delete or replace (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
