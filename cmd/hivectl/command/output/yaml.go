package output

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// YAML writes JSON as YAML, fields in the same order. A JSON text is not
// simply read as YAML: YAML knows no surrogate pairs (\ud83d\ude00), and would
// keep the braces.
func YAML(raw json.RawMessage) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	// As a float64 a number above 2^53, such as a sequence number, would become another one.
	d.UseNumber()
	node, err := yamlNode(d)
	if err != nil {
		return nil, fmt.Errorf("read the response: %w", err)
	}
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(node), e.Close()); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return out.Bytes(), nil
}

// yamlNode reads one JSON value.
func yamlNode(d *json.Decoder) (*yaml.Node, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return yamlScalar(token), nil
	}
	node := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	if delim == '[' {
		node = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	}
	for d.More() {
		// In an object the keys come as tokens of their own, before their values.
		child, err := yamlNode(d)
		if err != nil {
			return nil, err
		}
		node.Content = append(node.Content, child)
	}
	if len(node.Content) == 0 {
		node.Style = yaml.FlowStyle
	}
	_, err = d.Token() // the closing delimiter
	return node, err
}

func yamlScalar(token json.Token) *yaml.Node {
	node := &yaml.Node{Kind: yaml.ScalarNode}
	switch v := token.(type) {
	case nil:
		node.Tag, node.Value = "!!null", "null"
	case bool:
		node.Tag, node.Value = "!!bool", fmt.Sprint(v)
	case json.Number:
		node.Value = v.String() // resolved to int or float by its form
	case string:
		// With the tag the encoder quotes what would be read as something else: true, 1.10.
		node.Tag, node.Value = "!!str", v
	}
	return node
}
