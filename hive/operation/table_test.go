package operation_test

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"rbeehive/hive/operation"
)

// schema is as much of a schema of the contract as this test asks for.
type schema struct {
	Ref        string            `yaml:"$ref"`
	Result     string            `yaml:"x-result"`
	Properties map[string]schema `yaml:"properties"`
	Items      *schema           `yaml:"items"`
}

// contract are the schemas of httpapi/openapi.yaml, and which of them is an operation's.
type contract struct {
	Components struct {
		Schemas map[string]yaml.Node `yaml:"schemas"`
	} `yaml:"components"`
}

func readContract(t *testing.T) contract {
	t.Helper()
	raw, err := os.ReadFile("../../httpapi/openapi.yaml")
	require.NoError(t, err)
	var c contract
	require.NoError(t, yaml.Unmarshal(raw, &c))
	return c
}

func (c contract) schema(t *testing.T, ref string) (s schema) {
	t.Helper()
	node, ok := c.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")]
	require.True(t, ok, ref)
	require.NoError(t, node.Decode(&s))
	return s
}

// mapping is the schema of each operation's request.
func (c contract) mapping(t *testing.T) map[string]string {
	t.Helper()
	var known struct {
		Discriminator struct {
			Mapping map[string]string `yaml:"mapping"`
		} `yaml:"discriminator"`
	}
	node := c.Components.Schemas["KnownOperation"]
	require.NoError(t, node.Decode(&known))
	return known.Discriminator.Mapping
}

// fields are the names that a result has in JSON.
func fields(t *testing.T, result any) (names []string) {
	t.Helper()
	typ := reflect.TypeOf(result)
	if typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		require.NotEmpty(t, name, "%s.%s", typ, typ.Field(i).Name)
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// A row that lacks something is found here, and not by who calls the operation.
func TestEveryRowIsWhole(t *testing.T) {
	for _, tag := range operation.Tags() {
		row := operation.Named(tag)
		require.NotNil(t, row.Decode, tag)
		require.NotNil(t, row.Result, tag)
		require.NotZero(t, row.Right, tag)
		require.NotEqual(t, row.Run == nil, row.Answer == nil, "%s: one of Run and Answer", tag)
		require.Equal(t, row.Run == nil, row.AfterCrash == 0, "%s: a job in the file is decided about after a crash, and only such a one", tag)
		if row.Answer != nil {
			require.False(t, row.UsesReserve || row.CancelOnDrain || row.Stops, "%s only looks", tag)
			require.Nil(t, row.Target, tag)
		}
		if row.Right == operation.RightWorker {
			require.NotNil(t, row.Target, "%s: whose worker it is decides who may", tag)
			require.NotEmpty(t, row.Fields, "%s: the first field names the worker", tag)
		}
		if row.Stops || row.AfterCrash == operation.GoOnToStop {
			require.True(t, row.UsesReserve, "%s: a full disk must not refuse a stop", tag)
		}
		require.Equal(t, row.CancelOnDrain, slices.Contains([]operation.AfterCrash{operation.AwaitWorker, operation.AwaitStart, operation.StopWorkerToo}, row.AfterCrash),
			"%s: what starts workers is cancelled when all of them are stopped", tag)
	}
}

// The contract and the table name the same operations, with the same fields and results.
func TestTheTableIsTheContract(t *testing.T) {
	c := readContract(t)
	mapping := c.mapping(t)
	require.Len(t, mapping, len(operation.Tags()))
	for _, tag := range operation.Tags() {
		row := operation.Named(tag)
		require.Contains(t, mapping, tag)
		request := c.schema(t, mapping[tag])
		var taken []string
		for name := range request.Properties {
			if name != "operation" && name != "hive_id" {
				taken = append(taken, name)
			}
		}
		require.ElementsMatch(t, row.Fields, taken, tag)

		result := c.schema(t, request.Result)
		if result.Items != nil {
			require.Equal(t, reflect.Slice, reflect.TypeOf(row.Result).Kind(), tag)
			result = c.schema(t, result.Items.Ref)
		}
		var promised []string
		for name := range result.Properties {
			promised = append(promised, name)
		}
		slices.Sort(promised)
		require.Equal(t, promised, fields(t, row.Result), "the result of %s", tag)
	}
}

func TestOrderKeyAndTarget(t *testing.T) {
	for _, c := range []struct {
		op     operation.Operation
		key    string
		target operation.Target
	}{
		{operation.Spawn{Worker: "llm", Name: "chat"}, "chat", operation.Target{}},
		{operation.Spawn{Worker: "llm"}, "", operation.Target{}},
		{operation.StopWorker{WorkerID: "chat"}, "chat", operation.Target{Ref: "chat"}},
		{operation.RestartWorker{WorkerID: "chat"}, "chat", operation.Target{Ref: "chat"}},
		{operation.ProcessDelete{PID: 7}, "", operation.Target{PID: 7}},
		{operation.Check{}, "", operation.Target{}},
		{operation.Unsupported{Name: "infer"}, "", operation.Target{}},
	} {
		require.Equal(t, c.key, operation.OrderKey(c.op), "%T", c.op)
		require.Equal(t, c.target, operation.TargetOf(c.op), "%T", c.op)
	}
}

// An operation that is pinned to a worker's id stays otherwise as it is.
func TestPin(t *testing.T) {
	require.Equal(t, operation.StopWorker{WorkerID: "w-1"}, operation.Of(operation.StopWorker{WorkerID: "chat"}).Pin(operation.StopWorker{WorkerID: "chat"}, "w-1"))
	restart := operation.RestartWorker{WorkerID: "chat", IfStale: true}
	require.Equal(t, operation.RestartWorker{WorkerID: "w-1", IfStale: true}, operation.Of(restart).Pin(restart, "w-1"))
}

// What is recorded only with its first effect must not have one that a full disk would have
// refused: that of a spawn is refused itself, and a stop makes room.
func TestWhatJoins(t *testing.T) {
	var joins []string
	for _, tag := range operation.Tags() {
		if operation.Named(tag).Joins {
			joins = append(joins, tag)
		}
	}
	require.Equal(t, []string{"worker_process_delete", "worker_spawn", "worker_stop"}, joins)
}
