package httpapi_test

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/doctor"
	"rbeehive/httpapi"
	"rbeehive/httpapi/wire"
)

func TestDoctorShape(t *testing.T) {
	requireJSON(t, `{"checks":[],"warnings":0}`, httpapi.DoctorShape(nil))
	requireJSON(t, `{"checks":[
		{"name":"ports","status":"ok","found":"3 free","means":null,"do":null},
		{"name":"squatters","status":"warning","found":"8080 nginx","means":"m","do":"d"},
		{"name":"clock","status":"unknown","found":"f","means":"m","do":"d"}],"warnings":1}`,
		httpapi.DoctorShape([]doctor.Checkup{
			{Name: "ports", Status: doctor.OK, Found: "3 free"},
			{Name: "squatters", Status: doctor.Warning, Found: "8080 nginx", Means: "m", Do: "d"},
			{Name: "clock", Status: doctor.Unknown, Found: "f", Means: "m", Do: "d"},
		}))
}

func TestDoctor(t *testing.T) {
	r := newRig(t, rigOptions{})
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", r.ports.First+1))
	require.NoError(t, err)
	defer l.Close()
	d := decode[wire.Doctor](t, r.get("/v1/doctor", http.StatusOK))
	warnings := 0
	for _, c := range d.Checks {
		require.Contains(t, []string{"ok", "warning", "unknown"}, c.Status)
		require.Equal(t, c.Status == "ok", c.Means == nil && c.Do == nil, "%+v", c)
		if c.Status == "warning" {
			warnings++
		}
	}
	require.Equal(t, warnings, d.Warnings)
	i := slices.IndexFunc(d.Checks, func(c wire.Checkup) bool { return c.Name == "squatters" })
	require.GreaterOrEqual(t, i, 0)
	require.Equal(t, "warning", d.Checks[i].Status)
	require.Contains(t, d.Checks[i].Found, fmt.Sprint(r.ports.First+1))
	resp, _ := r.send(http.MethodPost, "/v1/doctor", "")
	require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
}
