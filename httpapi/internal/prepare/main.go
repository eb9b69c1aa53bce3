// Prepare reads the contract from standard input and writes what the code is
// generated from to standard output: members get the order in which they stand,
// which the generator would sort away; only what can be null is a pointer; and
// what concerns no Go type is left out.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

func main() {
	if err := prepare(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		os.Exit(1)
	}
}

func prepare(in io.Reader, out io.Writer) error {
	var doc yaml.Node
	if err := yaml.NewDecoder(in).Decode(&doc); err != nil {
		return fmt.Errorf("read the contract: %w", err)
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return errors.New("the contract is not a mapping")
	}
	p := &preparer{}
	p.visit(doc.Content[0])
	enc := yaml.NewEncoder(out)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return enc.Close()
}

type preparer struct{ order int }

func (p *preparer) visit(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		for _, child := range n.Content { // an alias has none: its anchor was visited
			p.visit(child)
		}
		return
	}
	kept := n.Content[:0]
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i].Value, n.Content[i+1]
		if dropped(key, value) {
			continue
		}
		switch key {
		case "parameters":
			value.Content = withoutRequestID(value.Content)
		case "properties":
			p.number(value)
		}
		p.visit(value)
		kept = append(kept, n.Content[i], value)
	}
	n.Content = kept
}

// dropped says what is left out: errors, which have one shape and are read and
// written by hand, enumerations, which would each become a type, and
// alternatives, whose Go type the document names.
func dropped(key string, value *yaml.Node) bool {
	switch {
	case key == "enum" || key == "anyOf":
		return true
	case len(key) == 3 && (key[0] == '4' || key[0] == '5'):
		return true
	case key == "responses" && len(value.Content) > 0 && value.Content[0].Value == "BadRequest":
		return true // components/responses
	}
	return false
}

// withoutRequestID drops the header that every route has: the middleware reads it.
func withoutRequestID(params []*yaml.Node) []*yaml.Node {
	kept := params[:0]
	for _, param := range params {
		if param.Kind == yaml.MappingNode && len(param.Content) == 2 && strings.HasSuffix(param.Content[1].Value, "/RequestID") {
			continue
		}
		kept = append(kept, param)
	}
	return kept
}

// number gives the members of a schema the order in which they stand.
func (p *preparer) number(properties *yaml.Node) {
	for i := 1; i < len(properties.Content); i += 2 {
		member := properties.Content[i]
		if member.Kind != yaml.MappingNode { // an alias: numbered where it stands first
			continue
		}
		p.order++
		set(member, "x-order", "!!int", fmt.Sprint(p.order))
		if get(member, "$ref") == "" && !pointer(member) {
			set(member, "x-go-type-skip-optional-pointer", "!!bool", "true")
		}
	}
}

// pointer says whether null is not a value of the Go type itself, as it is of
// slices and of raw JSON.
func pointer(member *yaml.Node) bool {
	return get(member, "nullable") == "true" && get(member, "type") != "array" && get(member, "x-go-type") != "json.RawMessage"
}

func get(mapping *yaml.Node, key string) string {
	for i := 0; i < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1].Value
		}
	}
	return ""
}

func set(mapping *yaml.Node, key, tag, value string) {
	mapping.Content = append(mapping.Content,
		&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value})
}
