package hive

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
)

// The readiness table of docs: what a sequence of sightings adds up to.
func TestJudge(t *testing.T) {
	serves := sighting{listener: ours, probed: true, same: true}
	for name, c := range map[string]struct {
		ready store.Ready
		seen  []sighting
		want  []verdict
	}{
		"serves at once":               {seen: []sighting{serves}, want: []verdict{nowReady}},
		"starts, loads, serves":        {seen: []sighting{{}, {listener: ours, same: true}, serves}, want: []verdict{waitStarting, waitLoading, nowReady}},
		"weak evidence is enough":      {seen: []sighting{{listener: weaklyOurs, probed: true, same: true}}, want: []verdict{nowReady}},
		"listeners changed meanwhile":  {seen: []sighting{{listener: ours, probed: true}}, want: []verdict{waitLoading}},
		"a stranger, seen twice":       {seen: []sighting{{listener: foreign}, {listener: foreign}}, want: []verdict{waitUndecided, takenByOther}},
		"a stranger that answers":      {seen: []sighting{{listener: foreign, probed: true, same: true}}, want: []verdict{waitUndecided}},
		"a stranger, seen once":        {seen: []sighting{{listener: foreign}, {}, {listener: foreign}}, want: []verdict{waitUndecided, waitStarting, waitUndecided}},
		"unclear is never a reason":    {seen: []sighting{{listener: unclear}, {listener: unclear}, {listener: unclear}}, want: []verdict{waitUndecided, waitUndecided, waitUndecided}},
		"another port, seen twice":     {seen: []sighting{{searched: true, elsewhere: 9}, {}, {searched: true, elsewhere: 9}}, want: []verdict{waitStarting, waitStarting, onWrongPort}},
		"another port, then its own":   {seen: []sighting{{searched: true, elsewhere: 9}, serves}, want: []verdict{waitStarting, nowReady}},
		"another port for a moment":    {seen: []sighting{{searched: true, elsewhere: 9}, {searched: true}, {searched: true, elsewhere: 9}}, want: []verdict{waitStarting, waitStarting, waitStarting}},
		"total time is over":           {ready: store.Ready{Timeout: time.Second}, seen: []sighting{{}, {at: time.Second}}, want: []verdict{waitStarting, ranOutOfTime}},
		"no progress":                  {ready: store.Ready{Stall: 5 * time.Second}, seen: []sighting{{progress: "a", at: 1}, {progress: "a", at: 5*time.Second + 1}}, want: []verdict{waitStarting, stalledOut}},
		"progress keeps it":            {ready: store.Ready{Stall: 5 * time.Second}, seen: []sighting{{progress: "a"}, {progress: "b", at: 4 * time.Second}, {at: 8 * time.Second}}, want: []verdict{waitStarting, waitStarting, waitStarting}},
		"ready beats the end of time":  {ready: store.Ready{Timeout: time.Second}, seen: []sighting{{listener: ours, probed: true, same: true, at: time.Minute}}, want: []verdict{nowReady}},
		"unclear beats nothing either": {ready: store.Ready{Timeout: time.Second}, seen: []sighting{{listener: unclear, at: time.Minute}}, want: []verdict{waitUndecided}},
	} {
		t.Run(name, func(t *testing.T) {
			var f following
			var got []verdict
			for _, s := range c.seen {
				got = append(got, f.judge(s, c.ready))
			}
			require.Equal(t, c.want, got)
		})
	}
}
