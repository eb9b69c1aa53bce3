package main

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// value is a series whose value is what a test says.
var value = series{"value", "the value", "", func(l look) float64 { return l.busy }, .05, 2}

// seen is a run of an hour in which the value is of at, which goes from 0 to 1.
func seen(of func(at float64) float64) observations {
	o := observations{warmUp: 20 * time.Minute, end: time.Hour}
	for n := 1; n <= samples; n++ {
		at := float64(n) / samples
		o.at = append(o.at, time.Duration(at*float64(o.end)))
		o.looks = append(o.looks, look{busy: of(at)})
	}
	return o
}

// noisy adds a tenth of noise, a wave as of a collection every few samples, and spikes.
func noisy(seed uint64, of func(at float64) float64) func(at float64) float64 {
	rnd := rand.New(rand.NewPCG(seed, 1))
	return func(at float64) float64 {
		v := of(at)*(1+.1*rnd.NormFloat64()) + 5*math.Sin(at*300)
		if rnd.IntN(20) == 0 {
			v *= 4
		}
		return v
	}
}

func TestWhatIsFlat(t *testing.T) {
	for name, of := range map[string]func(float64) float64{
		"flat":                       func(float64) float64 { return 100 },
		"nothing":                    func(float64) float64 { return 0 },
		"falls":                      func(at float64) float64 { return 200 - 100*at },
		"fills up within the warmup": func(at float64) float64 { return min(100, 310*at) },
		"comes near to a bound":      func(at float64) float64 { return 100 * (1 - math.Exp(-15*at)) },
		"rises once in the warm-up":  func(at float64) float64 { return 100 + 300*math.Floor(at+.8) },
	} {
		t.Run(name, func(t *testing.T) {
			require.Empty(t, value.judge(seen(of)).grows())
			if name == "nothing" {
				return
			}
			wrong := 0
			for seed := range uint64(100) {
				if value.judge(seen(noisy(seed, of))).grows() != "" {
					wrong++
				}
			}
			require.LessOrEqual(t, wrong, 2, "of 100 noisy runs")
		})
	}
}

func TestWhatGrows(t *testing.T) {
	for name, of := range map[string]func(float64) float64{
		"a slope":                     func(at float64) float64 { return 100 + 60*at },
		"from nothing":                func(at float64) float64 { return 60 * at },
		"in steps":                    func(at float64) float64 { return 100 + 10*math.Floor(8*at) },
		"faster and faster":           func(at float64) float64 { return 100 * math.Exp(at/2) },
		"once, after the middle":      func(at float64) float64 { return 100 + 40*math.Floor(at+.3) },
		"only after it was flat long": func(at float64) float64 { return 100 + max(0, 300*(at-.6)) },
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, value.judge(seen(of)).grows(), "the value: ")
			missed := 0
			for seed := range uint64(100) {
				if value.judge(seen(noisy(seed, of))).grows() == "" {
					missed++
				}
			}
			require.LessOrEqual(t, missed, 2, "of 100 noisy runs")
		})
	}
}

// What is steady is found however slowly it grows, if the run is long enough.
func TestTheSmallestGrowthThatIsFound(t *testing.T) {
	const most = .05*100 + 2
	slope := func(rise float64) observations { return seen(func(at float64) float64 { return 100 + rise*(at-.5) }) }
	require.Empty(t, value.judge(slope(3*most*.95)).grows())
	require.NotEmpty(t, value.judge(slope(3*most*1.05)).grows())
}

// What was not seen has not shown that it is flat.
func TestWhatWasNotLookedAt(t *testing.T) {
	never := value.judge(seen(func(float64) float64 { return math.NaN() }))
	require.Contains(t, never.grows(), "was not looked at")
	ended := seen(func(float64) float64 { return 1 })
	ended.at, ended.looks = ended.at[:samples/2], ended.looks[:samples/2]
	require.Contains(t, value.judge(ended).grows(), "was not looked at")

	n := 0
	sometimes := seen(func(at float64) float64 {
		if n++; n%countEvery != 0 {
			return math.NaN()
		}
		return 100 + 60*at
	})
	require.Contains(t, value.judge(sometimes).grows(), "the value: ")
}

// full is a look at a hive that has so much more of everything.
func full(more float64) look {
	n := int(1000 * more)
	all := usage{files: n, bytes: int64(n) * mib, blocks: int64(n) * mib}
	l := look{
		status: map[string]float64{"VmRSS": 1000 * more * mib, "RssAnon": 1000 * more * mib, "Threads": 1000 * more},
		fds:    n, children: n, goroutines: n, busy: 1000 * more, db: all, data: all, logs: all, records: map[string]int{},
	}
	for _, b := range []string{"jobs", "events", "ended", "workers", "names", "keys"} {
		l.records[b] = n
	}
	return l
}

func TestEachSeriesIsJudged(t *testing.T) {
	flat, growing := seen(func(float64) float64 { return 0 }), seen(func(float64) float64 { return 0 })
	for n := range samples {
		flat.looks[n] = full(1)
		growing.looks[n] = full(1 + 5*float64(n)/samples)
	}
	keys := map[string]bool{}
	for _, s := range allSeries {
		require.False(t, keys[s.key], "%s is there twice", s.key)
		keys[s.key] = true
		require.InDelta(t, 1000, s.of(full(1)), .001, s.key)
		require.Empty(t, s.judge(flat).grows(), s.key)
		require.Contains(t, s.judge(growing).grows(), s.title)
	}
	require.Greater(t, len(keys), 15)
}

func TestMedian(t *testing.T) {
	require.True(t, math.IsNaN(median(nil)))
	require.Equal(t, 3., median([]float64{3}))
	require.Equal(t, 2.5, median([]float64{9, 1, 3, 2}))
	values := []float64{5, 1, 4}
	require.Equal(t, 4., median(values))
	require.Equal(t, []float64{5, 1, 4}, values, "they are in the order of time")
}
