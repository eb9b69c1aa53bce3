package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tmaxmax/go-sse"

	"rbeehive/httpapi/wire"
	"rbeehive/store"
)

// readFeed reads the stream of everything until enough says so. An id without an
// event goes to at.
func readFeed(t *testing.T, body io.Reader, at *string, enough func([]wire.Event) bool) (events []wire.Event) {
	t.Helper()
	for raw, err := range sse.Read(body, nil) {
		require.NoError(t, err)
		if raw.Data == "" {
			*at = raw.LastEventID
		} else {
			var e wire.Event
			require.NoError(t, json.Unmarshal([]byte(raw.Data), &e))
			require.Equal(t, strconv.FormatUint(e.Seq, 10), raw.LastEventID)
			require.Equal(t, e.JobID == nil, e.JobSeq == nil)
			events = append(events, e)
		}
		if enough(events) {
			break
		}
	}
	return events
}

// until is enough once an event of the type was seen n times.
func until(typ string, n int) func([]wire.Event) bool {
	return func(events []wire.Event) bool {
		seen := 0
		for _, e := range events {
			if e.Type == typ {
				seen++
			}
		}
		return seen == n
	}
}

func jobSeqs(events []wire.Event) (all []uint64) {
	for _, e := range events {
		all = append(all, *e.JobSeq)
	}
	return all
}

// upTo is from+1 .. to.
func upTo(from, to uint64) (all []uint64) {
	for n := from + 1; n <= to; n++ {
		all = append(all, n)
	}
	return all
}

// Wherever a client was cut, it gets the rest: each event once and in order.
func TestEveryNumberOfAJobCanBeResumed(t *testing.T) {
	r := newRig(t, rigOptions{}, entry(t, "never", "--unhealthy"))
	sub := r.submit(`{"operation":"worker_spawn","worker":"never"}`)
	r.awaitWorker("never", "loading")
	path := "/v1/jobs/" + sub.JobID + "/events"
	var sofar uint64
	for raw, err := range sse.Read(r.open(path).Body, nil) {
		require.NoError(t, err)
		sofar++
		if strings.Contains(raw.Data, `"worker":"loading"`) {
			break
		}
	}
	open := map[uint64]*http.Response{}
	for after := range sofar + 3 { // also behind what there is: they wait for more
		open[after] = r.open(path, "Last-Event-ID", fmt.Sprint(after))
	}
	resp, body := r.send(http.MethodDelete, "/v1/jobs/"+sub.JobID, "")
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	all := readSSE(t, r.open(path).Body)
	last := uint64(len(all))
	require.Greater(t, last, sofar+2)
	require.Equal(t, upTo(0, last), jobSeqs(all))
	for after, resp := range open {
		require.Equal(t, all[after:], readSSE(t, resp.Body), "resumed after %d while it ran", after)
	}
	for after := range last {
		require.Equal(t, all[after:], readSSE(t, r.open(fmt.Sprintf("%s?after=%d", path, after)).Body), "after %d", after)
	}
	for _, after := range []uint64{last, last + 1, 1 << 63} {
		resp, _ := r.send(http.MethodGet, path, "", "Last-Event-ID", fmt.Sprint(after))
		require.Equal(t, http.StatusNoContent, resp.StatusCode)
	}
	resp, body = r.send(http.MethodGet, path+"?after=latest", "")
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	require.Contains(t, body, "after: the number of an event is expected")
}

// A listing is written nowhere: its events have numbers of their own only.
func TestEventsOfAListing(t *testing.T) {
	r := newRig(t, rigOptions{})
	sub := r.submit(`{"operation":"worker_process_list"}`)
	path := "/v1/jobs/" + sub.JobID + "/events"
	all := readSSE(t, r.open(path).Body)
	require.Equal(t, []uint64{1, 2}, jobSeqs(all))
	require.Zero(t, all[0].Seq)
	require.Equal(t, all[1:], readSSE(t, r.open(path+"?after=1").Body))
	resp, _ := r.send(http.MethodGet, path+"?after=2", "")
	require.Equal(t, http.StatusNoContent, resp.StatusCode)
}

func TestEventsAreResumedOverARestart(t *testing.T) {
	r := newRig(t, rigOptions{}, entry(t, "never", "--unhealthy"))
	sub := r.submit(`{"operation":"worker_spawn","worker":"never"}`)
	r.awaitWorker("never", "loading")
	path := "/v1/jobs/" + sub.JobID + "/events"
	stream, feed := r.open(path), r.open("/v1/events")
	r.shut()
	before := readSSE(t, stream.Body)
	var at string
	all := readFeed(t, feed.Body, &at, func([]wire.Event) bool { return false })
	require.Empty(t, at, "there was something to replay")
	r.begin()

	stream = r.open(path, "Last-Event-ID", fmt.Sprint(len(before)))
	resp, text := r.send(http.MethodDelete, "/v1/jobs/"+sub.JobID, "") // it waits on for its worker
	require.Equal(t, http.StatusOK, resp.StatusCode, text)
	rest := readSSE(t, stream.Body)
	whole := slices.Concat(before, rest)
	require.Equal(t, upTo(0, uint64(len(whole))), jobSeqs(whole))
	require.Equal(t, "end", whole[len(whole)-1].Type)
	last := uint64(0) // on a busy machine the stream may have ended before the first event
	if len(all) > 0 {
		last = all[len(all)-1].Seq
	}
	more := readFeed(t, r.open("/v1/events", "Last-Event-ID", fmt.Sprint(last)).Body, &at, func(events []wire.Event) bool {
		return strings.HasPrefix(events[len(events)-1].Message, "hive started: 1 adopted, 0 freed")
	})
	for i, e := range slices.Concat(all, more) {
		require.EqualValues(t, i+1, e.Seq)
	}
	started := more[len(more)-1]
	require.Equal(t, "state", started.Type)
	require.JSONEq(t, `{"hive":"started","version":"test","adopted":1,"freed":0,"restarted":0,"unverified":0}`, string(started.Data))
}

// The stream of everything has what the streams of the jobs have, and the leases.
func TestEverythingIsTheUnionOfTheJobs(t *testing.T) {
	r := newRig(t, rigOptions{}, entry(t, "broken", "--exit-code", "7"))
	live := r.open("/v1/events?after=latest")
	var wg sync.WaitGroup
	jobs := make([]wire.Submitted, 8)
	for i := range jobs {
		wg.Go(func() {
			jobs[i] = r.submit([]string{
				`{"operation":"worker_spawn","worker":"broken"}`, `{"operation":"hive_check"}`, `{"operation":"infer"}`,
			}[i%3])
		})
	}
	wg.Wait()
	events := map[string][]wire.Event{}
	for _, sub := range jobs {
		events[sub.JobID] = readSSE(t, r.open("/v1/jobs/"+sub.JobID+"/events").Body)
	}
	resp, body := r.send(http.MethodPost, "/v1/leases", `{"ttl":"1m","owner":"bob"}`)
	require.Equal(t, http.StatusCreated, resp.StatusCode, body)
	lease := decode[wire.Lease](t, body)
	resp, body = r.send(http.MethodPut, fmt.Sprintf("/v1/leases/%d", lease.Port), fmt.Sprintf(`{"lease_id":%q,"ttl":"2m"}`, lease.LeaseID))
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	resp, body = r.send(http.MethodDelete, fmt.Sprintf("/v1/leases/%d?lease_id=%s", lease.Port, lease.LeaseID), "")
	require.Equal(t, http.StatusOK, resp.StatusCode, body)

	freed := func(events []wire.Event) bool {
		return len(events) > 0 && strings.Contains(events[len(events)-1].Message, "free: released by its holder")
	}
	var at string
	all := readFeed(t, live.Body, &at, freed)
	require.NotEmpty(t, at, "a client that was cut before the first event knows where it was")
	var states []string
	got := map[string][]wire.Event{}
	for i, e := range all {
		require.True(t, i == 0 || e.Seq == all[i-1].Seq+1)
		if e.JobID != nil {
			got[*e.JobID] = append(got[*e.JobID], e)
			continue
		}
		var data struct {
			LeaseID string `json:"lease_id"`
			State   string `json:"state"`
		}
		require.NoError(t, json.Unmarshal(e.Data, &data))
		if data.LeaseID == lease.LeaseID {
			require.Equal(t, "port", e.Type)
			states = append(states, data.State)
		}
	}
	require.Equal(t, events, got)
	require.Equal(t, []string{"held", "held", "free"}, states)
	replayed := readFeed(t, r.open("/v1/events?after="+at).Body, new(string), freed)
	require.Equal(t, all, replayed)

	ends := readFeed(t, r.open("/v1/events?type=end,result&after="+at).Body, new(string), until("end", len(jobs)))
	require.Equal(t, slices.DeleteFunc(all, func(e wire.Event) bool { return e.Type != "end" && e.Type != "result" }), ends)
}

func TestWhereEverythingBegins(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.spawn("cpu")
	var newest string
	resp := r.open("/v1/events?after=latest")
	readFeed(t, resp.Body, &newest, func([]wire.Event) bool { return true })
	n, err := strconv.ParseUint(newest, 10, 64)
	require.NoError(t, err)
	var at string
	require.Empty(t, readFeed(t, r.open("/v1/events?after="+newest).Body, &at, func([]wire.Event) bool { return true }))
	require.Equal(t, newest, at)
	for _, path := range []string{"/v1/events", "/v1/events?after=0"} {
		all := readFeed(t, r.open(path).Body, new(string), func(events []wire.Event) bool { return len(events) == int(n) })
		require.EqualValues(t, 1, all[0].Seq)
		require.Equal(t, n, all[n-1].Seq)
	}
	resp, body := r.send(http.MethodGet, fmt.Sprintf("/v1/events?after=%d", n+1), "")
	require.Equal(t, http.StatusGone, resp.StatusCode)
	problem := decode[wire.Problem](t, body)
	require.Equal(t, "events_gone", problem.Code)
	require.Contains(t, problem.Detail, fmt.Sprintf("event %d is none of this hive, whose newest is %d", n+1, n))
	for query, says := range map[string]string{
		"after=-1":        "after: the number of an event is expected, or latest",
		"after=yesterday": "after: the number of an event is expected, or latest",
		"type=news":       "type: one or more of [state port process log progress result audit end]",
		"type=end,":       "type: one or more of",
	} {
		resp, body := r.send(http.MethodGet, "/v1/events?"+query, "")
		require.Equal(t, http.StatusBadRequest, resp.StatusCode)
		require.Contains(t, body, says)
	}
	resp, _ = r.send(http.MethodHead, "/v1/events", "")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
}

// What was removed is never left out without a word.
func TestRemovedEventsAreGone(t *testing.T) {
	r := newRig(t, rigOptions{})
	job := r.do(`{"operation":"hive_check"}`)
	kept := r.do(`{"operation":"hive_check"}`)
	r.shut()
	st, err := store.Open(t.Context(), store.Options{Path: r.state()})
	require.NoError(t, err)
	var mark, first uint64
	require.NoError(t, st.Update(t.Context(), func(tx *store.Tx) error {
		require.NoError(t, tx.DeleteJob(job.JobID))
		b, err := tx.EventBounds()
		require.NoError(t, err)
		events, err := tx.Events(0, 0)
		require.NoError(t, err)
		mark, first = b.Pruned, events[0].Seq
		return nil
	}))
	require.NoError(t, st.Close())
	require.Positive(t, mark)
	r.begin()
	for _, after := range []uint64{0, mark - 1} {
		resp, body := r.send(http.MethodGet, "/v1/events", "", "Last-Event-ID", fmt.Sprint(after))
		require.Equal(t, http.StatusGone, resp.StatusCode)
		problem := decode[wire.Problem](t, body)
		require.Equal(t, "events_gone", problem.Code)
		require.Contains(t, problem.Detail, fmt.Sprintf("one can go on after %d or later", mark))
	}
	some := func(events []wire.Event) bool { return len(events) > 0 }
	require.Greater(t, readFeed(t, r.open(fmt.Sprintf("/v1/events?after=%d", mark)).Body, new(string), some)[0].Seq, mark)
	require.Equal(t, first, readFeed(t, r.open("/v1/events").Body, new(string), some)[0].Seq, "the oldest that is kept")
	resp, _ := r.send(http.MethodGet, "/v1/jobs/"+job.JobID+"/events?after=1", "")
	require.Equal(t, http.StatusNotFound, resp.StatusCode, "a job's events live as long as its record")
	all := readSSE(t, r.open("/v1/jobs/"+kept.JobID+"/events").Body)
	require.Equal(t, upTo(0, uint64(len(all))), jobSeqs(all))
}

// A shutdown ends the stream of everything, which would not end by itself.
func TestShutdownEndsEverything(t *testing.T) {
	r := newRig(t, rigOptions{})
	feed := r.open("/v1/events?after=latest")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, r.server.Shutdown(ctx))
	rest, err := io.ReadAll(feed.Body)
	require.NoError(t, err)
	require.Regexp(t, `^id: [0-9]+\n\n$`, string(rest))
}
