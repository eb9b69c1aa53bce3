package cli_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/httpapi/wire"
)

func TestPick(t *testing.T) {
	var list []wire.Worker
	for _, w := range [][3]string{
		{"cpu-8080-aaaaaa", "", "stopped"},
		{"cpu-8080-bbbbbb", "alpha", "ready"},
		{"cpu-8081-cccccc", "alpine", "loading"},
		{"cpu-8082-dddddd", "alpha", "failed"},
		{"gpu-8083-eeeeee", "old", "stopped"},
		{"gpu-8084-ffffff", "al", "ready"},
	} {
		list = append(list, wire.Worker{WorkerID: w[0], Name: &w[1], State: w[2]})
	}
	for ref, want := range map[string]string{
		"cpu-8080-aaaaaa": "cpu-8080-aaaaaa", // an id is always that worker
		"cpu-8080":        "cpu-8080-bbbbbb", // the living one of two
		"alpha":           "cpu-8080-bbbbbb", // as with names
		"cpu-8081":        "cpu-8081-cccccc",
		"alpi":            "cpu-8081-cccccc",
		"al":              "gpu-8084-ffffff", // a whole name is not a beginning
		"gpu-8083":        "gpu-8083-eeeeee", // an ended one, as there is no other
		"old":             "gpu-8083-eeeeee",
	} {
		w, err := cli.Pick(list, ref)
		require.NoError(t, err, ref)
		require.Equal(t, want, w.WorkerID, ref)
	}
	for ref, code := range map[string]int{"cpu": 2, "alp": 2, "": 2, "beta": 3, "pu-8080": 3} {
		_, err := cli.Pick(list, ref)
		require.Error(t, err, ref)
		got := cli.Classify(err).Code
		require.Equal(t, code, got, ref)
	}
	_, err := cli.Pick(list, "cpu")
	require.EqualError(t, err, `"cpu" is ambiguous: cpu-8080-bbbbbb (alpha), cpu-8081-cccccc (alpine)`)
}

func TestPickNamesNotTooManyCandidates(t *testing.T) {
	var list []wire.Worker
	for i := range 100 {
		list = append(list, wire.Worker{WorkerID: fmt.Sprintf("cpu-%d", i), State: "ready"})
	}
	_, err := cli.Pick(list, "cpu")
	require.ErrorContains(t, err, "cpu-7, and 92 more")
}

// Of several ended workers with one name the last one is meant.
func TestPickTheLatestOfAName(t *testing.T) {
	var list []wire.Worker
	for _, start := range []string{"2026-01-01T00:00:01Z", "2026-01-01T00:00:03Z", "2026-01-01T00:00:02Z"} {
		var w wire.Worker
		require.NoError(t, json.Unmarshal(fmt.Appendf(nil, `{"worker_id":"w-%s","name":"n","state":"failed","started_at":%q}`, start, start), &w))
		list = append(list, w)
	}
	w, err := cli.Pick(list, "n")
	require.NoError(t, err)
	require.Equal(t, "w-2026-01-01T00:00:03Z", w.WorkerID)
}
