package rbee_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/hive/rbee"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeQueens are all queens of a test: it stands in for the network, so that minutes pass
// in no time.
type fakeQueens struct {
	mu     sync.Mutex
	start  time.Time
	status int // 0: refuses connections
	hang   bool
	calls  []call

	dropped []string
}

type call struct {
	url  string
	body string
	at   time.Duration
}

func (c *fakeQueens) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.calls = append(c.calls, call{r.Method + " " + r.URL.String(), string(body), time.Since(c.start)})
	status, hang := c.status, c.hang
	c.mu.Unlock()
	if hang {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if status == 0 {
		return nil, errors.New("connection refused")
	}
	header := http.Header{"Location": {"http://elsewhere.lan/"}}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(bytes.NewReader([]byte("x"))), Request: r}, nil
}

func (c *fakeQueens) behave(status int, hang bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status, c.hang = status, hang
}

// takeTimes returns when the calls were, and forgets them.
func (c *fakeQueens) takeTimes() (at []time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, call := range c.calls {
		at = append(at, call.at)
	}
	c.calls = nil
	return at
}

func (c *fakeQueens) takeURLs() (urls []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, call := range c.calls {
		urls = append(urls, call.url)
	}
	c.calls = nil
	return urls
}

// announce runs test with an announcer that runs, in time that only passes when
// everybody waits.
func announce(t *testing.T, test func(t *testing.T, a *rbee.Announcer, c *fakeQueens, pass func(time.Duration))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &fakeQueens{status: 200, start: time.Now()}
		log := logrus.New()
		log.SetOutput(io.Discard)
		a := rbee.New(rbee.Options{HiveID: "box", HiveURL: "http://box.lan:7835", Transport: c, Log: log, OnDropped: func(url string) { c.dropped = append(c.dropped, url) }})
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { a.Run(ctx) })
		defer running.Wait()
		defer cancel()
		test(t, a, c, func(d time.Duration) { time.Sleep(d); synctest.Wait() })
	})
}

const s = time.Second

func TestAnnouncesOnce(t *testing.T) {
	announce(t, func(t *testing.T, a *rbee.Announcer, c *fakeQueens, pass func(time.Duration)) {
		pass(time.Hour)
		require.Empty(t, c.takeTimes(), "no queen, no announcement")
		require.NoError(t, a.Configure("http://Queen.lan:7833/"))
		a.SetListeners(1)
		pass(0)
		require.Equal(t, []call{{"POST http://queen.lan:7833/v1/hive/ready", `{"hive_id":"box","hive_url":"http://box.lan:7835"}`, time.Hour}}, c.calls)
		c.takeTimes()
		require.NoError(t, a.Configure("http://queen.lan:7833"))
		require.NoError(t, a.Introduce("http://queen.lan:7833//"))
		pass(24 * time.Hour)
		require.Empty(t, c.takeTimes(), "a queen does not deduplicate")
	})
}

func TestRetriesUntilTheQueenAccepts(t *testing.T) {
	for name, status := range map[string]int{"refuses": 0, "errs": 500, "does not know it": 404, "sends it elsewhere": 307} {
		t.Run(name, func(t *testing.T) {
			announce(t, func(t *testing.T, a *rbee.Announcer, c *fakeQueens, pass func(time.Duration)) {
				c.behave(status, false)
				require.NoError(t, a.Configure("http://queen.lan:7833"))
				pass(200 * s)
				require.Equal(t, []time.Duration{0, 2 * s, 4 * s, 8 * s, 16 * s, 76 * s, 136 * s, 196 * s}, c.takeTimes())
				c.behave(202, false)
				a.SetListeners(1)
				pass(time.Hour)
				require.Equal(t, []time.Duration{256 * s}, c.takeTimes())
			})
		})
	}
}

func TestAHangingQueen(t *testing.T) {
	announce(t, func(t *testing.T, a *rbee.Announcer, c *fakeQueens, pass func(time.Duration)) {
		c.behave(0, true)
		require.NoError(t, a.Configure("http://queen.lan:7833"))
		pass(30 * s)
		require.Equal(t, []time.Duration{0, 12 * s, 24 * s}, c.takeTimes(), "ten seconds each")
	})
}

// After two minutes without a listener the queen has forgotten the hive.
func TestAnnouncesAgainWhenNobodyListens(t *testing.T) {
	announce(t, func(t *testing.T, a *rbee.Announcer, c *fakeQueens, pass func(time.Duration)) {
		require.NoError(t, a.Configure("http://queen.lan:7833"))
		pass(300 * s)
		require.Equal(t, []time.Duration{0, 120 * s, 240 * s}, c.takeTimes(), "nobody ever listened")
		a.SetListeners(1) // at 300
		pass(time.Hour)
		require.Empty(t, c.takeTimes())
		a.SetListeners(0) // dropped
		pass(119 * s)
		a.SetListeners(1) // and back in time
		pass(10 * s)
		a.SetListeners(0)
		pass(119 * s)
		require.Empty(t, c.takeTimes())
		pass(1 * s)
		require.Len(t, c.takeTimes(), 1)
		c.behave(500, false) // restarting
		pass(120 * s)
		require.Len(t, c.takeTimes(), 1)
		pass(16 * s)
		require.Len(t, c.takeTimes(), 4, "tried as at the first time")
	})
}

func TestAnotherQueen(t *testing.T) {
	announce(t, func(t *testing.T, a *rbee.Announcer, c *fakeQueens, pass func(time.Duration)) {
		a.SetListeners(1)
		require.NoError(t, a.Configure("http://one.lan:7833"))
		require.NoError(t, a.Introduce("https://two.lan/rbee"))
		pass(0)
		require.ElementsMatch(t, []string{"POST http://one.lan:7833/v1/hive/ready", "POST https://two.lan/rbee/v1/hive/ready"}, c.takeURLs())
		require.NoError(t, a.Configure("http://three.lan"))
		require.NoError(t, a.Introduce("http://four.lan"))
		pass(0)
		require.ElementsMatch(t, []string{"POST http://three.lan/v1/hive/ready", "POST http://four.lan/v1/hive/ready"}, c.takeURLs())
		require.NoError(t, a.Configure(""))
		require.NoError(t, a.Introduce(""))
		a.SetListeners(0)
		pass(time.Hour)
		require.Empty(t, c.takeURLs(), "alone again")
	})
}

// One that only introduced itself and has gone is not retried for ever, the configured one is.
func TestAQueenThatWentIsDropped(t *testing.T) {
	announce(t, func(t *testing.T, a *rbee.Announcer, c *fakeQueens, pass func(time.Duration)) {
		c.behave(0, false)
		require.NoError(t, a.Configure("http://one.lan"))
		require.NoError(t, a.Introduce("http://two.lan"))
		pass(2 * time.Hour)
		require.Equal(t, []string{"http://two.lan"}, c.dropped)
		urls := c.takeURLs()
		require.Contains(t, urls, "POST http://two.lan/v1/hive/ready")
		require.Len(t, urls, 124+65)
		c.behave(200, false)
		require.NoError(t, a.Introduce("http://two.lan"))
		pass(0)
		require.Contains(t, c.takeURLs(), "POST http://two.lan/v1/hive/ready", "it is back")
	})
}

// A queen that is replaced while it hangs is dropped without a wait.
func TestAHangingQueenIsReplaced(t *testing.T) {
	announce(t, func(t *testing.T, a *rbee.Announcer, c *fakeQueens, pass func(time.Duration)) {
		c.behave(0, true)
		require.NoError(t, a.Configure("http://one.lan"))
		pass(s)
		c.behave(200, false)
		a.SetListeners(1)
		require.NoError(t, a.Configure("http://two.lan"))
		pass(time.Hour)
		require.Equal(t, []string{"POST http://one.lan/v1/hive/ready", "POST http://two.lan/v1/hive/ready"}, c.takeURLs())
	})
}

func TestWhatIsNoQueen(t *testing.T) {
	log := logrus.New()
	a := rbee.New(rbee.Options{Log: log})
	for _, text := range []string{
		"queen.lan:7833", "ftp://queen.lan", "http://", "http://:80", "unix:/run/q", "http://u:p@queen.lan", "http://q.lan/?x=1", "http://q.lan?", "http://q.lan/#f",
		"http://q.lan/%zz", "http://q.lan/\n", "//q.lan", "http://q.lan/" + string(bytes.Repeat([]byte("a"), 2048)),
	} {
		require.ErrorIs(t, a.Introduce(text), rbee.ErrURL, text)
		require.ErrorIs(t, a.Configure(text), rbee.ErrURL, text)
	}
}

// Over a real connection, which is closed afterwards (goleak checks).
func TestOverTheNetwork(t *testing.T) {
	requests := make(chan string, 4)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			requests <- err.Error()
		}
		requests <- r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type") + " " + string(body)
	}))
	defer server.Close()
	log := logrus.New()
	log.SetOutput(io.Discard)
	a := rbee.New(rbee.Options{HiveID: "box", HiveURL: "http://127.0.0.1:1", Log: log})
	require.NoError(t, a.Configure(server.URL))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { a.Run(ctx) })
	require.Equal(t, `POST /v1/hive/ready application/json {"hive_id":"box","hive_url":"http://127.0.0.1:1"}`, <-requests)
	cancel()
	running.Wait()
	require.Empty(t, requests)
}
