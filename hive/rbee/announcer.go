package rbee

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	attemptLimit = 10 * time.Second
	steady       = time.Minute     // between tries, after the first ones
	forgotten    = 2 * time.Minute // without a listener
	givenUp      = time.Hour       // a queen that only came, and is not reached for so long
	longestURL   = 2048
)

// pauses are the times between the first tries: they are after 0, 2, 4, 8 and 16 s.
func pauses() []time.Duration {
	return []time.Duration{2 * time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}
}

// ErrURL: it is not the URL of a queen.
var ErrURL = errors.New("expected the URL of a queen, such as http://queen.lan:7833, without user, query and fragment")

// Options is what an Announcer is made from.
type Options struct {
	HiveID  string
	HiveURL string // where the queen reaches the hive
	// Transport carries the requests; nil: one without proxy and idle connections.
	Transport http.RoundTripper
	// Forgotten is called when the queen that had introduced itself was not reached for
	// an hour, from a goroutine of Run; nil: nobody wants to know.
	Forgotten func(url string)
	Log       *logrus.Logger // required
}

// Announcer tells queens of the hive. It is safe for concurrent use.
type Announcer struct {
	opts   Options
	client *http.Client
	body   []byte

	mu         sync.Mutex
	configured string
	met        string
	changed    chan struct{} // closed when a queen changes
	listeners  int
	came       chan struct{} // closed when the number of listeners changes
}

// New makes an Announcer that knows no queen. Nothing is sent before Run.
func New(opts Options) *Announcer {
	if opts.Transport == nil {
		opts.Transport = &http.Transport{DisableKeepAlives: true}
	}
	body, err := json.Marshal(struct {
		HiveID  string `json:"hive_id"`
		HiveURL string `json:"hive_url"`
	}{opts.HiveID, opts.HiveURL})
	if err != nil { // two strings: cannot happen
		panic(err)
	}
	return &Announcer{
		opts: opts, body: body, changed: make(chan struct{}), came: make(chan struct{}),
		client: &http.Client{
			Transport: opts.Transport, Timeout: attemptLimit,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Clean returns a queen's URL in one spelling, or ErrURL.
func Clean(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || len(text) > longestURL || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" ||
		u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", ErrURL
	}
	u.Host = strings.ToLower(u.Host)
	return strings.TrimRight(u.String(), "/"), nil
}

// Configure replaces the configured queen; empty: none. One that is told already is
// not told again. The error is ErrURL; nothing changes then. It does not block.
func (a *Announcer) Configure(text string) error {
	return a.set(&a.configured, text)
}

// Meet replaces the queen that has introduced itself; otherwise as Configure.
func (a *Announcer) Meet(text string) error {
	return a.set(&a.met, text)
}

func (a *Announcer) set(slot *string, text string) error {
	clean := ""
	if text != "" {
		var err error
		if clean, err = Clean(text); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if *slot != clean {
		*slot = clean
		close(a.changed)
		a.changed = make(chan struct{})
	}
	return nil
}

// Listeners tells how many listen to the telemetry now. It does not block.
func (a *Announcer) Listeners(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listeners = n
	close(a.came)
	a.came = make(chan struct{})
}

// Run tells the queens of the hive until ctx ends, and waits for what it has begun.
func (a *Announcer) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	told := map[string]context.CancelFunc{}
	defer func() {
		for _, cancel := range told {
			cancel()
		}
	}()
	for {
		a.mu.Lock()
		wanted, changed := map[string]bool{a.configured: true, a.met: true}, a.changed
		a.mu.Unlock()
		delete(wanted, "")
		for url, cancel := range told {
			if !wanted[url] {
				cancel()
				delete(told, url)
			}
		}
		for url := range wanted {
			if told[url] == nil {
				own, cancel := context.WithCancel(ctx)
				told[url] = cancel
				wg.Go(func() { a.attend(own, url) })
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// attend keeps one queen informed.
func (a *Announcer) attend(ctx context.Context, url string) {
	for a.tell(ctx, url) && a.untilForgotten(ctx) {
		a.opts.Log.WithField("queen_url", url).Info("nobody listens to the telemetry; the queen is told of this hive again")
	}
}

// tell tries until the queen has heard, and returns false if ctx ended first or she
// was given up.
func (a *Announcer) tell(ctx context.Context, url string) bool {
	log := a.opts.Log.WithFields(logrus.Fields{"queen_url": url, "hive_url": a.opts.HiveURL})
	begun := time.Now()
	for try := 0; ; try++ {
		err := a.post(ctx, url)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			log.Info("announced to the queen")
			return true
		}
		if time.Since(begun) >= givenUp && a.forget(url) {
			log.WithError(err).Warn("the queen that introduced herself was not reached for an hour and is forgotten")
			return false
		}
		pause := steady
		if first := pauses(); try < len(first) {
			pause = first[try]
		}
		level := logrus.DebugLevel
		if try == 0 || try == len(pauses()) { // not a line each minute for a queen that is switched off
			level = logrus.WarnLevel
		}
		log.WithError(err).WithField("next_try", pause.String()).Log(level, "the queen was not reached; hive goes on without her")
		if !wait(ctx, pause) {
			return false
		}
	}
}

// forget lets go of the queen that had introduced itself, unless it is the configured
// one too, which is tried for ever.
func (a *Announcer) forget(url string) bool {
	a.mu.Lock()
	gone := a.met == url && a.configured != url
	if gone {
		a.met = ""
		close(a.changed)
		a.changed = make(chan struct{})
	}
	a.mu.Unlock()
	if gone && a.opts.Forgotten != nil {
		a.opts.Forgotten(url)
	}
	return gone
}

func (a *Announcer) post(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/hive/ready", bytes.NewReader(a.body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that she does not see a broken connection
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("POST /v1/hive/ready: expected 200, the status is %d", resp.StatusCode)
	}
	return nil
}

// untilForgotten returns true when nobody has listened for two minutes on end, and
// false when ctx ended.
func (a *Announcer) untilForgotten(ctx context.Context) bool {
	timer := time.NewTimer(forgotten)
	defer timer.Stop()
	for {
		a.mu.Lock()
		listeners, came := a.listeners, a.came
		a.mu.Unlock()
		timer.Reset(forgotten)
		if listeners > 0 {
			timer.Stop()
		}
		select {
		case <-timer.C:
			return true
		case <-came:
		case <-ctx.Done():
			return false
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
