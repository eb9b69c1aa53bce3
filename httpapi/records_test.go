package httpapi_test

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi/wire"
)

// fields are the names of a shape's members, in their order.
func fields[T any]() (names []string) {
	for f := range reflect.TypeFor[T]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// What docs/http.md calls a job, and docs/http-reference.md a worker, a lease and so on,
// has the members that the contract has.
func TestRecordsAreDocumented(t *testing.T) {
	raw, err := os.ReadFile("../docs/http-reference.md")
	require.NoError(t, err)
	records := regexp.MustCompile(`(?s)\n\*\*([A-Z][a-z]+)\*\*[^:]*: `+"`\\{(.*?)\\}`").FindAllStringSubmatch(string(raw), -1)
	said := map[string][]string{}
	for _, m := range records {
		said[m[1]] = strings.Split(strings.Join(strings.Fields(m[2]), " "), ", ")
	}
	guide, err := os.ReadFile("../docs/http.md")
	require.NoError(t, err)
	job := regexp.MustCompile("\n## Jobs\n\n`\\{(.*?)\\}`").FindSubmatch(guide)
	require.NotNil(t, job)
	said["Job"] = strings.Split(string(job[1]), ", ")
	for name, is := range map[string][]string{
		"Job": fields[wire.Job](), "Worker": fields[wire.Worker](), "Lease": fields[wire.Lease](), "Ports": fields[wire.Ports](),
		"Audit": fields[wire.Audit](), "Recovery": fields[wire.Recovery](), "Doctor": fields[wire.Doctor](),
	} {
		require.ElementsMatch(t, is, said[name], name)
	}
}
