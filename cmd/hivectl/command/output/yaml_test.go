package output_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"rbeehive/cmd/hivectl/command/output"
)

func TestYAMLIsTheSameAsJSON(t *testing.T) {
	raw := `{"z":1,"a":"0","b":"true","c":null,"d":[],"e":{},"f":[{"g":1.5},[1,2]],"h":"two\nlines","i":"\ud83d\ude00","j":12345678901234567890,"k":"null","l":"~","m":": x","n":"","o":"2026-01-02T12:00:00.000Z","p":false,"q":"\u0007"}`
	text, err := output.YAML(json.RawMessage(raw))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(text), "z: 1\na: \"0\"\n"), "order is kept:\n%s", text)
	require.Contains(t, string(text), "d: []\ne: {}\n")
	var fromYAML, fromJSON map[string]any
	require.NoError(t, yaml.Unmarshal(text, &fromYAML))
	require.NoError(t, json.Unmarshal([]byte(raw), &fromJSON))
	a, err := json.Marshal(fromYAML)
	require.NoError(t, err)
	b, err := json.Marshal(fromJSON)
	require.NoError(t, err)
	require.JSONEq(t, string(b), string(a))

	_, err = output.YAML(json.RawMessage(`{"a":`))
	require.Error(t, err)
}
