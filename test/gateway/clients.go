package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rbeehive/test/harness"
)

// shortPause is between two requests of a client: all together ask some hundred a second.
const shortPause = 10 * time.Millisecond

// asked numbers all requests.
var asked atomic.Int64

// clients ask until ctx ends; the request that is under way then is read to its end. wait returns when all
// have ended.
func (s *site) clients(ctx context.Context) (wait func()) {
	transport := &http.Transport{MaxIdleConnsPerHost: streamClients + shortClients}
	client := &http.Client{Transport: transport}
	var wg sync.WaitGroup
	loop := func(one func(*http.Client, string), pause time.Duration) {
		wg.Go(func() {
			for ctx.Err() == nil {
				one(client, fmt.Sprintf("q%d", asked.Add(1)))
				harness.Sleep(ctx, pause)
			}
		})
	}
	for range streamClients {
		loop(s.stream, 0)
	}
	for range shortClients {
		loop(s.short, shortPause)
	}
	return func() { wg.Wait(); transport.CloseIdleConnections() }
}

// ask sends a question. resp is nil if it was refused, which was judged then.
func (s *site) ask(client *http.Client, id string, stream bool) *http.Response {
	body := fmt.Sprintf(`{"model":"engine","id":%q,"stream":%t}`, id, stream)
	resp, err := client.Post(s.url+"/v1/completions", "application/json", strings.NewReader(body)) //nolint:noctx // read to its end
	if err != nil {
		s.tally.Violation("NO ANSWER", "%v", err)
		return nil
	}
	if resp.StatusCode == http.StatusOK {
		return resp
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	s.failed(resp.StatusCode, string(text))
	return nil
}

// failed judges a request that was not answered by a worker.
func (s *site) failed(status int, text string) {
	ours := (status == http.StatusBadGateway || status == http.StatusServiceUnavailable) && strings.HasPrefix(text, `{"error":{`)
	if !s.mayFail || !ours {
		s.tally.Violation("REFUSED", "%d %s", status, text)
		return
	}
	s.tally.Add("refusals", 1)
}

func (s *site) short(client *http.Client, id string) {
	resp := s.ask(client, id, false)
	if resp == nil {
		return
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil && s.mayFail: // it was cut, which is no clean end
		s.tally.Add("cuts", 1)
	case err != nil:
		s.tally.Violation("CUT", "%v", err)
	case string(text) != fmt.Sprintf(`{"id":%q}`, id):
		s.tally.Violation("WRONG ANSWER", "%s to %s", text, id)
	default:
		s.tally.Add("requests", 1)
	}
}

// stream reads a stream of events: all chunks in order and the end, or an error that is an event.
func (s *site) stream(client *http.Client, id string) {
	resp := s.ask(client, id, true)
	if resp == nil {
		return
	}
	defer resp.Body.Close()
	next := 0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		switch line := lines.Text(); {
		case line == "":
		case line == fmt.Sprintf("data: %s %d", id, next):
			next++
		case line == "data: [DONE]" && next == chunks:
			s.tally.Add("streams", 1)
			return
		case strings.HasPrefix(line, `data: {"error":`) && s.mayFail:
			s.tally.Add("streams that said that they were cut", 1)
			return
		case s.mayFail && strings.HasPrefix(fmt.Sprintf("data: %s %d", id, next), line):
			// The worker died in the middle of a line; the event that says so follows.
		default:
			s.tally.Violation("WRONG CHUNK", "%q after %d chunks", line, next)
			return
		}
	}
	s.tally.Violation("LOOKS WHOLE", "a stream ended after %d of %d chunks, and nothing said so", next, chunks)
}
