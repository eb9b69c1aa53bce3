package client_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// sseEvent is one event of a job as the server writes it.
func sseEvent(seq int, kind string) string {
	return fmt.Sprintf("id: %d\nevent: %s\ndata: {\"seq\":%d,\"job_seq\":%d,\"type\":%q,\"message\":\"m%d\"}\n\n", seq, kind, seq+100, seq, kind, seq)
}

// script answers each connection to a job's events with the next of its answers.
type script struct {
	answers []http.HandlerFunc
	next    atomic.Int32
	resumes []string // Last-Event-ID of each connection
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := int(s.next.Add(1)) - 1
	s.resumes = append(s.resumes, r.Header.Get("Last-Event-ID"))
	if n >= len(s.answers) {
		writeProblem(w, 500, "internal", "asked once too often")
		return
	}
	s.answers[n](w, r)
}

// send streams text and ends the body as a server does that shuts down.
func send(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, text)
	}
}

// cut streams text and breaks the connection as a server does that is killed.
func cut(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		send(text)(w, r)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func refuse(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { writeProblem(w, status, code, code) }
}

// collect follows a job to the end.
func collect(t *testing.T, c *client.Client, o client.FollowOptions) (seqs []uint64, err error) {
	t.Helper()
	for event, err := range c.Follow(testContext(t), "job-1", o) {
		if err != nil {
			return seqs, err
		}
		require.Contains(t, string(event.Raw), event.Value.Message)
		require.Equal(t, *event.Value.JobSeq+100, event.Value.Seq)
		seqs = append(seqs, *event.Value.JobSeq)
	}
	return seqs, nil
}

func TestFollowResumes(t *testing.T) {
	s := &script{answers: []http.HandlerFunc{
		cut(": keep-alive\n\n" + sseEvent(3, "state") + sseEvent(5, "port") + "id: 6\nevent: log\ndata: {\"seq\":6,\"ty"),
		send(""), // a daemon that shuts down
		send(sseEvent(5, "port") + sseEvent(6, "log")), // one that replays too much
		send(sseEvent(9, "end") + sseEvent(10, "state")),
	}}
	reported := 0
	c := serve(t, s.ServeHTTP)
	seqs, err := collect(t, c, client.FollowOptions{OnWait: func(error) { reported++ }})
	require.NoError(t, err)
	require.Empty(t, cmp.Diff([]uint64{3, 5, 6, 9}, seqs))
	require.Empty(t, cmp.Diff([]string{"", "5", "5", "6"}, s.resumes))
	require.Zero(t, reported, "a stream that was only cut is no outage")
}

// Who follows everything hears of each connection, before its first event.
func TestFollowAllTellsOfConnections(t *testing.T) {
	s := &script{answers: []http.HandlerFunc{cut(sseEvent(3, "state")), send(sseEvent(4, "state") + sseEvent(5, "state"))}}
	c := serve(t, s.ServeHTTP)
	var heard []string
	for event, err := range c.FollowAll(testContext(t), client.FollowAllOptions{OnConnect: func() { heard = append(heard, "connected") }}) {
		require.NoError(t, err)
		if heard = append(heard, fmt.Sprint(event.Value.Seq-100)); len(heard) == 5 {
			break
		}
	}
	require.Equal(t, []string{"connected", "3", "connected", "4", "5"}, heard)
}

func TestFollowBeginsWhereItIsTold(t *testing.T) {
	s := &script{answers: []http.HandlerFunc{send(sseEvent(8, "end"))}}
	seqs, err := collect(t, serve(t, s.ServeHTTP), client.FollowOptions{After: 7})
	require.NoError(t, err)
	require.Equal(t, []uint64{8}, seqs)
	require.Equal(t, []string{"7"}, s.resumes)
}

func TestFollowEndsWhenNothingCanFollow(t *testing.T) {
	s := &script{answers: []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }}}
	seqs, err := collect(t, serve(t, s.ServeHTTP), client.FollowOptions{After: 7})
	require.NoError(t, err)
	require.Empty(t, seqs)
}

func TestFollowWaitsForARecovery(t *testing.T) {
	s := &script{answers: []http.HandlerFunc{
		cut(sseEvent(1, "state")),
		refuse(503, "recovering"), refuse(503, "recovering"),
		cut(sseEvent(2, "state")),
		refuse(503, "shutting_down"),
		send(sseEvent(3, "end")),
	}}
	var reported []string
	seqs, err := collect(t, serve(t, s.ServeHTTP), client.FollowOptions{OnWait: func(err error) { reported = append(reported, err.Error()) }})
	require.NoError(t, err)
	require.Equal(t, []uint64{1, 2, 3}, seqs)
	require.Equal(t, []string{"recovering", "shutting_down"}, reported, "once per outage")
}

func TestFollowGivesUpOnWhatTryingCannotMend(t *testing.T) {
	for code, status := range map[string]int{"not_found": 404, "events_gone": 410, "unauthorized": 401, "internal": 500} {
		s := &script{answers: []http.HandlerFunc{refuse(status, code)}}
		_, err := collect(t, serve(t, s.ServeHTTP), client.FollowOptions{})
		var refused *client.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, code, refused.Code)
	}
}

func TestFollowOfSomebodyElse(t *testing.T) {
	s := &script{answers: []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }}}
	_, err := collect(t, serve(t, s.ServeHTTP), client.FollowOptions{})
	require.ErrorIs(t, err, client.ErrNotAHive)
}

func TestFollowRefusesNonsense(t *testing.T) {
	s := &script{answers: []http.HandlerFunc{send("event: state\ndata: nonsense\n\n")}}
	_, err := collect(t, serve(t, s.ServeHTTP), client.FollowOptions{})
	require.ErrorContains(t, err, "decode an event")
}

func TestFollowRefusesAnEndlessEvent(t *testing.T) {
	s := &script{answers: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range 6 << 10 {
			if _, err := fmt.Fprintf(w, "data: %s\n", strings.Repeat("x", 1<<10)); err != nil {
				return
			}
		}
	}}}
	_, err := collect(t, serve(t, s.ServeHTTP), client.FollowOptions{})
	require.ErrorIs(t, err, client.ErrTooLarge)
	require.Len(t, s.resumes, 1, "trying again would bring the same event")
}

func TestFollowStopsWithItsConsumer(t *testing.T) {
	gone := make(chan struct{})
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		send(sseEvent(1, "state"))(w, r)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(gone)
	})
	for _, err := range c.Follow(testContext(t), "job-1", client.FollowOptions{}) {
		require.NoError(t, err)
		break
	}
	<-gone // the connection is closed, not left to the garbage collector
}

func TestFollowStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		send(sseEvent(1, "state"))(w, r)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	var last error
	for _, err := range c.Follow(ctx, "job-1", client.FollowOptions{}) {
		last = err
		cancel()
	}
	require.ErrorIs(t, last, context.Canceled)
}

// A hive that is killed and started again on the same port, as a watcher sees it.
func TestWaitJobOutlivesTheDaemon(t *testing.T) {
	first := &script{answers: []http.HandlerFunc{cut(sseEvent(1, "state"))}}
	server := httptest.NewServer(first)
	addr := server.Listener.Addr().String()
	c := connect(t, addr)
	second := http.NewServeMux()
	second.HandleFunc("GET /v1/jobs/{id}/events", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Last-Event-ID") != "1" {
			writeProblem(w, 500, "internal", "not resumed")
			return
		}
		send(sseEvent(2, "end"))(w, r)
	})
	second.HandleFunc("GET /v1/jobs/{id}", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, 200, `{"job_id":"job-1","state":"failed"}`)
	})
	var again *httptest.Server
	restart := func(err error) {
		require.ErrorIs(t, err, client.ErrUnreachable)
		listener, err := net.Listen("tcp", addr)
		require.NoError(t, err)
		again = httptest.NewUnstartedServer(second)
		require.NoError(t, again.Listener.Close())
		again.Listener = listener
		again.Start()
	}
	var seqs []uint64
	job, err := c.WaitJob(testContext(t), "job-1", client.FollowOptions{OnWait: restart}, func(e client.Reply[wire.Event]) {
		seqs = append(seqs, *e.Value.JobSeq)
		if *e.Value.JobSeq == 1 {
			require.NoError(t, server.Listener.Close())
		}
	})
	server.Close()
	require.NoError(t, err)
	require.NotNil(t, again, "nobody was told about the outage")
	again.Close()
	require.Equal(t, "failed", job.Value.State)
	require.Equal(t, []uint64{1, 2}, seqs)
}

// feedEvent is one event of everything as the server writes it.
func feedEvent(seq int) string {
	return fmt.Sprintf("id: %d\nevent: state\ndata: {\"seq\":%d,\"job_seq\":1,\"message\":\"m\"}\n\n", seq, seq)
}

func TestFollowAllResumes(t *testing.T) {
	var asked []string
	s := &script{answers: []http.HandlerFunc{
		refuse(503, "recovering"),
		cut("id: 40\n\n"), // cut before its first event
		cut(": keep-alive\n\n" + feedEvent(41) + feedEvent(43)),
		send(feedEvent(43) + "id: 50\n\n"), // too much, and then only where it is
		cut(feedEvent(51) + "id: 52\ndata: {\"se"),
		refuse(410, "events_gone"),
	}}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		s.ServeHTTP(w, r)
	})
	var seqs []uint64
	var last error
	for event, err := range c.FollowAll(testContext(t), client.FollowAllOptions{After: "latest", Types: []string{"state", "end"}}) {
		if last = err; err == nil {
			seqs = append(seqs, event.Value.Seq)
		}
	}
	require.Equal(t, []uint64{41, 43, 51}, seqs)
	require.ErrorIs(t, last, client.ErrEventsGone)
	require.Equal(t, []string{"", "", "40", "43", "50", "51"}, s.resumes)
	for _, url := range asked {
		require.Equal(t, "/v1/events?after=latest&type=state%2Cend", url, "the header goes before it, as for a browser")
	}
}

func TestFollowAllFromTheOldest(t *testing.T) {
	s := &script{answers: []http.HandlerFunc{cut(feedEvent(7)), cut(strings.Replace(feedEvent(8), "event: state", "event: end", 1)), refuse(500, "internal")}}
	var seqs []uint64
	for event, err := range serve(t, s.ServeHTTP).FollowAll(testContext(t), client.FollowAllOptions{}) {
		if err == nil {
			seqs = append(seqs, event.Value.Seq)
		}
	}
	require.Equal(t, []uint64{7, 8}, seqs, "the end of a job is not the end of everything")
	require.Equal(t, []string{"", "7", "8"}, s.resumes)
}

func TestWaitJobWithoutItsEvents(t *testing.T) {
	var asked atomic.Int32
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/events"):
			writeProblem(w, 410, "events_gone", "pruned")
		case asked.Add(1) == 1:
			writeJSON(w, 200, `{"job_id":"job-1","state":"running"}`)
		default:
			writeJSON(w, 200, `{"job_id":"job-1","state":"succeeded"}`)
		}
	})
	job, err := c.WaitJob(testContext(t), "job-1", client.FollowOptions{After: 3}, func(client.Reply[wire.Event]) {})
	require.NoError(t, err)
	require.Equal(t, "succeeded", job.Value.State)
}

func TestStates(t *testing.T) {
	for state, ended := range map[string]bool{"queued": false, "running": false, "succeeded": true, "failed": true, "cancelled": true, "new": false} {
		require.Equal(t, ended, client.JobEnded(state), state)
	}
	for state, ended := range map[string]bool{"starting": false, "ready": false, "stopping": false, "backoff": false, "unverified": false, "stopped": true, "failed": true} {
		require.Equal(t, ended, client.WorkerEnded(state), state)
	}
}
