package httpapi_test

import (
	"crypto/rand"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
)

func scrape(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	require.NoError(t, err)
	return families
}

// metricRow is one row of the table in docs/metrics.md.
type metricRow struct{ kind, labels string }

// docs/metrics.md has what a scrape delivers, no more and no less.
func TestMetricsAreDocumented(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.spawn("cpu")
	text := r.get("/metrics", http.StatusOK)
	delivered := map[string]metricRow{}
	for name, f := range scrape(t, text) {
		if !strings.HasPrefix(name, "hive_") {
			continue
		}
		require.NotEmpty(t, f.GetHelp(), name)
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		slices.Sort(labels)
		delivered[name] = metricRow{strings.ToLower(f.GetType().String()), strings.Join(labels, " ")}
	}
	raw, err := os.ReadFile("../docs/metrics.md")
	require.NoError(t, err)
	documented := map[string]metricRow{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(hive_[a-z_]+)` \\| ([a-z]+) \\|([^|]*)\\|").FindAllStringSubmatch(string(raw), -1) {
		labels := strings.Fields(strings.ReplaceAll(m[3], "`", ""))
		slices.Sort(labels)
		require.NotContains(t, documented, m[1], "it is there twice")
		documented[m[1]] = metricRow{m[2], strings.Join(labels, " ")}
	}
	require.Greater(t, len(delivered), 15)
	require.Equal(t, delivered, documented)

	// Every name that the text or a rule mentions is one of them.
	for _, name := range regexp.MustCompile(`\bhive_[a-z_]+`).FindAllString(string(raw), -1) {
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, part)
		}
		if name == "hive_id" {
			continue // a label
		}
		require.Contains(t, slices.Collect(maps.Keys(delivered)), name)
	}
}

func TestMetricsPassPromlint(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.spawn("cpu")
	problems, err := promlint.New(strings.NewReader(r.get("/metrics", http.StatusOK))).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)

	bad, err := promlint.New(strings.NewReader("# TYPE hive_bad counter\nhive_bad 1\n")).Lint()
	require.NoError(t, err)
	require.NotEmpty(t, bad, "the linter does look")
}

// Callers cannot make series: each would stay for as long as hive runs.
func TestCallersMakeNoSeries(t *testing.T) {
	s := quietServer()
	h := s.Wrap(s.Router())
	for range 100 {
		id := rand.Text()
		serve(h, localRequest(http.MethodGet, "/v1/"+id))
		serve(h, localRequest(http.MethodGet, "/v1/types/"+id+"/"+id))
		serve(h, localRequest("BREW"+id, "/"))
		serve(h, localRequest("BREW", "/v1/"+id))
	}
	counted := map[string]float64{}
	for _, m := range scrape(t, serve(h, localRequest(http.MethodGet, "/metrics")).Body.String())["hive_http_requests_total"].GetMetric() {
		var values []string
		for _, l := range m.GetLabel() {
			values = append(values, l.GetValue())
		}
		counted[strings.Join(values, " ")] = m.GetCounter().GetValue()
	}
	require.InDelta(t, 200, counted["GET other 404"], 0)
	total := 0.0
	for labels, n := range counted {
		require.Regexp(t, `^(GET|other) (/|other) 40[45]$`, labels)
		total += n
	}
	require.InDelta(t, 400, total, 0)
}

// A client that asked to wait decides how long its request takes.
func TestWaitsAreNotTimed(t *testing.T) {
	r := newRig(t, rigOptions{})
	timed := `hive_http_request_duration_seconds_count{method="POST",route="/v1/jobs"}`
	resp, body := r.send(http.MethodPost, "/v1/jobs?wait=20s", `{"operation":"worker_process_list"}`)
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	require.NotContains(t, r.get("/metrics", http.StatusOK), timed)
	r.submit(`{"operation":"worker_process_list"}`)
	require.Contains(t, r.get("/metrics", http.StatusOK), timed+" 1\n")
	require.Contains(t, r.get("/metrics", http.StatusOK), `hive_http_requests_total{method="POST",route="/v1/jobs",status="200"} 1`)
}
