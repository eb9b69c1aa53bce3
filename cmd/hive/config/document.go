package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// document is a file of YAML.
type document struct {
	path string
	root *yaml.Node     // nil: it has nothing but comments
	data map[string]any // the same as plain values
	Mistakes
	broken bool // what is in it cannot be looked at further
}

// newDocument reads a file as YAML 1.2 does. What the parser reads as YAML 1.1, or what a
// person may mean otherwise than it is read, is a mistake.
func newDocument(path string, text []byte) *document {
	d := &document{path: path}
	parser := yaml.NewDecoder(bytes.NewReader(text))
	var first, second yaml.Node
	err := parser.Decode(&first)
	if err == nil {
		err = parser.Decode(&second)
	}
	switch {
	case err == nil:
		d.breaks(second.Line, "a second document begins here, and hive reads one; remove the '---', or what follows it")
	case !errors.Is(err, io.EOF):
		line, reason := syntaxError(err, text)
		d.breaks(line, "%s", reason)
		return d
	}
	if len(first.Content) == 0 || isNull(first.Content[0]) {
		return d
	}
	d.root = first.Content[0]
	if d.root.Kind != yaml.MappingNode {
		d.breaks(d.root.Line, "expected 'key: value' lines")
		return d
	}
	d.lint(d.root, "", nil)
	if !d.broken {
		d.decode()
	}
	return d
}

func (d *document) mistake(line int, path, format string, a ...any) *Error {
	source := fmt.Sprintf("%s:%d", d.path, line)
	if path != "" {
		source += ": " + path
	}
	return &Error{Source: source, Reason: fmt.Sprintf(format, a...), Line: line}
}

// breaks notes a mistake because of which the rest is not looked at.
func (d *document) breaks(line int, format string, a ...any) {
	d.broken = true
	d.addNew(d.mistake(line, "", format, a...))
}

// decode makes plain values. It also bounds what aliases make of the file, so that it can
// be walked afterwards.
func (d *document) decode() {
	err := d.root.Decode(&d.data)
	if err == nil {
		return
	}
	reasons := []string{strings.TrimPrefix(err.Error(), "yaml: ")}
	if types, ok := errors.AsType[*yaml.TypeError](err); ok {
		reasons = types.Errors
	}
	for _, reason := range reasons {
		line, rest := lineOf(reason)
		d.broken = true
		line = max(line, d.root.Line)
		if !slices.ContainsFunc(d.Mistakes, func(e *Error) bool { return e.Line == line }) {
			d.add(d.mistake(line, "", "%s", rest))
		}
	}
}

var knownTags = []string{"!!str", "!!int", "!!float", "!!bool", "!!null", "!!seq", "!!map", "!!merge"}

// lint looks for what the parser reads in a way that the writer may not mean. It follows no
// alias: each node is looked at where it is written.
func (d *document) lint(n *yaml.Node, path string, above []*yaml.Node) {
	if n.Kind == yaml.AliasNode {
		if slices.Contains(above, n.Alias) {
			d.breaks(n.Line, "anchor '%s' value contains itself", n.Value)
		}
		return
	}
	if n.Style&yaml.TaggedStyle != 0 && !slices.Contains(knownTags, n.ShortTag()) {
		d.addNew(d.mistake(n.Line, path, "the tag %s means nothing here; remove it", n.ShortTag()))
	}
	above = append(above, n)
	switch n.Kind {
	case yaml.MappingNode:
		d.lintMapping(n, path, above)
	case yaml.SequenceNode:
		for i, item := range n.Content {
			at := fmt.Sprintf("%s[%d]%s", path, i, label(item))
			if isNull(item) {
				d.addNew(d.mistake(item.Line, at, `is empty; write "" if an empty text is meant, or remove it`))
				continue
			}
			d.lint(item, at, above)
		}
	default:
		if why := misread(n); why != "" {
			d.addNew(d.mistake(n.Line, path, "%s", why))
		}
	}
}

func (d *document) lintMapping(n *yaml.Node, path string, above []*yaml.Node) {
	lines := map[string]int{}
	pairs := n.Content
	n.Content = nil // and again without those that are there twice, on which the parser takes long
	for i := 0; i+1 < len(pairs); i += 2 {
		key, value := pairs[i], pairs[i+1]
		switch first, twice := lines[key.Value]; {
		case key.Kind != yaml.ScalarNode: // {{.Port}} is a mapping as the key of another
			d.broken = true
			d.addNew(d.mistake(key.Line, path, "%s", quoteTemplates))
			continue
		case twice:
			d.addNew(d.mistake(key.Line, path, "mapping key %q already defined at line %d", key.Value, first))
			continue
		}
		n.Content = append(n.Content, key, value)
		lines[key.Value] = key.Line
		d.lint(value, join(path, strings.ToLower(key.Value)), above)
	}
}

const quoteTemplates = `'{' begins a mapping in YAML: a template such as {{.Port}} needs quotes, as in "{{.Port}}"`

var (
	plainInt   = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)
	leadsZero  = regexp.MustCompile(`^[-+]?0[0-9_]+$`)
	plainBool  = regexp.MustCompile(`^(true|false)$`)
	underlined = regexp.MustCompile(`^[-+]?[0-9][0-9_]*$`)
)

// misread says why a value may be read otherwise than it is meant; empty: it is not.
func misread(n *yaml.Node) string {
	quoted := fmt.Sprintf("or %q in quotes for a text", n.Value)
	switch tag := n.ShortTag(); {
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0, tag == "!!str":
		return ""
	case leadsZero.MatchString(n.Value):
		return fmt.Sprintf("%[1]s: some readers take a number with a leading zero as octal, others as decimal; quote it, as in %[1]q, or write it without the zero", n.Value)
	case tag == "!!int" && !plainInt.MatchString(n.Value), tag == "!!float" && underlined.MatchString(n.Value):
		return fmt.Sprintf("%s: expected a number in decimal digits%s; write that, %s", n.Value, decimal(n), quoted)
	case tag == "!!bool" && !plainBool.MatchString(n.Value):
		return fmt.Sprintf("%s: expected true or false in small letters, %s", n.Value, quoted)
	case n.Value == "~":
		return "~: is nothing to YAML, and no home directory; write a path out, or remove the key"
	}
	return ""
}

// decimal is the number that the parser makes of an integer: ", as in 31".
func decimal(n *yaml.Node) string {
	var number int64
	if n.Decode(&number) != nil {
		return ""
	}
	return ", as in " + strconv.FormatInt(number, 10)
}

var parserError = regexp.MustCompile(`^(did not find expected|found incompatible YAML|found duplicate %|found undefined tag)`)

// syntaxError is what the parser says, and the line that it means.
func syntaxError(err error, text []byte) (line int, reason string) {
	line, reason = lineOf(strings.TrimPrefix(err.Error(), "yaml: "))
	lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	anchor, unknown := strings.CutPrefix(reason, "unknown anchor '")
	switch {
	case unknown:
		anchor, _, _ = strings.Cut(anchor, "'")
		line = 1 + bytes.Count(before(text, []byte("*"+anchor)), []byte("\n"))
	case parserError.MatchString(reason): // the parser counts from 0, its scanner from 1
		line++
	case line == 0:
		line = 1 + bytes.Count(text[:firstUnreadable(text)], []byte("\n"))
	}
	if strings.HasPrefix(reason, "found incompatible YAML document") {
		reason += "; remove the line %YAML: what is the same in YAML 1.1 and 1.2 is read, and the rest refused"
	}
	line = min(max(line, 1), len(lines))
	if bytes.Contains(lines[line-1], []byte("{{")) {
		reason += "; " + quoteTemplates
	}
	return line, reason
}

// lineOf takes "line 3: " from what the parser says; 0: it is not there.
func lineOf(reason string) (line int, rest string) {
	if at, rest, found := strings.Cut(reason, ": "); found {
		if n, err := strconv.Atoi(strings.TrimPrefix(at, "line ")); err == nil {
			return n, rest
		}
	}
	return 0, reason
}

func before(text, what []byte) []byte {
	head, _, _ := bytes.Cut(text, what)
	return head
}

// firstUnreadable is where the first byte is that cannot be in a file of YAML; 0: there is
// none.
func firstUnreadable(text []byte) int {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 || r < ' ' && !strings.ContainsRune("\t\n\r", r) || r >= 0x7f && r < 0xa0 && r != 0x85 {
			return i
		}
		i += size
	}
	return 0
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// nodeOf is where a key ("params.ctx.pattern", "args[1]") is in a mapping: the key's own
// node, or the item of a list; as deep as there is one, the mapping itself if there is none.
func nodeOf(n *yaml.Node, key string) *yaml.Node {
	at := n
	for _, part := range strings.FieldsFunc(key, func(r rune) bool { return strings.ContainsRune(".[]", r) }) {
		n = resolved(n)
		name, value := pairOf(n, part)
		if i, err := strconv.Atoi(part); err == nil && n.Kind == yaml.SequenceNode && i < len(n.Content) {
			name, value = n.Content[i], n.Content[i]
		}
		if name == nil {
			break
		}
		at, n = name, value
	}
	return at
}

// pairOf is a key of a mapping and its value, also one that a merge brings in; nil: there
// is none.
func pairOf(n *yaml.Node, key string) (name, value *yaml.Node) {
	n = resolved(n)
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if strings.EqualFold(n.Content[i].Value, key) {
			return n.Content[i], n.Content[i+1]
		}
	}
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag != "!!merge" {
			continue
		}
		bases := []*yaml.Node{n.Content[i+1]}
		if list := resolved(bases[0]); list.Kind == yaml.SequenceNode {
			bases = list.Content
		}
		for _, base := range bases {
			if name, value = pairOf(base, key); name != nil {
				return name, value
			}
		}
	}
	return nil, nil
}

func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}
