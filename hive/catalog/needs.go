package catalog

import (
	"regexp"
	"slices"
	"text/template/parse"
)

// needsModel reports whether the template cannot do without .Model. What stands
// under {{if .Model}} or {{with .Model}} can.
func needsModel(n parse.Node) bool {
	switch n := n.(type) {
	case *parse.ListNode:
		return n != nil && slices.ContainsFunc(n.Nodes, needsModel)
	case *parse.ActionNode:
		return mentionsModel(n.Pipe)
	case *parse.TemplateNode:
		return mentionsModel(n.Pipe)
	case *parse.IfNode:
		return branchNeedsModel(&n.BranchNode)
	case *parse.WithNode:
		return branchNeedsModel(&n.BranchNode)
	case *parse.RangeNode:
		return mentionsModel(n.Pipe) || needsModel(n.List) || needsModel(n.ElseList)
	}
	return false
}

func branchNeedsModel(b *parse.BranchNode) bool {
	if !mentionsModel(b.Pipe) {
		return needsModel(b.List) || needsModel(b.ElseList)
	}
	// The list is executed only if there is a model; the rest must do without one.
	return needsModel(b.ElseList)
}

func isModel(field string) bool { return field == "Model" || field == "ModelID" }

// mentionsModel reports whether a pipeline refers to .Model or $.Model.
func mentionsModel(n parse.Node) bool {
	switch n := n.(type) {
	case *parse.PipeNode:
		return n != nil && slices.ContainsFunc(n.Cmds, func(c *parse.CommandNode) bool { return slices.ContainsFunc(c.Args, mentionsModel) })
	case *parse.FieldNode:
		return isModel(n.Ident[0])
	// $ is what the template was executed with, also inside of with and range.
	case *parse.VariableNode:
		return len(n.Ident) > 1 && n.Ident[0] == "$" && isModel(n.Ident[1])
	case *parse.ChainNode:
		return mentionsModel(n.Node) || isModel(n.Field[0])
	}
	return false
}

// mentionsPort reports whether the template has to do with the worker's port at all.
func mentionsPort(n parse.Node) bool {
	switch n := n.(type) {
	case *parse.ListNode:
		return n != nil && slices.ContainsFunc(n.Nodes, mentionsPort)
	case *parse.ActionNode:
		return mentionsPort(n.Pipe)
	case *parse.TemplateNode:
		return mentionsPort(n.Pipe)
	case *parse.IfNode:
		return mentionsPort(n.Pipe) || mentionsPort(n.List) || mentionsPort(n.ElseList)
	case *parse.WithNode:
		return mentionsPort(n.Pipe) || mentionsPort(n.List) || mentionsPort(n.ElseList)
	case *parse.RangeNode:
		return mentionsPort(n.Pipe) || mentionsPort(n.List) || mentionsPort(n.ElseList)
	case *parse.PipeNode:
		return n != nil && slices.ContainsFunc(n.Cmds, func(c *parse.CommandNode) bool { return slices.ContainsFunc(c.Args, mentionsPort) })
	case *parse.DotNode: // {{with .}}, {{printf "%v" .}}
		return true
	case *parse.FieldNode:
		return isPort(n.Ident[0])
	case *parse.VariableNode:
		return n.Ident[0] == "$" && (len(n.Ident) == 1 || isPort(n.Ident[1]))
	case *parse.ChainNode:
		return mentionsPort(n.Node) || isPort(n.Field[0])
	}
	return false
}

func isPort(field string) bool { return field == "Port" || field == "Ports" }

// PortUnsaid says that an entry never tells its worker the port that it is to listen on;
// empty: it does, has a port of its own, or is wrong otherwise.
func PortUnsaid(e Entry, self string) string {
	c, err := New([]Entry{e}, self)
	if err != nil || e.Port != 0 {
		return ""
	}
	// A command that is run before may write a configuration file.
	t := c.types[e.Name]
	if slices.ContainsFunc(slices.Concat(t.args, t.hook), func(a argument) bool { return mentionsPort(a.tmpl.Root) }) {
		return ""
	}
	return "never mentions the port that hive leases to the worker, and no variable has it; write {{.Port}} where the program takes its port, or give the entry a port of its own (port)"
}

// shellPort is the port as a shell or llama-swap writes it.
var shellPort = regexp.MustCompile(`\$(\{PORT\}|PORT($|[^A-Za-z0-9_]))`)

// templateField is a field of hive's templates; other programs have templates, too.
var templateField = regexp.MustCompile(`\{\{-? *\.(Port|Ports|Host|Model|ModelID|Device|WorkerID|Name|QueenURL|HiveURL|Hive|Program|Params)\b`)

// shells are programs that replace variables in their arguments, or hand them on to one
// that does.
var shells = regexp.MustCompile(`(^|/)(sh|bash|dash|ash|zsh|ksh|fish|busybox|env)$`)

// unreplaced is the first argument of a command that is written for a shell where none
// runs; below 0: there is none.
func unreplaced(command []string) int {
	for i, arg := range command {
		if shells.MatchString(arg) {
			return -1
		}
		if shellPort.MatchString(arg) {
			return i
		}
	}
	return -1
}
