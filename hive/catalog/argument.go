package catalog

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
)

// argument is one argument of a command and its template.
type argument struct {
	key  string // where it stands in the entry, for errors
	text string
	tmpl *template.Template // instrumented
}

const (
	// maxArgument is what Linux takes as one argument: MAX_ARG_STRLEN of
	// include/uapi/linux/binfmts.h, 32 pages of 4 KiB, with the NUL at its end.
	maxArgument = 32*4096 - 1
	// maxWrites bounds the loops of a template that write nothing.
	maxWrites = 1 << 16
)

// printed is the function that instrument puts behind what an action prints. Entries
// cannot name it: it is not there when they are parsed.
const printed = "_printed"

func parseArgument(key, text string) (argument, error) {
	if strings.ContainsRune(text, 0) {
		return argument{}, errors.New("has a NUL byte, which no argument may have")
	}
	// missingkey=error: else a parameter that does not exist would be printed as "<no value>".
	tmpl, err := template.New(key).Option("missingkey=error").Funcs(functions()).Parse(text)
	if err != nil {
		return argument{}, errors.New(worded(err))
	}
	for _, t := range tmpl.Templates() { // it and those that it defines
		instrument(t.Root)
		count(t.Root)
	}
	return argument{key: key, text: text, tmpl: tmpl}, nil
}

// instrument makes each action that prints tell the output so, before it prints.
// What begins an argument is then known: an action, or the template's own text. This
// is how html/template escapes, too: there is no other way for a value to get into
// the output, whatever functions and variables it went through.
func instrument(list *parse.ListNode) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			// A declaration prints nothing, and a literal that begins with '-' is meant as a flag.
			if len(n.Pipe.Decl) == 0 && !beginsLiterally(n.Pipe) {
				n.Pipe.Cmds = append(n.Pipe.Cmds, &parse.CommandNode{
					NodeType: parse.NodeCommand, Pos: n.Pos, Args: []parse.Node{parse.NewIdentifier(printed).SetPos(n.Pos)},
				})
			}
		case *parse.IfNode:
			instrument(n.List)
			instrument(n.ElseList)
		case *parse.WithNode:
			instrument(n.List)
			instrument(n.ElseList)
		case *parse.RangeNode:
			instrument(n.List)
			instrument(n.ElseList)
			count(n.List)
		}
	}
}

// count makes what is executed again and again write at least an empty text each
// time: the output counts these.
func count(list *parse.ListNode) {
	// Else a loop that prints nothing could go on for ever.
	list.Nodes = slices.Insert(list.Nodes, 0, parse.Node(&parse.TextNode{NodeType: parse.NodeText, Pos: list.Pos}))
}

// beginsLiterally reports whether the first character that a pipeline prints is a '-'
// of the template's own: {{"--cpu"}}, {{printf "--device=%s" .Device}}.
func beginsLiterally(pipe *parse.PipeNode) bool {
	// Only the last command of a pipeline prints.
	last := pipe.Cmds[len(pipe.Cmds)-1].Args
	if name, ok := last[0].(*parse.IdentifierNode); ok && len(last) > 1 && (name.Ident == "printf" || name.Ident == "print") {
		last = last[1:]
	} else if len(last) != 1 {
		return false
	}
	text, ok := last[0].(*parse.StringNode)
	return ok && strings.HasPrefix(text.Text, "-")
}

// output is an argument while it is executed.
type output struct {
	text     strings.Builder
	writes   int
	computed bool   // an action came before the template's own text, though it may have printed nothing
	first    string // what the last of these actions printed: the beginning of the argument
}

var errTooLong = fmt.Errorf("is longer than %d bytes, the most that Linux takes as one argument, or loops more than %d times", maxArgument, maxWrites)

// Write implements io.Writer.
func (o *output) Write(b []byte) (int, error) {
	if o.writes++; o.writes > maxWrites || o.text.Len()+len(b) > maxArgument {
		return 0, errTooLong
	}
	return o.text.Write(b)
}

// printed notes that an action is about to print v, and hands it on.
func (o *output) printed(v any) any {
	// Only what stands first can make a flag of the argument.
	if o.text.Len() == 0 {
		o.computed, o.first = true, fmt.Sprint(v)
	}
	return v
}

// flagError is an argument that begins with '-' although its template does not.
type flagError struct {
	arg   string
	first string // what the action printed that it begins with; empty: it begins with text behind nothing
}

func (e *flagError) Error() string {
	return fmt.Sprintf("%.80q begins with '-' by a value and not by its template, so that a program would take it for a flag; write flags in the template itself", e.arg)
}

// field is the value at fault, as a field of a spawn; empty if it cannot be said.
// base, dir, hubRepo and hubFile return parts of what they are given.
func (e *flagError) field(v Values) string {
	if e.first == "" {
		return ""
	}
	for _, f := range [][2]string{{"model", v.Model}, {"device", v.Device}, {"name", v.Name}} {
		if strings.Contains(f[1], e.first) {
			return f[0]
		}
	}
	for _, key := range slices.Sorted(maps.Keys(v.Params)) {
		if strings.Contains(v.Params[key], e.first) {
			return "params." + key
		}
	}
	return ""
}

// render executes the template of one argument. Errors: *flagError, and those of a
// template.
func (a *argument) render(v Values) (string, error) {
	tmpl, err := a.tmpl.Clone() // for a function of its own; the parse trees are shared
	if err != nil {
		return "", err
	}
	var out output
	if err := tmpl.Funcs(template.FuncMap{printed: out.printed}).Execute(&out, v); err != nil {
		return "", errors.New(worded(err))
	}
	s := out.text.String()
	// A '-' of the template's own is a flag that the entry wants; one from a value is not.
	if out.computed && strings.HasPrefix(s, "-") {
		return "", &flagError{arg: s, first: out.first}
	}
	if strings.Contains(s, forbidden) {
		return "", fmt.Errorf("the worker's command line would contain %q in %q, and rbee's keeper kills every such process when it stops a hive; use another path or name", forbidden, s)
	}
	if strings.ContainsRune(s, 0) {
		return "", errors.New("has a NUL byte, which no argument may have")
	}
	return s, nil
}

// position is where text/template says a mistake is; the caller names the key,
// which says more.
var position = regexp.MustCompile(`^template: [^:]*:\d+(:\d+)?: (executing "[^"]*" at )?`)

// worded is a template error in the words of the configuration.
func worded(err error) string {
	s := position.ReplaceAllString(err.Error(), "")
	// Go names a type of this package; a person needs to know the fields.
	return strings.ReplaceAll(s, " in type catalog.Values",
		"; the fields are .Port .Ports .Host .Model .ModelID .Device .WorkerID .Name .QueenURL .HiveURL .Hive .Program .Params.<key>")
}
