package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"rbeehive/test/harness"
)

// texts are the texts of a document that must be well-formed, and how many elements of
// each name it has.
func texts(t *testing.T, document string) (all []string, elements map[string]int) {
	t.Helper()
	elements = map[string]int{}
	d := xml.NewDecoder(strings.NewReader(document))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all, elements
		}
		require.NoError(t, err)
		switch token := token.(type) {
		case xml.StartElement:
			elements[token.Name.Local]++
			require.True(t, elements["svg"] == 1 && (token.Name.Local != "svg" || token.Name.Space == "http://www.w3.org/2000/svg"))
		case xml.CharData:
			all = append(all, string(token))
		}
	}
}

func TestTheDrawingIsWellFormed(t *testing.T) {
	o := seen(func(float64) float64 { return 0 })
	for n := range o.looks {
		if o.looks[n] = full(1 + float64(n)/samples); n%countEvery != 0 {
			o.looks[n].records = nil
		}
	}
	o.looks[0].busy = math.NaN()
	var out strings.Builder
	drawTo(&out, o, `what is <drawn> & "how"`, strings.Repeat("12 things <done>, ", 40))
	all, elements := texts(t, out.String())
	require.Equal(t, 1, elements["svg"])
	require.Equal(t, len(allSeries), elements["g"], "a panel for each series")
	require.Contains(t, all, `what is <drawn> & "how"`)
	for _, s := range allSeries {
		title := s.title
		if s.unit != "" {
			title += ", " + s.unit
		}
		require.Contains(t, all, title)
	}
	require.Contains(t, all, "minutes")
	require.Contains(t, all, "60", "the end of the axis of time")
	require.NotContains(t, out.String(), "NaN")
	require.NotContains(t, out.String(), "Inf")
	require.Less(t, out.Len(), 200<<10)
}

// A run that was ended early, or in which nothing was seen, is drawn, too.
func TestADrawingOfNothing(t *testing.T) {
	o := seen(func(float64) float64 { return 0 })
	o.at, o.looks = o.at[:1], []look{{busy: math.NaN()}}
	var out strings.Builder
	drawTo(&out, o, "", "")
	texts(t, out.String())
	require.NotContains(t, out.String(), "NaN")
	require.NotContains(t, out.String(), "Inf")
}

// The drawing is put among the documents: it says nothing of where it was made.
func TestTheDrawingSaysNothingOfTheMachine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "soak.svg")
	r := &run{tally: new(harness.Program).NewTally()}
	r.tally.Add("spawned", 7)
	o := seen(func(float64) float64 { return 1 })
	require.NoError(t, r.draw(o, options{svg: path, workers: 200}))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	all, _ := texts(t, string(text))
	require.Contains(t, all, "One hive with 200 workers under a load that does not change, for 60 minutes")
	require.Contains(t, all, "7 spawned; nothing violated")
	host, err := os.Hostname()
	require.NoError(t, err)
	require.NotContains(t, string(text), host)
	require.NotContains(t, strings.ReplaceAll(string(text), "http://www.w3.org/2000/svg", ""), "//")
	require.NotContains(t, string(text), filepath.Dir(path))

	require.NoError(t, r.draw(observations{}, options{svg: filepath.Join(path, "nowhere")}), "nothing was seen")
	require.Error(t, r.draw(o, options{svg: filepath.Join(path, "nowhere")}))
}

func TestNiceSteps(t *testing.T) {
	for v, want := range map[float64]float64{0: 1, .03: .05, 1: 1, 1.1: 2, 3: 5, 7: 10, 10: 10, 120: 200, 2048: 5000} {
		require.InDelta(t, want, niceStep(v), 1e-9, "%g", v)
	}
	require.Equal(t, "0.3", number(.1+.2, .1))
	require.Equal(t, "10000", number(10000, 5000))
	require.Equal(t, "0.05", number(.05, .05))
}

func TestPlainDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		298 * time.Second: "5 minutes", 42 * time.Second: "40 seconds", 59*time.Minute + 42*time.Second: "60 minutes", 24 * time.Hour: "24 hours",
	} {
		require.Equal(t, want, plainDuration(d))
	}
}

func TestWrapped(t *testing.T) {
	require.Equal(t, []string{"one two", "three 4"}, wrapped("one two three 4", 7))
	require.Equal(t, []string{"muchtoolong", "x"}, wrapped("muchtoolong x", 3))
	require.Equal(t, []string{""}, wrapped("", 3))
}
