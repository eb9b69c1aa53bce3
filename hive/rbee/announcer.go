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
	attemptTimeout = 10 * time.Second
	steadyInterval = time.Minute     // between tries, after the first ones
	silenceTimeout = 2 * time.Minute // without a listener
	giveUpAfter    = time.Hour       // for a queen that only introduced itself
	maxURLLength   = 2048
)

// initialBackoff is the time between the first tries, which are at 0, 2, 4, 8 and 16 s.
func initialBackoff() []time.Duration {
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
	// OnDropped is called, from a goroutine of Run, when the queen that had introduced
	// itself could not be reached for an hour and was dropped; may be nil.
	OnDropped func(url string)
	Log       *logrus.Logger // required
}

// Announcer announces the hive to queens. It is safe for concurrent use.
type Announcer struct {
	opts   Options
	client *http.Client
	body   []byte

	mu               sync.Mutex
	configured       string
	introduced       string
	queensChanged    chan struct{} // closed when a queen changes
	listeners        int
	listenersChanged chan struct{} // closed when the number of listeners changes
}

// New makes an Announcer that knows no queen. Nothing is sent before Run.
func New(opts Options) *Announcer {
	if opts.Transport == nil {
		// With a request a minute at most no connection is worth keeping.
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
		opts: opts, body: body, queensChanged: make(chan struct{}), listenersChanged: make(chan struct{}),
		client: &http.Client{
			Transport: opts.Transport, Timeout: attemptTimeout,
			// A redirect makes a GET of the POST, and its 200 would pass for a queen that knows the hive.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// NormalizeURL returns a queen's URL in one spelling, or ErrURL.
func NormalizeURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || len(text) > maxURLLength || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" ||
		u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", ErrURL
	}
	u.Host = strings.ToLower(u.Host)
	return strings.TrimRight(u.String(), "/"), nil
}

// Configure replaces the configured queen; empty: none. The hive does not announce
// itself again to a queen that it has already. The error is ErrURL; nothing changes
// then. It does not block.
func (a *Announcer) Configure(text string) error {
	return a.set(&a.configured, text)
}

// Introduce replaces the queen that has introduced itself; otherwise as Configure.
func (a *Announcer) Introduce(text string) error {
	return a.set(&a.introduced, text)
}

func (a *Announcer) set(slot *string, text string) error {
	clean := ""
	if text != "" {
		var err error
		if clean, err = NormalizeURL(text); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if *slot != clean {
		*slot = clean
		// Closed, it wakes Run also if that comes to wait only later, with the channel it had read.
		close(a.queensChanged)
		a.queensChanged = make(chan struct{})
	}
	return nil
}

// SetListeners says how many listen to the telemetry now. It does not block.
func (a *Announcer) SetListeners(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listeners = n
	close(a.listenersChanged)
	a.listenersChanged = make(chan struct{})
}

// Run announces the hive until ctx ends, and waits for what it has started.
func (a *Announcer) Run(ctx context.Context) {
	var wg sync.WaitGroup
	// Deferred first, so it runs last: the loops have been cancelled by then.
	defer wg.Wait()
	loops := map[string]context.CancelFunc{}
	defer func() {
		for _, cancel := range loops {
			cancel()
		}
	}()
	for {
		a.mu.Lock()
		// A set, since the queen that introduced itself may be the configured one. Read together with
		// the channel: a change from here on closes the one that is waited on.
		wanted, changed := map[string]bool{a.configured: true, a.introduced: true}, a.queensChanged
		a.mu.Unlock()
		delete(wanted, "")
		for url, cancel := range loops {
			if !wanted[url] {
				cancel()
				delete(loops, url)
			}
		}
		for url := range wanted {
			if loops[url] == nil {
				loopCtx, cancel := context.WithCancel(ctx)
				loops[url] = cancel
				wg.Go(func() { a.announceLoop(loopCtx, url) })
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// announceLoop announces the hive to one queen, again whenever that has forgotten it.
func (a *Announcer) announceLoop(ctx context.Context, url string) {
	for a.announce(ctx, url) && a.waitForSilence(ctx) {
		a.opts.Log.WithField("queen_url", url).Info("nobody listens to the telemetry; announcing this hive to the queen again")
	}
}

// announce tries until the queen has accepted it, and returns false if ctx ended first
// or the queen was dropped.
func (a *Announcer) announce(ctx context.Context, url string) bool {
	log := a.opts.Log.WithFields(logrus.Fields{"queen_url": url, "hive_url": a.opts.HiveURL})
	start := time.Now()
	for try := 0; ; try++ {
		err := a.post(ctx, url)
		// Cancelled is not failed: there is no line in the log, and no further try.
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			log.Info("announced to the queen")
			return true
		}
		if time.Since(start) >= giveUpAfter && a.dropIntroduced(url) {
			log.WithError(err).Warn("the queen that introduced itself could not be reached for an hour and is dropped")
			return false
		}
		backoff := steadyInterval
		if first := initialBackoff(); try < len(first) {
			backoff = first[try]
		}
		level := logrus.DebugLevel
		if try == 0 || try == len(initialBackoff()) { // not a line each minute for a queen that is switched off
			level = logrus.WarnLevel
		}
		log.WithError(err).WithField("next_try", backoff.String()).Log(level, "announcing to the queen failed; will retry")
		if !sleep(ctx, backoff) {
			return false
		}
	}
}

// dropIntroduced drops the queen that had introduced itself, unless it is the configured
// one too, which is retried for ever.
func (a *Announcer) dropIntroduced(url string) bool {
	a.mu.Lock()
	dropped := a.introduced == url && a.configured != url
	if dropped {
		a.introduced = ""
		close(a.queensChanged)
		a.queensChanged = make(chan struct{})
	}
	a.mu.Unlock()
	// Without the lock: it may call back.
	if dropped && a.opts.OnDropped != nil {
		a.opts.OnDropped(url)
	}
	return dropped
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
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that it does not see a broken connection
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("POST /v1/hive/ready: status %d, expected 200", resp.StatusCode)
	}
	return nil
}

// waitForSilence returns true when nobody has listened for silenceTimeout, and false when
// ctx ended.
func (a *Announcer) waitForSilence(ctx context.Context) bool {
	timer := time.NewTimer(silenceTimeout)
	defer timer.Stop()
	for {
		a.mu.Lock()
		listeners, changed := a.listeners, a.listenersChanged
		a.mu.Unlock()
		// Each change begins the silence anew, one from nobody to nobody too.
		timer.Reset(silenceTimeout)
		if listeners > 0 {
			// While somebody listens only a change can end the wait.
			timer.Stop()
		}
		select {
		case <-timer.C:
			return true
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
