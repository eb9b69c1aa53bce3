package probe

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
)

// The readiness table of docs: what a sequence of results adds up to.
func TestEvaluate(t *testing.T) {
	serves := Result{Listener: Ours, Answered: true, Same: true}
	for name, c := range map[string]struct {
		ready store.Ready
		seen  []Result
		want  []Verdict
	}{
		"serves at once":              {seen: []Result{serves}, want: []Verdict{Ready}},
		"starts, loads, serves":       {seen: []Result{{}, {Listener: Ours, Same: true}, serves}, want: []Verdict{NotListening, Loading, Ready}},
		"weak evidence is enough":     {seen: []Result{{Listener: WeaklyOurs, Answered: true, Same: true}}, want: []Verdict{Ready}},
		"listeners changed meanwhile": {seen: []Result{{Listener: Ours, Answered: true}}, want: []Verdict{Loading}},
		"a stranger, seen twice":      {seen: []Result{{Listener: Foreign}, {Listener: Foreign}}, want: []Verdict{Undecided, TakenByOther}},
		"a stranger that answers":     {seen: []Result{{Listener: Foreign, Answered: true, Same: true}}, want: []Verdict{Undecided}},
		"a stranger, seen once":       {seen: []Result{{Listener: Foreign}, {}, {Listener: Foreign}}, want: []Verdict{Undecided, NotListening, Undecided}},
		"unclear is never a reason":   {seen: []Result{{Listener: Unclear}, {Listener: Unclear}, {Listener: Unclear}}, want: []Verdict{Undecided, Undecided, Undecided}},
		"another port, seen twice":    {seen: []Result{{Searched: true, WrongOn: 9}, {}, {Searched: true, WrongOn: 9}}, want: []Verdict{NotListening, NotListening, OnWrongPort}},
		"another port, then its own":  {seen: []Result{{Searched: true, WrongOn: 9}, serves}, want: []Verdict{NotListening, Ready}},
		"another port for a moment":   {seen: []Result{{Searched: true, WrongOn: 9}, {Searched: true}, {Searched: true, WrongOn: 9}}, want: []Verdict{NotListening, NotListening, NotListening}},
		"total time is over":          {ready: store.Ready{Timeout: time.Second}, seen: []Result{{}, {At: time.Second}}, want: []Verdict{NotListening, TimedOut}},
		"no progress":                 {ready: store.Ready{Stall: 5 * time.Second}, seen: []Result{{Progress: "a", At: 1}, {Progress: "a", At: 5*time.Second + 1}}, want: []Verdict{NotListening, Stalled}},
		"progress keeps it":           {ready: store.Ready{Stall: 5 * time.Second}, seen: []Result{{Progress: "a"}, {Progress: "b", At: 4 * time.Second}, {At: 8 * time.Second}}, want: []Verdict{NotListening, NotListening, NotListening}},
		"a freeze is not without progress": {ready: store.Ready{Stall: 20 * time.Second}, seen: []Result{
			{Progress: "a"}, {Progress: "a", At: time.Hour}, {Progress: "a", At: time.Hour + 15*time.Second}, {Progress: "a", At: time.Hour + 30*time.Second},
		}, want: []Verdict{NotListening, NotListening, NotListening, Stalled}},
		"a freeze takes no time": {ready: store.Ready{Timeout: 20 * time.Second}, seen: []Result{
			{}, {At: 10 * time.Second}, {At: time.Hour}, {At: time.Hour + 9*time.Second}, {At: time.Hour + 10*time.Second},
		}, want: []Verdict{NotListening, NotListening, NotListening, NotListening, TimedOut}},
		"ready beats the end of time":  {ready: store.Ready{Timeout: time.Second}, seen: []Result{{Listener: Ours, Answered: true, Same: true, At: time.Minute}}, want: []Verdict{Ready}},
		"unclear beats nothing either": {ready: store.Ready{Timeout: time.Second}, seen: []Result{{Listener: Unclear, At: time.Minute}}, want: []Verdict{Undecided}},
	} {
		t.Run(name, func(t *testing.T) {
			var f Tracker
			var got []Verdict
			for _, s := range c.seen {
				got = append(got, f.Evaluate(s, c.ready))
			}
			require.Equal(t, c.want, got)
		})
	}
}
