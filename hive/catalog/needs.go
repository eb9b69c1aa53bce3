package catalog

import (
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
