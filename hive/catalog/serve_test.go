package catalog_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/store"
)

// Which entries the gateway passes requests to.
func TestWhichTypesServe(t *testing.T) {
	for _, c := range []struct {
		entry catalog.Entry
		want  bool
	}{
		{catalog.Entry{Name: "a", Command: []string{"x", "{{.Port}}"}}, false},
		{catalog.Entry{Name: "a", Command: []string{"x", "{{.Port}}"}, Serve: catalog.ServeEntry{Names: []string{"gpt"}}}, true},
		{catalog.Entry{Name: "a", Command: []string{"x", "{{.Port}}"}, Serve: catalog.ServeEntry{Enabled: ptr(true)}}, true},
		{catalog.Entry{Name: "a", Preset: "llama-server"}, true},
		{catalog.Entry{Name: "a", Preset: "llama-server", Serve: catalog.ServeEntry{Enabled: ptr(false)}}, false},
		{catalog.Entry{Name: "a", Preset: "comfyui", Params: plain(map[string]string{"main": "/m.py"})}, false},
	} {
		require.Equal(t, c.want, one(t, c.entry).Serves, "%+v", c.entry)
	}
}

// What is wrong with serve, each with its key.
func TestMistakesInServe(t *testing.T) {
	with := func(name string, s catalog.ServeEntry) catalog.Entry {
		return catalog.Entry{Name: name, Command: []string{"x", "{{.Port}}"}, Serve: s}
	}
	for _, c := range []struct {
		entries  []catalog.Entry
		key, why string
	}{
		{[]catalog.Entry{with("a", catalog.ServeEntry{Names: []string{"ok", ""}})}, "serve.names[1]", "is empty"},
		{[]catalog.Entry{with("a", catalog.ServeEntry{Names: []string{"a\x00"}})}, "serve.names[0]", ""},
		{[]catalog.Entry{with("a", catalog.ServeEntry{Names: []string{strings.Repeat("x", 513)}})}, "serve.names[0]", "at most 512"},
		{[]catalog.Entry{with("a", catalog.ServeEntry{Names: []string{"x"}, Enabled: ptr(false)})}, "serve.names", "of no use"},
		{[]catalog.Entry{with("a", catalog.ServeEntry{Names: []string{"x"}}), with("b", catalog.ServeEntry{Names: []string{"x"}})}, "serve.names[0]", "entry a has that name"},
		{[]catalog.Entry{with("a", catalog.ServeEntry{}), with("b", catalog.ServeEntry{Names: []string{"a"}})}, "serve.names[0]", "entry a has that name"},
		{[]catalog.Entry{with("b", catalog.ServeEntry{Names: []string{"vllm"}})}, "serve.names[0]", "entry vllm has that name"},
	} {
		_, err := catalog.New(c.entries, "/bin/hive")
		var wrong *catalog.EntryError
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, c.key, wrong.Key)
		require.Contains(t, wrong.Reason, c.why)
	}
}

// The name that an engine was told on its command line is the one that it is asked for.
func TestEngineModel(t *testing.T) {
	engine := func(preset string, argv ...string) string {
		return one(t, catalog.Entry{Name: "a", Preset: preset}).EngineModel(store.Spec{Argv: argv})
	}
	require.Equal(t, "tiny", engine("llama-server", "llama-server", "-m", "x.gguf", "--alias", "tiny"))
	require.Equal(t, "tiny", engine("llama-server", "llama-server", "-a", "tiny"))
	require.Equal(t, "tiny", engine("vllm", "vllm", "serve", "m", "--served-model-name=tiny"))
	require.Empty(t, engine("llama-server", "llama-server", "-m", "x.gguf", "--alias"))
	require.Empty(t, engine("tei", "text-embeddings-router", "--alias", "tiny"))
}
